"""The units under a real systemd: what they say, how they end and come back, what they may not do.

The tests follow each other in one box, in which a host plays to a speaker with PortAudio on a virtual card.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from container.box import Box

UNITS = Path(__file__).parents[2] / "systemd"
SYSTEM = ("musicsyncd-host", "musicsyncd-peer")
USER = (*SYSTEM, "musicsyncd-mpris")
MOST_EXPOSED = 2.0
STOPS_WITHIN_S = 5.0

CARD = """
pcm_type.vdac { lib "/usr/lib/vdac.so" }
pcm.dac { type vdac capture "/var/lib/musicsyncd/card" rate 48000 ppm "20.0" grain 1
          hint { show on description "virtual DAC" } }
pcm.!default { type plug slave.pcm dac hint { show on description "default" } }
"""

# A container may have no right to raise a limit, and then LimitRTPRIO cannot be shown; with this capability the
# audio thread gets real time all the same, if the rest of the unit lets it ask.
PEER_HERE = """
[Service]
Environment=ALSA_CONFIG_PATH=/etc/card.conf
CapabilityBoundingSet=CAP_SYS_NICE
AmbientCapabilities=CAP_SYS_NICE
"""

# What a service tries that it may not, and two things that it may; prints the error's name for each.
TRY = """
import ctypes, errno, json, os, socket

def error(call):
    try:
        call()
        return ""
    except OSError as error:
        return errno.errorcode[error.errno]

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")

libc = ctypes.CDLL(None, use_errno=True)
print(json.dumps({
    "read a home": error(lambda: open("/home/somebody/letter")),
    "write in /etc": error(lambda: open("/etc/written", "w")),
    "write in /usr": error(lambda: open("/usr/written", "w")),
    "open a device": error(lambda: open("/dev/fuse", "rb")),
    "sniff packets": error(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "mount": error(lambda: checked(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))),
    "be traced": error(lambda: checked(libc.ptrace(0, 0, 0, 0))),
    "a namespace": error(lambda: checked(libc.unshare(0x10000000))),
    "keep state": error(lambda: open(os.environ["STATE_DIRECTORY"] + "/tried", "w")),
    "read music": error(lambda: open("/srv/music/noise.flac", "rb")),
}))
"""
OUTCOMES = {
    "read a home": "EACCES",
    "write in /etc": "EROFS",
    "write in /usr": "EROFS",
    "open a device": "EPERM",
    "sniff packets": "EAFNOSUPPORT",
    "mount": "EPERM",
    "be traced": "EPERM",
    "a namespace": "EPERM",
    "keep state": "",
    "read music": "",
}


@pytest.fixture(scope="module")
def box(root: Path, installed: Path, card: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    music = tmp_path_factory.mktemp("music") / "noise.flac"
    noise = np.random.default_rng(1).standard_normal((48_000 * 90, 2)) * 0.1
    soundfile.write(music, noise, 48_000, subtype="PCM_16")
    with Box(root, installed) as made:
        for name in SYSTEM:
            made.put(UNITS / f"{name}.service", f"/usr/lib/systemd/system/{name}.service")
        for name in USER:
            made.put(UNITS / f"user/{name}.service", f"/usr/lib/systemd/user/{name}.service")
        made.put(UNITS / "sysusers.conf", "/usr/lib/sysusers.d/musicsyncd.conf")
        made.put(music, "/srv/music/noise.flac")
        made.put(card, "/usr/lib/vdac.so")
        made.put(CARD, "/etc/card.conf")
        made.run("systemd-sysusers")
        made.run("systemctl", "daemon-reload")
        (made.root / "run/user/0").mkdir(parents=True)
        yield made


def show(box: Box, unit: str, what: str) -> str:
    return box.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()


def musicsyncd(box: Box, *words: str) -> subprocess.CompletedProcess[str]:
    folders = ("MUSICSYNCD_STATE_DIR=/var/lib/musicsyncd", "MUSICSYNCD_RUNTIME_DIR=/run/musicsyncd")
    return box.run("env", *folders, "musicsyncd", *words)


def speakers(box: Box) -> list[dict[str, object]]:
    return json.loads(musicsyncd(box, "status", "--json").stdout)["peers"]


def together(box: Box) -> bool:
    return [one["state"] for one in speakers(box)] == ["together"]


def comes_back(box: Box, unit: str, pid: str) -> None:
    """Wait until systemd has started a unit anew, and it is ready."""
    box.wait_until(lambda: show(box, unit, "MainPID") not in ("0", pid) and show(box, unit, "SubState") == "running")


# -- the files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", SYSTEM)
def test_systemd_has_nothing_to_say_about_the_system_units(box, unit):
    verified = box.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{unit}.service")
    assert verified.stdout + verified.stderr == ""
    judged = box.run("systemd-analyze", "security", f"{unit}.service").stdout
    exposed = re.search(r"Overall exposure level for .*: ([0-9.]+) ", judged)
    assert exposed is not None, judged
    assert float(exposed[1]) <= MOST_EXPOSED, judged


def test_systemd_has_nothing_to_say_about_the_user_units(box):
    files = [f"/usr/lib/systemd/user/{unit}.service" for unit in USER]
    verified = box.run("env", "XDG_RUNTIME_DIR=/run/user/0", "systemd-analyze", "--user", "verify", *files)
    assert verified.stdout + verified.stderr == ""


# -- a start, and what goes on -----------------------------------------------------------------


def test_a_host_is_active_once_it_serves(box):
    box.run("systemctl", "start", "musicsyncd-host")  # Comes back when the host has said READY.
    assert speakers(box) == []
    box.wait_until(lambda: "0 speakers" in show(box, "musicsyncd-host", "StatusText"))
    assert show(box, "musicsyncd-host", "User") == "musicsyncd"
    owned = box.run("stat", "--format=%A %U %n", "/var/lib/musicsyncd/room.key", "/run/musicsyncd").stdout
    assert owned.splitlines() == [
        "-rw------- musicsyncd /var/lib/musicsyncd/room.key",
        "drwxr-x--- musicsyncd /run/musicsyncd",
    ]


def test_a_speaker_is_active_once_its_card_is_open_and_plays_what_the_host_plays(box):
    box.put(PEER_HERE, "/etc/systemd/system/musicsyncd-peer.service.d/here.conf")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", "musicsyncd-peer")
    assert "playing on dac" in box.journal("--unit=musicsyncd-peer")
    musicsyncd(box, "play", "/srv/music")
    box.wait_until(lambda: together(box))
    box.wait_until(lambda: re.search(r"[+-][\d.]+ µs", show(box, "musicsyncd-peer", "StatusText")))
    box.wait_until(lambda: re.search("1 speakers? (is|are) here", show(box, "musicsyncd-host", "StatusText")))
    kept = [file.stat().st_size for file in (box.root / "var/lib/musicsyncd").glob("card.*.pcm")]
    assert max(kept) > 48_000, "the card was handed sound, and so cffi's callbacks ran"


def test_only_what_feeds_the_card_has_real_time(box):
    pid = show(box, "musicsyncd-peer", "MainPID")
    said = box.run("ps", "-L", "-o", "cls=,rtprio=,ni=", "-p", pid).stdout
    threads = [line.split() for line in said.splitlines()]
    assert threads.count(["RR", "10", "-"]) == 1, said
    assert threads[0] == ["TS", "-", "-11"], said
    assert box.run("cat", f"/proc/{pid}/autogroup").stdout.endswith(" nice -11\n"), "its session is behind others"
    for unit in SYSTEM:
        assert show(box, unit, "LimitRTPRIO") == "20"


def test_a_service_may_do_nothing_beyond_its_work(box):
    box.run("useradd", "--create-home", "somebody")
    box.put("private", "/home/somebody/letter")
    box.run("chmod", "-R", "a+rX", "/home/somebody")
    box.run("mknod", "--mode=666", "/dev/fuse", "c", "10", "229")
    box.put(TRY, "/usr/lib/try.py")
    free = json.loads(box.run("env", "STATE_DIRECTORY=/tmp", "python3", "/usr/lib/try.py").stdout)
    assert not {"EPERM", "EACCES", "EROFS"} & set(free.values()), "root may do all of this outside of the service"
    for unit in SYSTEM:
        text = box.run("cat", f"/usr/lib/systemd/system/{unit}.service").stdout
        for setting in ("Type", "Restart", "RestartSec", "WatchdogSec", "ExecReload"):
            text = re.sub(rf"^{setting}=.*\n", "", text, flags=re.MULTILINE)
        text = re.sub("^ExecStart=.*", "Type=oneshot\nExecStart=python3 /usr/lib/try.py", text, flags=re.MULTILINE)
        box.put(text, f"/etc/systemd/system/try-{unit}.service")
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "start", f"try-{unit}")
        tried = json.loads(box.run("journalctl", f"--unit=try-{unit}", "--output=cat", "--grep=read a home").stdout)
        assert tried == OUTCOMES


# -- ends, and new beginnings ------------------------------------------------------------------


def test_a_reload_lets_everything_go_on(box):
    pids = [show(box, unit, "MainPID") for unit in SYSTEM]
    box.put('[host]\nreplaygain = "track"\n[peer]\noutput-delay-ms = 3\n', "/etc/musicsyncd/musicsyncd.toml")
    box.run("systemctl", "reload", *SYSTEM)
    for unit in SYSTEM:
        box.wait_until(lambda unit=unit: "the configuration was read again" in box.journal(f"--unit={unit}"))
    time.sleep(0.5)  # A process that dies of it does so by then.
    assert [show(box, unit, "MainPID") for unit in SYSTEM] == pids
    assert [show(box, unit, "SubState") for unit in SYSTEM] == ["running", "running"]
    assert together(box)


def test_a_killed_speaker_comes_back_and_takes_a_key_from_the_credential_store(box):
    key = (box.root / "var/lib/musicsyncd/room.key").read_text()
    box.put(key, "/etc/credstore/musicsyncd-peer.key")
    pid = show(box, "musicsyncd-peer", "MainPID")
    box.run("systemctl", "kill", "--signal=KILL", "musicsyncd-peer")
    comes_back(box, "musicsyncd-peer", pid)
    box.wait_until(lambda: together(box))
    assert (box.root / "run/credentials/musicsyncd-peer.service/room.key").read_text() == key
    assert not (box.root / "run/credentials/musicsyncd-host.service/room.key").exists()


def test_what_hangs_is_killed_by_the_watchdog_and_comes_back(box):
    for unit in SYSTEM:
        assert show(box, unit, "WatchdogUSec") == "20s"
        box.put("[Service]\nWatchdogSec=3\n", f"/etc/systemd/system/{unit}.service.d/watchdog.conf")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", *SYSTEM)
    box.wait_until(lambda: together(box))
    pids = {unit: show(box, unit, "MainPID") for unit in SYSTEM}
    box.run("systemctl", "kill", "--signal=STOP", *SYSTEM)
    for unit, pid in pids.items():
        comes_back(box, unit, pid)
        assert "Watchdog timeout" in box.journal(f"--unit={unit}")
    box.wait_until(lambda: together(box))


def test_a_stop_is_quick_and_clean_and_takes_nothing_of_the_other_service(box):
    for unit in reversed(SYSTEM):
        began_s = time.monotonic()
        box.run("systemctl", "stop", unit)
        assert time.monotonic() - began_s < STOPS_WITHIN_S
        assert [show(box, unit, what) for what in ("Result", "ExecMainStatus")] == ["success", "0"]
        if unit == "musicsyncd-peer":
            assert (box.root / "run/musicsyncd/host.sock").exists()
            assert musicsyncd(box, "status", "--json").stdout


# -- one person's session ----------------------------------------------------------------------


def test_the_user_units_run_in_a_session_that_lingers(box):
    config = '[common]\nport = 7799\ninterface = "lo"\n[peer]\noutput = "null"\n'
    box.run("useradd", "--create-home", "listener")
    box.put(config, "/home/listener/.config/musicsyncd/musicsyncd.toml")
    box.run("chown", "-R", "listener:", "/home/listener")
    box.run("loginctl", "enable-linger", "listener")
    uid = box.run("id", "-u", "listener").stdout.strip()
    box.wait_until(lambda: (box.root / f"run/user/{uid}/systemd/private").exists())

    def user(*words: str) -> str:
        session = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups")
        environment = ("env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/listener")
        return box.run(*session, *environment, *words).stdout.strip()

    user("systemctl", "--user", "start", "musicsyncd-host")
    user("systemctl", "--user", "start", "musicsyncd-peer")
    box.wait_until(lambda: [one["name"] for one in json.loads(user("musicsyncd", "status", "--json"))["peers"]])
    for unit in SYSTEM:
        pid = user("systemctl", "--user", "show", "--value", "--property=MainPID", unit)
        limits = (box.root / f"proc/{pid}/status").read_text()
        assert re.search(r"NoNewPrivs:\s+1\nSeccomp:\s+2\n", limits), limits
    user("systemctl", "--user", "stop", *SYSTEM)
    for unit in SYSTEM:
        assert user("systemctl", "--user", "show", "--value", "--property=Result", unit) == "success"

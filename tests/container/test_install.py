"""``musicsyncd install`` on a real Debian with a real systemd: set up, twice, used, and away again without a trace.

The program is in a virtual environment in /opt, as a person without pipx has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.box import PYTHON, Box
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.system.keyfile import join_code

OPT = "/opt/my music 100%"
"""With what a unit's command line has to be told in another way."""

CODE = join_code(HostKeys(bytes(32)).room_keys)
PACKAGES = f"/usr/local/lib/{PYTHON}/dist-packages"
PROGRAM = f"{OPT}/bin/musicsyncd"
CONFIG = """# This house has no sound card.
[peer]
output = "null"  # for now
"""
WITHOUT_PIP = f"""
set -e
python3 -m venv --without-pip --system-site-packages '{OPT}'
cd '{OPT}'
mv /usr/bin/musicsyncd bin/musicsyncd
mv {PACKAGES}/musicsyncd lib/{PYTHON}/site-packages/
mkdir lib/{PYTHON}/site-packages/musicsyncd-0.dist-info
printf 'Metadata-Version: 2.1\\nName: musicsyncd\\nVersion: 0\\n' \
    >lib/{PYTHON}/site-packages/musicsyncd-0.dist-info/METADATA
sed -i '1s|.*|#!/bin/sh\\n'"'''exec' '{OPT}/bin/python' \\"\\$0\\" \\"\\$@\\"\\n' '''"'|' bin/musicsyncd
"""
"""As pip does it for a path with spaces: the kernel could not read such a first line."""

# Every file, its mode, owner and bytes; but for the backups that the tools for users make.
ALL = r"""
find /etc /usr /opt ! -name '*-' -printf '%p %y %m %u %l\n' | sort
find /etc -type f ! -name '*-' -print0 | sort -z | xargs -0 sha256sum
"""


@pytest.fixture
def box(root: Path, installed: Path) -> Iterator[Box]:
    with Box(root, installed) as made:
        made.run("sh", "-c", WITHOUT_PIP)
        made.put(CONFIG, "/etc/musicsyncd/musicsyncd.toml")
        made.run("useradd", "--create-home", "pi")
        made.run(PROGRAM, "--version")
        yield made


def as_pi(box: Box, *words: str, groups: str = "") -> str:
    """Return what a command of a plain user prints, errors too."""
    done = box.run("setpriv", "--reuid=pi", "--regid=pi", f"--groups={groups or 'pi'}", "--", *words, check=False)
    return done.stdout + done.stderr


def show(box: Box, unit: str, what: str) -> str:
    return box.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()


def test_a_host_and_a_speaker_come_and_go(box):
    before = box.run("sh", "-c", ALL).stdout

    # Nothing is written by who may not, or only wants to look.
    assert "this needs root: `sudo '/opt/my music 100%/bin/musicsyncd' install host --name attic`" in as_pi(
        box, PROGRAM, "install", "host", "--name", "attic"
    )
    looked = box.run(PROGRAM, "install", "host", "--name", "attic", "--dry-run").stdout
    assert "  2. make the system user musicsyncd" in looked
    assert box.run("sh", "-c", ALL).stdout == before

    # A host.
    said = box.run(PROGRAM, "install", "host", "--name", "attic").stdout
    assert "musicsyncd-host.service is active" in said
    assert f"`sudo '{PROGRAM}' key show`" in said
    assert box.run("systemd-analyze", "verify", "musicsyncd-host.service", check=False).stderr == ""
    code = json.loads(box.run(PROGRAM, "key", "show", "--json").stdout)
    assert code["path"] == "/var/lib/musicsyncd/room.key"

    # A speaker beside it.
    said = box.run(PROGRAM, "install", "peer", "--name", "kitchen", "--join", "-", input=code["join_code"]).stdout
    assert "musicsyncd-peer.service is active" in said
    assert 'output = "null"  # for now\nname = "kitchen"\n' in box.run("cat", "/etc/musicsyncd/musicsyncd.toml").stdout

    def speakers():
        return json.loads(box.run(PROGRAM, "status", "--json").stdout)["peers"]

    box.wait_until(lambda: [one["name"] for one in speakers()] == ["kitchen"])

    # Twice.
    for words in (("host", "--name", "attic"), ("peer", "--name", "kitchen"), ("host",)):
        pid = show(box, f"musicsyncd-{words[0]}", "MainPID")
        assert box.run(PROGRAM, "install", *words).stdout.startswith("nothing to do: ")
        assert show(box, f"musicsyncd-{words[0]}", "MainPID") == pid
    assert "nothing to renew" in box.run(PROGRAM, "upgrade", "--refresh", "--dry-run").stdout

    # What a person changes is what runs then.
    box.run(PROGRAM, "install", "peer", "--name", "bath")
    box.wait_until(lambda: "bath" in [one["name"] for one in speakers() if one["state"] != "away"])

    # Who is in the group may command it, and who is not is told so.
    assert "sudo adduser $USER musicsyncd" in as_pi(box, PROGRAM, "status")
    assert "host attic" in as_pi(box, PROGRAM, "status", groups="musicsyncd")

    # What root writes there, the service can read.
    box.run(PROGRAM, "key", "new", "--yes")
    assert box.run("stat", "--format=%U:%G %a", "/var/lib/musicsyncd/room.key").stdout == "musicsyncd:musicsyncd 600\n"

    # Over a half-finished one.
    box.run("rm", "/etc/systemd/system/multi-user.target.wants/musicsyncd-peer.service")
    box.run("rm", "/etc/sysusers.d/musicsyncd.conf")
    box.run(PROGRAM, "install", "peer", "--name", "bath")
    assert show(box, "musicsyncd-peer", "UnitFileState") == "enabled"

    # And away.
    said = box.run(PROGRAM, "uninstall", "peer").stdout
    assert "stop musicsyncd-peer.service" in said
    assert show(box, "musicsyncd-host", "ActiveState") == "active"
    gone = box.run(PROGRAM, "uninstall", "host", "--purge")
    assert gone.stderr == ""
    assert box.run("sh", "-c", ALL).stdout == before
    assert box.run("sh", "-c", "ls -d /var/*/musicsyncd /run/musicsyncd", check=False).stdout == ""
    assert show(box, "musicsyncd-host", "LoadState") == "not-found"
    assert "nothing to do" in box.run(PROGRAM, "uninstall", "host", "--purge").stdout


def test_what_the_services_user_could_not_run_is_refused(box):
    box.run("cp", "-a", OPT, "/home/pi/venv")
    box.run("sed", "-i", f"s|{OPT}|/home/pi/venv|", "/home/pi/venv/bin/musicsyncd")
    box.run("chmod", "0700", "/home/pi")
    refused = box.run("/home/pi/venv/bin/musicsyncd", "install", "peer", "--join", CODE, check=False)
    assert refused.returncode == 1
    assert "for /home/pi is closed to it" in refused.stderr
    assert refused.stderr.count("\n") == 1
    box.run("chmod", "0755", "/home/pi")  # As an older Debian has it: seen through the drop-in.
    try:
        said = box.run("/home/pi/venv/bin/musicsyncd", "install", "peer", "--join", CODE).stdout
        assert "10-home.conf: the service may read in home folders" in said
        assert show(box, "musicsyncd-peer", "ActiveState") == "active"
    finally:
        box.run("/home/pi/venv/bin/musicsyncd", "uninstall", "peer", "--purge")


def test_a_missing_library_for_sound_is_said_first(box):
    box.put("", "/etc/musicsyncd/musicsyncd.toml")  # It had no need of a card.
    files = box.run("sh", "-c", "ls /usr/lib/*/libportaudio.so.2*").stdout.split()
    box.run("mkdir", "/away")
    box.run("mv", *files, "/away")
    try:
        for words in (("peer", "--join", CODE), ("host", "--speaker")):
            refused = box.run(PROGRAM, "install", *words, check=False)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "`sudo apt-get install libportaudio2`" in refused.stderr
        assert "To set up the host" in box.run(PROGRAM, "install", "host", "--dry-run").stdout
    finally:
        for file in files:
            box.run("mv", f"/away/{Path(file).name}", file)


def test_a_user_has_a_service_of_his_own(box):
    refused = box.run(PROGRAM, "install", "peer", "--user", check=False)
    assert "leave out --user or sudo" in refused.stderr
    assert "your own systemd does not answer" in as_pi(box, PROGRAM, "install", "peer", "--user", "--join", CODE)

    box.run("loginctl", "enable-linger", "pi")
    box.wait_until(lambda: (box.root / "run/user/1000/systemd/private").exists())
    every = "find /home /etc /usr /opt ! -path '*/__pycache__*' -printf '%p %y %m %u %l\\n' | sort"
    mine = ("env", "HOME=/home/pi", "XDG_RUNTIME_DIR=/run/user/1000")
    box.put('[peer]\noutput = "null"\n', "/home/pi/.config/musicsyncd/musicsyncd.toml")
    box.run("mkdir", "-p", "/home/pi/.local/state", "/home/pi/.cache")
    box.run("chown", "-R", "pi:pi", "/home/pi")
    before = box.run("sh", "-c", every).stdout
    said = as_pi(box, *mine, PROGRAM, "install", "peer", "--user", "--name", "desk", "--join", CODE)
    assert "have musicsyncd-peer.service start when you sign in" in said
    assert "musicsyncd-peer.service is active" in said
    assert "nothing to do: " in as_pi(box, *mine, PROGRAM, "install", "peer", "--user", "--name", "desk")
    as_pi(box, *mine, PROGRAM, "uninstall", "peer", "--user", "--purge")
    assert box.run("sh", "-c", every).stdout == before

"""systemd's notifications on real datagram sockets, new processes, one a folder, work that ends or fails."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from musicsyncd.errors import ConfigError
from musicsyncd.paths import make_folder
from musicsyncd.system import supervision
from musicsyncd.system.supervision import Watchdog, claim, may_replace_process, notify, on_stop_signals, until_stopped
from musicsyncd.units import NS_PER_S


@pytest.fixture
def manager(tmp_path):
    """Return a function that listens at an address as systemd does."""
    opened = []

    def listen(address: str) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.bind("\0" + address[1:] if address.startswith("@") else address)
        one.settimeout(5.0)
        opened.append(one)
        return one

    yield listen
    for one in opened:
        one.close()


def test_a_notification_is_one_datagram_to_the_managers_socket(tmp_path, manager, monkeypatch):
    address = str(tmp_path / "notify")
    listening = manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1\nSTATUS=serving µ")
    notify("WATCHDOG=1")
    assert listening.recv(1000) == "READY=1\nSTATUS=serving µ".encode()
    assert listening.recv(1000) == b"WATCHDOG=1"


def test_an_at_sign_means_an_abstract_socket(manager, monkeypatch):
    address = f"@musicsyncd-test-{os.getpid()}"
    listening = manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("STOPPING=1")
    assert listening.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here", "/" + "x" * 200])
def test_without_a_manager_that_listens_nothing_happens(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_a_manager_that_does_not_read_does_not_hold_us_up(tmp_path, manager, monkeypatch):
    """A full socket must not stop the loop: the music would stop, too."""
    address = str(tmp_path / "notify")
    manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    code = """
import os, socket
from musicsyncd.system.supervision import notify
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
    filler.setblocking(False)
    filler.connect(os.environ["NOTIFY_SOCKET"])
    try:
        while True:
            filler.send(b"x")
    except BlockingIOError:
        notify("WATCHDOG=1")
"""
    subprocess.run([sys.executable, "-c", code], timeout=20, check=True)


# -- the watchdog ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "pid", "is_set"),
    [
        (None, None, False),
        ("20000000", None, True),
        ("20000000", "own", True),
        ("20000000", "1", False),  # Meant for the process that started this one.
        ("0", None, False),
        ("soon", None, False),
    ],
)
def test_whether_a_watchdog_watches_this_process(monkeypatch, period, pid, is_set):
    for name, value in (("WATCHDOG_USEC", period), ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert Watchdog.is_set() == is_set


def test_the_watchdog_is_fed_or_not_and_why_is_said_once(tmp_path, manager, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    listening = manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    watchdog = Watchdog()
    heard = []
    for why_not in ("", "", "it hangs", "it hangs", "", ""):
        watchdog.feed("playing", why_not)
        heard.append(listening.recv(100))
    fed, hungry = b"WATCHDOG=1\nSTATUS=playing", b"STATUS=playing"
    assert heard == [fed, fed, hungry, hungry, fed, fed]
    assert [one.message for one in caplog.records] == [
        "the watchdog is not fed, and systemd may start this anew: it hangs",
        "the watchdog is fed again",
    ]


def test_what_others_call_themselves_is_no_order_to_systemd(tmp_path, manager, monkeypatch):
    listening = manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    Watchdog().feed("with host den\nSTOPPING=1\rMAINPID=1\x85X=1")
    assert listening.recv(1000).decode().splitlines() == ["WATCHDOG=1", "STATUS=with host den STOPPING=1 MAINPID=1 X=1"]


def test_where_nobody_watches_nothing_is_said_of_a_watchdog(monkeypatch, caplog):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    Watchdog().feed("playing", "it hangs")
    assert caplog.records == []


# -- a new process -----------------------------------------------------------------------------


def run_code(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, env=environment, check=False
    )


def test_a_process_begins_anew_with_its_arguments_its_number_and_its_errors_but_nothing_else(tmp_path):
    code = f"""
import os, sys, threading, time
from musicsyncd.system import supervision
print(os.getpid(), supervision.may_replace_process(), sys.argv, len(os.listdir("/proc/self/fd")), flush=True)
if supervision.may_replace_process():
    left = os.open({str(tmp_path)!r}, os.O_RDONLY)
    os.set_inheritable(left, True)  # As a library may leave a card's.
    threading.Thread(target=time.sleep, args=(60,)).start()
    supervision.keep_standard_error()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # As sounddevice does.
    supervision.replace_process()
print("said", file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "one", "two words"], capture_output=True, text=True, timeout=20, check=False
    )
    before, after = done.stdout.splitlines()
    assert before.replace("True", "False") == after
    assert "['-c', 'one', 'two words']" in after
    assert (done.returncode, done.stderr) == (0, "said\n")


@pytest.mark.parametrize(("ago_s", "may"), [(59, False), (61, True), (None, True)])
def test_a_process_begins_anew_at_most_once_a_minute(monkeypatch, ago_s, may):
    monkeypatch.setattr(supervision, "now_ns", lambda: 7_000 * NS_PER_S)
    if ago_s is None:
        monkeypatch.delenv("MUSICSYNCD_REPLACED_NS", raising=False)
    else:
        monkeypatch.setenv("MUSICSYNCD_REPLACED_NS", str((7_000 - ago_s) * NS_PER_S))
    assert may_replace_process() == may


def test_what_is_logged_while_standard_error_leads_nowhere_is_not_lost():
    code = """
import logging, os, sys
from musicsyncd.system import log, supervision
log.set_up()
supervision.keep_standard_error()
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
logging.getLogger("x").warning("it hangs")
print("and it does", file=sys.stderr)
"""
    done = run_code(code, INVOCATION_ID="of systemd")
    assert done.stderr == "warning: it hangs\nand it does\n"


def test_without_standard_error_there_is_nothing_to_keep():
    code = "import os; os.close(2)\nfrom musicsyncd.system import supervision\nsupervision.keep_standard_error()"
    assert run_code(code).returncode == 0


RAISED = """
import os, pathlib
from musicsyncd.system import supervision
supervision.raise_priority()
print(os.getpriority(os.PRIO_PROCESS, 0), pathlib.Path("/proc/self/autogroup").read_text().split()[-1])
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel shares between processes alone")
@pytest.mark.parametrize("leads", [True, False])
def test_a_session_of_its_own_comes_before_others_with_its_process_and_no_other_does(leads):
    command = [sys.executable, "-c", RAISED]
    if not leads:
        command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    nice, of_session = map(int, done.stdout.split())
    # Who may not raise the one may not raise the other.
    assert of_session == (nice if leads and nice == supervision._NICE else 0)


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_a_session_that_may_not_be_raised_right_now_is_raised_a_moment_later(monkeypatch, refusals):
    written = []

    def write_text(text):
        written.append(text)
        if len(written) <= refusals:
            raise BlockingIOError

    monkeypatch.setattr(supervision, "_AUTOGROUP", SimpleNamespace(write_text=write_text))
    monkeypatch.setattr(supervision, "_AUTOGROUP_AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    supervision.raise_priority()
    assert written == ["-11"] * min(refusals + 1, 2)


def test_a_process_whose_end_would_hang_ends_all_the_same():
    code = """
import atexit, sys, threading, time
from musicsyncd.system import supervision
atexit.register(time.sleep, 60)
threading.Thread(target=time.sleep, args=(60,)).start()
sys.stdout.write("said")
supervision.end_process()
"""
    done = run_code(code)
    assert (done.returncode, done.stdout) == (0, "said")


# -- one instance a name -----------------------------------------------------------------------


def test_a_folder_is_claimed_by_one_at_a_time(tmp_path):
    first = claim(tmp_path / "host", "a host", "--name")
    with pytest.raises(ConfigError, match=r"^a host runs on this machine already: stop it, or choose another --name$"):
        claim(tmp_path / "host", "a host", "--name")
    claim(tmp_path / "other", "a host", "--name").close()
    first.close()
    claim(tmp_path / "host", "a host", "--name").close()


def test_a_claim_ends_with_its_process(tmp_path):
    code = f"""
import pathlib, sys
from musicsyncd.system.supervision import claim
lock = claim(pathlib.Path({str(tmp_path)!r}), "it", "--name")
print("claimed", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"claimed\n"
    with pytest.raises(ConfigError, match="runs on this machine already"):
        claim(tmp_path, "it", "--name")
    other.kill()
    other.communicate()
    claim(tmp_path, "it", "--name").close()


def test_folders_are_their_owners_alone(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    make_folder(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="cannot make the folder"):
            claim(path, "it", "--name")
    (tmp_path / "here" / "lock").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"cannot write in .*here"):
        claim(tmp_path / "here", "it", "--name")


async def _for_ever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append(name)


def test_work_is_ended_and_waited_for_when_it_is_time_to_stop():
    async def run():
        stop, ended = asyncio.Event(), []
        asyncio.get_running_loop().call_soon(stop.set)
        await until_stopped(stop, _for_ever(ended, "a"), _for_ever(ended, "b"))
        assert ended == ["a", "b"]

    asyncio.run(asyncio.wait_for(run(), 10.0))


def test_what_goes_wrong_in_the_work_comes_out_and_ends_the_rest():
    async def fail():
        await asyncio.sleep(0)
        raise ConfigError("it cannot be")

    async def run():
        ended = []
        with pytest.raises(ConfigError, match="it cannot be"):
            await until_stopped(asyncio.Event(), _for_ever(ended, "a"), fail())
        assert ended == ["a"]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_being_cancelled_ends_the_work_as_well():
    async def run():
        ended = []
        task = asyncio.create_task(until_stopped(asyncio.Event(), _for_ever(ended, "a")))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["a"]

    asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_an_orderly_stop(number):
    async def run():
        stop = on_stop_signals()
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 10.0)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asyncio.run(run())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_interrupt_ends_the_process_at_once():
    code = """
import asyncio, time
from musicsyncd.system.supervision import on_stop_signals
async def run():
    stop = on_stop_signals()
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.Event().wait()
asyncio.run(run())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    for line in (b"ready\n", b"stopping\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()


def test_memory_is_given_back_where_the_c_library_can_be_told(monkeypatch):
    told = []
    library = SimpleNamespace(mallopt=lambda *said: told.append(said))
    monkeypatch.setattr(supervision.ctypes, "CDLL", lambda _name: library)
    supervision.give_memory_back()
    assert told == [(-1, 128 * 1024)]
    del library.mallopt
    supervision.give_memory_back()

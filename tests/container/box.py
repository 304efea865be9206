"""A Debian of its own in namespaces of its own, with a real systemd in it, for one test and gone after it.

It owns the root's making and the namespaces, mounts and control groups of a running box; it must not know what
is tested there. What is written in a box goes to memory, over the folders that it is given, so one root serves
many boxes, and any number at once. It has the machine's kernel and nothing else of the machine: no network but
its own loopback, no processes, no devices but /dev/null and the like, no kernel settings or clock to change.

A box ends with its first process, which the kernel takes all the others with, mounts and namespaces too. That
first process is killed when the test's own ends in whatever way. Only the control groups are left for us to remove.

Source: systemd's "Container Interface" (https://systemd.io/CONTAINER_INTERFACE); namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "passwd",
    "procps",
    "python3",
    "libportaudio2",
    "ca-certificates",
)
"""What a root has besides Debian's essential packages: what a Raspberry Pi has, and the library for sound."""

PYTHON = Path("/usr/bin/python3").resolve().name
"""This machine's own, with which the package is made: ``python3.11``."""

RELEASE = {"python3.11": "bookworm", "python3.13": "trixie"}.get(PYTHON)
"""The Debian of the boxes: the one that has this Python."""

BOOT_S = 30.0
"""How long a box may take to come up; it needs about two seconds."""

_TOOLS = ("mmdebstrap", "unshare", "nsenter", "setpriv", "pivot_root", "mount")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNSHARED = ("mount", "uts", "ipc", "net", "pid", "cgroup")

# What nobody reads here only takes time to write.
_LEAN = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info", "lintian")]

# The first process of the box until it becomes systemd. Read-only /sys and /proc/sys, and capabilities that it
# lacks, tell systemd to leave the kernel, which is the machine's, as it is.
_BOOT = r"""
set -e
work=$1 layers=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$layers,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec /usr/bin/setpriv --bounding-set=-sys_rawio,-sys_module,-sys_time /usr/bin/env -i container=test PATH="$PATH" \
    /lib/systemd/systemd --log-target=journal
"""


def why_not() -> str:
    """Return why root can make no box here, or nothing where one can be made."""
    if RELEASE is None:
        return f"no Debian that is known here has {PYTHON}, for which the package would be made"
    search = f"{os.environ.get('PATH', '')}:{_PATH}"
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=search) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if _control_groups() is None:
        return "no cgroup2 is mounted"
    words = ["unshare", *(f"--{kind}" for kind in _UNSHARED), "--fork", "mount", "-t", "proc", "proc", "/proc"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def make_root(folder: Path, *packages: str) -> None:
    """Fill a folder with a clean Debian ``RELEASE``, from the mirror that Debian's own tools use; about half a minute.

    Args:
        folder: to be made, or empty.
        packages: what it has besides ``PACKAGES``, with what these need, and not what they recommend.

    Raises:
        RuntimeError: it could not be made; with what the tool said.
    """
    assert RELEASE is not None, "ask why_not() before"
    include = ",".join([*PACKAGES, *packages])
    words = ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={include}", "--dpkgopt=force-unsafe-io", *_LEAN]
    made = subprocess.run([*words, RELEASE, str(folder)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"no Debian could be made: {made.stderr[-2000:]}")


class Box:
    """A running Debian: ``with Box(root) as box: box.run("systemctl", "status")``.

    Args:
        layers: a folder from ``make_root``, and folders whose files lie over it, the last uppermost. None of them
            is written to.
    """

    def __init__(self, *layers: Path) -> None:
        self._layers = layers
        self._work = Path()
        self._group = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._init_pid = 0

    @property
    def root(self) -> Path:
        """The running box's root folder, as seen from outside."""
        return Path(f"/proc/{self._init_pid}/root")

    def __enter__(self) -> Box:
        """Boot it, and wait until systemd has started what it starts."""
        groups = _control_groups()
        assert groups is not None, "ask why_not() before"
        self._work = Path(tempfile.mkdtemp(prefix="musicsyncd-box-"))
        self._group = groups / self._work.name
        self._group.mkdir()
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all that runs in it, and remove what it left."""
        self._end()

    def run(
        self, *words: str, check: bool = True, input: str | None = None, timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the box as its root, with an environment that has nothing but a PATH.

        Raises:
            AssertionError: with ``check``, the command said that it failed; with what it wrote.
            subprocess.TimeoutExpired: it took longer; it is killed.
        """
        enter = ["nsenter", f"--target={self._init_pid}", *(f"--{kind}" for kind in _UNSHARED), "--root", "--wd"]
        inside = ["/usr/bin/env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8", *words]
        done = subprocess.run(
            [*enter, *inside],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # A "kill 0" in there is not to reach the tests.
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def wait_until(self, predicate: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Ask ten times a second until the answer is true.

        Raises:
            AssertionError: it was not in time; with the end of the journal.
        """
        deadline_s = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {timeout_s:g} s; the journal's end:\n{self.journal()}")
            time.sleep(0.1)

    def put(self, source: Path | str, target: str) -> None:
        """Copy a file or a folder into the box, or write a text; missing folders of the target are made.

        Args:
            source: what to copy, or the text itself.
            target: its path in the box, with its own name.
        """
        place = self.root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            place.write_text(source)
        elif source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)

    def journal(self, *words: str) -> str:
        """Return the last lines of the journal; ``journalctl``'s options may choose which."""
        return self.run("journalctl", "--no-pager", "--lines=80", "--output=short-monotonic", *words).stdout

    def _boot(self) -> None:
        # The shell enters the new group before the namespace is made, so that this is all of it that the box sees.
        enter = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
        unshare = ["unshare", "--fork", "--kill-child", *(f"--{kind}" for kind in _UNSHARED)]
        boot = ["sh", "-c", _BOOT, "boot", str(self._work), ":".join(str(layer) for layer in reversed(self._layers))]
        with (self._work.with_suffix(".console")).open("wb") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "sh", "-c", enter, str(self._group), *unshare, *boot],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "PATH": _PATH},
            )
        deadline_s = time.monotonic() + BOOT_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                said = self._work.with_suffix(".console").read_text(errors="replace")
                raise RuntimeError(f"the box did not come up: {said[-4000:]}")
            time.sleep(0.1)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = children.read_text().split() if children.exists() else []
        if not pids or Path(f"/proc/{pids[0]}/comm").read_text().strip() != "systemd":
            return False
        self._init_pid = int(pids[0])
        # What fails in a machine's own kernel is no matter here: "degraded" is up as well.
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return said in {"running", "degraded"}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # Its child, the box's first process, goes with it (--kill-child).
            self._process.wait()
        deadline_s = time.monotonic() + 5.0
        while "populated 1" in (self._group / "cgroup.events").read_text() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        for folder, _, _ in os.walk(self._group, topdown=False):
            os.rmdir(folder)
        self._work.with_suffix(".console").unlink(missing_ok=True)
        self._work.rmdir()


def _control_groups() -> Path | None:
    """Return where the machine has its version 2 control groups; beside version 1 it is elsewhere."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None

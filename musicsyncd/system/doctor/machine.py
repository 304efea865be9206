"""Checks of the machine itself: its clock, its processors, its permissions, its Wi-Fi.

Source: Documentation/admin-guide/pm/cpufreq.rst and Documentation/ABI of the kernel; adjtimex(2); linux/wireless.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sized
from dataclasses import replace
from pathlib import Path

from musicsyncd.system import stamps
from musicsyncd.system.doctor.finding import Finding, Patient, Verdict
from musicsyncd.system.doctor.services import Service, places, sounding
from musicsyncd.system.installing.access import blocker
from musicsyncd.system.installing.place import Account
from musicsyncd.system.installing.units import unit_name
from musicsyncd.system.interfaces import choose
from musicsyncd.system.monotonic import RealtimeBridge

_MAX_CPUS = 1024
_MOST_NAMED = 4
_MAX_FILE_BYTES = 4096
_IW_S = 3.0
_SIOCGIWPOWER = 0x8B2D  # linux/wireless.h
_NOMINAL_TICK_US = 10_000
_PPM_A_TICK_US = 100.0
_FREQ_SCALE = 65_536.0
FAIR_STEERING_PPM = 100.0
"""Crystals are within 100 ppm; a clock that is steered by more is being moved, not only corrected."""

_REALTIME_PRIORITY = 10
"""What the audio thread asks for, see :mod:`musicsyncd.system.audio`."""

SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "refined-jiffies")


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_BYTES).strip()
    except OSError:
        return ""


# -- the clock ---------------------------------------------------------------------------------


def check_clock(patient: Patient, root: Path = Path("/")) -> Iterator[Finding]:
    """Look at the clock that everything is timed by, and at the stamps that the kernel gives."""
    source = _read(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if not source:
        yield Finding("clock source", "skipped", "the kernel does not say")
    elif source in SLOW_CLOCKS:
        advice = "start the kernel with another clocksource= if it has one (tsc, arch_sys_counter)"
        yield Finding("clock source", "advice", f"{source}: slow to read, or coarse", advice)
    else:
        yield Finding("clock source", "good", source)
    steered = _steering_ppm()
    if steered is not None:
        yield judge_steering(steered)
    # A speaker that runs knows what its network card's driver does; the loopback only tells of the kernel.
    known = {str(one.get("speaker", {}).get("clock", {}).get("stamps")) for one in patient.speakers}
    yield judge_stamps(next((kind for kind in ("user", "receive", "kernel") if kind in known), "") or _stamps())


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "time_s", "time_us", "tick")),
        ("rest", ctypes.c_byte * 256),
    )


def _steering_ppm() -> float | None:
    """Return by how much NTP has the clock run faster than its crystal, in ppm; None where that cannot be asked."""
    state = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        return None
    return float((state.tick - _NOMINAL_TICK_US) * _PPM_A_TICK_US + state.freq / _FREQ_SCALE)


def judge_steering(ppm: float) -> Finding:
    """Judge by how much the clock is steered."""
    if abs(ppm) <= FAIR_STEERING_PPM:
        return Finding("clock steering", "good", f"NTP has it run by {ppm:+.1f} ppm")
    return Finding(
        "clock steering",
        "advice",
        f"NTP moves it by {ppm:+.0f} ppm just now: speakers follow such a change a little late",
        "wait until it has settled; if it never does, look at the NTP service (chronyc tracking, timedatectl)",
    )


def _stamps() -> str:
    """Return what the kernel stamps on this machine's loopback: ``kernel`` for both ways, ``receive`` or ``user``."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(1.0)
        sender.setblocking(False)
        arrives = stamps.ask_for_arrivals(receiver)
        bridge = RealtimeBridge()
        sending = stamps.SendStamps(sender, bridge)
        sending.send(b"stamp", receiver.getsockname(), 1)
        with contextlib.suppress(OSError):
            _, control, _, _ = receiver.recvmsg(16, stamps.CONTROL_BYTES)
            arrives &= stamps.arrival_ns(control, bridge) is not None
        sending.collect()
        return "user" if not arrives else "kernel" if sending.works else "receive"


def judge_stamps(kind: str) -> Finding:
    """Judge what the kernel stamps."""
    if kind == "kernel":
        return Finding("time stamps", "good", "the kernel says when datagrams come and when they leave")
    if kind == "receive":
        said = "the kernel says when datagrams come, not when they leave: some 30 µs less certain"
        return Finding("time stamps", "good", said)
    advice = "a newer kernel has them; until then expect some 0.1 ms more of sync error"
    return Finding("time stamps", "advice", "the kernel gives no time stamps of datagrams", advice)


# -- processors --------------------------------------------------------------------------------


def check_processors(_: Patient, root: Path = Path("/")) -> Iterator[Finding]:
    """Look at how fast the processors are let run."""
    governors, drivers = set(), set()
    folder = root / "sys/devices/system/cpu"
    for policy in sorted(folder.glob("cpu[0-9]*/cpufreq"))[:_MAX_CPUS]:
        governors.add(_read(policy / "scaling_governor"))
        drivers.add(_read(policy / "scaling_driver"))
    governors.discard("")
    if not governors:
        yield Finding("CPU governor", "skipped", "the frequency is not Linux's to set here")
    # Drivers of the processor's own kind choose the frequency by load under this name, too.
    elif "powersave" in governors and not drivers <= {"intel_pstate", "amd-pstate-epp"}:
        advice = "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Finding("CPU governor", "advice", "powersave: the lowest frequency whatever there is to do", advice)
    else:
        yield Finding("CPU governor", "good", ", ".join(sorted(governors)))
    throttled = _read(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    with contextlib.suppress(ValueError):
        if throttled and int(throttled, 16) & 0b111:
            advice = "a stronger power supply and cable, or better cooling"
            yield Finding("power", "bad", "the Raspberry Pi is throttled: too little voltage or too hot", advice)
        elif throttled and int(throttled, 16):
            advice = "a stronger power supply, if it happens again"
            yield Finding("power", "advice", "the Raspberry Pi was throttled since its start", advice)
        elif throttled:
            yield Finding("power", "good", "the Raspberry Pi was never throttled since its start")


# -- permissions -------------------------------------------------------------------------------


def check_permissions(patient: Patient, root: Path = Path("/")) -> Iterator[Finding]:
    """Look at what may be done by the user of the system's service; where none is set up, by this user.

    Root may do everything, and a person's groups are not those of the service: neither says what the service may do.
    """
    if patient.is_host_only:
        return
    service = sounding(places(root))
    if service is not None and not service.place.of_user:
        account = account_of(service)
        if account is not None:
            yield from judge_service_rights(service, account, root)
            return
    if may_run_realtime():
        yield Finding("real-time priority", "good", "this user's audio thread may have it")
    else:
        advice = (
            "as in the systemd unit: LimitRTPRIO=20; else `@audio - rtprio 20` in /etc/security/limits.d/audio.conf"
        )
        yield Finding("real-time priority", "advice", "this user may not have it: a busy machine makes gaps", advice)
    yield from judge_devices(root)


def account_of(service: Service) -> Account | None:
    """Return in whose name a service of the system runs, with the groups that its unit gives it; None if unknown."""
    place = replace(service.place, user=service.shown.get("User", ""))
    return place.account(service.shown.get("SupplementaryGroups", "").split())


def judge_service_rights(service: Service, account: Account, root: Path) -> Iterator[Finding]:
    """Judge what a service of the system may do, by its unit.

    Args:
        service: that sounds.
        account: in whose name it runs.
        root: the folder that the system is below.
    """
    unit = unit_name(service.role)
    limit = service.shown.get("LimitRTPRIO", "")
    if limit == "infinity" or (limit.isdecimal() and int(limit) >= _REALTIME_PRIORITY):
        yield Finding("real-time priority", "good", f"the audio thread of {unit} may have it")
    else:
        said = f"{unit} may not have it: a busy machine makes gaps"
        advice = "LimitRTPRIO=20 in the unit, as `musicsyncd install` has it"
        yield Finding("real-time priority", "advice", said, advice)
    devices = _playback_devices(root)
    closed = [one.name for one in devices if blocker(one, account, root) is not None]
    if closed:
        what = f"{unit} may not use {', '.join(closed[:_MOST_NAMED])}"
        advice = "SupplementaryGroups=audio in the unit, as `musicsyncd install` has it; ls -l /dev/snd shows the group"
        yield Finding("sound devices", _verdict(closed, devices), what, advice)
    elif devices:
        yield Finding("sound devices", "good", f"{unit} may use them all")


def _playback_devices(root: Path) -> list[Path]:
    return sorted((root / "dev/snd").glob("pcmC*p"))[:_MAX_CPUS]


def _verdict(closed: Sized, devices: Sized) -> Verdict:
    return "bad" if len(closed) == len(devices) else "advice"


def judge_devices(root: Path) -> Iterator[Finding]:
    """Judge whether this user may use the sound cards that the kernel has."""
    devices = _playback_devices(root)
    if not devices:
        return
    closed = [one.name for one in devices if not os.access(one, os.R_OK | os.W_OK)]
    if closed:
        what = f"this user may not use {', '.join(closed[:_MOST_NAMED])}"
        advice = "sudo usermod -aG audio $USER, then sign in anew"
        yield Finding("sound devices", _verdict(closed, devices), what, advice)
    else:
        yield Finding("sound devices", "good", "this user may use them all")


def may_run_realtime() -> bool:
    """Return whether a thread of this user may have the priority that the audio thread asks for."""
    if resource.getrlimit(resource.RLIMIT_RTPRIO)[0] >= _REALTIME_PRIORITY:
        return True
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_REALTIME_PRIORITY))
    except OSError:
        return False
    os.sched_setscheduler(0, policy, before)
    return True


# -- Wi-Fi -------------------------------------------------------------------------------------


def check_wifi(patient: Patient, root: Path = Path("/")) -> Iterator[Finding]:
    """Look at whether the Wi-Fi that is used saves power: it then sleeps between beacons, and so does what it hears."""
    names = dict.fromkeys(one.name for one in choose(patient.network.interfaces) if not one.loopback)
    for name in names:
        folder = root / "sys/class/net" / name
        if (folder / "wireless").exists() or (folder / "phy80211").exists():
            yield judge_power_save(name, _power_save(name))


def _power_save(name: str) -> bool | None:
    """Return whether an interface saves power; None where that cannot be known."""
    tool = shutil.which("iw") or shutil.which("iw", path="/usr/sbin:/sbin")
    if tool is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            command = [tool, "dev", name, "get", "power_save"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=_IW_S, check=False).stdout.lower()
            if "power save:" in said:
                return "power save: on" in said
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
        answer = fcntl.ioctl(asking, _SIOCGIWPOWER, struct.pack("16s16x", name.encode()[:15]))
        _value, _fixed, disabled, _flags = struct.unpack_from("=iBBH", answer, 16)
        return not disabled
    return None


def judge_power_save(name: str, saves: bool | None) -> Finding:
    """Judge whether an interface saves power."""
    what = f"Wi-Fi {name}"
    if saves is None:
        return Finding(what, "skipped", "it does not say whether it saves power", f"iw dev {name} get power_save")
    if not saves:
        return Finding(what, "good", "it does not sleep between packets")
    advice = f"sudo iw dev {name} set power_save off (for good: wifi.powersave = 2 in NetworkManager)"
    return Finding(what, "advice", "it saves power: packets wait 100 ms and more, the clock is less certain", advice)

"""The checks: what is looked at on this machine, and what is made of machines that are not at hand."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import numpy as np
import pytest
from loopback import free_port

from musicsyncd.config import NetworkConfig
from musicsyncd.errors import DeviceError
from musicsyncd.paths import Paths
from musicsyncd.protocol import auth, wire
from musicsyncd.system.doctor import examination, files, group, listening, machine, reach, services, sound
from musicsyncd.system.doctor.finding import Finding, Patient, found_by
from musicsyncd.system.installing.place import Place, Ran, run_command
from musicsyncd.system.interfaces import Interface
from musicsyncd.system.keyfile import make_host_keys
from musicsyncd.system.output import NullOutput
from musicsyncd.units import NS_PER_MS, NS_PER_S

KEY = bytes(range(32))


@pytest.fixture
def patient(tmp_path):
    network = NetworkConfig(port=free_port(), interfaces=("lo",))
    return Patient(network, Paths.find({}, state_dir=tmp_path), sound_s=0.0, listen_s=0.3)


def only(findings, name=None):
    found = [one for one in findings if name is None or one.name == name]
    assert len(found) == 1, found
    return found[0]


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_what_a_check_stumbles_over_is_a_finding(patient):
    def stumble(_):
        raise OSError(errno.EIO, "Input/output error")

    def refuse(_):
        raise DeviceError("no")

    assert found_by("disk", stumble, patient)[0].verdict == "skipped"
    assert found_by("card", refuse, patient) == [Finding("card", "skipped", "it cannot be looked at: no")]


# -- the machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "verdict"), [("tsc", "good"), ("arch_sys_counter", "good"), ("hpet", "advice"), ("", "skipped")]
)
def test_the_clock_source(patient, tmp_path, source, verdict):
    put(tmp_path, "sys/devices/system/clocksource/clocksource0/current_clocksource", f"{source}\n")
    assert only(machine.check_clock(patient, tmp_path), "clock source").verdict == verdict


@pytest.mark.parametrize(("ppm", "verdict"), [(12.0, "good"), (-100.0, "good"), (-500.0, "advice"), (101.0, "advice")])
def test_a_clock_that_is_moved_is_told_from_one_that_is_corrected(ppm, verdict):
    assert machine.judge_steering(ppm).verdict == verdict


def test_this_machines_clock_can_be_asked(patient):
    names = [one.name for one in machine.check_clock(patient)]
    assert names[0] == "clock source"
    assert names[-1] == "time stamps"
    steered = machine._steering_ppm()
    assert steered is None or abs(steered) < 100_000.0


def test_a_speaker_that_runs_knows_better_than_the_loopback_what_is_stamped(patient):
    speakers = [{"speaker": {"clock": {"stamps": kind}}} for kind in ("kernel", "user")]
    assert only(machine.check_clock(replace(patient, speakers=speakers)), "time stamps").verdict == "advice"
    assert only(machine.check_clock(replace(patient, speakers=speakers[:1])), "time stamps").verdict == "good"


@pytest.mark.parametrize(
    ("governor", "driver", "verdict"),
    [
        ("schedutil", "cpufreq-dt", "good"),
        ("powersave", "cpufreq-dt", "advice"),
        ("powersave", "intel_pstate", "good"),
        ("", "", "skipped"),
    ],
)
def test_the_governor(patient, tmp_path, governor, driver, verdict):
    for cpu in range(2):
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", f"{governor}\n")
        put(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_driver", f"{driver}\n")
    assert only(machine.check_processors(patient, tmp_path)).verdict == verdict


@pytest.mark.parametrize(("said", "verdict"), [("0", "good"), ("50005", "bad"), ("50000", "advice"), ("what?", None)])
def test_a_throttled_raspberry_pi(patient, tmp_path, said, verdict):
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", f"{said}\n")
    found = [one.verdict for one in machine.check_processors(patient, tmp_path) if one.name == "power"]
    assert found == ([] if verdict is None else [verdict])


def test_sound_devices_that_this_user_may_not_use(tmp_path, monkeypatch):
    assert list(machine.judge_devices(tmp_path)) == []
    for name in ("pcmC0D0p", "pcmC1D0p", "pcmC1D0c"):
        put(tmp_path, f"dev/snd/{name}", "")
    assert only(machine.judge_devices(tmp_path)).verdict == "good"
    closed = {"pcmC1D0p"}
    monkeypatch.setattr(machine.os, "access", lambda path, _: path.name not in closed)
    found = only(machine.judge_devices(tmp_path))
    assert (found.verdict, "pcmC1D0p" in found.line, "audio" in found.advice) == ("advice", True, True)
    closed.add("pcmC0D0p")
    assert only(machine.judge_devices(tmp_path)).verdict == "bad"


def test_whether_this_user_may_have_real_time_priority_is_tried_and_leaves_no_trace(patient, tmp_path, monkeypatch):
    before = os.sched_getscheduler(0)
    machine.may_run_realtime()
    assert os.sched_getscheduler(0) == before
    monkeypatch.setattr(machine, "may_run_realtime", lambda: False)
    assert only(machine.check_permissions(patient, tmp_path)).verdict == "advice"
    assert list(machine.check_permissions(replace(patient, host_status={}), tmp_path)) == []


@pytest.mark.parametrize(("saves", "verdict"), [(True, "advice"), (False, "good"), (None, "skipped")])
def test_a_wifi_that_saves_power(saves, verdict):
    assert machine.judge_power_save("wlan0", saves).verdict == verdict


@pytest.mark.parametrize(("said", "saves"), [("Power save: on", True), ("Power save: off", False), ("", None)])
def test_what_iw_says_of_power_saving(monkeypatch, said, saves):
    monkeypatch.setattr(machine.shutil, "which", lambda *_, **__: "/sbin/iw")
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, f"{said}\n", "")

    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine._power_save("lo") is saves
    assert asked == [["/sbin/iw", "dev", "lo", "get", "power_save"]]


@pytest.mark.parametrize(("disabled", "saves"), [(0, True), (1, False)])
def test_without_iw_the_driver_is_asked(monkeypatch, disabled, saves):
    monkeypatch.setattr(machine.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(
        machine.fcntl, "ioctl", lambda *_: bytes(16) + machine.struct.pack("=iBBH8x", 0, 0, disabled, 0)
    )
    assert machine._power_save("wlan0") is saves


def test_only_wifi_that_is_used_is_asked_after(patient, tmp_path, monkeypatch):
    wlan = Interface("wlan0", 3, socket.AF_INET, "192.0.2.3", False, True)
    eth = Interface("eth0", 2, socket.AF_INET, "192.0.2.2", False, True)
    monkeypatch.setattr(machine, "choose", lambda _: [eth, wlan])
    monkeypatch.setattr(machine, "_power_save", lambda name: name == "wlan0")
    (tmp_path / "sys/class/net/wlan0/wireless").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth0").mkdir()
    found = only(machine.check_wifi(patient, tmp_path))
    assert (found.name, found.verdict) == ("Wi-Fi wlan0", "advice")


# -- files -------------------------------------------------------------------------------------


def test_the_key(patient, tmp_path):
    found = only(files.check_key(replace(patient, key_fault="no room key at x: take it")))
    assert (found.verdict, found.line) == ("bad", "no room key at x: take it")
    follows = replace(patient, speakers=[{"host": {"state": "there"}}])
    assert only(files.check_key(follows)).verdict == "skipped", "it has a key that this user does not see"
    searches = replace(patient, speakers=[{"host": {"state": "searching"}}])
    assert only(files.check_key(searches)).verdict == "bad"
    make_host_keys(patient.paths.key_file)
    known = replace(patient, room_key=KEY)
    assert only(files.check_key(known)).verdict == "good"
    patient.paths.key_file.chmod(0o640)
    found = only(files.check_key(known))
    assert (found.verdict, found.advice) == ("advice", f"chmod 600 {patient.paths.key_file}")
    assert only(files.check_key(replace(known, open=True))).verdict == "advice"


def test_a_disk_that_is_full_slow_or_closed(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "there" / "yet"
    free = [50 << 30, 100 << 30]
    monkeypatch.setattr(files, "disk_space", lambda _: tuple(free))
    assert files.judge_folder("cache", folder).verdict == "good"
    assert list(tmp_path.iterdir()) == [], "it wrote something and left it"
    free[0] = files.reserve_bytes(free[1]) + (100 << 20)
    assert files.judge_folder("cache", folder).verdict == "advice"
    assert files.judge_folder("state", folder).verdict == "good"
    free[0] = files.reserve_bytes(free[1])
    assert files.judge_folder("state", folder).verdict == "bad"
    free[0] = 50 << 30
    clock = iter([0.0, 1.5])
    monkeypatch.setattr(files.time, "monotonic", lambda: next(clock))
    assert "slow" in files.judge_folder("state", folder).line

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    found = files.judge_folder("cache", folder)
    assert (found.verdict, "--cache-dir" in found.advice, "Read-only" in found.line) == ("bad", True, True)


def test_the_port(patient):
    assert only(files.check_port(patient)).verdict == "good"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = replace(patient, network=NetworkConfig(port=taken.getsockname()[1]))
        found = only(files.check_port(busy))
        assert (found.verdict, found.line.startswith("TCP port")) == ("advice", True)
        assert only(files.check_port(replace(busy, host_status={}))).verdict == "good"


def test_the_versions(patient, monkeypatch):
    assert [one.verdict for one in files.check_versions(patient)] == ["good", "good"]
    monkeypatch.setattr(files, "_PACKAGES", ("numpy", "no-such-package-here"))
    found = next(iter(files.check_versions(patient)))
    assert (found.verdict, found.line) == ("bad", "missing: no-such-package-here")


# -- the group ---------------------------------------------------------------------------------


def test_the_group_on_this_machine(patient):
    found = list(group.check_group(patient))
    assert [one.verdict for one in found] == ["advice", *["good"] * (len(found) - 1)]
    assert "this machine is alone" in found[0].line
    assert found[1].name == "group on lo (IPv4)"


def test_a_group_that_cannot_be_joined_is_bad(patient):
    gone = Interface("gone0", 77777, socket.AF_INET, "192.0.2.1", False, True)
    found = group._loops(gone, patient)
    assert (found.verdict, found.line.startswith("it cannot be joined or sent to")) == ("bad", True)


def test_a_group_that_is_not_heard_is_bad(patient, monkeypatch):
    monkeypatch.setattr(group, "_LOOP_S", 0.05)
    monkeypatch.setattr(
        group.os, "urandom", lambda _: type("W", (bytes,), {"__eq__": lambda *_: False, "__hash__": None})(8)
    )
    lo = Interface("lo", socket.if_nametoindex("lo"), socket.AF_INET, "127.0.0.1", True, False)
    assert group._loops(lo, patient).verdict == "bad"


def test_no_interface_is_bad():
    assert group.judge_interfaces([]).verdict == "bad"
    eth = Interface("eth0", 2, socket.AF_INET, "192.0.2.2", False, True)
    assert group.judge_interfaces([eth]).verdict == "good"


def test_a_querier_that_the_kernel_noticed(tmp_path):
    eth = Interface("eth0", 2, socket.AF_INET, "192.0.2.2", False, True)
    text = (
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
        "1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
        "2\teth0      :     2      {}\n\t\t\t\t534DFFEF     1 0:00000000\t\t1\n"
    )
    for version, count in (("V3", 0), ("V2", 1)):
        put(tmp_path, "proc/net/igmp", text.format(version))
        assert len(list(group.judge_igmp([eth], tmp_path))) == count
    assert list(group.judge_igmp([eth], tmp_path / "nowhere")) == []


OFFSET_NS = 77 * NS_PER_S


def coming(seconds, late_ns=lambda sent_ns: 200_000, keep=lambda index: True, every_ns=NS_PER_S // 4):
    """Return beacons as they come, and when the waiting began and ended."""
    sent = [index * every_ns for index in range(int(seconds * NS_PER_S / every_ns)) if keep(index)]
    found = [group.Arrival("main", one, OFFSET_NS + one + round(late_ns(one)), "192.0.2.9") for one in sent]
    return found, OFFSET_NS, OFFSET_NS + int(seconds * NS_PER_S)


def verdicts(patient, *heard):
    return {one.name: (one.verdict, one.line) for one in group.judge_beacons(patient, *heard)}


def test_beacons_that_come_as_they_should(patient):
    found = verdicts(patient, *coming(10))
    assert found["multicast"] == ("good", "40 beacons came in 10 s, 0% are missing")
    assert found["multicast timing"][0] == "good"
    assert found["IGMP snooping"][0] == "skipped"


def test_a_beacon_that_comes_on_two_interfaces_counts_once_and_rooms_do_not_mix(patient):
    arrivals, began_ns, ended_ns = coming(10)
    doubled = [
        two
        for index, one in enumerate(arrivals)
        for two in (one, replace(one, local_ns=one.local_ns + index % 5 * 30 * NS_PER_MS))
    ]
    other = [replace(one, room="kitchen", host_ns=one.host_ns + NS_PER_MS) for one in arrivals]
    found = verdicts(patient, [*doubled, *other], began_ns, ended_ns)
    assert found["multicast"] == ("good", "40 beacons came in 10 s, 0% are missing")
    assert found["multicast timing"][0] == "good"


def test_beacons_that_are_lost(patient):
    assert verdicts(patient, *coming(10, keep=lambda index: index % 10 != 3))["multicast"][0] == "good"
    found = verdicts(patient, *coming(10, keep=lambda index: index % 3 != 1))["multicast"]
    assert found[0] == "advice"
    assert "32% are missing" in found[1] or "33% are missing" in found[1]


def test_an_access_point_that_holds_multicast_back_until_its_dtim(patient):
    def until_the_grid(sent_ns):
        return math.ceil(sent_ns / group._GRID_NS) * group._GRID_NS - sent_ns

    found = verdicts(patient, *coming(10, until_the_grid))["multicast timing"]
    assert (found[0], "DTIM" in found[1]) == ("advice", True)
    draws = random.Random(1)
    found = verdicts(patient, *coming(10, lambda _: draws.uniform(0, 100) * NS_PER_MS))["multicast timing"]
    assert (found[0], "DTIM" in found[1]) == ("advice", False), "uneven, but on no grid"


def test_a_switch_that_forgets_who_listens(patient):
    arrivals, began_ns, _ = coming(180)
    found = verdicts(patient, arrivals, began_ns, began_ns + 300 * NS_PER_S)
    assert found.keys() == {"multicast"}
    assert found["multicast"][0] == "bad"
    assert "stopped 180 s after" in found["multicast"][1]


def test_a_group_that_came_through_for_long_is_not_forgotten(patient):
    assert verdicts(patient, *coming(300))["IGMP snooping"][0] == "good"
    speakers = [{"uptime_s": 4000.0, "network": {"reach": "multicast"}}]
    assert verdicts(replace(patient, speakers=speakers), *coming(5))["IGMP snooping"][0] == "good"
    speakers = [{"uptime_s": 4000.0, "network": {"reach": "unicast"}}]
    assert verdicts(replace(patient, speakers=speakers), *coming(5))["IGMP snooping"][0] == "skipped"


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        ({}, "skipped"),
        ({"host": ("192.0.2.1", 7783)}, "advice"),
        ({"speakers": [{"network": {"reach": "unicast"}}]}, "advice"),
        ({"speakers": [{"network": {"reach": "multicast"}}]}, "advice"),
        ({"speakers": [{"network": {"reach": "none"}}]}, "skipped"),
    ],
)
def test_no_beacon_at_all(patient, known, verdict):
    assert verdicts(replace(patient, **known), [], 0, 5 * NS_PER_S)["multicast"][0] == verdict


def test_where_the_host_is_here_its_beacons_say_nothing_of_the_network(patient, monkeypatch):
    monkeypatch.setattr(group, "_heard_beacons", lambda _: pytest.fail("it waits for nothing"))
    for known in ({"host_status": {}}, {"host": ("127.0.0.1", 7783)}):
        assert only(group.check_beacons(replace(patient, room_key=KEY, **known))).verdict == "skipped"
    assert only(group.check_beacons(patient)).verdict == "skipped"


def test_beacons_are_heard_and_noise_is_not(patient):
    port = patient.network.port
    sealer = auth.Sealer(auth.derive_key(KEY, auth.HOST_PURPOSE), b"host-one", 5)
    other = auth.Sealer(auth.derive_key(bytes(32), auth.HOST_PURPOSE), b"host-two", 5)
    beacon = wire.encode(wire.Beacon("main", 1, 1000, (), 50, False, 7783, "den"))
    said = [sealer.seal(beacon), other.seal(beacon), b"noise", sealer.seal(wire.encode(wire.Bye("x")))]
    stop = threading.Event()

    def speak():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            while not stop.wait(0.02):
                for data in said:
                    sender.sendto(data, (patient.network.group, port))

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        found = group._heard_beacons(replace(patient, room_key=KEY))
    finally:
        stop.set()
        thread.join()
    assert found
    assert {(one.room, one.host_ns, one.address) for one in found} == {("main", 1000, "127.0.0.1")}


# -- the way to the host -----------------------------------------------------------------------


class Answering:
    """A host as far as hellos and HTTP go."""

    def __init__(self, status=200, answers=lambda number: True):
        from http.server import BaseHTTPRequestHandler, HTTPServer

        tokens = self.tokens = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                tokens.append(self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = self.http.server_address
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.address)
        self.udp.settimeout(0.05)
        self.closing = False
        self.threads = [
            threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}),
            threading.Thread(target=self.answer, args=(answers,)),
        ]
        for thread in self.threads:
            thread.start()

    def answer(self, answers):
        opener = auth.Opener(auth.derive_key(KEY, auth.PEER_PURPOSE))
        sealer = auth.Sealer(auth.derive_key(KEY, auth.HOST_PURPOSE), b"host-one", 5)
        number = 0
        while not self.closing:
            try:
                data, sender = self.udp.recvfrom(2048)
                hello = wire.decode_from_peer(opener.open(data).body)
            except (OSError, ValueError, auth.ProtocolError):
                continue
            number += 1
            # An answer to somebody else's question, or to one that was asked long ago.
            self.udp.sendto(sealer.seal(wire.encode(wire.Here(bytes(8), 7783, "den"))), sender)
            if answers(number):
                self.udp.sendto(sealer.seal(wire.encode(wire.Here(hello.nonce, 7783, "den"))), sender)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closing = True
        self.http.shutdown()
        for thread in self.threads:
            thread.join()
        self.udp.close()
        self.http.server_close()


def test_a_host_that_answers(patient, monkeypatch):
    monkeypatch.setattr(reach, "_EVERY_S", 0.002)
    with Answering() as host:
        found = list(reach.check_unicast(replace(patient, host=host.address, room_key=KEY)))
    assert [one.name for one in found] == ["way to the host", "HTTP of the host"]
    assert "0% lost" in found[0].line
    assert found[1].verdict == "good"
    assert host.tokens == [f"Bearer {auth.http_token(KEY)}"]


def test_a_host_that_does_not_know_this_key_and_loses_answers(patient, monkeypatch):
    monkeypatch.setattr(reach, "_EVERY_S", 0.002)
    monkeypatch.setattr(reach, "_ANSWER_S", 0.1)
    with Answering(401, lambda number: number % 4) as host:
        found = list(reach.check_unicast(replace(patient, host=host.address, room_key=KEY)))
    assert (found[0].verdict, "25% lost" in found[0].line) == ("advice", True)
    assert (found[1].verdict, "key show" in found[1].advice) == ("bad", True)


def test_a_host_that_is_not_there(patient, monkeypatch):
    monkeypatch.setattr(reach, "_EVERY_S", 0.001)
    monkeypatch.setattr(reach, "_ANSWER_S", 0.05)
    gone = replace(patient, host=("127.0.0.1", free_port(socket.SOCK_STREAM)), room_key=KEY)
    assert [one.verdict for one in reach.check_unicast(gone)] == ["bad", "bad"]
    nowhere = replace(patient, host=("no such name.invalid", 7783), room_key=KEY)
    assert [one.verdict for one in reach.check_unicast(nowhere)] == ["bad"]
    assert [one.verdict for one in reach.check_unicast(patient)] == ["skipped"]
    assert list(reach.check_unicast(replace(patient, host_status={}))) == []


@pytest.mark.parametrize("room_key", [KEY, None])
def test_a_speaker_that_knows_no_host_is_not_well(patient, room_key):
    searches = [{"speaker": {"name": "lamp"}, "host": {"state": "searching", "address": None}}]
    found = only(reach.check_unicast(replace(patient, speakers=searches, room_key=room_key)))
    assert (found.name, found.verdict) == ("way to the host", "bad")
    for what in ("key show", "is the host on", "firewall", "--host"):
        assert what in found.advice
    assert list(reach.check_unicast(replace(patient, speakers=searches, host_status={}))) == []


@pytest.mark.parametrize(
    ("took_ms", "verdict"),
    [
        ([0.5] * 20, "good"),
        ([0.5] * 18, "good"),
        ([0.5] * 17, "advice"),
        ([0.5] * 19 + [40.0], "advice"),
        ([], "bad"),
    ],
)
def test_round_trips(took_ms, verdict):
    assert reach.judge_unicast("den", took_ms).verdict == verdict


def test_what_the_host_says_of_its_speakers(patient):
    def peer(**values):
        clock = {"uncertainty_us": 12.0, "loss_percent": 0.4, **values.pop("clock", {})}
        return {"name": "lamp", "reach": "multicast", "fault": "", "clock": clock, **values}

    def found(*peers):
        return [one.verdict for one in reach.check_speakers(replace(patient, host_status={"peers": list(peers)}))]

    assert found(peer(), peer(reach="away", fault="x")) == ["good"]
    assert found(peer(fault="no sound card")) == ["bad"]
    assert found(peer(clock={"loss_percent": 30.0}), peer(clock={"uncertainty_us": 2000.0})) == ["advice", "advice"]
    assert found() == ["advice"]
    assert list(reach.check_speakers(patient)) == []


# -- sound -------------------------------------------------------------------------------------

HEARD = asdict(listening.Heard("hw:DAC,0", 48_000, 2, 10.0, 400, 0, 12.3, 8.0, 1, True, 0))


def heard(**changes):
    return {
        one.name.removeprefix("sound card").strip(": "): one.verdict for one in sound.judge_heard({**HEARD, **changes})
    }


def test_a_card_that_is_well():
    assert heard() == {"": "good", "rate": "good", "pointer": "good", "underruns": "good"}
    assert heard(pointer_frames=48)["pointer"] == "good"


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"underruns": 3}, "underruns", "bad"),
        ({"discontinuities": 2}, "underruns", "advice"),
        ({"underruns_before": 9}, "underruns", "good"),
        ({"card_ppm": -350.0}, "rate", "advice"),
        ({"pointer_frames": 480}, "pointer", "advice"),
        ({"tells_its_time": False}, "clock", "advice"),
        ({"blocks": 0}, "", "bad"),
        ({"output": "default"}, "", "advice"),
        ({"uncertainty_us": None}, "rate", "good"),
        ({"listened_s": 0.0}, "rate", "skipped"),
    ],
)
def test_what_may_be_wrong_with_a_card(changes, name, verdict):
    assert heard(**changes)[name] == verdict


def test_a_card_that_does_not_open_is_bad():
    assert [one.verdict for one in sound.judge_heard({"error": "hw:DAC,0 is in use by another program"})] == ["bad"]


def test_a_host_without_a_speaker_needs_no_card(patient, monkeypatch):
    monkeypatch.setattr(sound, "_heard", lambda *_: pytest.fail("it opens a card"))
    assert only(sound.check_sound(replace(patient, host_status={}))).verdict == "skipped"


def speaking(underruns, fault="", card=True):
    facts = {
        key: HEARD[key] for key in ("output", "rate_hz", "channels", "card_ppm", "uncertainty_us", "pointer_frames")
    }
    facts |= {"tells_its_time": True, "discontinuities": 1, "underruns": underruns}
    return {"speaker": {"id": "ab", "name": "lamp", "fault": fault}, "card": facts if card else None}


def test_a_speaker_that_has_the_card_is_asked_twice_and_only_what_is_new_counts(patient, monkeypatch):
    waited, now = [], [speaking(7)]
    monkeypatch.setattr(sound.time, "sleep", waited.append)
    monkeypatch.setattr(sound, "local_peers", lambda _: now)
    monkeypatch.setattr(sound, "_heard", lambda *_: pytest.fail("it opens the card that the speaker has"))
    asked = replace(patient, speakers=[speaking(7)], sound_s=10.0)
    found = {one.name: one for one in sound.check_sound(asked)}
    assert waited == [10.0]
    assert found["sound card of lamp: underruns"].line == "none in 10 s; 7 since its start"
    now[:] = [speaking(9)]
    found = {one.name: one for one in sound.check_sound(asked)}
    assert found["sound card of lamp: underruns"].verdict == "bad"
    assert found["sound card of lamp: underruns"].line.startswith("2 in 10 s")
    now[:] = [speaking(9, "hw:DAC,0 is in use by another program", card=False)]
    assert [one.verdict for one in sound.check_sound(asked)] == ["bad"]


def test_listening_finds_what_a_card_is_like():
    class Card(NullOutput):
        """Runs in no time: 10 s of blocks at once, 40 ppm fast, with a pointer that moves by 256 frames."""

        def start(self, render):
            step = 1.0 / (1.0 + 40e-6)
            for block in range(470):
                frame = block * 1024
                at_ns = round(frame / 48_000 * step * NS_PER_S) + 10 * NS_PER_S
                render(np.zeros((1024, 2), np.float32), frame, at_ns, at_ns - 40 * NS_PER_MS, False, 0)

    found = listening.listen(Card(48_000, 80.0), 0.001)
    assert found.blocks == 470
    assert found.card_ppm == pytest.approx(40.0, abs=1.0)
    assert found.tells_its_time
    assert (found.underruns, found.discontinuities) == (0, 0)
    assert listening.listen(Card(48_000, 80.0), 0.0).blocks == 0


def test_listening_in_a_process_of_its_own_says_what_it_found_or_why_not():
    found = json.loads(listening.main('{"output": "null", "device": null, "seconds": 0}'))
    assert found["output"] == "null"
    assert json.loads(listening.main('{"output": "what", "device": null, "seconds": 0}'))["error"].startswith(
        "no output"
    )


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("print('ALSA lib …'); print('{\"error\": \"it is busy\"}')", "it is busy"),
        ("import os; os.abort()", "the sound system ends who uses it (-6)"),
        ("print('[]')", "the sound system ends who uses it (0)"),
        ("import time; time.sleep(60)", "the sound system does not answer: a sound card or a sound server hangs"),
    ],
)
def test_what_becomes_of_the_process_is_a_line(monkeypatch, program, line):
    run = subprocess.run

    def instead(command, **options):
        assert command[1:4] == ["-P", "-m", "musicsyncd.system.doctor.listening"]
        return run([sys.executable, "-c", program], **options)

    monkeypatch.setattr(sound.subprocess, "run", instead)
    monkeypatch.setattr(sound, "_START_S", 2.0)
    assert sound._heard(None, 0.0) == {"error": line}


# -- services ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "verdict", "said", "advice"),
    [
        ({"ActiveState": "active", "StatusText": "plays, +0 µs"}, "good", "runs: plays, +0 µs", ""),
        ({"ActiveState": "active", "NRestarts": "3"}, "good", "runs: active", ""),
        ({"ActiveState": "active", "NRestarts": "4"}, "advice", "anew 4 times", "journalctl -e -u musicsyncd-peer"),
        ({"ActiveState": "activating", "SubState": "start"}, "advice", "is activating", "look again"),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "9"},
            "bad",
            "does not stay up: systemd has started it anew 9 times",
            "journalctl -e -u musicsyncd-peer",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "0"},
            "bad",
            "does not stay up",
            "journalctl",
        ),
        ({"ActiveState": "failed", "NRestarts": "?"}, "bad", "has failed, and is not tried once more", "journalctl"),
        ({"ActiveState": "failed", "NRestarts": "2"}, "bad", "after systemd had started it anew 2 times", "journalctl"),
        ({"ActiveState": "inactive"}, "bad", "does not run", "systemctl start musicsyncd-peer"),
    ],
)
def test_a_service_is_judged_by_what_systemd_says_of_it(shown, verdict, said, advice):
    found = services.judge_service("peer", shown)
    assert (found.name, found.verdict) == ("musicsyncd-peer", verdict)
    assert said in found.line
    assert " 0 times" not in found.line
    assert advice in found.advice
    if verdict == "bad":
        of_mine = services.judge_service("peer", shown, "--user ")
        assert "ctl --user " in of_mine.advice


class Systemd:
    """What systemd says of units, by their names. A user's own does not answer."""

    def __init__(self, root, **units):
        (root / "run/systemd/system").mkdir(parents=True)
        self.said = {f"musicsyncd-{role}.service": text for role, text in units.items()}
        self.place = replace(Place.of_system(root), run=self)
        mine = replace(Place.of_this_user(), root=root, run=lambda _: Ran(1, err="Failed to connect to bus"))
        self.places = (self.place, mine)

    def __call__(self, words):
        command, verb, unit, properties = words
        assert (command, verb) == ("systemctl", "show")
        names = properties.removeprefix("--property=").split(",")
        lines = self.said.get(unit, "LoadState=not-found\nActiveState=inactive").splitlines()
        return Ran(0, "\n".join(line for line in lines if line.partition("=")[0] in names))


RUNS = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nStatusText=a=b\n"
IS_OFF = "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\nStatusText=\n"


def test_only_services_that_were_set_up_are_looked_at(patient, tmp_path, monkeypatch):
    systemd = Systemd(tmp_path, host=IS_OFF, peer=RUNS)
    monkeypatch.setattr(services, "places", lambda: systemd.places)
    assert [(one.name, one.line) for one in services.check_services(patient)] == [("musicsyncd-peer", "runs: a=b")]
    systemd.said.clear()
    assert only(services.check_services(patient)).verdict == "skipped"
    missing = replace(systemd.place, run=lambda words: run_command(["/no/such/program", *words]))
    monkeypatch.setattr(services, "places", lambda: (missing,))
    assert only(services.check_services(patient)).verdict == "skipped"


def test_a_systemd_that_hangs_does_not_hold_the_examination_up():
    assert [one.run.keywords for one in services.places()] == [{"timeout_s": services._SYSTEMCTL_S}] * 2
    assert [one.of_user for one in services.places()] == [False, True]


def test_the_service_of_this_user_is_called_so(patient, tmp_path, monkeypatch):
    systemd = Systemd(tmp_path, peer=RUNS.replace("=active", "=inactive"))
    mine = replace(systemd.places[1], run=lambda words: systemd([one for one in words if one != "--user"]))
    monkeypatch.setattr(services, "places", lambda: (mine,))
    assert only(services.check_services(patient)).advice == "systemctl --user start musicsyncd-peer"


def test_sound_comes_from_the_speakers_service_before_the_hosts(tmp_path):
    systemd = Systemd(tmp_path, host=RUNS, peer=RUNS)
    assert services.sounding(systemd.places).role == "peer"
    systemd.said["musicsyncd-peer.service"] = IS_OFF
    assert services.sounding(systemd.places).role == "host"
    systemd.said.clear()
    assert services.sounding(systemd.places) is None


RIGHTS = "User=musicsyncd\nSupplementaryGroups=audio\nLimitRTPRIO=20\n"


@pytest.mark.parametrize(
    ("rights", "of_device", "realtime", "devices"),
    [
        (RIGHTS, "audio", "good", "good"),
        (RIGHTS, "other", "good", "bad"),
        ("User=musicsyncd\nLimitRTPRIO=0\n", "audio", "advice", "bad"),
        ("User=musicsyncd\nLimitRTPRIO=infinity\nSupplementaryGroups=audio\n", "audio", "good", "good"),
    ],
)
def test_what_the_service_may_do_is_judged_and_not_what_root_may(
    patient, tmp_path, monkeypatch, rights, of_device, realtime, devices
):
    systemd = Systemd(tmp_path, peer=RUNS + rights)
    monkeypatch.setattr(machine, "places", lambda _: systemd.places)
    monkeypatch.setattr(machine, "may_run_realtime", lambda: pytest.fail("it judges who calls"))
    put(tmp_path, "dev/snd/pcmC0D0p", "")
    card = tmp_path / "dev/snd/pcmC0D0p"
    card.chmod(0o060)
    gid = card.stat().st_gid
    put(tmp_path, "etc/passwd", f"musicsyncd:x:{os.getuid() + 1}:{gid + 1}::/:/bin/false\n")
    put(tmp_path, "etc/group", f"audio:x:{gid if of_device == 'audio' else gid + 2}:\n")
    found = {one.name: one for one in machine.check_permissions(patient, tmp_path)}
    assert found["real-time priority"].verdict == realtime
    assert found["sound devices"].verdict == devices
    assert all("musicsyncd-peer.service may" in one.line for one in found.values())


@pytest.mark.parametrize("missing", ["user", "service"])
def test_without_a_service_of_the_system_this_user_is_judged(patient, tmp_path, monkeypatch, missing):
    systemd = Systemd(tmp_path, peer=IS_OFF if missing == "service" else RUNS + RIGHTS)
    monkeypatch.setattr(machine, "places", lambda _: systemd.places)
    monkeypatch.setattr(machine, "may_run_realtime", lambda: True)
    put(tmp_path, "dev/snd/pcmC0D0p", "")
    put(tmp_path, "etc/passwd", "musicsyncd:x:9:9::/:\n" if missing == "service" else "root:x:0:0::/:\n")
    found = [one.line for one in machine.check_permissions(patient, tmp_path)]
    assert found == ["this user's audio thread may have it", "this user may use them all"]


# -- all of it ---------------------------------------------------------------------------------


def test_where_the_host_is_is_taken_from_the_user_then_from_a_speaker_then_from_the_network(tmp_path, monkeypatch):
    speakers = [{"host": {"address": None}}, {"host": {"address": "192.0.2.9:7000"}, "open": False}]
    monkeypatch.setattr(examination, "local_peers", lambda _: speakers)
    monkeypatch.setattr(examination, "find_on_lan", lambda *_: ("192.0.2.7", 7783))
    paths = Paths.find({}, state_dir=tmp_path)
    paths.make()

    def here(**options):
        return examination.patient_here(NetworkConfig(interfaces=("lo",)), paths, **options)

    assert here(host="den.local").host == ("den.local", 7783)
    assert here().host == ("192.0.2.9", 7000)
    assert here().key_fault.startswith("no room key at")
    speakers.clear()
    assert here().host is None, "without a key nobody answers"
    make_host_keys(paths.key_file)
    assert here().host == ("192.0.2.7", 7783)
    assert here(open_room=True).room_key != here().room_key
    speakers.append({"open": True})
    assert here().open


def test_every_check_is_made_whatever_the_others_find(patient, monkeypatch):
    monkeypatch.setattr(sound, "_heard", lambda *_: {"error": "no sound card"})
    found = list(examination.examine(patient))
    assert {one.verdict for one in found} <= {"good", "advice", "bad", "skipped"}
    assert len({one.name for one in found}) > 10
    assert all(one.advice for one in found if one.verdict == "advice")

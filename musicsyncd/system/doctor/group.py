"""Checks of multicast: the interfaces, the group on this machine, and what of a host's beacons comes through.

Theory. A datagram to the group that comes back on this machine's own socket shows that joining works, and nothing of
the network. Beacons from another machine show that: how many of the four a second come, how unevenly late they are,
and whether they go on. A switch that snoops on IGMP passes the group while it knows of members. Members say so when
they join and when a querier asks; without a querier they are forgotten after some minutes (260 s by RFC 3376, section
8.4), and the beacons end. An access point holds multicast back until its next DTIM, on a grid of 102.4 ms and its
multiples (IEEE 802.11), at which those who save power wake up.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import auth, wire
from musicsyncd.system import stamps
from musicsyncd.system.doctor.finding import Finding, Patient
from musicsyncd.system.interfaces import Interface, choose, interfaces
from musicsyncd.system.monotonic import RealtimeBridge, now_ns
from musicsyncd.system.multicast import address_of, join, senders
from musicsyncd.units import NS_PER_MS, NS_PER_S, ns_to_ms, ns_to_s

FORGOTTEN_AFTER_S = 260.0
"""RFC 3376, section 8.4: when a switch or router that is told of nobody any more stops passing a group."""

_LOOP_S = 0.5
_MAX_BEACONS = 20_000
_RECEIVE_BYTES = 2048
_BEACONS_A_S = 4.0
_FAIR_LOSS = 0.2
_HELD_BACK_NS = 10 * NS_PER_MS
_GRID_NS = 102.4 * NS_PER_MS
"""IEEE 802.11: an access point's beacons are 100 time units of 1,024 µs apart, unless it is told otherwise."""

_ON_GRID = 0.8
"""How much phases agree, from 0 to 1 (the length of the mean of unit vectors). Chance makes 0.3 of ten."""

_LEAST_FOR_GRID = 12
_ENDED_NS = 5 * NS_PER_S
_IGMP_VERSIONS = ("V1", "V2")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A beacon that came by multicast.

    Attributes:
        room: it is of.
        host_ns: when it was sent, by the host's clock.
        local_ns: when it came.
        address: of its sender, without the port.
    """

    room: str
    host_ns: int
    local_ns: int
    address: str


def check_group(patient: Patient) -> Iterator[Finding]:
    """Look at the interfaces and at the group on each."""
    chosen = choose(patient.network.interfaces)
    yield judge_interfaces(chosen)
    for interface in chosen:
        yield _loops(interface, patient)
    yield from judge_igmp(chosen)


def judge_interfaces(chosen: Sequence[Interface]) -> Finding:
    """Judge which interfaces there are."""
    names = ", ".join(dict.fromkeys(f"{one.name} ({one.address})" for one in chosen))
    if not chosen:
        advice = "bring a network up, or name one with --interface"
        return Finding("interfaces", "bad", "no interface that is up carries multicast", advice)
    if all(one.loopback for one in chosen):
        return Finding("interfaces", "advice", f"{names}: this machine is alone", "connect it to the network")
    return Finding("interfaces", "good", names)


def _loops(interface: Interface, patient: Patient) -> Finding:
    """Say whether what is sent to the group is heard on this machine itself."""
    what = f"group on {interface.name} ({'IPv6' if interface.family == socket.AF_INET6 else 'IPv4'})"
    word = os.urandom(16)
    with contextlib.ExitStack() as closing:
        try:
            heard = closing.enter_context(join(interface, patient.network))
            sending = {one.family: one for one in senders(patient.network, 0)}
            for one in sending.values():
                closing.enter_context(one.socket)
            sender = sending[interface.family]
            sender.socket.sendto(word, sender.group_on(interface))
        except (OSError, KeyError) as error:
            why = getattr(error, "strerror", None) or "this kernel does not have the family"
            advice = (
                f"is UDP port {patient.network.port} taken by another program (ss -lunp), or a firewall in the way?"
            )
            return Finding(what, "bad", f"it cannot be joined or sent to: {why}", advice)
        end_s = time.monotonic() + _LOOP_S
        while (left_s := end_s - time.monotonic()) > 0.0 and select.select([heard], [], [], left_s)[0]:
            with contextlib.suppress(OSError):
                if heard.recv(_RECEIVE_BYTES) == word:
                    return Finding(what, "good", "joined, and what is sent to it is heard here")
    advice = "a firewall on this machine? let UDP and IGMP through: nft list ruleset"
    return Finding(what, "bad", "what is sent to it is not heard even here", advice)


def judge_igmp(chosen: Sequence[Interface], root: Path = Path("/")) -> Iterator[Finding]:
    """Say what is known of a querier: the kernel notes who speaks an older IGMP, and only then that there is one."""
    try:
        lines = (root / "proc/net/igmp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    versions = {words[1]: words[-1] for line in lines if line[:1].strip() and len(words := line.split()) >= 3}
    for name in dict.fromkeys(one.name for one in chosen if not one.loopback and one.family == socket.AF_INET):
        if versions.get(name) in _IGMP_VERSIONS:
            said = f"{name}: somebody asks who is in which group (IGMP{versions[name].lower()})"
            yield Finding("IGMP querier", "good", said)


# -- beacons -----------------------------------------------------------------------------------


def check_beacons(patient: Patient) -> Iterator[Finding]:
    """Wait for a host's beacons on the group, as a speaker does."""
    if patient.room_key is None:
        yield Finding("multicast", "skipped", "without the room's key no beacon can be told from noise")
        return
    own = {one.address for one in interfaces()}
    if patient.host_status is not None or (patient.host is not None and patient.host[0] in own):
        said = "the host is this machine: ask from a speaker's whether its beacons get there"
        yield Finding("multicast", "skipped", said)
        return
    began_ns = now_ns()
    arrivals = _heard_beacons(patient)
    yield from judge_beacons(patient, [one for one in arrivals if one.address not in own], began_ns, now_ns())


def _heard_beacons(patient: Patient) -> list[Arrival]:
    assert patient.room_key is not None
    opener = auth.Opener(auth.derive_key(patient.room_key, auth.HOST_PURPOSE))
    bridge = RealtimeBridge()
    found: list[Arrival] = []
    with contextlib.ExitStack() as closing:
        groups = []
        for interface in choose(patient.network.interfaces):
            with contextlib.suppress(OSError):  # What cannot be joined was said before.
                group = closing.enter_context(join(interface, patient.network))
                stamps.ask_for_arrivals(group)
                groups.append(group)
        end_s = time.monotonic() + patient.listen_s
        while groups and (left_s := end_s - time.monotonic()) > 0.0 and len(found) < _MAX_BEACONS:
            for group in select.select(groups, [], [], left_s)[0]:
                with contextlib.suppress(OSError, ProtocolError):
                    data, control, _, sender = group.recvmsg(_RECEIVE_BYTES, stamps.CONTROL_BYTES)
                    local_ns = stamps.arrival_ns(control, bridge) or now_ns()
                    message = wire.decode_from_host(opener.open(data).body)
                    if isinstance(message, wire.Beacon):
                        found.append(Arrival(message.room, message.host_ns, local_ns, address_of(sender)[0]))
    return found


def judge_beacons(patient: Patient, arrivals: Sequence[Arrival], began_ns: int, ended_ns: int) -> Iterator[Finding]:
    """Judge what came from other machines.

    Args:
        patient: for what is known of the host.
        arrivals: the beacons, in the order in which they came.
        began_ns: when the waiting began, local time.
        ended_ns: when it ended.
    """
    listened_s = ns_to_s(ended_ns - began_ns)
    if not arrivals:
        yield _nothing_came(patient, listened_s)
        return
    # The same beacon may come on several interfaces: the first one counts. And each room has its own.
    first: dict[tuple[str, int], int] = {}
    for one in arrivals:
        first.setdefault((one.room, one.host_ns), one.local_ns)
    room = arrivals[0].room
    beacons = sorted((host_ns, local_ns) for (of, host_ns), local_ns in first.items() if of == room)
    quiet_ns = ended_ns - max(local_ns for _, local_ns in beacons)
    if quiet_ns > _ENDED_NS:
        yield _it_ended(ns_to_s(max(local_ns for _, local_ns in beacons) - began_ns))
        return
    yield _judge_loss(beacons, listened_s)
    yield from _judge_lateness(beacons)
    yield _judge_querier(patient, listened_s)


def _nothing_came(patient: Patient, listened_s: float) -> Finding:
    reach = {str(one.get("network", {}).get("reach")) for one in patient.speakers}
    if "multicast" in reach:
        said = f"no beacon came in {listened_s:.0f} s, though a speaker here hears them"
        return Finding("multicast", "advice", said, "look again, with --listen 30")
    if "unicast" in reach or patient.host is not None:
        return Finding(
            "multicast",
            "advice",
            f"no beacon came in {listened_s:.0f} s, though there is a host: it speaks to this machine by unicast",
            "it plays all the same; access point: no isolation of clients; switch: IGMP snooping off, or a querier on",
        )
    return Finding(
        "multicast",
        "skipped",
        f"no beacon came in {listened_s:.0f} s, and no host is known",
        "start `musicsyncd host`; where the network passes no multicast, name it with --host",
    )


def _it_ended(after_s: float) -> Finding:
    return Finding(
        "multicast",
        "bad",
        f"the beacons stopped {after_s:.0f} s after the group was joined",
        "a switch with IGMP snooping and no querier forgets who listens: turn a querier on, or snooping off",
    )


def _judge_loss(beacons: Sequence[tuple[int, int]], listened_s: float) -> Finding:
    span_s = ns_to_s(beacons[-1][0] - beacons[0][0])
    expected = max(len(beacons), round(span_s * _BEACONS_A_S) + 1)
    missing = 1.0 - len(beacons) / expected
    said = f"{len(beacons)} beacons came in {listened_s:.0f} s, {missing:.0%} are missing"
    if missing > _FAIR_LOSS:
        advice = "Wi-Fi sends multicast without repeating what is lost: nearer to the access point, 5 GHz, or a cable"
        return Finding("multicast", "advice", said, advice)
    return Finding("multicast", "good", said)


def _judge_lateness(beacons: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Judge how unevenly late beacons are; their least lateness is mostly the difference of two clocks."""
    pairs = np.array(beacons, np.int64)
    late_ns = pairs[:, 1] - pairs[:, 0]
    spread_ns = float(np.quantile(late_ns - late_ns.min(), 0.9))
    said = f"one in ten is later than the quickest by {ns_to_ms(spread_ns):.1f} ms"
    if spread_ns <= _HELD_BACK_NS or len(beacons) < _LEAST_FOR_GRID:
        yield Finding("multicast timing", "good", said)
        return
    phases = np.exp(2j * np.pi * ((pairs[:, 1] - pairs[0, 1]) / _GRID_NS))
    if abs(phases.mean()) > _ON_GRID:
        said += ", on a grid of 102.4 ms: the access point holds multicast back until its DTIM"
    advice = "time comes by unicast, so the music is in step; for quicker changes: DTIM interval 1, or a cable"
    yield Finding("multicast timing", "advice", said, advice)


def _judge_querier(patient: Patient, listened_s: float) -> Finding:
    """Say whether the group has come through for longer than a switch remembers who listens."""
    up_s = [
        float(one.get("uptime_s") or 0.0)
        for one in patient.speakers
        if one.get("network", {}).get("reach") == "multicast"
    ]
    lasted_s = max([listened_s, *up_s])
    if lasted_s > FORGOTTEN_AFTER_S:
        said = f"the group has come through for {lasted_s / 60:.0f} min: no switch forgets who listens"
        return Finding("IGMP snooping", "good", said)
    advice = f"--listen {FORGOTTEN_AFTER_S + 40:.0f} finds out"
    said = "whether a switch forgets who listens shows after some minutes only"
    return Finding("IGMP snooping", "skipped", said, advice)

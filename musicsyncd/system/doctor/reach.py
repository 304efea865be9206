"""Checks of the way to the host: datagrams to it alone, and its HTTP."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from musicsyncd.config import address_text
from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import auth, wire
from musicsyncd.system.doctor.finding import Finding, Patient
from musicsyncd.system.monotonic import now_ns
from musicsyncd.units import ns_to_ms

HELLOS = 20
_EVERY_S = 0.05
_ANSWER_S = 0.5
_HTTP_S = 5.0
_MAX_ANSWER_BYTES = 32 << 20
_RECEIVE_BYTES = 2048
_FAIR_LOSS = 0.1
_FAIR_SPREAD_MS = 20.0
_FAIR_UNCERTAINTY_US = 1_000.0
_BAD_LOSS_PERCENT = 20.0


def check_unicast(patient: Patient) -> Iterator[Finding]:
    """Ask the host some times by datagrams of its own, as a speaker does for the time."""
    if patient.host is None:
        if patient.speakers and patient.host_status is None:
            yield _nobody_answers()
        elif patient.host_status is None:
            yield Finding("way to the host", "skipped", "no host is known", "name it with --host ADDRESS")
        return
    if patient.room_key is None:
        yield Finding("way to the host", "skipped", "without the room's key the host does not answer")
        return
    try:
        numeric = socket.getaddrinfo(*patient.host, type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        where = address_text(patient.host)
        yield Finding("way to the host", "bad", f"{where} is no address: {error.strerror}", "name it by its number")
        return
    family, _, _, _, address = numeric
    yield judge_unicast(address_text(patient.host), _round_trips_ms(family, address, patient.room_key))
    yield _http(patient)


def _nobody_answers() -> Finding:
    advice = (
        "is the host on, is its key this one (`musicsyncd key show` on both), does a firewall stop UDP? "
        "in another subnet: --host ADDRESS"
    )
    return Finding("way to the host", "bad", "no host is known, though a speaker runs here", advice)


def _round_trips_ms(family: int, address: Any, room_key: bytes) -> list[float]:  # noqa: ANN401 - a socket's
    """Return how long the answers took, of :data:`HELLOS` questions."""
    sealer = auth.Sealer(auth.derive_key(room_key, auth.PEER_PURPOSE), os.urandom(8), time.time_ns())
    opener = auth.Opener(auth.derive_key(room_key, auth.HOST_PURPOSE))
    sent_ns: dict[bytes, int] = {}
    took_ms: list[float] = []
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        end_s = time.monotonic() + HELLOS * _EVERY_S + _ANSWER_S
        due_s = time.monotonic()
        while (now_s := time.monotonic()) < end_s and len(took_ms) < HELLOS:
            if len(sent_ns) < HELLOS and now_s >= due_s:
                nonce = os.urandom(8)
                sent_ns[nonce] = now_ns()
                due_s += _EVERY_S
                with contextlib.suppress(OSError):  # A refusal by ICMP is an answer that is missing.
                    asking.sendto(sealer.seal(wire.encode(wire.Hello(nonce))), address)
            wait_s = (due_s if len(sent_ns) < HELLOS else end_s) - time.monotonic()
            if not select.select([asking], [], [], max(0.0, wait_s))[0]:
                continue
            with contextlib.suppress(OSError, ProtocolError):
                answer = wire.decode_from_host(opener.open(asking.recv(_RECEIVE_BYTES)).body)
                if isinstance(answer, wire.Here) and answer.nonce in sent_ns:
                    took_ms.append(ns_to_ms(now_ns() - sent_ns[answer.nonce]))
    return took_ms


def judge_unicast(where: str, took_ms: Sequence[float]) -> Finding:
    """Judge how the host answers.

    Args:
        where: the host is, for people.
        took_ms: the round trips of those of :data:`HELLOS` questions that were answered.
    """
    if not took_ms:
        advice = "is it on, is its key this one (`musicsyncd key show` on both), does a firewall stop UDP?"
        return Finding("way to the host", "bad", f"{where} does not answer datagrams", advice)
    lost = 1.0 - len(took_ms) / HELLOS
    quickest, middle = min(took_ms), statistics.median(took_ms)
    said = f"{where} answers in {quickest:.2f} ms at best, {middle:.2f} ms as a rule, {lost:.0%} lost"
    if lost > _FAIR_LOSS or max(took_ms) - quickest > _FAIR_SPREAD_MS:
        said += f", {max(took_ms):.0f} ms at worst"
        advice = "a cable, 5 GHz, or nearer to the access point; see Wi-Fi above"
        return Finding("way to the host", "advice", said, advice)
    return Finding("way to the host", "good", said)


def _http(patient: Patient) -> Finding:
    """Say whether tracks can be fetched: the host's HTTP answers, and takes this room's key."""
    assert patient.host is not None
    assert patient.room_key is not None
    where = address_text(patient.host)
    connection = http.client.HTTPConnection(*patient.host, timeout=_HTTP_S)
    try:
        connection.connect()
        address, port = connection.sock.getpeername()[:2]
        headers = {"Host": address_text((address.partition("%")[0], port))}
        if not patient.open:
            headers["Authorization"] = f"Bearer {auth.http_token(patient.room_key)}"
        connection.request("GET", "/api/status", headers=headers)
        response = connection.getresponse()
        response.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or "it closed the connection"
        advice = f"tracks come over TCP port {patient.host[1]}: let it through the firewall of the host's machine"
        return Finding("HTTP of the host", "bad", f"{where}: {why}", advice)
    finally:
        connection.close()
    if response.status == http.client.OK:
        return Finding("HTTP of the host", "good", f"{where} answers, and knows this key")
    advice = "compare `musicsyncd key show` here and there" if response.status in (401, 403) else "see the host's log"
    return Finding("HTTP of the host", "bad", f"{where} answers with HTTP status {response.status}", advice)


def check_speakers(patient: Patient) -> Iterator[Finding]:
    """Look at what the host of this machine says of its speakers, and what those of this machine say of theirs."""
    known = patient.host_status.get("peers", []) if patient.host_status is not None else []
    present = [one for one in known if one.get("reach") != "away"]
    if patient.host_status is not None and not present:
        yield Finding("speakers", "advice", "no speaker is there", "start `musicsyncd peer` on one")
    for speaker in present:
        yield judge_speaker_clock(speaker)


def judge_speaker_clock(speaker: dict[str, Any]) -> Finding:
    """Judge a speaker by what the host's status says of its clock and its fault."""
    clock = speaker.get("clock", {})
    name = f"speaker {speaker.get('name')}"
    if speaker.get("fault"):
        return Finding(name, "bad", str(speaker["fault"]), "run `musicsyncd doctor` there")
    loss, uncertainty_us = float(clock.get("loss_percent") or 0.0), float(clock.get("uncertainty_us") or 0.0)
    said = f"clock known to {uncertainty_us:.0f} µs, {loss:.1f} % of its questions lost, by {speaker.get('reach')}"
    if loss >= _BAD_LOSS_PERCENT or uncertainty_us >= _FAIR_UNCERTAINTY_US:
        return Finding(name, "advice", said, "run `musicsyncd doctor` there")
    return Finding(name, "good", said)

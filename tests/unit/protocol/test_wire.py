"""Messages: round trips, refusals, and the sizes that the limits were chosen for."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ControlError, ProtocolError
from musicsyncd.playback.timeline import MAX_FADE_MS, MAX_FRAMES, MAX_SEGMENTS, Segment, Timeline, Track
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import MAX_BODY_BYTES, OVERHEAD_BYTES, SIGNATURE_BYTES, HostKeys
from musicsyncd.protocol.host import HostNode, RoomState
from musicsyncd.protocol.reporting import fit

from .protocol_lan import HOST_AT, from_peer, make_host, nonces

LONGEST_NAME = "🎵" * wire.MAX_NAME_CHARS
LATE = (1 << 62) - 20
BIGGEST = tuple(
    Segment(LATE + number, MAX_FRAMES, MAX_FRAMES, Track(bytes(32), 1 << 44, 768_000, MAX_FRAMES, 64), MAX_FADE_MS)
    for number in range(MAX_SEGMENTS)
)


def test_the_biggest_beacon_that_a_host_makes_fits_a_datagram() -> None:
    node = HostNode(HostKeys(bytes(32)), b"12345678", (1 << 64) - 1, LONGEST_NAME, 65535, nonce=nonces())
    with pytest.raises(ControlError, match="shorter"):
        node.set_room(RoomState("漢" * 63 + "🎵", (1 << 62) - 1, Timeline(BIGGEST)))
    for name in ("漢" * 64, "🎵" * 48):
        node.set_room(RoomState(name, (1 << 62) - 1, Timeline(BIGGEST)))
        (sent,) = node.datagrams_to_send(LATE)
        assert OVERHEAD_BYTES + SIGNATURE_BYTES + 1000 < len(sent.data) <= wire.MAX_DATAGRAM_BYTES
        node.remove_room(name)


def test_the_smallest_beacon_is_as_long_as_the_challenge_that_answers_it() -> None:
    node = make_host(name="h")
    node.set_room(RoomState("r", 0, Timeline()))
    (sent,) = node.datagrams_to_send(LATE)
    challenge = wire.encode(wire.Challenge(bytes(8), bytes(wire.CHALLENGE_PADDING_BYTES)))
    proof = wire.encode(wire.Proof(bytes(8), bytes(32)))
    assert len(sent.data) == len(challenge) + OVERHEAD_BYTES == len(proof) + OVERHEAD_BYTES + SIGNATURE_BYTES
    shortest = wire.Beacon("r", 0, 0, (), 0, False, 80, "h")
    assert len(wire.encode(wire.beacon_of_full_length(shortest))) == wire.LEAST_BEACON_BYTES
    long = wire.Beacon("r" * 64, 0, 0, (), 0, False, 80, "h")
    assert wire.beacon_of_full_length(long) is long


def test_a_new_key_is_of_its_length() -> None:
    for length in (wire.SEALED_KEY_BYTES - 1, wire.SEALED_KEY_BYTES + 1):
        with pytest.raises(ProtocolError):
            wire.decode_from_host(wire.encode(wire.NewKey(bytes(length))))


def test_the_biggest_report_and_settings_fit_a_datagram() -> None:
    report = wire.Report(
        LONGEST_NAME, LONGEST_NAME, LATE, LATE, True, "9" * 24,
        wire.ClockStats(-LATE, 1e6, LATE, LATE, LATE, 1.0, "k" * 8, -LATE),
        fit(wire.PlaybackStats("s" * 16, -LATE, 1e6, LATE, LATE, LATE, 1e6, "漢" * 60, "🎵" * 120)),
        (wire.Heard((1 << wire.BEACON_MARK_BITS) - 1, -wire.MAX_LATENESS_NS),) * wire.MAX_HEARD, b"\xff" * 4,
    )  # fmt: skip
    assert len(wire.encode(report)) <= MAX_BODY_BYTES
    assert wire.decode_from_peer(wire.encode(report)) == report
    settings = wire.Settings(bytes(8), LATE, LONGEST_NAME, 100, True, -5_000_000, "stereo")
    assert wire.decode_from_host(wire.encode(settings)) == settings


_numbers = st.integers(0, LATE)


_heard = st.builds(
    wire.Heard,
    st.integers(0, (1 << wire.BEACON_MARK_BITS) - 1),
    st.integers(-wire.MAX_LATENESS_NS, wire.MAX_LATENESS_NS),
)


_intervals = st.integers(0, wire.MAX_PROBE_INTERVAL_MS)


@given(_numbers, _numbers, st.tuples(*[_numbers] * 4, st.none() | _heard, _intervals))
def test_no_reply_is_longer_than_what_asked_for_it(
    number: int, t1: int, more: tuple[int, int, int, int, wire.Heard | None, int]
) -> None:
    probe = wire.encode(wire.Probe(number, t1))
    assert len(wire.encode(wire.ProbeReply(number, t1, *more))) <= len(probe)


def test_the_longest_reply_is_no_longer_than_the_shortest_probe() -> None:
    longest = wire.ProbeReply(0, 0, LATE, LATE, LATE, LATE, wire.Heard((1 << 32) - 1, -wire.MAX_LATENESS_NS), 2000)
    assert len(wire.encode(longest)) <= len(wire.encode(wire.Probe(0, 0)))


def test_a_here_is_no_longer_than_its_hello() -> None:
    node = make_host(name=LONGEST_NAME)
    hello = from_peer(wire.Hello(bytes(8)))
    node.receive_datagram(hello, HOST_AT, 1)
    (here,) = node.datagrams_to_send(2)
    assert len(here.data) <= len(hello)


def test_what_is_no_number_is_refused() -> None:
    stats = wire.ClockStats(skew_ppm=math.nan)
    report = wire.Report("a", "main", 0, 0, False, "1", stats, wire.PlaybackStats())
    with pytest.raises(ProtocolError, match="float"):
        wire.decode_from_peer(wire.encode(report))


@pytest.mark.parametrize(
    "message",
    [
        wire.Beacon("", 1, 1, (), 50, False, 80, "h"),
        wire.Beacon("r", 1, 1, (), 101, False, 80, "h"),
        wire.Beacon("r", 1, 1, (), 50, False, 0, "h"),
        wire.Beacon("r", -1, 1, (), 50, False, 80, "h"),
        wire.Beacon("r", 1, 1 << 62, (), 50, False, 80, "h"),
        wire.Beacon("r", 1, 1, (*BIGGEST, BIGGEST[0]), 50, False, 80, "h"),
        wire.ProbeReply(1, 1, 1, 1, 1, 1, wire.Heard(1 << wire.BEACON_MARK_BITS, 1)),
        wire.ProbeReply(1, 1, 1, 1, 1, 1, wire.Heard(1, wire.MAX_LATENESS_NS + 1)),
        wire.Settings(bytes(7), 1, "r"),
        wire.Settings(bytes(8), 1, "r", channels="side"),
        wire.Settings(bytes(8), 1, "r", output_delay_us=5_000_001),
    ],
)
def test_what_is_beyond_a_limit_is_malformed(message: wire.FromHost) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_from_host(wire.encode(message))
    assert caught.value.reason == "malformed"


def test_directions_do_not_mix() -> None:
    with pytest.raises(ProtocolError):
        wire.decode_from_host(wire.encode(wire.Probe(1, 1)))
    with pytest.raises(ProtocolError):
        wire.decode_from_peer(wire.encode(wire.ProbeReply(1, 1, 1, 1)))


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in (wire.decode_from_host, wire.decode_from_peer):
        reason = "malformed"
        try:
            assert isinstance(decode(data), msgspec.Struct)
        except ProtocolError as error:
            reason = error.reason
        assert reason == "malformed"

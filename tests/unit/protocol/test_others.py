"""What a host hears of other hosts: who is there, who is not, and how much of it is kept."""

from __future__ import annotations

from itertools import count

import pytest

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import others as others_module
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HOST_PURPOSE, HostKeys, Opened, Opener, Sealer, derive_key
from musicsyncd.protocol.door import Door, host_door, host_lock
from musicsyncd.protocol.others import (
    MAX_OPENED_IN_WINDOW,
    MAX_OTHERS,
    MAX_ROOMS_EACH,
    MOVED_AFTER_NS,
    SILENCE_NS,
    OtherHost,
    Others,
)

from .protocol_lan import HOST_ID, HOST_KEYS, MS, NEW_KEYS, S, nonces

PORT = 7783
ATTIC = b"attic id"
ATTIC_AT = ("192.0.2.9", PORT)
OPENER = Opener(derive_key(HOST_KEYS.room_key, HOST_PURPOSE))


def make_others() -> Others:
    return Others(HOST_ID, PORT, OPENER.open)


def said(message: wire.FromHost, host_id: bytes = ATTIC, keys: HostKeys = HOST_KEYS) -> bytes:
    return Sealer(derive_key(keys.room_key, HOST_PURPOSE), host_id, 1).seal(wire.encode(message))


def beacon(room: str = "main", name: str = "attic") -> wire.Beacon:
    return wire.Beacon(room, 1, S, (), 100, False, PORT, name)


def stranger(host_id: bytes = ATTIC) -> bytes:
    return said(beacon(), host_id, NEW_KEYS)


def heard(others: Others, at_ns: int = S) -> list[tuple[str, str, tuple[str, ...], bool]]:
    return [(one.name, one.address, one.rooms, one.has_our_key) for one in others.at(at_ns)]


# -- fellows -----------------------------------------------------------------------------------


def test_a_host_with_our_key_is_known_by_its_name_address_and_rooms() -> None:
    others = make_others()
    for room in ("main", "attic", "main"):
        others.hear_fellow(said(beacon(room)), ATTIC_AT, S)
    assert others.at(S) == (OtherHost("attic", "192.0.2.9", ("attic", "main"), True),)


def test_the_newest_name_counts() -> None:
    others = make_others()
    others.hear_fellow(said(beacon(name="old")), ATTIC_AT, S)
    others.hear_fellow(said(beacon(name="new")), ATTIC_AT, S)
    assert [one.name for one in others.at(S)] == ["new"]


def test_it_is_forgotten_ten_seconds_after_its_last_word() -> None:
    others = make_others()
    others.hear_fellow(said(beacon()), ATTIC_AT, S)
    others.hear_fellow(said(beacon()), ATTIC_AT, 2 * S)
    assert others.at(2 * S + SILENCE_NS - 1)
    assert others.at(2 * S + SILENCE_NS) == ()


def test_a_room_of_which_nothing_is_said_any_more_is_forgotten() -> None:
    others = make_others()
    others.hear_fellow(said(beacon("old")), ATTIC_AT, S)
    others.hear_fellow(said(beacon("new")), ATTIC_AT, 9 * S)
    assert [one.rooms for one in others.at(9 * S)] == [("new", "old")]
    assert [one.rooms for one in others.at(12 * S)] == [("new",)]


def test_who_says_goodbye_is_gone_at_once() -> None:
    others = make_others()
    others.hear_fellow(said(beacon()), ATTIC_AT, S)
    others.hear_fellow(said(beacon(), b"the den."), ("192.0.2.4", PORT), S)
    others.hear_fellow(said(wire.Bye("the host is stopping")), ATTIC_AT, S)
    assert [one.address for one in others.at(S)] == ["192.0.2.4"]
    others.hear_fellow(said(wire.Bye(), b"nobody.."), ATTIC_AT, S)


def test_ourselves_are_no_other_host_and_are_not_even_opened() -> None:
    opened = []

    def open_fellow(data: bytes) -> Opened:
        opened.append(data)
        return OPENER.open(data)

    others = Others(HOST_ID, PORT, open_fellow)
    for _ in range(2 * MAX_OPENED_IN_WINDOW):
        others.hear_fellow(said(beacon(), HOST_ID), ATTIC_AT, S)
    others.hear_stranger(stranger(HOST_ID), ATTIC_AT, S)
    assert (others.at(S), opened) == ((), [])
    others.hear_fellow(said(beacon()), ATTIC_AT, S)
    assert len(others.at(S)) == 1, "what we say ourselves leaves room for others"


@pytest.mark.parametrize(
    "data",
    [
        said(beacon())[:-1] + b"!",
        said(beacon(), keys=NEW_KEYS),
        Sealer(derive_key(HOST_KEYS.room_key, HOST_PURPOSE), ATTIC, 1).seal(b"\xff"),
        said(wire.Here(bytes(8), PORT, "attic")),
        b"",
        said(beacon())[:20],
    ],
)
def test_what_is_forged_damaged_or_no_beacon_says_nothing(data: bytes) -> None:
    others = make_others()
    others.hear_fellow(data, ATTIC_AT, S)
    assert others.at(S) == ()


def test_a_host_on_several_addresses_is_one_and_shown_at_the_first_until_that_is_silent() -> None:
    others = make_others()
    second = ("fe80::9%eth0", PORT)
    for at_ns in range(S, 5 * S, 250 * MS):
        others.hear_fellow(said(beacon()), ATTIC_AT, at_ns)
        others.hear_fellow(said(beacon()), second, at_ns)
    assert [one.address for one in others.at(5 * S)] == ["192.0.2.9"]
    last_ns = 5 * S - 250 * MS
    others.hear_fellow(said(beacon()), second, last_ns + MOVED_AFTER_NS)
    assert [one.address for one in others.at(last_ns + MOVED_AFTER_NS)] == ["192.0.2.9"]
    others.hear_fellow(said(beacon()), second, last_ns + MOVED_AFTER_NS + 1)
    assert [one.address for one in others.at(last_ns + MOVED_AFTER_NS + 1)] == ["fe80::9%eth0"]


# -- strangers ---------------------------------------------------------------------------------


def test_a_host_with_another_key_is_known_by_its_address_alone() -> None:
    others = make_others()
    others.hear_stranger(stranger(), ATTIC_AT, S)
    assert others.at(S) == (OtherHost("", "192.0.2.9", (), False),)
    assert others.at(S + SILENCE_NS - 1)
    assert others.at(S + SILENCE_NS) == ()


def test_who_sends_from_another_port_is_no_host() -> None:
    others = make_others()
    others.hear_stranger(stranger(), ("192.0.2.9", 40_000), S)
    assert others.at(S) == ()


def test_a_stranger_on_several_addresses_is_one_at_an_address_that_stays() -> None:
    others = make_others()
    addresses = [("fe80::9%eth0", PORT), ATTIC_AT]
    others.hear_stranger(stranger(b"another."), ("192.0.2.7", PORT), S)
    for order in (addresses, addresses[::-1]):
        for address in order:
            others.hear_stranger(stranger(), address, S)
        assert [one.address for one in others.at(S)] == ["192.0.2.7", "192.0.2.9"]
    assert heard(others) == [("", "192.0.2.7", (), False), ("", "192.0.2.9", (), False)]
    others.hear_stranger(stranger(), addresses[0], 8 * S)
    assert heard(others, 12 * S) == [("", "fe80::9%eth0", (), False)], "of its addresses, one where it is heard"


def test_one_address_that_makes_up_hosts_is_one_stranger_and_pushes_nobody_out() -> None:
    others = make_others()
    others.hear_stranger(stranger(), ATTIC_AT, S)
    for number in range(100):
        others.hear_stranger(stranger(number.to_bytes(8, "big")), ("192.0.2.66", PORT), S)
    assert [one.address for one in others.at(S)] == ["192.0.2.66", "192.0.2.9"]


def test_a_host_that_changes_its_key_is_there_once_with_its_name_for_as_long_as_that_is_known() -> None:
    others = make_others()
    others.hear_fellow(said(beacon()), ATTIC_AT, S)
    others.hear_stranger(stranger(), ATTIC_AT, 2 * S)
    assert heard(others, 2 * S) == [("attic", "192.0.2.9", ("main",), True)]
    assert heard(others, S + SILENCE_NS) == [("", "192.0.2.9", (), False)]


# -- limits ------------------------------------------------------------------------------------


def test_of_too_many_hosts_those_go_that_were_silent_for_longest() -> None:
    others = make_others()
    for number in range(MAX_OTHERS + 1):
        data, address = said(beacon(), bytes([number]) * 8), (f"192.0.2.{100 + number}", PORT)
        others.hear_fellow(data, address, S + number)
        others.hear_stranger(stranger(bytes([number + 99]) * 8), address, S + number)
        if number == MAX_OTHERS - 1:
            # The first speaks again, so the second is the one that goes.
            others.hear_fellow(said(beacon(), bytes(8)), ("192.0.2.100", PORT), S + number)
            others.hear_stranger(stranger(bytes([99]) * 8), ("192.0.2.100", PORT), S + number)
    expected = [f"192.0.2.{100 + number}" for number in range(MAX_OTHERS + 1) if number != 1]
    assert [one.address for one in others.at(2 * S)] == expected * 2
    assert [one.has_our_key for one in others.at(2 * S)] == [True] * MAX_OTHERS + [False] * MAX_OTHERS


def test_of_too_many_rooms_those_go_that_were_not_spoken_of_for_longest() -> None:
    others = make_others()
    for number in range(MAX_ROOMS_EACH + 1):
        others.hear_fellow(said(beacon(f"{number:03}")), ATTIC_AT, S + number)
    (one,) = others.at(2 * S)
    assert one.rooms == tuple(f"{number:03}" for number in range(1, MAX_ROOMS_EACH + 1))


def test_a_bounded_number_is_opened_in_a_window_and_then_it_goes_on() -> None:
    opened = count()

    def open_fellow(data: bytes) -> Opened:
        next(opened)
        return OPENER.open(data)

    others = Others(HOST_ID, PORT, open_fellow)
    forged = said(beacon(), b"a forger")[:-1] + b"!"
    for number in range(3 * MAX_OPENED_IN_WINDOW):
        others.hear_fellow(forged, ATTIC_AT, S + number)
    others.hear_fellow(said(beacon()), ATTIC_AT, S + 1)
    assert next(opened) == MAX_OPENED_IN_WINDOW
    assert others.at(S + 1) == ()
    others.hear_fellow(said(beacon()), ATTIC_AT, S + others_module.WINDOW_NS)
    assert len(others.at(S + others_module.WINDOW_NS)) == 1


# -- the door ----------------------------------------------------------------------------------


def make_door() -> Door[wire.FromPeer]:
    return host_door(host_lock(HOST_KEYS, HOST_ID, 1, count(1)), nonces())


def test_a_hosts_door_opens_what_its_fellows_say_under_each_key_that_counts() -> None:
    door = make_door()
    old, new = said(beacon()), said(beacon(), keys=NEW_KEYS)
    assert door.open_fellow(old).sender == ATTIC
    with pytest.raises(ProtocolError, match="key"):
        door.open_fellow(new)
    door.add(host_lock(NEW_KEYS, HOST_ID, 1, count(1)), beside=door.key_id)
    assert (door.open_fellow(old).sender, door.open_fellow(new).sender) == (ATTIC, ATTIC)
    with pytest.raises(ProtocolError, match="tag"):
        door.open_fellow(old[:-1] + b"!")


def test_what_fellows_say_counts_for_nothing_but_that() -> None:
    door = make_door()
    assert door.open(said(beacon()), ATTIC_AT, S) is None
    assert (door.refused, door.dropped) == ("own kind", {"own kind": 1})
    assert door.open(stranger(), ATTIC_AT, S) is None
    assert door.refused == "key"
    assert door.to_send() == []

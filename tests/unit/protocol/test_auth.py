"""Keys against RFC 5869's vectors; datagrams sealed, opened, forged, cut, flipped, repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import auth
from musicsyncd.protocol.auth import MAX_BODY_BYTES, OVERHEAD_BYTES, REPLAY_WINDOW, Opener, Sealer, derive_key
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES

ROOM_KEY = bytes(range(32))
HOST_KEY = derive_key(ROOM_KEY, "host datagrams")
PEER_KEY = derive_key(ROOM_KEY, "peer datagrams")
SENDER = b"12345678"


def sealer(epoch: int = 1, sender: bytes = SENDER, key: bytes = HOST_KEY) -> Sealer:
    return Sealer(key, sender, epoch)


def reason(opener: Opener, data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        opener.open(data)
    return caught.value.reason


# -- keys --------------------------------------------------------------------------------------


def test_hkdf_gives_the_vectors_of_rfc_5869() -> None:
    # Appendix A.1, A.2 and A.3.
    assert auth._hkdf(bytes([0x0B] * 22), bytes(range(13)), bytes(range(0xF0, 0xFA)), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert auth._hkdf(bytes(range(0x50)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)), 82).hex() == (
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
    assert auth._hkdf(bytes([0x0B] * 22), b"", b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_every_purpose_and_every_room_has_another_key() -> None:
    rooms = [ROOM_KEY, bytes(32)]
    keys = {derive_key(room, purpose) for room in rooms for purpose in ("a", "b", "http token", "")}
    assert len(keys) == 8
    assert all(len(key) == 32 for key in keys)
    assert auth.http_token(ROOM_KEY) == derive_key(ROOM_KEY, "http token").hex()


def test_a_room_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        derive_key(bytes(31), "host datagrams")


# -- sealing and opening -----------------------------------------------------------------------


@given(st.binary(max_size=MAX_BODY_BYTES), st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1))
def test_what_is_sealed_opens(body: bytes, sender: bytes, epoch: int) -> None:
    seal = sealer(epoch, sender)
    opener = Opener(HOST_KEY)
    for sequence in (1, 2):
        opened = opener.open(seal.seal(body))
        assert opened == auth.Opened(sender, epoch, sequence, body)


def test_a_datagram_is_never_longer_than_is_allowed() -> None:
    assert len(sealer().seal(bytes(MAX_BODY_BYTES))) == MAX_DATAGRAM_BYTES
    with pytest.raises(ProtocolError) as caught:
        sealer().seal(bytes(MAX_BODY_BYTES + 1))
    assert caught.value.reason == "long"
    assert reason(Opener(HOST_KEY), bytes(MAX_DATAGRAM_BYTES + 1)) == "long"


def test_it_opens_at_no_other_length() -> None:
    whole = sealer().seal(b"state of a room")
    for length in range(len(whole)):
        expected = "short" if length < OVERHEAD_BYTES else "tag"
        assert reason(Opener(HOST_KEY), whole[:length]) == expected, length
    assert reason(Opener(HOST_KEY), whole + b"\0") == "tag"


def test_every_single_flipped_bit_is_noticed() -> None:
    whole = sealer().seal(b"state")
    opener = Opener(HOST_KEY)
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        expected = {0: "version", 1: "version", 2: "version", 3: "key", 4: "key"}.get(bit // 8, "tag")
        assert reason(opener, bytes(flipped)) == expected, bit
    assert opener.open(whole).body == b"state"


@given(st.binary(max_size=MAX_DATAGRAM_BYTES + 10))
def test_noise_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    assert reason(Opener(HOST_KEY), noise) in {"short", "long", "version", "key", "tag"}


def test_a_datagram_that_comes_back_to_its_sender_opens_nowhere() -> None:
    sent = sealer(key=PEER_KEY).seal(b"probe")
    assert reason(Opener(HOST_KEY), sent) == "key"
    forged_mark = sent[:3] + sealer(key=HOST_KEY).seal(b"")[3:5] + sent[5:]
    assert reason(Opener(HOST_KEY), forged_mark) == "tag"


def test_another_rooms_key_is_told_from_damage() -> None:
    stranger = sealer(key=derive_key(bytes(32), "host datagrams"))
    assert reason(Opener(HOST_KEY), stranger.seal(b"x")) == "key"


def test_a_node_knows_the_datagrams_of_its_own_kind() -> None:
    mine, theirs = sealer(key=PEER_KEY), sealer(key=HOST_KEY)
    assert mine.is_own_kind(sealer(key=PEER_KEY, sender=b"another!").seal(b""))
    assert not mine.is_own_kind(theirs.seal(b""))
    assert not mine.is_own_kind(b"")


# -- replays -----------------------------------------------------------------------------------


def test_the_same_datagram_opens_once() -> None:
    opener = Opener(HOST_KEY)
    data = sealer().seal(b"x")
    opener.open(data)
    assert reason(opener, data) == "replay"


def test_datagrams_may_come_in_any_order_within_the_window() -> None:
    seal, opener = sealer(), Opener(HOST_KEY)
    sent = [seal.seal(b"") for _ in range(REPLAY_WINDOW)]
    for data in reversed(sent):
        opener.open(data)
    assert {reason(opener, data) for data in sent} == {"replay"}


def test_what_is_older_than_the_window_is_refused_unseen() -> None:
    seal, opener = sealer(), Opener(HOST_KEY)
    sent = [seal.seal(b"") for _ in range(REPLAY_WINDOW + 1)]
    opener.open(sent[-1])
    assert reason(opener, sent[0]) == "replay"
    opener.open(sent[1])


@given(st.lists(st.integers(1, 3 * REPLAY_WINDOW), max_size=60))
def test_the_window_admits_what_a_set_would(sequences: list[int]) -> None:
    window = auth._Window(1)
    seen: set[int] = set()
    for sequence in sequences:
        newest = max(seen, default=0)
        expected = sequence not in seen and sequence > newest - REPLAY_WINDOW
        assert window.admit(sequence) is expected
        if expected:
            seen.add(sequence)
        assert window.seen.bit_length() <= REPLAY_WINDOW


def test_a_newer_epoch_replaces_and_an_older_is_refused() -> None:
    opener = Opener(HOST_KEY)
    old, new = sealer(epoch=7), sealer(epoch=8)
    opener.open(old.seal(b""))
    assert opener.open(new.seal(b"")).sequence == 1
    assert reason(opener, old.seal(b"")) == "old epoch"
    opener.open(new.seal(b""))


def test_senders_do_not_touch_each_other() -> None:
    opener = Opener(HOST_KEY)
    for sender in (b"aaaaaaaa", b"bbbbbbbb"):
        opener.open(sealer(sender=sender).seal(b""))
    opener.open(sealer(epoch=9, sender=b"aaaaaaaa").seal(b""))
    assert reason(opener, sealer(sender=b"bbbbbbbb").seal(b"")) == "replay"


def test_strangers_cannot_push_known_senders_out() -> None:
    opener = Opener(HOST_KEY)
    data = sealer().seal(b"")
    opener.open(data)
    for number in range(auth.MAX_SENDERS + 10):
        whole = sealer(sender=number.to_bytes(8, "big")).seal(b"")
        assert reason(opener, whole[:-1] + bytes([whole[-1] ^ 1])) == "tag"
    assert reason(opener, data) == "replay"


def test_the_memory_of_senders_is_bounded_and_the_busy_ones_stay() -> None:
    opener = Opener(HOST_KEY)
    busy, idle = sealer(sender=b"busybusy"), sealer(sender=b"idleidle")
    newest, of_idle = busy.seal(b""), idle.seal(b"")
    opener.open(newest)
    opener.open(of_idle)
    for number in range(auth.MAX_SENDERS - 1):
        opener.open(sealer(sender=number.to_bytes(8, "big")).seal(b""))
        if number == 5:
            newest = busy.seal(b"")
            opener.open(newest)
    assert len(opener._windows) == auth.MAX_SENDERS
    assert reason(opener, newest) == "replay"
    opener.open(of_idle)  # Forgotten: the price of a bound.

"""Keys against RFC 5869's vectors; datagrams sealed, opened, forged, cut, flipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import auth
from musicsyncd.protocol.auth import (
    MAX_BODY_BYTES,
    OVERHEAD_BYTES,
    SIGNATURE_BYTES,
    HostKeys,
    Opener,
    RoomKeys,
    Sealer,
    derive_key,
    key_id,
    sender_of,
    signed_part,
)
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


def test_a_secret_makes_a_room_key_and_a_seed_that_tell_nothing_of_each_other() -> None:
    keys, others = HostKeys(bytes(32)), HostKeys(bytes([1] * 32))
    made = {keys.secret, keys.room_key, keys.signing_seed, others.room_key, others.signing_seed}
    assert len(made) == 5
    assert {len(one) for one in made} == {32}
    assert keys.room_keys.room_key == keys.room_key
    assert len({keys.room_keys.host_mark, others.room_keys.host_mark}) == 2
    assert len({key_id(keys.room_key), key_id(others.room_key)}) == 2
    assert len(key_id(keys.room_key)) == 4


def test_what_a_secret_makes_does_not_change_with_the_version_of_the_program() -> None:
    # Made once with another implementation of HKDF, from the salt "musicsyncd 2".
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    for info, made in ((b"room key", HostKeys(ROOM_KEY).room_key), (b"host signing", HostKeys(ROOM_KEY).signing_seed)):
        assert HKDF(hashes.SHA256(), 32, b"musicsyncd 2", info).derive(ROOM_KEY) == made


def test_keys_are_of_their_length_and_are_not_printed() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        HostKeys(bytes(31))
    for room_key, host_mark in ((bytes(31), bytes(16)), (ROOM_KEY, bytes(15))):
        with pytest.raises(ValueError, match="bytes"):
            RoomKeys(room_key, host_mark)
    keys = HostKeys(ROOM_KEY)
    assert repr(keys) == "HostKeys()"
    assert "room_key" not in repr(keys.room_keys)


# -- sealing and opening -----------------------------------------------------------------------


@given(st.binary(max_size=MAX_BODY_BYTES), st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1))
def test_what_is_sealed_opens(body: bytes, sender: bytes, epoch: int) -> None:
    seal = sealer(epoch, sender)
    opener = Opener(HOST_KEY)
    for number in (1, 2):
        opened = opener.open(seal.seal(body))
        assert opened == auth.Opened(sender, epoch, 2 * number, body)


@given(st.binary(max_size=MAX_BODY_BYTES - SIGNATURE_BYTES), st.binary(min_size=64, max_size=64), st.booleans())
def test_a_signature_comes_out_as_it_went_in_and_is_over_what_was_opened(
    body: bytes, signature: bytes, is_unicast_copy: bool
) -> None:
    data = sealer(7).seal(body, 5, is_unicast_copy=is_unicast_copy, signature=signature)
    opened = Opener(HOST_KEY, b"key1").open(data)
    assert opened == auth.Opened(SENDER, 7, 10 + is_unicast_copy, body, signature, b"key1")
    assert opened.signed_part == signed_part(SENDER, 7, 5, body)
    assert len(data) == OVERHEAD_BYTES + SIGNATURE_BYTES + len(body)


def test_what_is_signed_is_another_thing_for_every_sender_epoch_number_and_message() -> None:
    parts = [
        (SENDER, 1, 1, b"x"),
        (b"12345679", 1, 1, b"x"),
        (SENDER, 2, 1, b"x"),
        (SENDER, 1, 2, b"x"),
        (SENDER, 1, 1, b""),
    ]
    assert len({signed_part(*part) for part in parts}) == len(parts)


def test_a_signed_datagram_without_room_for_a_signature_is_short() -> None:
    header = bytearray(sealer().seal(b"x" * 63)[:-16])
    header[5] = 1
    assert reason(Opener(HOST_KEY), bytes(header) + auth._tag(HOST_KEY, bytes(header))) == "short"


def test_sealers_of_one_epoch_share_their_numbers() -> None:
    one = sealer()
    two = Sealer(PEER_KEY, SENDER, 1, one.numbers)
    one.seal(b"")
    assert Opener(PEER_KEY).open(two.seal(b"")).sequence == 4
    assert Opener(HOST_KEY).open(one.seal(b"")).sequence == 6


def test_a_datagram_is_never_longer_than_is_allowed() -> None:
    assert len(sealer().seal(bytes(MAX_BODY_BYTES))) == MAX_DATAGRAM_BYTES
    with pytest.raises(ProtocolError) as caught:
        sealer().seal(bytes(MAX_BODY_BYTES + 1))
    assert caught.value.reason == "long"
    with pytest.raises(ProtocolError):
        sealer().seal(bytes(MAX_BODY_BYTES - SIGNATURE_BYTES + 1), signature=bytes(64))
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


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=50))
def test_the_sender_can_be_read_without_the_key(sender: bytes, body: bytes) -> None:
    data = sealer(1 << 40, sender).seal(body)
    assert sender_of(data) == sender == Opener(HOST_KEY).open(data).sender


def test_a_node_knows_the_datagrams_of_its_own_kind() -> None:
    mine, theirs = sealer(key=PEER_KEY), sealer(key=HOST_KEY)
    assert mine.is_own_kind(sealer(key=PEER_KEY, sender=b"another!").seal(b""))
    assert not mine.is_own_kind(theirs.seal(b""))
    assert not mine.is_own_kind(b"")

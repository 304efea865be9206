"""Signatures against RFC 8032's vectors, and the limits of what is remembered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from musicsyncd.protocol import signing
from musicsyncd.protocol.signing import Signer, Verifier, decrypt, encrypt, mark_of

SEED = bytes(range(32))


def verifier_of(signer: Signer) -> Verifier:
    verifier = Verifier(mark_of(signer.public_key))
    assert verifier.take_public_key(signer.public_key)
    return verifier


def test_a_signature_is_that_of_rfc_8032() -> None:
    # Section 7.1, test 2.
    signer = Signer(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signer.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert signer.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@settings(max_examples=40)
@given(st.binary(max_size=300), st.integers(0, 63 * 8 + 7))
def test_what_is_signed_verifies_and_nothing_that_differs_in_a_bit(data: bytes, bit: int) -> None:
    signer = Signer(SEED)
    verifier, signature = verifier_of(signer), signer.sign(data)
    for _ in range(2):  # The second time from memory.
        assert verifier.verify(signature, data)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verifier.verify(bytes(flipped), data)
    assert not verifier.verify(signature, data + b"\0")
    assert not verifier_of(Signer(bytes(32))).verify(signature, data)


def test_only_the_key_of_the_mark_is_taken_and_without_it_nothing_verifies() -> None:
    signer = Signer(SEED)
    verifier = Verifier(mark_of(signer.public_key))
    assert not verifier.verify(signer.sign(b"x"), b"x")
    for wrong in (b"", bytes(32), Signer(bytes(32)).public_key, signer.public_key[:-1]):
        assert not verifier.take_public_key(wrong)
    assert not verifier.verify(signer.sign(b"x"), b"x")
    assert verifier.take_public_key(signer.public_key)
    assert verifier.verify(signer.sign(b"x"), b"x")


def test_what_was_verified_is_remembered_up_to_a_limit() -> None:
    signer = Signer(SEED)
    verifier = verifier_of(signer)
    for number in range(2 * signing.MAX_VERIFIED):
        data = bytes([number])
        assert verifier.verify(signer.sign(data), data)
    assert len(verifier._verified) == signing.MAX_VERIFIED


def test_what_is_encrypted_opens_under_its_key_and_nonce_alone() -> None:
    key, nonce = bytes(32), bytes(12)
    sealed = encrypt(key, nonce, b"a new key")
    assert len(sealed) == len(b"a new key") + 16
    assert decrypt(key, nonce, sealed) == b"a new key"
    assert decrypt(SEED, nonce, sealed) is None
    assert decrypt(key, bytes([1] * 12), sealed) is None
    assert decrypt(key, nonce, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None

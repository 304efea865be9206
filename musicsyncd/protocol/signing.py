"""What a host alone may say, and how a new key travels: the two things that need more than a keyed hash.

Owns signatures and the encryption of a new key. Must not know what is signed, nor who may have which
key. The only module that imports ``cryptography``; commands do without it, because it takes time to load.

A host signs with Ed25519 (RFC 8032): 64 bytes, one signature in some 25 µs, its verification in
some 70 µs on a desktop machine. A receiver gets most messages twice, by multicast and by unicast, and from
several interfaces: what was just verified is not verified again. Speakers know the public key by its
*mark*, a digest: a join code has room for that. A new key goes under ChaCha20-Poly1305 (RFC 8439).
"""

from __future__ import annotations

import hashlib
from collections import deque

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from musicsyncd.protocol.auth import HOST_MARK_BYTES

AEAD_NONCE_BYTES = 12

MAX_VERIFIED = 16
"""Messages remembered as verified: the copies of one come within some tens of milliseconds."""


def mark_of(public_key: bytes) -> bytes:
    """Return the host mark of a public key, 16 bytes."""
    return hashlib.blake2b(public_key, digest_size=HOST_MARK_BYTES, person=b"musicsyncd host").digest()


class Signer:
    """Signs for one host.

    Args:
        seed: 32 bytes.

    Attributes:
        public_key: 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return a signature of 64 bytes."""
        return self._key.sign(data)


class Verifier:
    """Verifies what one host signed.

    Args:
        host_mark: 16 bytes.
    """

    def __init__(self, host_mark: bytes) -> None:
        self._host_mark = host_mark
        self._key: Ed25519PublicKey | None = None
        self._verified: deque[bytes] = deque(maxlen=MAX_VERIFIED)

    def take_public_key(self, public_key: bytes) -> bool:
        """Take the host's public key, whoever brings it; return False if it is not the one of the mark."""
        if mark_of(public_key) != self._host_mark:
            return False
        if self._key is None:
            self._key = Ed25519PublicKey.from_public_bytes(public_key)
        return True

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether the host signed this; before its public key is known, nothing is."""
        if self._key is None:
            return False
        digest = hashlib.blake2b(signature + data, digest_size=16).digest()
        if digest in self._verified:
            return True
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        self._verified.append(digest)
        return True


# Imported where they are used: a room's key changes hardly ever, and what belongs to ciphers is a dozen modules.


def encrypt(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """Return data under a key of 32 bytes, 16 bytes longer; no nonce of 12 bytes may serve twice."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(nonce, data, None)


def decrypt(key: bytes, nonce: bytes, data: bytes) -> bytes | None:
    """Return what was encrypted, or None if it was not under this key and nonce."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(nonce, data, None)
    except InvalidTag:
        return None

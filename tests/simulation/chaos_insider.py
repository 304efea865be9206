"""An insider of a random-fault run: he has the room's key, as every speaker has, and not the host's signing seed.

Owns the datagrams that he makes in the host's name, and his answers when he is asked to prove himself. Must not know
when he attacks whom. Nothing of it may act.
"""

from __future__ import annotations

import random

from musicsyncd.errors import ProtocolError
from musicsyncd.playback.timeline import Segment
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import HOST_PURPOSE, PEER_PURPOSE, HostKeys, Opener, Sealer, derive_key, signed_part
from musicsyncd.protocol.signing import Signer

SIGNATURE_BYTES = 64
_ROOM = "main"
_FAR = 1 << 40


class Insider:
    """Makes what he would have others believe.

    Args:
        keys: of the true host, of which he has the room key and the public key.
        own: those of nobody; he signs with their seed.
    """

    def __init__(self, keys: HostKeys, own: HostKeys) -> None:
        self._sealing = derive_key(keys.room_key, HOST_PURPOSE)
        self._opener = Opener(derive_key(keys.room_key, PEER_PURPOSE))
        self._public_key = Signer(keys.signing_seed).public_key
        self._signer = Signer(own.signing_seed)

    def forged(self, kind: str, dice: random.Random, host_id: bytes, epoch: int, peer_id: bytes, host_ns: int) -> bytes:
        """Return a datagram in a host's name.

        Args:
            kind: of :data:`.chaos_plan.ATTACKS`.
            dice: his.
            host_id: whose name he uses.
            epoch: that the host has.
            peer_id: whom he writes to.
            host_ns: the host's time.
        """
        later = epoch + (dice.choice((1, 1000)) if kind == "insider proof" else dice.choice((0, 0, 0, 1)))
        return self._sealed(dice, self._message(kind, dice, peer_id, host_ns), host_id, later)

    def answered(self, data: bytes, dice: random.Random, host_id: bytes, epoch: int) -> bytes:
        """Return what he answers to one who wants a proof of him; nothing to any other."""
        try:
            message = wire.decode_from_peer(self._opener.open(data).body)
        except ProtocolError:
            return b""
        if not isinstance(message, wire.Challenge):
            return b""
        public_key = dice.choice((self._public_key, self._signer.public_key, b"", bytes(32)))
        return self._sealed(dice, wire.Proof(message.nonce, public_key), host_id, epoch)

    def _message(self, kind: str, dice: random.Random, peer_id: bytes, host_ns: int) -> wire.FromHost:
        if kind == "insider settings":
            return wire.Settings(peer_id, 1000 + dice.randrange(1000), dice.choice((_ROOM, "his")), dice.randrange(101))
        if kind == "insider bye":
            return wire.Bye("the host is stopping")
        if kind == "insider key":
            return wire.NewKey(dice.randbytes(wire.SEALED_KEY_BYTES))
        if kind == "insider state" and dice.random() < 0.25:
            return wire.ProbeReply(dice.randrange(1, 200), dice.randrange(10**12), host_ns, host_ns)
        segments = (Segment(host_ns + dice.randrange(10**9)),) if dice.random() < 0.5 else ()
        return wire.Beacon(_ROOM, 1000 + dice.randrange(1000), host_ns, segments, 100, False, 7783, "host")

    def _sealed(self, dice: random.Random, message: wire.FromHost, host_id: bytes, epoch: int) -> bytes:
        sealer = Sealer(self._sealing, host_id, epoch)
        number = dice.choice((dice.randrange(1, 3000), dice.randrange(_FAR)))
        body = wire.encode(message)
        signature = dice.choice(
            (b"", dice.randbytes(SIGNATURE_BYTES), self._signer.sign(signed_part(host_id, epoch, number, body)))
        )
        return sealer.seal(body, number, is_unicast_copy=dice.random() < 0.5, signature=signature)

"""The sealed door of a node: what comes in is authentic, from who is alive, new, and signed where it must be.

Owns the order in which a datagram is judged (length, key, tag, message, proof, replay, signature), the
counters of what was refused, and the challenges and proofs that this takes. Must not know what any other
message means.

A door has a :class:`Lock` for each key that counts: one, and while a room's key is changed two. What is
seen through both is one and the same sender, so the numbers of messages, who is proven and what was had
before do not depend on the key.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import wire
from musicsyncd.protocol.auth import (
    HOST_PURPOSE,
    PEER_PURPOSE,
    HostKeys,
    Opened,
    Opener,
    RoomKeys,
    Sealer,
    derive_key,
    key_id,
    signed_part,
)
from musicsyncd.protocol.node import Address, Outgoing
from musicsyncd.protocol.proving import Proving
from musicsyncd.protocol.signing import Signer, Verifier

MAX_TO_SEND = 1024
"""Challenges and proofs that wait to be sent; beyond it the oldest go."""

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Lock:
    """What a node does with one room key.

    Attributes:
        key_id: of the room key.
        sealer: for what it says.
        opener: for what it hears.
        signer: a host's.
        verifier: a peer's.
        fellows: a host's: for what other hosts with the same key say.
    """

    key_id: bytes
    sealer: Sealer
    opener: Opener
    signer: Signer | None = None
    verifier: Verifier | None = None
    fellows: Opener | None = None


def host_lock(keys: HostKeys, host_id: bytes, epoch: int, numbers: Iterator[int]) -> Lock:
    """Return what a host does with its keys; ``numbers`` are those of its messages under any key."""
    named = key_id(keys.room_key)
    said = derive_key(keys.room_key, HOST_PURPOSE)
    sealer = Sealer(said, host_id, epoch, numbers)
    opener = Opener(derive_key(keys.room_key, PEER_PURPOSE), named)
    return Lock(named, sealer, opener, signer=Signer(keys.signing_seed), fellows=Opener(said, named))


def peer_lock(keys: RoomKeys, peer_id: bytes, epoch: int, numbers: Iterator[int], public_key: bytes = b"") -> Lock:
    """Return what a peer does with its keys.

    Args:
        keys: of the room.
        peer_id: 8 bytes.
        epoch: of the peer.
        numbers: those of its messages under any key.
        public_key: the host's, if it is known; else the host's proof brings it.
    """
    named = key_id(keys.room_key)
    sealer = Sealer(derive_key(keys.room_key, PEER_PURPOSE), peer_id, epoch, numbers)
    opener = Opener(derive_key(keys.room_key, HOST_PURPOSE), named)
    verifier = Verifier(keys.host_mark)
    verifier.take_public_key(public_key)
    return Lock(named, sealer, opener, verifier=verifier)


class Door(Generic[Message]):
    """Seals what a node says and opens what it hears.

    Args:
        lock: for the key that it begins with.
        decode: what it hears.
        nonce: gives 8 random bytes a call.

    Attributes:
        dropped: how many datagrams were refused, by reason. To those of :class:`~.auth.Opener` come
            ``malformed``; ``own kind``, from a fellow or from itself, heard in the group; ``old epoch``, from before
            its sender's restart; ``unproven``, its sender has yet to prove itself; ``replay``, had before;
            ``unsigned`` and ``signature``, not said by the host itself; ``unexpected proof``; ``too many questions``
            (or one question again); and what a node adds.
        refused: the reason for which :meth:`open` refused a datagram last.
    """

    def __init__(self, lock: Lock, decode: Callable[[bytes], Message], nonce: Callable[[], bytes]) -> None:
        self.dropped: Counter[str] = Counter()
        self.refused = ""
        self._locks: dict[bytes, Lock] = {lock.key_id: lock}
        self._sealing = lock
        self._decode = decode
        self._proving = Proving(nonce)
        self._to_send: deque[Outgoing] = deque(maxlen=MAX_TO_SEND)

    # -- keys ----------------------------------------------------------------------------------

    @property
    def key_id(self) -> bytes:
        """Of the room key under which this seals."""
        return self._sealing.key_id

    def add(self, lock: Lock, beside: bytes) -> None:
        """Take datagrams under another key, too, and of the present ones only under the one called ``beside``."""
        self._locks = {named: one for named, one in self._locks.items() if named == beside} | {lock.key_id: lock}
        if self._sealing.key_id not in self._locks:
            self._sealing = self._locks[beside]

    def seal_under(self, named: bytes) -> None:
        """Seal under this key from now on; one that is not there is no fault."""
        self._sealing = self._locks.get(named, self._sealing)

    def keep_only(self, named: bytes) -> None:
        """Take and seal under this key alone from now on."""
        self._sealing = self._locks[named]
        self._locks = {named: self._sealing}

    # -- what comes ----------------------------------------------------------------------------

    def open(self, data: bytes, address: Address, now_ns: int) -> tuple[Opened, Message] | None:
        """Return a datagram that counts and its message; otherwise count why not and return None.

        Hellos and challenges come from anybody who has the key, alive or not; a proof comes when
        it is the one that was asked for. A challenge is answered already when it is returned.
        """
        try:
            lock, opened = self._unlock(data)
            message = self._decode(opened.body)
            if isinstance(message, wire.Proof):
                self._check_proof(message, opened, lock, address, now_ns)
            elif isinstance(message, wire.Hello | wire.Challenge):
                if not self._proving.may_answer(opened.sender, opened.epoch, opened.sequence, now_ns):
                    raise ProtocolError("too many questions")
                if isinstance(message, wire.Challenge):
                    self._prove_to(message, lock, address)
            else:
                self._check(message, opened, lock, address, now_ns)
        except ProtocolError as error:
            own = error.reason == "key" and any(one.sealer.is_own_kind(data) for one in self._locks.values())
            self.refused = "own kind" if own else error.reason
            self.dropped[self.refused] += 1
            return None
        return opened, message

    def open_fellow(self, data: bytes) -> Opened:
        """Return what another host has sealed under a key of this one's: at any time, and none of it is verified.

        Raises:
            ProtocolError: it is not sealed so.
        """
        for lock in self._locks.values():
            if lock.fellows is not None and lock.sealer.is_own_kind(data):
                return lock.fellows.open(data)
        raise ProtocolError("key")

    def _unlock(self, data: bytes) -> tuple[Lock, Opened]:
        refused = ProtocolError("key")
        for lock in self._locks.values():
            try:
                return lock, lock.opener.open(data)
            except ProtocolError as error:
                if error.reason != "key":
                    refused = error
        raise refused

    def _check(self, message: Message, opened: Opened, lock: Lock, address: Address, now_ns: int) -> None:
        """Raise if a message is not from who is alive, not new, or not signed though it must be."""
        window = self._proving.window_of(opened.sender, opened.epoch)
        if window is None:
            nonce = self._proving.challenge(opened.sender, opened.epoch, address, now_ns)
            if nonce is not None:
                self._challenge(nonce, opened, lock, address)
            raise ProtocolError("unproven")
        if lock.verifier is not None and not isinstance(message, wire.SIGNED):
            # What a host does not sign is an answer, and it is the node that knows whether it asked. Were such
            # sequence numbers remembered, whoever has the key could use up those of the host.
            return
        if not window.is_new(opened.sequence):
            raise ProtocolError("replay")
        self._check_signature(opened, lock)
        window.note(opened.sequence)

    def _check_signature(self, opened: Opened, lock: Lock) -> None:
        if lock.verifier is None:
            return
        if not opened.signature:
            raise ProtocolError("unsigned")
        if not lock.verifier.verify(opened.signature, opened.signed_part):
            raise ProtocolError("signature")

    def _check_proof(self, proof: wire.Proof, opened: Opened, lock: Lock, address: Address, now_ns: int) -> None:
        if not self._proving.is_expected(opened.sender, opened.epoch, proof.nonce, now_ns):
            raise ProtocolError("unexpected proof")
        if lock.verifier is not None and not lock.verifier.take_public_key(proof.public_key):
            raise ProtocolError("signature")
        self._check_signature(opened, lock)
        self._proving.prove(opened.sender, opened.epoch, opened.sequence, address)

    def proven_address(self, opened: Opened, address: Address, now_ns: int) -> Address:
        """Return where the sender of a datagram that counts can be reached.

        Args:
            opened: the datagram.
            address: where it came from. That is returned if it is proven; if not, it is challenged.
            now_ns: the time.
        """
        proven, is_to_be_asked = self._proving.address_of(opened.sender, address, now_ns)
        if is_to_be_asked:
            nonce = self._proving.nonce(opened.sender, opened.epoch, now_ns)
            self._challenge(nonce, opened, self._locks.get(opened.key_id, self._sealing), address)
        return proven

    def _challenge(self, nonce: bytes, opened: Opened, lock: Lock, address: Address) -> None:
        """Ask whoever is at an address whether it is the live sender of a datagram."""
        padding = bytes(wire.CHALLENGE_PADDING_BYTES if lock.verifier is not None else 0)
        asked = self.seal(wire.Challenge(nonce, padding), address, key=lock.key_id)
        # No answer is longer than its question, or whoever gives a wrong address floods another with ours.
        if len(asked.data) <= opened.length:
            self._to_send.append(asked)

    def _prove_to(self, challenge: wire.Challenge, lock: Lock, address: Address) -> None:
        public_key = b"" if lock.signer is None else lock.signer.public_key
        if len(challenge.padding) >= (wire.CHALLENGE_PADDING_BYTES if public_key else 0):
            self._to_send.append(self.seal(wire.Proof(challenge.nonce, public_key), address, key=lock.key_id))

    # -- what goes -----------------------------------------------------------------------------

    def to_send(self) -> list[Outgoing]:
        """Return the challenges and proofs that are to be sent."""
        outgoing = list(self._to_send)
        self._to_send.clear()
        return outgoing

    def seal(
        self,
        message: wire.FromHost | wire.FromPeer,
        address: Address | None,
        ticket: int | None = None,
        *,
        key: bytes = b"",
    ) -> Outgoing:
        """Return a message sealed for one address.

        Args:
            message: what to say.
            address: to whom; None is the group.
            ticket: the node wants to know when it left.
            key: id of the key to seal under, such as that of a question; without it, or if it is no more, the newest.
        """
        return self.seal_all(message, [address], ticket, key=key)[0]

    def seal_all(
        self,
        message: wire.FromHost | wire.FromPeer,
        addresses: Sequence[Address | None],
        ticket: int | None = None,
        *,
        key: bytes = b"",
    ) -> list[Outgoing]:
        """Return one message sealed for several addresses, signed once if it is to be; the first has the ticket."""
        lock = self._locks.get(key, self._sealing)
        sealer, body = lock.sealer, wire.encode(message)
        number, signature = next(sealer.numbers), b""
        if lock.signer is not None and isinstance(message, wire.SIGNED):
            signature = lock.signer.sign(signed_part(sealer.sender, sealer.epoch, number, body))
        copies: dict[bool, bytes] = {}
        outgoing = []
        for address in addresses:
            by_unicast = address is not None
            if by_unicast not in copies:
                copies[by_unicast] = sealer.seal(body, number, is_unicast_copy=by_unicast, signature=signature)
            outgoing.append(Outgoing(copies[by_unicast], address, ticket))
            ticket = None
        return outgoing


def host_door(lock: Lock, nonce: Callable[[], bytes]) -> Door[wire.FromPeer]:
    """Return a host's door."""
    return Door(lock, wire.decode_from_peer, nonce)


def peer_door(lock: Lock, nonce: Callable[[], bytes]) -> Door[wire.FromHost]:
    """Return a peer's door."""
    return Door(lock, wire.decode_from_host, nonce)

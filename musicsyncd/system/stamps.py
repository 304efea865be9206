"""The kernel's time stamps of datagrams: of those that arrive, and of those that leave.

Owns the socket options and control messages, and which stamp belongs to which sending. Must not
know what is sent.

Theory: the stamp of an arriving packet (``SO_TIMESTAMPNS``) comes with it. That of a leaving one is taken in
the driver and comes back on the socket's error queue. It is asked for with each single message
(``SO_TIMESTAMPING`` as control data), so that the queue stays small. The kernel numbers those messages
(``OPT_ID``) and does not send them back along with the stamp (``OPT_TSONLY``). On most drivers the stamp is
there when sending returns. A driver that gives none costs nothing: the node goes on with the times it has.

Source: Documentation/networking/timestamping.rst of the kernel; linux/net_tstamp.h, asm-generic/socket.h.
"""

from __future__ import annotations

import socket
import struct

from musicsyncd.system.monotonic import RealtimeBridge, now_ns
from musicsyncd.system.multicast import SocketAddress
from musicsyncd.units import NS_PER_MS, NS_PER_S

CONTROL_BYTES = 256
"""Both forms of a stamp and the error queue's record take 144 on 64 bits."""

_SO_TIMESTAMPNS = 35
_SO_TIMESTAMPING = 37
"""Their control messages have the same numbers."""

_TIMESPEC = struct.Struct("@ll")  # These options' is the machine's own long, on 32 bits as well.
_TX_SOFTWARE = 1 << 1
_SOFTWARE = 1 << 4
_OPT_ID = 1 << 7
_OPT_TSONLY = 1 << 11
_FLAGS = struct.Struct("@I")
_ASK = [(socket.SOL_SOCKET, _SO_TIMESTAMPING, _FLAGS.pack(_TX_SOFTWARE))]

_IP_RECVERR = 11  # linux/in.h
_IPV6_RECVERR = 25  # linux/in6.h
_ERRORS = ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
_EXTENDED_ERROR = struct.Struct("@IBBBBII")  # linux/errqueue.h: struct sock_extended_err
_ORIGIN_TIMESTAMPING = 4

_MAX_PENDING = 1024
"""Sendings whose stamp may still come: as many as a host answers in one turn."""

_STAMP_WITHIN_NS = 200 * NS_PER_MS
_MANY_MISSING = 5
"""So many sendings in a row without a stamp in time: this driver gives none."""

_Control = list[tuple[int, int, bytes]]


def ask_for_arrivals(sock: socket.socket) -> bool:
    """Have arriving datagrams stamped; return whether the kernel does that."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def arrival_ns(control: _Control, bridge: RealtimeBridge) -> int | None:
    """Return when a datagram arrived, on the monotonic clock; None without a stamp that can be trusted."""
    return _stamp_ns(control, _SO_TIMESTAMPNS, bridge)


def _stamp_ns(control: _Control, wanted: int, bridge: RealtimeBridge) -> int | None:
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == wanted and len(value) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return bridge.to_monotonic(seconds * NS_PER_S + nanoseconds)
    return None


def _number(control: _Control) -> int | None:
    for level, kind, value in control:
        if (level, kind) in _ERRORS and len(value) >= _EXTENDED_ERROR.size:
            _, origin, _, _, _, _, number = _EXTENDED_ERROR.unpack_from(value)
            return int(number) if origin == _ORIGIN_TIMESTAMPING else None
    return None


class SendStamps:
    """Sends over a non-blocking socket and finds out when the datagrams really left.

    While stamps wait on the error queue, the socket polls as an error: whoever watches it calls
    :meth:`collect` then, or it never gets quiet.

    Args:
        sock: bound, UDP, of either family.
        bridge: from the kernel's stamps to the monotonic clock.
    """

    def __init__(self, sock: socket.socket, bridge: RealtimeBridge) -> None:
        self._socket = sock
        self._bridge = bridge
        self._pending: dict[int, tuple[int, int]] = {}
        self._number = 0
        self._missing = 0
        self._ever = False
        self._can_ask = self._number_from_zero()

    @property
    def works(self) -> bool:
        """Stamps come: there was one, and those after it were not all missing."""
        return self._ever and self._missing < _MANY_MISSING

    @property
    def is_refused(self) -> bool:
        """The kernel cannot, or a driver gave none for the first sendings."""
        return not self._ever and (not self._can_ask or self._missing >= _MANY_MISSING)

    def send(self, data: bytes, address: SocketAddress, ticket: int) -> None:
        """Send a datagram whose ticket and time :meth:`collect` is to return.

        Raises:
            OSError: as sending does.
        """
        if not self._can_ask:
            self._socket.sendto(data, address)
            return
        before_ns = now_ns()
        try:
            self._socket.sendmsg([data], _ASK, 0, address)
        except OSError:
            # Whether the kernel counted this one depends on where it failed.
            self._drain()
            self._can_ask = self._number_from_zero()
            raise
        if len(self._pending) >= _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[self._number] = (ticket, before_ns)
        self._number = (self._number + 1) & 0xFFFFFFFF

    def collect(self) -> list[tuple[int, int]]:
        """Empty the error queue and return which tickets' datagrams left, and when (ns, monotonic)."""
        if not self._can_ask:
            return []
        sent = self._drain()
        oldest_ns = now_ns() - _STAMP_WITHIN_NS
        while self._pending:
            number = next(iter(self._pending))
            if self._pending[number][1] > oldest_ns:
                break
            del self._pending[number]
            self._missing += 1
        return sent

    def _drain(self) -> list[tuple[int, int]]:
        sent = []
        for _ in range(_MAX_PENDING):
            try:
                _, control, _, _ = self._socket.recvmsg(0, CONTROL_BYTES, socket.MSG_ERRQUEUE)
            except OSError:  # Nothing is left.
                break
            number = _number(control)
            pending = None if number is None else self._pending.pop(number, None)
            if pending is None:
                continue
            self._ever, self._missing = True, 0
            ticket, before_ns = pending
            left_ns = _stamp_ns(control, _SO_TIMESTAMPING, self._bridge)
            if left_ns is not None and left_ns >= before_ns:
                sent.append((ticket, left_ns))
        return sent

    def _number_from_zero(self) -> bool:
        """Have the kernel number from 0 the messages for which a stamp is asked; return whether it can."""
        self._pending.clear()
        self._number = 0
        try:
            for flags in (0, _SOFTWARE | _OPT_ID | _OPT_TSONLY):  # It begins anew when OPT_ID is switched on.
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags)
        except OSError:
            return False
        return True

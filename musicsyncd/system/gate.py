"""What the kernel drops before Python sees it: what cannot be ours, and who sends far too much.

Owns the filter program on the sockets and the count of datagrams of each source. Must not know keys or messages.

Theory: taking a datagram from a socket costs some ten microseconds in Python, whatever is in it; dropping it in the
kernel costs nothing that we pay, and leaves the socket's buffer to those who mean us. A filter on each socket lets
through what has the length and the first bytes of a sealed datagram. Who knows those, and sends more than
:data:`MAX_IN_WINDOW` of them in a window, is named in the filter for :data:`SHUT_OUT_NS`. So a flood costs a bounded
number of datagrams a second, and one neighbour's flood costs the others nothing. It is the datagrams that are
counted and not their faults: looking for those is the work that must be bounded. Who makes up the addresses that
he sends from is not stopped by this; then a turn of the event loop takes a bounded number of datagrams, and that is
all. He can also have another shut out, as anybody can who may fill a network.

Source: Linux's Documentation/networking/filter.rst (classic BPF, SO_ATTACH_FILTER, the ancillary network header).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable

from musicsyncd.protocol.auth import MAGIC, OVERHEAD_BYTES, VERSION
from musicsyncd.protocol.wire import MAX_DATAGRAM_BYTES
from musicsyncd.system.log import Throttle
from musicsyncd.units import NS_PER_MS, NS_PER_S

WINDOW_NS = 500 * NS_PER_MS
MAX_IN_WINDOW = 1000
"""2,000 a second of one address; a host's hundred speakers on one machine send as many, and a host sends less."""

SHUT_OUT_NS = 5 * NS_PER_S
MAX_SOURCES = 1024
"""Addresses that are counted in a window; as many as a host has peers. Further ones are let in without being counted:
were they dropped, a neighbour who makes up a thousand addresses would silence everybody who had not spoken yet."""

MAX_SHUT_OUT = 32
"""Addresses that the filter names; each takes two or nine instructions for every datagram that comes."""

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_UDP_HEADER_BYTES = 8
_NETWORK_HEADER = -0x100000 & 0xFFFFFFFF  # linux/filter.h: SKF_NET_OFF
_SOURCE_AT: dict[int, int] = {socket.AF_INET: 12, socket.AF_INET6: 8}
"""Of an IP header, in bytes: RFC 791 and RFC 8200."""

# linux/bpf_common.h: BPF_LD | size | mode, BPF_JMP | test | BPF_K, BPF_RET | BPF_K.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _LOAD_LENGTH = 0x20, 0x28, 0x30, 0x80
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST, _RETURN = 0x15, 0x25, 0x35, 0x06
_INSTRUCTION = struct.Struct("@HBBI")
_TAKE_ALL = 0xFFFF


def program(family: int, shut_out: Iterable[str]) -> list[tuple[int, int, int, int]]:
    """Return the filter's instructions: code, jump if true, jump if false, operand.

    Args:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        shut_out: addresses, with or without zone; those of the other family do not matter.
    """
    drop = (_RETURN, 0, 0, 0)
    body = _UDP_HEADER_BYTES
    found = [
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_AT_LEAST, 1, 0, body + OVERHEAD_BYTES + 1),
        drop,
        (_IF_GREATER, 0, 1, body + MAX_DATAGRAM_BYTES),
        drop,
        (_LOAD_HALF, 0, 0, body),
        (_IF_EQUAL, 1, 0, int.from_bytes(MAGIC, "big")),
        drop,
        (_LOAD_BYTE, 0, 0, body + len(MAGIC)),
        (_IF_EQUAL, 1, 0, VERSION),
        drop,
    ]
    for address in shut_out:
        if (":" in address) != (family == socket.AF_INET6):
            continue
        words = struct.unpack(f">{4 if ':' in address else 1}I", socket.inet_pton(family, address.partition("%")[0]))
        for n, word in enumerate(words):
            left = len(words) - n - 1
            found.append((_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_AT[family] + 4 * n))
            # Another word: beyond the rest of this address, which is two instructions a word and the drop.
            found.append((_IF_EQUAL, 0, 2 * left + 1, word))
        found.append(drop)
    return [*found, (_RETURN, 0, 0, _TAKE_ALL)]


def attach(sock: socket.socket, instructions: list[tuple[int, int, int, int]]) -> bool:
    """Put a filter on a socket in place of the one it has; return False where the kernel does not take it."""
    packed = b"".join(_INSTRUCTION.pack(*one) for one in instructions)
    kept = ctypes.create_string_buffer(packed, len(packed))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(instructions), ctypes.addressof(kept))
        )
    except OSError:
        return False
    return True


class Gate:
    """Lets datagrams in, a bounded number of each source.

    Args:
        throttle: says who is shut out.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._sockets: list[socket.socket] = []
        self._count: dict[str, int] = {}
        self._window_ends_ns = 0
        self._shut_out: dict[str, int] = {}

    def watch(self, sock: socket.socket) -> None:
        """Filter what comes to a socket from now on."""
        self._sockets.append(sock)
        attach(sock, program(sock.family, self._shut_out))

    def forget(self, sock: socket.socket) -> None:
        """Note that a socket is closed."""
        self._sockets.remove(sock)

    def admits(self, address: str, now_ns: int) -> bool:
        """Return whether a datagram from this IP address is to be opened; counts it."""
        if now_ns >= self._window_ends_ns:
            self._begin_window(now_ns)
        count = self._count.get(address, 0) + 1
        if count == 1 and len(self._count) >= MAX_SOURCES:
            return True
        self._count[address] = count
        if count <= MAX_IN_WINDOW:
            return True
        if count == MAX_IN_WINDOW + 1:
            self._shut(address, now_ns)
        return False

    def _begin_window(self, now_ns: int) -> None:
        self._window_ends_ns = now_ns + WINDOW_NS
        self._count.clear()
        over = [address for address, until_ns in self._shut_out.items() if now_ns >= until_ns]
        for address in over:
            del self._shut_out[address]
        if over:
            self._attach()

    def _shut(self, address: str, now_ns: int) -> None:
        self._throttle.warning(
            "flood",
            f"{address} sends more than {MAX_IN_WINDOW * NS_PER_S // WINDOW_NS} datagrams a second: "
            f"it is not heard for {SHUT_OUT_NS // NS_PER_S} s",
        )
        if len(self._shut_out) >= MAX_SHUT_OUT:
            del self._shut_out[next(iter(self._shut_out))]
        self._shut_out[address] = now_ns + SHUT_OUT_NS
        self._attach()

    def _attach(self) -> None:
        for sock in self._sockets:
            attach(sock, program(sock.family, self._shut_out))

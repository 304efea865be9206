"""Addresses of hosts that were given by name, without ever making the event loop wait.

Owns the looking up. Must not know what is sent there. A name server that cannot be reached lets the system's resolver
wait for tens of seconds, and it is when the network is in trouble that a speaker asks for its host again and again.
So a thread looks a name up, and until it has, what is meant for that host is not sent: it is sent again in a
moment anyway. A name may have several addresses of both families, of which not all may work: they take turns.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import cast

from musicsyncd.protocol.node import Address
from musicsyncd.system.log import Throttle
from musicsyncd.system.multicast import SocketAddress, address_of
from musicsyncd.units import NS_PER_S

AGAIN_AFTER_NS = 10 * NS_PER_S
"""A name is only used while its host is not found; by then its address may be another."""

MAX_NAMES = 16
MAX_ADDRESSES = 8
"""Of one name."""


@dataclass(slots=True)
class _Known:
    """What is known of a name; the thread that looks it up puts in all but ``asked_ns``."""

    asked_ns: int
    looking: bool = True
    addresses: tuple[str, ...] = ()
    problem: str = ""
    turn: int = -1


class Names:
    """Finds the addresses of names.

    Args:
        throttle: says which names have none.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._known: dict[str, _Known] = {}

    def find(self, address: Address, now_ns: int) -> Address | None:
        """Return an address as it is, and for a name one of its addresses, or None while there is none."""
        name, port = address
        if _is_number(name):
            return address
        known = self._known.get(name)
        if known is None or (not known.looking and now_ns - known.asked_ns >= AGAIN_AFTER_NS):
            known = self._ask(name, known, now_ns)
        if known.problem:
            self._throttle.warning("name", f"no address is found for {name}: {known.problem}")
        if not known.addresses:
            return None
        return known.addresses[known.turn % len(known.addresses)], port

    def _ask(self, name: str, known: _Known | None, now_ns: int) -> _Known:
        if known is None:
            if len(self._known) >= MAX_NAMES:
                del self._known[next(iter(self._known))]
            known = self._known[name] = _Known(now_ns)
        known.asked_ns, known.looking = now_ns, True
        # A thread that hangs in the resolver must not keep the process from ending.
        threading.Thread(target=_look_up, args=(name, known), name="names", daemon=True).start()
        return known


def _look_up(name: str, known: _Known) -> None:
    try:
        # The type has a third kind of address in it, that of a Python without IPv6.
        found = [cast(SocketAddress, one[4]) for one in socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM)]
        known.addresses = tuple(dict.fromkeys(address_of(one)[0] for one in found))[:MAX_ADDRESSES]
        known.problem = ""
        known.turn += 1
    except OSError as error:
        known.problem = error.strerror or "the system does not say why"
    except UnicodeError:
        known.problem = "that is no name"
    known.looking = False


def _is_number(text: str) -> bool:
    if ":" in text:
        return True
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True

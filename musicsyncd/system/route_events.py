"""The kernel's word that an interface has come, gone or changed its address.

Owns a netlink socket. Must not know what is done then: what exactly has changed is not read out of the messages, as
whoever is woken looks at all interfaces anyway, and a message may be lost.

Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100  # linux/rtnetlink.h
_GROUPS = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR
_MESSAGE_BYTES = 8192
_MAX_READ = 64
"""Messages taken at a time; while there are more, the socket stays readable."""


def open_route_events() -> socket.socket | None:
    """Return a socket that is readable when an interface or an address has changed; None where there is no such."""
    try:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        events.bind((0, _GROUPS))
    except OSError:
        events.close()
        return None
    return events


def take(events: socket.socket) -> bool:
    """Take the messages that wait, and return whether further ones can come.

    That messages were lost because nobody took them in time is a change like others.
    """
    for _ in range(_MAX_READ):
        try:
            events.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return False
    return True

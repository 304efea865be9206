"""What tests with real sockets of this machine's loopback need to know of it."""

from __future__ import annotations

import socket

import pytest


def has_ipv6() -> bool:
    """Return whether this machine speaks IPv6 with itself; containers are made without it at times."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port that is free on all of this machine's addresses."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]

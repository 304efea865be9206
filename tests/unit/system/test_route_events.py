"""The kernel's word of changed interfaces, said by the test in its place."""

from __future__ import annotations

import errno
import select
import socket

from musicsyncd.system import route_events as module
from musicsyncd.system.route_events import open_route_events, take


def test_nothing_is_heard_while_nothing_changes():
    events = open_route_events()
    assert events is not None
    assert not events.getblocking()
    assert take(events)
    events.close()


def test_where_the_kernel_may_not_be_asked_there_is_no_socket(monkeypatch):
    class Refusing(socket.socket):
        def bind(self, _address):
            raise PermissionError

    monkeypatch.setattr(module.socket, "socket", Refusing)
    assert open_route_events() is None

    def none(*_):
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    monkeypatch.setattr(module.socket, "socket", none)
    assert open_route_events() is None


def test_all_that_waits_is_taken_and_no_more_than_a_bounded_number():
    kernel, events = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, events:
        events.setblocking(False)
        for _ in range(5):
            kernel.send(b"a link has changed")
        assert take(events)
        assert not select.select([events], [], [], 0)[0]


class Events:
    """Gives one error after the other, and then messages without end."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.taken = list(numbers), 0

    def recv(self, _size):
        self.taken += 1
        if self.numbers:
            raise OSError(self.numbers.pop(0), "")
        return b"a link has changed"


def test_messages_that_were_lost_are_a_change_like_others():
    assert take(lost := Events(errno.ENOBUFS))
    assert lost.taken == module._MAX_READ


def test_a_socket_that_fails_is_given_up():
    assert not take(failed := Events(errno.EBADF))
    assert failed.taken == 1

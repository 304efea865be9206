"""Calls that may never come back: their results, their time limit, and what becomes of them later."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from musicsyncd.system.sound_thread import HungError, SoundThread

PATIENCE_S = 20.0
SHORT_S = 0.02


class Hanging:
    """A call that does not come back before it is let go."""

    def __init__(self, result: str = "late", error: Exception | None = None) -> None:
        self.result, self.error = result, error
        self.begun, self._go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self._go.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.result

    def let_go(self) -> None:
        self._go.set()


def run(test) -> None:
    asyncio.run(asyncio.wait_for(test(SoundThread()), PATIENCE_S))


async def until(true) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in other threads
        await asyncio.sleep(0.001)


def test_a_call_gives_what_the_function_gives_in_a_thread_of_its_own():
    async def test(calls):
        assert await calls.call("opening", threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await calls.call("opening", lambda: 1 // 0)
        assert await calls.call("closing", lambda: 7) == 7
        assert calls.hanging == ""

    run(test)


def test_the_loop_goes_on_while_a_call_takes_its_time():
    async def test(calls):
        slow = Hanging("done")
        waiting = asyncio.create_task(calls.call("opening", slow))
        await until(slow.begun.is_set)
        assert calls.hanging == "", "it has time still"
        slow.let_go()
        assert await waiting == "done"

    run(test)


def test_what_does_not_come_back_in_time_is_left_alone_and_nothing_else_is_begun():
    async def test(calls):
        slow = Hanging()
        with pytest.raises(
            HungError, match=r"^the sound card does not answer: closing it takes more than 10"
        ) as caught:
            await calls.call("closing", slow, limit_s=SHORT_S)
        assert "\n" not in str(caught.value)
        assert calls.hanging == "closing"
        begun = []
        with pytest.raises(HungError, match="closing it takes"):
            await calls.call("opening", lambda: begun.append(1))
        assert begun == []
        slow.let_go()
        await until(lambda: calls.hanging == "")
        assert await calls.call("opening", lambda: 7) == 7

    run(test)


def test_what_comes_back_too_late_is_undone_and_only_then_the_next_may_begin():
    async def test(calls):
        slow, undone, may_end = Hanging("a card"), [], threading.Event()

        def undo(late):
            assert may_end.wait(PATIENCE_S)
            undone.append(late)

        with pytest.raises(HungError):
            await calls.call("opening", slow, limit_s=SHORT_S, undo=undo)
        slow.let_go()
        await asyncio.sleep(SHORT_S)
        assert calls.hanging == "opening"
        may_end.set()
        await until(lambda: calls.hanging == "")
        assert undone == ["a card"]

    run(test)


def test_what_fails_too_late_is_over_as_well():
    async def test(calls):
        slow, undone = Hanging(error=OSError("no such device")), []
        with pytest.raises(HungError):
            await calls.call("opening", slow, limit_s=SHORT_S, undo=undone.append)
        slow.let_go()
        await until(lambda: calls.hanging == "")
        assert undone == []

    run(test)


def test_what_came_in_time_is_not_undone():
    async def test(calls):
        undone = []
        assert await calls.call("opening", lambda: "a card", undo=undone.append) == "a card"
        await calls.settle(1.0)
        assert undone == []
        assert calls.hanging == ""

    run(test)


def test_a_loop_that_is_held_up_beyond_the_limit_takes_what_is_there():
    async def test(calls):
        done = threading.Event()
        waiting = asyncio.create_task(calls.call("opening", lambda: done.set() or 7, limit_s=SHORT_S))
        await asyncio.sleep(0)
        assert done.wait(PATIENCE_S)
        time.sleep(3 * SHORT_S)  # noqa: ASYNC251 - this holds up the loop
        assert await waiting == 7

    run(test)


def test_who_ends_while_a_card_is_opened_waits_until_it_is_closed_again():
    async def test(calls):
        slow, undoing = Hanging("a card"), Hanging()
        waiting = asyncio.create_task(calls.call("opening", slow, undo=lambda _: undoing()))
        await until(slow.begun.is_set)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        slow.let_go()
        await until(undoing.begun.is_set)
        settling = asyncio.create_task(calls.settle(PATIENCE_S))
        await asyncio.sleep(SHORT_S)
        assert not settling.done()
        undoing.let_go()
        await settling
        assert calls.hanging == ""

    run(test)


def test_who_ends_while_a_card_hangs_does_not_wait_for_ever():
    async def test(calls):
        slow = Hanging()
        with pytest.raises(HungError):
            await calls.call("closing", slow, limit_s=SHORT_S)
        await asyncio.wait_for(calls.settle(PATIENCE_S), 1.0)
        assert calls.hanging == "closing"
        slow.let_go()

    run(test)


def test_a_result_that_comes_after_the_loop_is_gone_harms_nobody(monkeypatch):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    slow = Hanging()

    async def test(calls):
        with pytest.raises(HungError):
            await calls.call("opening", slow, limit_s=SHORT_S)

    run(test)
    thread = next(one for one in threading.enumerate() if one.name == "sound: opening" and one.is_alive())
    slow.let_go()
    thread.join(PATIENCE_S)
    assert failed == []

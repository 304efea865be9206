"""Every target for a few seconds with inputs of its own making, and that the fuzzer would see what is wrong."""

from __future__ import annotations

import os
import random
import time

import pytest

from . import targets
from .finding import MAX_CPU_S, MAX_GROWTH_KIB, MAX_INPUT_BYTES, examine, largest_kib, shortened
from .mutation import inputs
from .names import NAMES
from .running import fuzz

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
"""For each target; one minute in all is what CI has."""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_documented_errors(name, pytestconfig):
    calls, findings = fuzz(name, SECONDS, pytestconfig.getoption("--seed"))
    assert calls >= len(targets.seeds_of(name))
    assert not findings, "\n".join(map(str, findings))


def fails_at_a_zero(data: bytes) -> None:
    if b"\0" in data:
        raise KeyError("zero")


def test_what_comes_out_of_a_target_is_found_and_made_short():
    assert examine("x", fails_at_a_zero, b"fine") is None
    found = examine("x", fails_at_a_zero, b"so many bytes before\0and behind it")
    assert found.what.startswith("KeyError: 'zero'")
    short = shortened(found, fails_at_a_zero)
    assert short.data == b"\0"
    assert "--target x --replay 00\n" in str(short)


def test_a_call_that_takes_too_long_or_too_much_is_found():
    def slow(_data: bytes) -> None:
        end_s = time.process_time() + 1.1 * MAX_CPU_S
        while time.process_time() < end_s:
            pass

    held = []

    def large(_data: bytes) -> None:
        held.append(bytearray((largest_kib() + MAX_GROWTH_KIB << 10) + (16 << 20)))
        held[-1][:: 1 << 12] = bytes(len(held[-1]) >> 12)

    assert "of the processor's time" in examine("x", slow, b"").what
    assert "MiB of memory" in examine("x", large, b"").what


def test_what_a_callback_or_a_destructor_raises_is_found():
    class Careless:
        def __del__(self) -> None:
            raise OSError("in a destructor")

    assert examine("x", lambda _: Careless() and None, b"").what.startswith("OSError: in a destructor")


def test_the_same_seed_makes_the_same_inputs_and_all_seeds_come_first():
    seeds = [b"first", b"second" * 10]

    def some(seed: int) -> list[bytes]:
        made = inputs(seeds, random.Random(seed))
        return [next(made) for _ in range(200)]

    assert some(1) == some(1) != some(2)
    assert some(1)[:2] == seeds
    assert len(set(some(1))) > 150
    assert max(map(len, some(1))) <= MAX_INPUT_BYTES

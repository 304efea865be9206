"""Challenges, proofs and replay windows: what is admitted once, what is never, and what a flood can do."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicsyncd.errors import ProtocolError
from musicsyncd.protocol import proving
from musicsyncd.protocol.proving import CHALLENGE_GAP_NS, REPLAY_WINDOW, Proving, Window

from .protocol_lan import MS, S

SENDER = b"12345678"
AT = ("192.0.2.9", 9)


def fresh(seed: int = 1) -> Proving:
    return Proving(partial(random.Random(seed).randbytes, 8))


def proven(sender: bytes = SENDER, epoch: int = 1, sequence: int = 0) -> Proving:
    known = fresh()
    known.prove(sender, epoch, sequence, AT)
    return known


def window(known: Proving, sender: bytes = SENDER, epoch: int = 1) -> Window:
    found = known.window_of(sender, epoch)
    assert found is not None
    return found


def admit(window: Window, sequence: int) -> bool:
    if not window.is_new(sequence):
        return False
    window.note(sequence)
    return True


# -- the window --------------------------------------------------------------------------------


def test_the_same_number_is_admitted_once_and_in_any_order_within_the_window() -> None:
    seen = Window()
    numbers = range(1, REPLAY_WINDOW + 1)
    assert all(admit(seen, number) for number in reversed(numbers))
    assert not any(admit(seen, number) for number in numbers)


def test_what_is_older_than_the_window_or_from_before_its_beginning_is_refused_unseen() -> None:
    seen = Window(1000)
    assert not any(seen.is_new(number) for number in range(1001))
    assert admit(seen, 1000 + REPLAY_WINDOW)
    assert not seen.is_new(1000)
    assert admit(seen, 1001)
    assert admit(seen, 1001 + REPLAY_WINDOW)
    assert not seen.is_new(1001)
    assert seen.is_new(1002)


@given(st.integers(0, 50), st.lists(st.integers(1, 3 * REPLAY_WINDOW), max_size=60))
def test_the_window_admits_what_a_set_would(begin: int, sequences: list[int]) -> None:
    seen, known = Window(begin), set(range(begin + 1))
    for sequence in sequences:
        expected = sequence not in known and sequence > max(known) - REPLAY_WINDOW
        assert admit(seen, sequence) is expected
        known.add(sequence)
        assert seen._seen.bit_length() <= REPLAY_WINDOW


# -- proofs ------------------------------------------------------------------------------------


def test_nobody_is_proven_until_a_nonce_of_its_own_comes_back() -> None:
    known = fresh()
    assert known.window_of(SENDER, 1) is None
    nonce = known.challenge(SENDER, 1, AT, S)
    assert nonce is not None
    assert known.is_expected(SENDER, 1, nonce, S + MS)
    for sender, epoch, answer in (
        (b"another!", 1, nonce),
        (SENDER, 2, nonce),
        (SENDER, 1, bytes(8)),
        (SENDER, 0, nonce),
    ):
        assert not known.is_expected(sender, epoch, answer, S + MS)
    assert not fresh(2).is_expected(SENDER, 1, nonce, S + MS), "a receiver that has started anew has another secret"
    known.prove(SENDER, 1, 20, AT)
    with pytest.raises(ProtocolError, match="replay"):
        known.prove(SENDER, 1, 20, ("192.0.2.66", 666))
    assert [window(known).is_new(sequence) for sequence in (19, 20, 21)] == [False, False, True]


@given(st.integers(0, 10 * S))
def test_a_nonce_counts_for_two_to_three_seconds(at_ns: int) -> None:
    known = fresh()
    nonce = known.challenge(SENDER, 1, AT, at_ns)
    assert nonce is not None
    assert known.is_expected(SENDER, 1, nonce, at_ns + 2 * S)
    assert not known.is_expected(SENDER, 1, nonce, at_ns + 3 * S)


def test_a_newer_epoch_has_to_prove_itself_and_until_then_the_older_counts() -> None:
    known = proven(epoch=7)
    assert known.window_of(SENDER, 8) is None
    assert admit(window(known, epoch=7), 1)
    known.prove(SENDER, 8, 0, AT)
    for old in (7, 1):
        with pytest.raises(ProtocolError, match="old epoch"):
            known.window_of(SENDER, old)
    nonce = known._nonce(SENDER, 7, 1)
    with pytest.raises(ProtocolError, match="old epoch"):
        known.is_expected(SENDER, 7, nonce, S)
    assert admit(window(known, epoch=8), 1)


def test_senders_do_not_touch_each_other() -> None:
    known = proven(b"aaaaaaaa")
    known.prove(b"bbbbbbbb", 1, 0, AT)
    assert admit(window(known, b"bbbbbbbb"), 1)
    known.prove(b"aaaaaaaa", 9, 0, AT)
    assert not admit(window(known, b"bbbbbbbb"), 1)


def test_the_memory_of_the_proven_is_bounded_and_the_busy_ones_stay() -> None:
    known = proven(b"busybusy")
    known.prove(b"idleidle", 1, 0, AT)
    for number in range(proving.MAX_SENDERS - 1):
        known.prove(number.to_bytes(8, "big"), 1, 0, AT)
        window(known, b"busybusy")
    assert len(known._proven) == proving.MAX_SENDERS
    assert known.window_of(b"idleidle", 1) is None, "it has to prove itself again: the price of a bound"


def test_a_sender_is_reached_where_a_proof_has_come_from() -> None:
    known = proven()
    elsewhere = ("192.0.2.10", 9)
    assert known.address_of(SENDER, AT, S) == (AT, False)
    assert known.address_of(SENDER, elsewhere, S) == (AT, True)
    assert known.address_of(SENDER, elsewhere, S + MS) == (AT, False), "one is asked in two seconds"
    assert known.address_of(SENDER, elsewhere, 3 * S) == (AT, True)
    known.prove(SENDER, 1, 5, elsewhere)
    assert known.address_of(SENDER, elsewhere, 3 * S) == (elsewhere, False)
    assert known.address_of(SENDER, AT, 3 * S) == (AT, False), "both are good"
    for number in range(proving.MAX_ADDRESSES):
        known.prove(SENDER, 1, 6 + number, ("192.0.2.11", number))
    assert len(known._proven[SENDER].addresses) == proving.MAX_ADDRESSES
    assert known.address_of(SENDER, AT, 9 * S) == (("192.0.2.11", proving.MAX_ADDRESSES - 1), True)
    known.prove(SENDER, 2, 1, AT)
    assert known._proven[SENDER].addresses == [AT], "another start may be elsewhere"


# -- floods ------------------------------------------------------------------------------------


def test_unproven_senders_push_no_proven_one_out_and_cost_bounded_memory() -> None:
    known = proven()
    admit(window(known), 1)
    for number in range(proving.MAX_SENDERS + 10):
        known.challenge(number.to_bytes(8, "big"), 1, AT, S)
        known.may_answer(number.to_bytes(8, "big"), 1, 1, S)
    assert not window(known).is_new(1)
    assert len(known._challenged) == proving.MAX_UNPROVEN
    assert len(known._answered) == proving.MAX_ANSWERED


def test_a_sender_is_challenged_once_in_fifty_milliseconds_however_many_epochs_it_is_said_to_have() -> None:
    known, dice, challenged = fresh(), random.Random(3), []
    for step in range(20_000):
        now_ns = S + step * 100_000
        if known.challenge(SENDER, dice.randrange(5000), AT, now_ns) is not None:
            challenged.append(now_ns)
    assert min(b - a for a, b in pairwise(challenged)) >= CHALLENGE_GAP_NS
    assert 10 <= len(challenged) <= 41


@pytest.mark.parametrize("order", ["random", "rising"])
def test_a_flood_of_recorded_epochs_does_not_keep_the_true_one_from_being_proved(order: str) -> None:
    known, dice = fresh(), random.Random(4)
    asked_ns = None
    for step in range(20_000):
        now_ns = S + step * 100_000
        known.challenge(SENDER, dice.randrange(5000) if order == "random" else step // 4, AT, now_ns)
        # The true one, whose epoch is greater than any that was recorded, says something ten times a second or so.
        if dice.random() < 0.001 and known.challenge(SENDER, 9999, AT, now_ns) is not None:
            asked_ns = now_ns
            break
    assert asked_ns is not None
    assert asked_ns <= S + 600 * MS


def test_an_epoch_that_nobody_can_prove_does_not_stand_in_the_way_of_the_true_one() -> None:
    known = fresh()
    asked = []
    for step in range(20):
        known.challenge(SENDER, (1 << 64) - 1, AT, S + step * 500 * MS)
        asked.append(known.challenge(SENDER, 5, AT, S + step * 500 * MS + 210 * MS) is not None)
    assert all(asked)


def test_a_question_is_answered_once_and_all_together_so_many_in_a_second() -> None:
    known = fresh()
    assert known.may_answer(SENDER, 1, 1, S)
    assert not known.may_answer(SENDER, 1, 1, S)
    answered = sum(known.may_answer(SENDER, 1, sequence, S) for sequence in range(2, 3000))
    assert answered + 1 == proving.MAX_ANSWERED_PER_S
    assert known.may_answer(SENDER, 1, 3000, 2 * S)
    known.prove(SENDER, 2, 0, AT)
    with pytest.raises(ProtocolError, match="old epoch"):
        known.may_answer(SENDER, 1, 3001, 3 * S)


def test_who_speaks_in_anothers_name_from_elsewhere_does_not_take_up_its_turns() -> None:
    known = Proving(lambda: bytes(8))
    for step in range(100):
        assert known.challenge(SENDER, (1 << 64) - 1, ("192.0.2.66", step), S + step * MS) is None or step in (0, 50)
    assert known.challenge(SENDER, 5, AT, S + 100 * MS) is not None

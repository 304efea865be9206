"""A speaker in words, as ``systemctl status`` shows it."""

from __future__ import annotations

import pytest

from musicsyncd.protocol.wire import PlaybackStats
from musicsyncd.system.peer_account import Acquaintance, in_words
from musicsyncd.units import NS_PER_S

THERE = Acquaintance("attic", ("192.0.2.1", 7783))
AWAY = Acquaintance("attic", ("192.0.2.1", 7783), 8 * NS_PER_S, "it says nothing")
NAMELESS = Acquaintance("", ("192.0.2.1", 7783))


@pytest.mark.parametrize(
    ("state", "fault", "host", "words"),
    [
        ("no card", "hw:DAC is in use", THERE, "waiting for the sound card: hw:DAC is in use"),
        ("no card", "", Acquaintance(), "waiting for the sound card"),
        ("waiting", "", Acquaintance(), "looking for the host"),
        ("together", "", THERE, "plays in room main, +0.3 µs, with host attic"),
        ("catching up", "", THERE, "plays in room main, catching up, +0.3 µs, with host attic"),
        ("silent", "", THERE, "silent in room main, with host attic"),
        ("silent", "", NAMELESS, "silent in room main, with host 192.0.2.1:7783"),
        ("waiting", "", THERE, "waits for its sound in room main, with host attic"),
        ("waiting", "the host is slow", THERE, "waits for its sound in room main, with host attic: the host is slow"),
        ("together", "", AWAY, "plays in room main, +0.3 µs; host attic is away since 12 s"),
        ("silent", "", AWAY, "silent in room main; host attic is away since 12 s"),
    ],
)
def test_a_speaker_in_a_line(state, fault, host, words):
    stats = PlaybackStats(state=state, fault=fault, sync_error_ns=300)
    assert in_words(stats, host, "main", 20 * NS_PER_S) == words

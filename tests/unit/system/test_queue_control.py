"""Every command on a queue carried out on a real node and a real database; a clock that only the tests move."""

from __future__ import annotations

import pytest
from host_rig import DAY_S, LEAD_NS, TRACK_S, S, make_album, make_track, on_a_loop, running

from musicsyncd.errors import ControlError, MediaError, StaleError


@on_a_loop
async def test_the_queue_is_shown_with_positions_and_what_is_current(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album[:2])
        shown = host.control.queues.show("-")
        assert shown["room"] == "main"
        assert [(e["position"], e["title"], e["duration_s"], e["current"], e["fault"]) for e in shown["entries"]] == [
            (1, "1", TRACK_S, True, ""),
            (2, "2", TRACK_S, False, ""),
        ]
        assert shown["entries"][0]["path"] == album[0]


@on_a_loop
async def test_entries_are_added_next_moved_removed_and_cleared(tmp_path, album):
    with running(tmp_path) as host:
        control = host.control
        assert await control.queues.add("main", album[:1], next_=False) == "added “1”, the queue has 1"
        await control.play("main", [])
        assert await control.queues.add("main", album[2:], next_=False) == "added “3”, the queue has 2"
        assert await control.queues.add("main", album[1:2], next_=True) == "added “2”, the queue has 3"
        assert host.titles() == ["1", "2", "3"]
        assert control.queues.move("main", 3, 2) == "“3” is at position 2"
        assert host.titles() == ["1", "3", "2"]
        assert control.queues.remove("main", [2]) == "removed “3”, the queue has 2"
        assert control.queues.remove("main", [1, 2]) == "removed 2 tracks, the queue has 0"
        assert host.status()["mode"] == "stopped"
        await control.queues.add("main", album, next_=False)
        assert control.queues.clear("main") == "removed 3 tracks, the queue is empty"
        with pytest.raises(ControlError, match="no position 1"):
            control.queues.remove("main", [1])


# -- several who command at once ---------------------------------------------------------------


@on_a_loop
async def test_positions_of_an_older_queue_are_refused_with_what_has_changed_and_nothing_is_lost(tmp_path, album):
    with running(tmp_path) as host:
        queues = host.control.queues
        await queues.add("main", album, next_=False)
        await host.settle()
        seen = queues.show("main")["revision"]
        assert host.status()["queue_revision"] == seen
        assert queues.remove("main", [1], seen) == "removed “1”, the queue has 2"
        calls = (
            lambda: queues.remove("main", [1], seen),
            lambda: queues.move("main", 1, 2, seen),
            lambda: queues.clear("main", seen),
        )
        for call in calls:
            with pytest.raises(StaleError, match=rf"at revision {seen}: removed “1”; it is at revision {seen + 1} now"):
                call()
        with pytest.raises(StaleError):
            await queues.jump("main", 1, "", seen)
        assert host.titles() == ["2", "3"]
        assert host.status()["mode"] == "stopped"
        assert queues.move("main", 1, 2, seen + 1) == "“2” is at position 2"


@on_a_loop
async def test_what_is_learned_of_a_track_makes_no_view_stale(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.queues.add("main", album, next_=False)
        seen = host.control.queues.show("main")["revision"]
        await host.settle()
        await host.control.play("main", [])
        host.now_ns += 30 * S
        host.control._advance(host.room())
        host.control.queues.remove("main", [3], seen)


# -- going to a track --------------------------------------------------------------------------


@on_a_loop
async def test_a_track_of_the_queue_is_played_by_its_position_or_its_words(tmp_path):
    folder = tmp_path / "album"
    paths = [str(make_track(folder / f"{name}.wav", seed=n)) for n, name in enumerate(("Été", "Blue", "Blue in Green"))]
    with running(tmp_path) as host:
        jump = host.control.queues.jump
        await host.control.queues.add("main", paths, next_=False)
        assert await jump("main", 3, "") == "playing “Blue in Green”"
        assert [entry for _, entry, _ in host.segments()] == [3]
        assert await jump("main", None, "ete") == "playing “Été”"
        assert await jump("main", None, "GREEN in") == "playing “Blue in Green”"
        assert await jump("main", None, "blue") == "playing “Blue”", "it is called so; the other one only has the word"
        for words, line in (
            ("b", "2 tracks have the words 'b': 2 “Blue”, 3 “Blue in Green”; say which position"),
            ("red", "no track of the queue has the words 'red'"),
            (" ", "say a position or words"),
        ):
            with pytest.raises(ControlError, match=line):
                await jump("main", None, words)
        with pytest.raises(ControlError, match="no position 4"):
            await jump("main", 4, "")
        assert host.status()["track"]["title"] == "Blue"


@on_a_loop
async def test_what_plays_goes_on_when_a_track_that_was_asked_for_cannot_be_played(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album[:1])
        await host.control.queues.add("main", [album[1]] * 6, next_=False)
        await host.control.queues.add("main", album[2:], next_=False)
        (tmp_path / "album" / "3.wav").unlink()
        with pytest.raises(MediaError, match=r"3\.wav"):
            await host.control.queues.jump("main", 8, "")
        assert host.segments()[0] == (LEAD_NS, 1, 0)
        assert host.status()["mode"] == "playing"


# -- order, repetition, fading -----------------------------------------------------------------


@on_a_loop
async def test_a_shuffled_queue_shows_its_order_and_keeps_it_over_a_restart(tmp_path):
    album = make_album(tmp_path / "album", 9)
    with running(tmp_path) as host:
        await host.control.queues.add("main", album, next_=False)
        await host.control.play("main", [])
        assert host.control.queues.shuffle("main", True) == "main: shuffled"
        mixed = host.titles()
        assert mixed[0] == "1"
        assert sorted(mixed) == [str(n) for n in range(1, 10)] != mixed
        await host.settle()
        assert [entry for _, entry, _ in host.segments()][:3] == [int(title) for title in mixed[:3]]
        revision = host.status()["queue_revision"]
        assert host.control.queues.shuffle("main", True) == "main: it is shuffled already"
    with running(tmp_path, now_ns=host.now_ns + S) as again:
        assert again.titles() == mixed
        assert again.status()["shuffled"] is True
        assert again.status()["queue_revision"] == revision
        said = again.control.queues.shuffle("main", False)
        assert said == "main: in the order in which the tracks were added"
        assert again.titles() == [str(n) for n in range(1, 10)]


@on_a_loop
async def test_repeating_and_fading_are_said_kept_and_heard(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album[:2])
        await host.settle()
        assert host.control.queues.repeat("main", "all") == "main: the queue is repeated"
        assert [entry for _, entry, _ in host.segments()][:4] == [1, 2, 1, 2]
        assert host.control.queues.crossfade("main", 2.5) == "main: tracks fade over 2.5 s"
        second = host.room().said.timeline.segments[1]
        assert (second.fade_ms, second.start_host_ns - host.now_ns) == (2_500, LEAD_NS + TRACK_S * S - 2_500_000_000)
        timeline = host.room().said.timeline
    with running(tmp_path, now_ns=host.now_ns + S) as again:
        assert (again.status()["repeat"], again.status()["crossfade_s"]) == ("all", 2.5)
        assert again.room().said.timeline == timeline
        assert again.control.queues.repeat("main", "off") == "main: nothing is repeated"
        assert again.control.queues.crossfade("main", 0) == "main: gapless, without fading"
        assert [(entry, start - LEAD_NS) for start, entry, _ in again.segments()] == [
            (1, -S),
            (2, (TRACK_S - 1) * S),
        ]


@on_a_loop
@pytest.mark.parametrize("seconds", [-0.1, 12.1, float("nan"), float("inf")])
async def test_a_fade_that_is_none_is_refused(tmp_path, seconds):
    with running(tmp_path) as host:
        with pytest.raises(ControlError, match="say 0 to 12 seconds"):
            host.control.queues.crossfade("main", seconds)
        with pytest.raises(ControlError, match="say off, one or all"):
            host.control.queues.repeat("main", "twice")


# -- what was ----------------------------------------------------------------------------------


@on_a_loop
async def test_the_history_says_what_sounded_and_when_and_is_kept(tmp_path, album):
    with running(tmp_path) as host:
        assert host.control.queues.history("main") == {"room": "main", "played": []}
        began_s = DAY_S + (host.now_ns + LEAD_NS) / S
        await host.control.play("main", album)
        await host.settle()
        host.now_ns += 2 * LEAD_NS
        host.control._advance(host.room())
        host.control.pause("main")
        host.now_ns += S
        host.control.resume("main")
        host.now_ns += (TRACK_S + 1) * S
        host.control._advance(host.room())
        host.control._advance(host.room())
        played = host.control.queues.history("-")["played"]
        assert [one["title"] for one in played] == ["2", "1"]
        assert played[1]["began_s"] == pytest.approx(began_s, abs=0.01)
        assert (played[1]["path"], played[1]["duration_s"]) == (album[0], TRACK_S)
        assert played[0]["began_s"] == pytest.approx(began_s + TRACK_S + 1 + LEAD_NS / S, abs=0.05)
    # What began while the host was away was heard, too.
    with running(tmp_path, now_ns=host.now_ns + TRACK_S * S) as again:
        assert [one["title"] for one in again.control.queues.history("main")["played"]] == ["3", "2", "1"]
    with running(tmp_path, boot_id="another run", now_ns=50 * S) as last:
        assert [one["title"] for one in last.control.queues.history("main")["played"]] == ["3", "2", "1"]


@on_a_loop
async def test_a_history_that_cannot_be_kept_costs_no_music(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        host.break_database()
        host.now_ns += S
        host.control._advance(host.room())
        assert [one["title"] for one in host.control.queues.history("main")["played"]] == ["1"]
        host.mend_database()


@on_a_loop
async def test_a_cleared_queue_is_brought_back_and_that_is_kept(tmp_path, album):
    with running(tmp_path) as host:
        queues = host.control.queues
        await queues.add("main", album, next_=False)
        await queues.jump("main", 2, "")
        queues.clear("main")
        assert host.status()["mode"] == "stopped"
        assert queues.undo("main") == "took back: cleared 3 tracks; the queue has 3"
        assert (host.titles(), host.status()["queue_position"]) == (["1", "2", "3"], 2)
        assert await host.control.play("main", []) == "playing “2”"
        assert queues.undo("main") == "took back: added 3 tracks; the queue has 0"
        with pytest.raises(ControlError, match="nothing to undo"):
            queues.undo("main")
        await queues.add("main", album, next_=False)
    with running(tmp_path) as again:
        assert again.titles() == ["1", "2", "3"]
        with pytest.raises(ControlError, match="nothing to undo: the last 10 changes since the host's start"):
            again.control.queues.undo("main")

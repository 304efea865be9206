"""Every command carried out on a real node and a real database; a clock that only the tests move."""

from __future__ import annotations

import asyncio
import json

import pytest
from host_rig import BOOT, DAY_S, DESCRIBED, LEAD_NS, MS, RATE_HZ, TRACK_S, S, make_track, on_a_loop, running

from musicsyncd.errors import ConfigError, ControlError, MediaError, MusicSyncError
from musicsyncd.protocol import wire
from musicsyncd.system.control import MAX_ROOMS

# -- what sounds -------------------------------------------------------------------------------


@on_a_loop
async def test_tracks_begin_one_lead_from_now_and_follow_without_a_gap(tmp_path, album):
    with running(tmp_path) as host:
        assert await host.control.play("main", album) == "playing “1” and 2 more"
        await host.settle()
        assert host.segments() == [
            (LEAD_NS, 1, 0),
            (LEAD_NS + TRACK_S * S, 2, 0),
            (LEAD_NS + 2 * TRACK_S * S, 3, 0),
        ]
        assert host.status()["mode"] == "playing"
        assert [one.track.frames for one in host.beacon().segments] == [TRACK_S * RATE_HZ] * 3


@on_a_loop
async def test_the_instant_is_far_enough_ahead_for_the_slowest_speaker_of_the_room(tmp_path, album):
    with running(tmp_path) as host:
        host.report("quick", lead_duration_ns=100 * MS)
        host.report("slow", lead_duration_ns=300 * MS)
        host.control.make_room("attic")
        host.report("elsewhere", room="attic", lead_duration_ns=900 * MS)
        await host.control.play("main", album[:1])
        assert host.segments() == [(305 * MS, 1, 0)]
        host.now_ns += 5 * S
        assert host.control.pause("main") == "paused at 0:05"
        assert host.segments()[-1] == (305 * MS, 0, 0)
        assert host.status()["lead_ms"] == 305.0


@on_a_loop
async def test_pause_seek_resume_and_stop_say_where_they_are(tmp_path, album):
    with running(tmp_path) as host:
        control = host.control
        await control.play("main", album)
        host.now_ns += 3 * S
        assert control.pause("main") == "paused at 0:03"
        host.now_ns += 60 * S
        assert control.seek("main", "10") == "at 0:10"
        assert control.resume("main") == "playing “1”"
        start_ns, entry, frame = host.segments()[0]
        assert (start_ns, entry, frame) == (LEAD_NS, 1, 10 * RATE_HZ)
        assert control.seek("main", "+5") == "at 0:15"
        host.now_ns += S
        assert control.stop("main") == "stopped"
        assert host.status()["mode"] == "stopped"
        assert host.segments()[-1] == (LEAD_NS, 0, 0)
        with pytest.raises(ControlError, match="nothing is playing"):
            control.pause("main")


@on_a_loop
async def test_next_and_previous_go_through_the_queue_and_stop_at_its_end(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        assert host.control.next("main") == "playing “2”"
        assert host.status()["queue_position"] == 2
        assert host.control.previous("main") == "playing “1”"
        host.control.next("main")
        host.control.next("main")
        assert host.control.next("main") == "the queue is at its end"
        assert host.status()["mode"] == "stopped"


@on_a_loop
async def test_play_without_tracks_begins_the_queue_or_goes_on(tmp_path, album):
    with running(tmp_path) as host:
        with pytest.raises(ControlError, match="the queue is empty"):
            await host.control.play("main", [])
        await host.control.queues.add("main", album, next_=False)
        assert await host.control.play("main", []) == "playing “1”"
        await host.settle()
        host.now_ns += 4 * S
        host.control.pause("main")
        host.now_ns += 1 * S
        assert await host.control.play("main", []) == "playing “1”"
        assert host.segments()[-3] == (LEAD_NS, 1, 4 * RATE_HZ)


@on_a_loop
async def test_what_is_played_now_comes_before_the_rest_of_the_queue(tmp_path, album):
    other = str(make_track(tmp_path / "other.wav", seed=99))
    with running(tmp_path) as host:
        await host.control.play("main", album[:2])
        await host.settle()
        assert await host.control.play("main", [other]) == "playing “other”"
        assert host.titles() == ["1", "other", "2"]
        await host.settle()
        assert [entry for _, entry, _ in host.segments()] == [3, 2]


@on_a_loop
async def test_a_host_begins_with_its_tracks_before_what_was_queued_and_has_each_once(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.queues.add("main", album[:2], next_=False)
        assert await host.control.begin("main", [album[2], album[0]]) == (
            "playing 2 tracks; 1 that were in the queue follow"
        )
        await host.settle()
        assert host.titles() == ["3", "1", "2"]
        assert host.status()["track"]["title"] == "3"
        assert await host.control.begin("main", album) == "playing 3 tracks"
        assert host.titles() == ["1", "2", "3"]


@on_a_loop
async def test_when_its_time_comes_the_next_track_is_the_current_one(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        assert host.status()["queue_position"] == 1
        host.now_ns += LEAD_NS + TRACK_S * S + 1
        host.control._advance(host.room())
        assert host.status()["queue_position"] == 2
        assert json.loads(json.dumps(host.database.rooms()[0].snapshot))["entry"] == 2


@on_a_loop
async def test_the_loop_is_asked_to_come_back_when_something_ends(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album[:1])
        host.now_ns += S
        host.control._advance(host.room())
        timer = host.control._timers["main"]
        in_s = timer.when() - asyncio.get_running_loop().time()
        assert TRACK_S - 2 < in_s <= TRACK_S - 1 + LEAD_NS / S
        host.now_ns += 60 * S
        host.control._advance(host.room())
        assert timer.cancelled()
        assert host.status()["mode"] == "stopped"
        assert host.control._timers == {}


# -- faults ------------------------------------------------------------------------------------


@on_a_loop
async def test_what_is_no_music_is_left_out_and_named(tmp_path, album):
    bad = tmp_path / "notes.wav"
    bad.write_text("no sound")
    with running(tmp_path) as host:
        said = await host.control.queues.add(
            "main", [album[0], str(bad), str(tmp_path / "gone.wav"), album[1]], next_=False
        )
        assert said.startswith("added 2 tracks, the queue has 2; left out: ")
        assert "notes.wav" in said
        assert "gone.wav" in said
        assert host.titles() == ["1", "2"]


@on_a_loop
async def test_when_nothing_named_is_music_the_queue_stays_as_it_is(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.queues.add("main", album[:1], next_=False)
        with pytest.raises(MediaError, match=r"gone\.wav"):
            await host.control.play("main", [str(tmp_path / "gone.wav")])
        assert host.titles() == ["1"]
        assert host.status()["mode"] == "stopped"


@on_a_loop
async def test_a_track_that_went_bad_meanwhile_is_skipped_with_its_fault(tmp_path, album):
    with running(tmp_path) as host:
        # Beyond what is prepared ahead; the second goes before its turn comes.
        await host.control.queues.add("main", album, next_=False)
        await host.settle()
        queue = host.room().queue
        host.control.queues.clear("main")
        (tmp_path / "album" / "2.wav").write_bytes(b"")
        from musicsyncd.media.queue import Item

        queue.add([Item(path, path[-5]) for path in album])
        await host.control.play("main", [])
        await host.settle()
        assert "empty" in host.control.queues.show("main")["entries"][1]["fault"]
        assert "2.wav" in host.status()["fault"]
        first, second = host.segments()
        assert second[0] - first[0] == TRACK_S * S
        assert host.room().queue.find(second[1]).title == "3"


@on_a_loop
async def test_playing_a_track_that_cannot_be_read_says_why_and_what_plays_goes_on(tmp_path, album, monkeypatch):
    with running(tmp_path) as host:
        await host.control.play("main", album[:1])
        before = host.segments()

        async def prepare(path):
            raise MediaError(f"{path} cannot be read: it is on a drive that went away")

        monkeypatch.setattr(host.control.preparer, "prepare", prepare)
        with pytest.raises(MediaError, match="a drive that went away"):
            await host.control.play("main", [album[1]])
        assert host.segments() == before
        assert host.status()["mode"] == "playing"


@on_a_loop
async def test_commands_for_rooms_that_are_not_there_say_which_are(tmp_path):
    with running(tmp_path) as host:
        with pytest.raises(ControlError, match="no room 'attic': there is main"):
            host.control.stop("attic")
        with pytest.raises(ControlError, match="name at least one track"):
            await host.control.queues.add("main", [], next_=False)


@on_a_loop
async def test_a_room_removed_while_its_tracks_are_looked_at_does_not_come_back(tmp_path, album):
    with running(tmp_path) as host:
        host.control.make_room("attic")
        for call in (
            lambda: host.control.play("attic", album),
            lambda: host.control.queues.add("attic", album, next_=False),
            lambda: host.control.begin("attic", album),
        ):
            work = asyncio.create_task(call())
            await asyncio.sleep(0)  # It is waiting for its thread now.
            host.control.remove_room("attic")
            with pytest.raises(ControlError, match="attic"):
                await work
            host.now_ns += S
            assert {one.room for one in host.said() if isinstance(one, wire.Beacon)} == {"main"}
            assert [room.name for room in host.database.rooms()] == ["main"]
            host.control.make_room("attic")


# -- media -------------------------------------------------------------------------------------


@on_a_loop
async def test_media_is_found_by_its_content_in_any_room_and_only_while_it_is_queued(tmp_path, album):
    with running(tmp_path) as host:
        host.control.make_room("attic")
        await host.control.play("attic", album[:1])
        await host.settle()
        content_id = host.room("attic").queue.entries[0].track.content_id
        assert str(host.control.media_path(content_id)) == album[0]
        assert host.control.media_path(bytes(32)) is None
        host.control.queues.clear("attic")
        assert host.control.media_path(content_id) is None


# -- rooms -------------------------------------------------------------------------------------


@on_a_loop
async def test_rooms_are_made_up_to_the_maximum(tmp_path):
    with running(tmp_path) as host:
        for number in range(MAX_ROOMS - 1):
            assert host.control.make_room(f"room {number}") == f"made the room 'room {number}'"
        with pytest.raises(ControlError, match=f"at most {MAX_ROOMS} rooms"):
            host.control.make_room("one more")
        assert len(host.control.rooms) == len(host.database.rooms()) == MAX_ROOMS
        with pytest.raises(ControlError, match="already"):
            host.control.make_room("main")


@on_a_loop
@pytest.mark.parametrize("name", ["", "  ", "-", "x" * 65, "a\nb"])
async def test_a_name_that_people_could_not_type_is_refused(tmp_path, name):
    with running(tmp_path) as host:
        with pytest.raises(ConfigError):
            host.control.make_room(name)
        assert len(host.control.rooms) == 1


@on_a_loop
async def test_the_speakers_of_a_removed_room_go_to_another(tmp_path, album):
    with running(tmp_path) as host:
        host.control.make_room("attic")
        host.report("lamp")
        host.report("shelf")
        host.control.move_peer("shelf", "attic")
        await host.control.play("attic", album[:1])
        assert host.control.remove_room("attic") == "removed the room 'attic'; 1 speakers went to 'main'"
        assert host.peer("shelf")["room"] == "main"
        assert [room["name"] for room in host.control.status()["rooms"]] == ["main"]
        assert [room.name for room in host.database.rooms()] == ["main"]
        assert {peer.name: peer.room for peer in host.database.peers()} == {"lamp": "main", "shelf": "main"}
        assert "attic" not in host.control._timers
        host.said()
        host.now_ns += S
        assert {one.room for one in host.said() if isinstance(one, wire.Beacon)} == {"main"}
        with pytest.raises(ControlError, match="the only room"):
            host.control.remove_room("main")


@on_a_loop
async def test_a_hyphen_is_the_only_room_or_the_one_called_main(tmp_path):
    with running(tmp_path, room="den") as host:
        host.control.room_volume("-", "10")
        assert host.status("den")["volume"] == 10
        host.control.make_room("main")
        host.control.room_volume("-", "20")
        assert (host.status("den")["volume"], host.status("main")["volume"]) == (10, 20)


@on_a_loop
async def test_volume_and_mute_of_a_room_are_said_and_kept(tmp_path):
    with running(tmp_path) as host:
        host.said()
        before = host.status()["revision"]
        assert host.control.room_volume("main", "40") == "main: volume 40"
        assert host.control.room_volume("main", "+5") == "main: volume 45"
        assert host.control.room_mute("main", True) == "main: muted"
        beacon = host.beacon()
        assert (beacon.volume, beacon.muted) == (45, True)
        assert beacon.revision == host.status()["revision"] == before + 3
        assert host.control.room_mute("main", False) == "main: volume 45"
        saved = host.database.rooms()[0]
        assert (saved.volume, saved.muted) == (45, False)
        for text in ("900", "abc", "", "-1x"):
            with pytest.raises(ControlError):
                host.control.room_volume("main", text)
        assert host.status()["volume"] == 45


@on_a_loop
async def test_saying_the_same_again_is_no_change_for_the_speakers(tmp_path):
    with running(tmp_path) as host:
        host.control.room_volume("main", "40")
        revision = host.status()["revision"]
        host.control.room_volume("main", "40")
        assert host.status()["revision"] == revision


# -- keeping -----------------------------------------------------------------------------------


@on_a_loop
async def test_a_change_is_said_first_and_kept_before_it_is_answered(tmp_path, album):
    with running(tmp_path) as host:
        host.watch_saving()
        await host.control.play("main", album[:1])
        host.log.clear()
        host.control.pause("main")
        assert host.log == ["said", "saved"]
        assert host.database.rooms()[0].snapshot["mode"] == "paused"


@on_a_loop
async def test_when_nothing_can_be_kept_the_music_goes_on_and_it_is_known_why(tmp_path, album):
    with running(tmp_path) as host:
        host.break_database()
        assert await host.control.play("main", album[:1]) == "playing “1”"
        assert host.segments() == [(LEAD_NS, 1, 0)]
        assert host.control.unsaved == "cannot save: the disk is full"
        host.control.save_positions()  # Must not raise: it runs in the daemon's own beat.
        host.mend_database()
        host.control.room_volume("main", "50")
        assert host.control.unsaved == ""


@on_a_loop
async def test_a_speakers_setting_that_cannot_be_kept_is_known_too(tmp_path):
    with running(tmp_path) as host:
        host.report("lamp")
        host.break_database()
        assert host.control.speakers.volume("lamp", "30") == "lamp: volume 30"
        assert host.control.unsaved == "cannot save: the disk is full"
        host.mend_database()
        host.control.speakers.volume("lamp", "31")
        assert host.control.unsaved == ""


@on_a_loop
async def test_a_host_killed_in_the_middle_goes_on_with_the_very_same_time_line(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        host.control.room_volume("main", "33")
        await host.settle()
        timeline, epoch_ns = host.room().said.timeline, host.now_ns
    with running(tmp_path, now_ns=epoch_ns + 7 * S) as again:
        assert again.room().said.timeline == timeline
        assert again.status()["mode"] == "playing"
        assert again.status()["position_s"] == pytest.approx(7 - 0.02, abs=1e-3)
        assert again.status()["volume"] == 33
        assert again.titles() == ["1", "2", "3"]


@on_a_loop
async def test_after_a_start_of_the_machine_it_goes_on_from_where_it_was(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        host.now_ns += 5 * S
        host.control.save_positions()
    with running(tmp_path, boot_id="another run", now_ns=30 * S) as again:
        await again.settle()
        start_ns, entry, frame = again.segments()[0]
        assert (start_ns, entry) == (LEAD_NS, 1)
        assert frame == (5 * S - LEAD_NS) * RATE_HZ // S


@on_a_loop
async def test_a_host_that_is_stopped_fades_its_rooms_out_and_goes_on_from_the_place(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        host.now_ns += 5 * S
        await host.control.silence()
        assert host.segments()[-1] == (LEAD_NS, 0, 0)
    with running(tmp_path, now_ns=host.now_ns + 100 * S) as again:
        await again.settle()
        assert again.status()["mode"] == "playing"
        assert again.segments()[0] == (LEAD_NS, 1, (5 * S - LEAD_NS) * RATE_HZ // S)


@pytest.mark.parametrize("boot_id", [BOOT, "another run"])
@pytest.mark.parametrize(("after_restart", "frame_s"), [("now", 12), ("stopped", 5)])
@on_a_loop
async def test_a_host_that_was_killed_goes_on_where_it_is_told_to(tmp_path, album, boot_id, after_restart, frame_s):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        host.now_ns += 5 * S
        host.control.save_positions()
    # Seven seconds later by the clock of the day; on another run of the machine its own clock began anew.
    later_ns = host.now_ns + 7 * S if boot_id == BOOT else 30 * S
    day_s = DAY_S + (host.now_ns + 7 * S - later_ns) / S
    with running(tmp_path, boot_id=boot_id, now_ns=later_ns, day_s=day_s, after_restart=after_restart) as again:
        await again.settle()
        again.now_ns += LEAD_NS
        again.control._advance(again.room())
        assert again.status()["mode"] == "playing"
        assert again.status()["position_s"] == pytest.approx(frame_s, abs=0.03)


@pytest.mark.parametrize("day_s", [0.0, DAY_S - 2_000.0, DAY_S + 100_000.0])
@on_a_loop
async def test_a_clock_of_the_day_that_cannot_be_right_does_not_say_where_the_music_is(tmp_path, album, day_s):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        await host.settle()
        host.now_ns += 5 * S
        host.control.save_positions()
    with running(tmp_path, boot_id="another run", now_ns=30 * S, day_s=day_s) as again:
        await again.settle()
        start_ns, entry, frame = again.segments()[0]
        assert (start_ns, entry, frame) == (LEAD_NS, 1, (5 * S - LEAD_NS) * RATE_HZ // S)


@on_a_loop
async def test_a_damaged_snapshot_costs_the_position_and_not_the_queue(tmp_path, album):
    with running(tmp_path) as host:
        await host.control.play("main", album)
        host.database.save_snapshot("main", {"mode": "flying"})
    with running(tmp_path) as again:
        assert again.titles() == ["1", "2", "3"]
        assert again.status()["mode"] == "stopped"


@on_a_loop
async def test_a_host_started_with_another_default_room_has_both(tmp_path):
    with running(tmp_path) as host:
        host.control.room_volume("main", "12")
    with running(tmp_path, room="kitchen") as again:
        assert [room.name for room in again.control.rooms] == ["main", "kitchen"]
        assert again.status("main")["volume"] == 12


@on_a_loop
async def test_known_hashes_are_not_computed_again(tmp_path, album, monkeypatch):
    from musicsyncd.system import preparer

    with running(tmp_path) as host:
        await host.control.play("main", album[:1])
    hashed = []
    real = preparer.content_id
    monkeypatch.setattr(preparer, "content_id", lambda path: hashed.append(path) or real(path))
    with running(tmp_path) as again:
        await again.control.begin("main", album[:2])
        await again.settle()
        assert [path.name for path in hashed] == ["2.wav"]
        make_track(tmp_path / "album" / "1.wav", seconds=TRACK_S + 1, seed=7)
        await again.control.begin("main", album[:1])
        await again.settle()
        assert [path.name for path in hashed] == ["2.wav", "1.wav"]


@on_a_loop
async def test_a_database_that_cannot_be_read_costs_the_hashing_and_no_music(tmp_path, album, monkeypatch):
    with running(tmp_path) as host:

        def refuse(*_):
            raise MusicSyncError("cannot read the database")

        monkeypatch.setattr(host.database, "find_track", refuse)
        assert await host.control.play("main", album[:1]) == "playing “1”"
        assert host.room().queue.entries[0].fault == ""


@on_a_loop
async def test_the_host_describes_itself_in_a_few_words(tmp_path, album):
    with running(tmp_path) as host:
        host.report("lamp")
        gone = host.report("shelf")
        host.leave(gone)
        host.control.make_room("attic")
        assert host.control.describe() == "silent, 1 speaker is here"
        await host.control.play("main", album[:1])
        assert host.control.describe() == "playing “1” in room main, 1 speaker is here"
        assert host.control.status()["host"] == DESCRIBED
        assert host.database.rooms()[1].snapshot["boot_id"] == BOOT


@on_a_loop
async def test_a_command_before_the_rooms_are_there_is_told_so(tmp_path):
    with running(tmp_path) as host:
        host.control._rooms.clear()
        for name in ("-", "main"):
            with pytest.raises(ControlError, match="only starting"):
                host.control.pause(name)

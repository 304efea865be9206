"""The soak's parts: what it plans, what it hears in captures that are known, and what it makes of its records."""

import itertools
import json
import os
from pathlib import Path

import measure
import numpy as np
import pytest
import soak_ear
import soak_report
from soak import kind_of, process_figures
from soak_plan import (
    COMMANDS,
    EVERYWHERE,
    HOST,
    HOST_ALONE,
    HOST_FAULTS,
    LEAST_VOLUME,
    NETWORK_FAULTS,
    SPEAKER_FAULTS,
    plan,
)
from test_bench_spans import RATE_HZ, write_capture

HOUR_S = 3600.0
FAULTS = (*NETWORK_FAULTS, *SPEAKER_FAULTS, *HOST_FAULTS)

# -- the plan ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [120.0, 360.0, HOUR_S])
@pytest.mark.parametrize("seed", range(5))
def test_two_things_never_happen_at_one_time_and_all_is_over_at_the_end(seconds, seed):
    planned = plan(seconds, seed)
    assert planned == plan(seconds, seed) != plan(seconds, seed + 1)
    for one, following in itertools.pairwise(planned):
        assert one.at_s + one.lasts_s + one.settles_s <= following.at_s
    assert planned[-1].at_s + planned[-1].lasts_s + planned[-1].settles_s <= seconds
    assert all(int(one.value) >= LEAST_VOLUME for one in planned if one.what.endswith("volume"))


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_has_all_kinds_and_lets_the_host_and_the_first_speaker_live(seed):
    planned = plan(HOUR_S, seed)
    assert {one.what for one in planned} == {*FAULTS, *COMMANDS}
    begin_s, end_s = (share * HOUR_S for share in HOST_ALONE)
    for one in planned:
        if one.what in HOST_FAULTS:
            assert one.machine == HOST
            assert one.at_s + one.lasts_s <= begin_s or one.at_s >= end_s
        if one.what in SPEAKER_FAULTS:
            assert one.machine > 1
    assert any(one.lasts_s >= 60.0 for one in planned if one.what in ("outage", "stop-host"))


# -- the ear ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Two tracks of six and five seconds, and both as one source."""
    folder = tmp_path_factory.mktemp("music") / "tracks"
    folder.mkdir()
    path = soak_ear.make_source(folder, [(RATE_HZ, 6.0), (44_100, 5.0)], seed=1)
    return soak_ear.Source(path), np.load(path)


def test_the_source_is_the_tracks_one_behind_the_other_at_the_cards_rate(music):
    source, samples = music
    assert source.seconds == pytest.approx(11.0)
    first = measure.sf.read(Path(samples_folder(music), "1.flac"))[0].mean(1)
    assert np.allclose(samples[: len(first)], first, atol=1e-6)


def samples_folder(music):
    return Path(music[0].samples.filename).parent / "tracks"


@pytest.mark.parametrize("place_s", [0.0, 2.345, 5.0, 8.9])
def test_a_place_is_found_to_a_millisecond_and_noise_is_not(music, place_s):
    source, samples = music
    frame = round(place_s * RATE_HZ)
    assert source.find(0.1 * samples[frame : frame + 2 * RATE_HZ]) == pytest.approx(frame, abs=soak_ear.COARSE)
    noise = np.random.default_rng(1).standard_normal(2 * RATE_HZ)
    assert source.find(noise) is None
    assert source.find(np.zeros(2 * RATE_HZ)) is None


def pieces(prefix, since=-1e18, until=1e18):
    return [piece for run in soak_ear.runs(str(prefix)) if (piece := run.piece(since, until)) is not None]


def test_two_cards_are_compared_over_the_joint_of_two_tracks(music, tmp_path):
    source, samples = music
    for name, late_us in (("one", 0.0), ("other", 35.0)):
        write_capture(tmp_path / name, samples, 1.0, late_us)
    one, other = (source.track(pieces(tmp_path / name)) for name in ("one", "other"))
    rows = soak_ear.apart_us(one, other, source.seconds)
    assert len(rows) > 90
    assert [us for _, us in rows] == pytest.approx([35.0] * len(rows), abs=3.0)
    heard = one[~np.isnan(one[:, 1])]
    assert np.abs(heard[:, 0] - 1000.0 - heard[:, 1]).max() < 1e-3


def test_what_repeats_is_not_a_lap_apart():
    one = np.array([[t, t % 11.0, 1.0] for t in np.arange(0.0, 12.0, 0.1)])
    other = np.array([[t, (t - 1e-4) % 11.0, 1.0] for t in np.arange(0.05, 12.0, 0.1)])
    errors = np.array([us for _, us in soak_ear.apart_us(one, other, 11.0)])
    # Where one has begun anew and the other has not, the next window of the other may count.
    assert np.abs(errors - 100.0).max() < 1.0


def test_a_stretch_of_a_capture_is_read_alone_and_the_rest_can_be_given_back(music, tmp_path):
    _, samples = music
    write_capture(tmp_path / "card", samples, 0.0, 0.0)
    ((began, rate_hz, read, broke),) = pieces(tmp_path / "card", 1003.0, 1004.0)
    assert (rate_hz, broke) == (RATE_HZ, False)
    assert began == pytest.approx(1003.0, abs=1e-6)
    assert np.array_equal(read, samples[3 * RATE_HZ : 4 * RATE_HZ])
    length = (tmp_path / "card.1.pcm").stat().st_size
    soak_ear.give_back(str(tmp_path / "card"), 1003.0)
    assert (tmp_path / "card.1.pcm").stat().st_size == length
    assert not pieces(tmp_path / "card", 1001.0, 1002.0)[0][2].any()
    assert np.array_equal(pieces(tmp_path / "card", 1003.0, 1004.0)[0][2], read)


def test_silence_is_told_from_when_to_when_also_where_no_card_played(music, tmp_path):
    _, samples = music
    quiet = samples.copy()
    quiet[3 * RATE_HZ : 4 * RATE_HZ] = 0.0
    write_capture(tmp_path / "card", quiet, 2.0, 0.0)
    found = soak_ear.silences(pieces(tmp_path / "card"), 1001.0, 1006.0)
    assert np.array(found) == pytest.approx(np.array([[1001.0, 1002.0], [1003.0, 1004.0]]), abs=soak_ear.BIN_S)
    assert soak_ear.silences([], 0.0, 1.0) == [(0.0, 1.0)]


def test_what_broke_off_ends_where_it_was_played_to(tmp_path):
    np.arange(100, dtype="<f4").tofile(tmp_path / "card.0.pcm")
    (tmp_path / "card.0.log").write_text(
        "prepare file_frame=0 rate=48000 channels=1 format=FLOAT_LE ppm=0 delay_us=0 hidden_us=0\n"
        "start file_frame=0 real=1000000000\nxrun file_frame=0 played=70 written=60\n"
        "prepare file_frame=60 rate=48000 channels=1 format=FLOAT_LE ppm=0 delay_us=0 hidden_us=0\n"
        "start file_frame=60 real=2000000000\n"
    )
    broken, going_on = soak_ear.runs(str(tmp_path / "card"))
    assert (broken.began, broken.first_frame, broken.frames, broken.broke) == (1.0, 0, 60, True)
    assert (going_on.began, going_on.first_frame, going_on.frames, going_on.broke) == (2.0, 60, 40, False)
    assert list(going_on.piece(0.0, 3.0)[2]) == list(range(60, 100))


# -- the report -------------------------------------------------------------------------------------


def span(number, what, machine, from_s, to_s):
    return {
        "kind": "span",
        "at_s": from_s,
        "id": number,
        "what": what,
        "machine": machine,
        "from_s": from_s,
        "to_s": to_s,
    }


def silent(machine, from_s, to_s):
    return {"kind": "silent", "at_s": to_s, "machine": machine, "from_s": from_s, "to_s": to_s}


def test_growth_is_the_line_after_a_process_got_warm():
    samples = [(t, 50_000.0 + (4096.0 if t >= 300.0 else 0.0) + 2.0 * t) for t in range(0, 3600, 10)]
    line = soak_report.growth(samples)
    assert line.kib_per_hour == pytest.approx(7200.0)
    assert line.error_kib_per_hour == pytest.approx(0.0, abs=1e-3)
    assert (line.first_kib, line.last_kib) == (54_696.0, 61_276.0)
    assert soak_report.growth(samples[:5]) is None
    assert soak_report.growth([]) is None


def test_the_error_of_a_line_is_that_of_least_squares():
    dice = np.random.default_rng(3)
    slopes = []
    for _ in range(300):
        samples = [(t, 1000.0 + dice.normal(0.0, 50.0)) for t in range(0, 1800, 10)]
        slopes.append(soak_report.growth(samples).kib_per_hour)
    assert np.std(slopes) == pytest.approx(soak_report.growth(samples).error_kib_per_hour, rel=0.25)


def test_a_restarted_process_is_a_life_of_its_own():
    records = [
        {"kind": "process", "at_s": t, "name": "host", "pid": pid, "rss_kib": 1000 * pid, "files": 20, "threads": 4}
        for pid, times in ((1, range(0, 300, 10)), (2, range(300, 900, 10)))
        for t in times
    ]
    rows = soak_report.memory_rows(records)[1:]
    assert [tuple(row[:3]) for row in rows] == [
        ("host", "0", "290"),
        ("host", "300", "890"),
    ]


def test_silence_has_an_excuse_only_where_what_was_done_gives_one():
    records = [
        span(1, "kill-speaker", 2, 10.0, 20.0),
        span(2, "outage", HOST, 30.0, 40.0),
        span(3, "pause", EVERYWHERE, 50.0, 55.0),
        silent(2, 11.0, 12.0),
        silent(1, 12.0, 12.5),
        silent(1, 35.0, 35.5),
        silent(1, 51.0, 53.0),
        silent(1, 53.0, 54.0),
        silent(2, 60.0, 60.25),
        silent(2, 60.25, 60.5),
    ]
    outside, inside, by_kind = soak_report.silence(records)
    assert outside == ["speaker 2 at 60.00 s for 0.50 s; 5.0 s after pause"]
    assert [line.partition(",")[0] for line in inside] == [
        "speaker 1 at 12.00 s for 0.50 s",
        "speaker 1 at 35.00 s for 0.50 s",
    ]
    assert by_kind == {"kill-speaker": 1.5, "outage": 0.5, "pause": 3.0, "outside": 0.5}


def test_a_pause_excuses_no_silence_that_goes_on_long_after_it():
    records = [span(1, "pause", EVERYWHERE, 50.0, 55.0), silent(1, 51.0, 70.0)]
    outside, inside, _ = soak_report.silence(records)
    assert outside + inside == ["speaker 1 at 55.00 s for 15.00 s; 0.0 s after pause"]


def test_of_a_span_what_was_recorded_last_counts():
    records = [span(1, "cut", EVERYWHERE, 10.0, 20.0), span(1, "cut", EVERYWHERE, 10.0, 25.0)]
    assert [one.to_s for one in soak_report.spans(records)] == [25.0]


def test_the_pairs_error_is_told_for_outside_and_for_each_kind():
    rows = [(5.0, 10.0), (6.0, -30.0), (15.0, 500.0), (16.0, 2e6)]
    records = [span(1, "cut", EVERYWHERE, 10.0, 20.0), {"kind": "pair", "at_s": 20.0, "rows": rows}]
    assert soak_report.pair_rows(records)[1:] == [
        ["outside", "2", "0", "20", "29.8", "30"],
        ["cut", "2", "1", "500", "500", "500"],
    ]
    assert soak_report.worst_pairs(records) == [
        "30 µs at 6.0 s; before anything was done",
        "10 µs at 5.0 s; before anything was done",
    ]


def test_underruns_are_counted_over_the_restarts_of_a_speaker():
    records = [
        {"kind": "status", "at_s": t, "speakers": {"p1": {"underruns": count}}}
        for t, count in enumerate([0, 2, 3, 1, 2])
    ]
    assert soak_report.reported_underruns(records) == {"p1": 5}


def test_records_of_a_run_that_broke_off_are_reported(tmp_path):
    path = tmp_path / "soak.jsonl"
    path.write_text(json.dumps(silent(1, 1.0, 2.0)) + '\n{"kind": "pa')
    records = soak_report.read(path)
    assert records == [silent(1, 1.0, 2.0)]
    said = soak_report.report(records)
    assert "broken off" in said
    assert "speaker 1 at 1.00 s for 1.00 s" in said


# -- what is read of the processes -------------------------------------------------------------------


def test_lines_that_differ_in_figures_alone_are_of_one_kind():
    lines = ["08:37:41 warning: 10.77.0.3: late by 5 s", "warning: 10.77.0.2: late by 17.5 s\n"]
    assert {kind_of(line) for line in lines} == {"warning: #: late by # s"}


def test_the_figures_of_this_process_are_there():
    figures = process_figures(os.getpid())
    assert figures["rss_kib"] > 10_000
    assert figures["threads"] >= 1
    assert figures["files"] >= 3

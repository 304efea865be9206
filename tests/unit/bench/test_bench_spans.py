"""The rig's figures of spans of time around events."""

import measure
import numpy as np
import pytest


def pair(first_s=105.0, windows=100):
    """A pair whose error in µs is the window's number; windows are a tenth of a second apart."""
    at_s = first_s + 0.1 * np.arange(windows)
    return np.stack([at_s, 1e-6 * np.arange(windows)], 1)


def test_a_span_counts_from_its_event_and_takes_its_begin_and_not_its_end():
    spans = [measure.span(words) for words in ("both:0:0.05", "both:0.95:1.95", "mend:-0.55:-0.05", "start:14.85:")]
    out = measure.within_spans(pair(), spans, {"start": 100.0, "mend": 106.0})
    assert {words: (found["n"], found["max"]) for words, found in out.items()} == {
        "both:0:0.05": (1.0, 0.0),
        "both:0.95:1.95": (10.0, 19.0),
        "mend:-0.55:-0.05": (5.0, 9.0),
        "start:14.85:": (1.0, 99.0),
    }
    assert out["both:0.95:1.95"]["median"] == 14.5


def test_the_first_sound_together_is_the_pairs_own():
    marks = {"start": 100.0}
    for first_s in (105.0, 120.0):
        assert measure.within_spans(pair(first_s), [measure.span("both:0:0.05")], marks)["both:0:0.05"]["n"] == 1
    assert marks == {"start": 100.0}


def test_a_span_without_a_window_has_no_figures():
    assert measure.within_spans(pair(), [measure.span("both:60:")], {}) == {"both:60:": {}}


@pytest.mark.parametrize("words", ["both:0", "both:a:b", "never:0:1", ""])
def test_what_is_no_span_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        measure.arguments(["musicsyncd", "--spans", words])


@pytest.mark.parametrize(("options", "words"), [(["--late", "5"], "late:0:"), (["--cut", "5,6"], "mend:-1:0")])
def test_a_span_of_an_event_needs_the_event(options, words, capsys):
    assert measure.arguments(["musicsyncd", *options, "--spans", words]).spans[0][0] == words
    with pytest.raises(SystemExit):
        measure.arguments(["musicsyncd", "--spans", words])
    assert "nothing is" in capsys.readouterr().err


def write_capture(prefix, song, start_s, late_us):
    """Write what a virtual card leaves behind that began to play the song's second ``start_s`` then, but later."""
    begun_ns = round((1000 + start_s) * 1e9 + late_us * 1e3)
    song[round(start_s * RATE_HZ) :].astype("<f4").tofile(f"{prefix}.1.pcm")
    with open(f"{prefix}.1.log", "w") as log:
        log.write(f"prepare format=FLOAT_LE channels=1 rate={RATE_HZ} ppm=0 delay_us=0 hidden_us=0\n")
        log.write(f"start file_frame=0 real={begun_ns}\n")


RATE_HZ = 48_000


def test_the_report_has_a_late_speakers_first_window_apart_from_the_rest(tmp_path):
    noise = np.random.default_rng(1).standard_normal(RATE_HZ * 8)
    spectrum = np.fft.rfft(noise)
    spectrum[len(spectrum) // 2 :] = 0.0
    song = 0.1 * np.fft.irfft(spectrum)
    write_capture(tmp_path / "card1", song, 0.0, 0.0)
    write_capture(tmp_path / "card2", song, 3.0, 40.0)
    asked = measure.arguments(["musicsyncd", "--late", "3", "--settle", "0", "--spans", "both:0:0.05,both:1:,late:9:"])
    found = measure.report(str(tmp_path), song, RATE_HZ, asked, {"start": 999.5, "late": 1002.0}, 2)
    spans = found["pairs"]["1-2"]["spans"]
    assert spans["both:0:0.05"]["n"] == 1
    assert spans["both:0:0.05"]["max"] == pytest.approx(40.0, abs=0.5)
    assert spans["both:1:"]["n"] > 30
    assert spans["both:1:"]["max"] == pytest.approx(40.0, abs=0.5)
    assert spans["late:9:"] == {}
    assert found["players"][2]["first_sound_s"] == pytest.approx(1.0, abs=0.2)

"""The renderer against the arithmetic of what must sound."""

import numpy as np
import pytest

from musicsyncd.playback.renderer import FADE_DURATION_NS, Renderer
from musicsyncd.playback.timeline import Segment, Timeline, Track
from musicsyncd.units import NS_PER_S

RATE = 48_000
START = 1_000 * NS_PER_S
BLOCK = 1024


class Decoded:
    """Frames of a track that are all there, or only those before ``until``."""

    def __init__(self, frames, until=None):
        self.frames = frames.astype(np.float32)
        self.until = len(frames) if until is None else until

    def read(self, first_frame, out):
        out.fill(0.0)
        missing = 0
        for i in range(len(out)):
            frame = first_frame + i
            if 0 <= frame < len(self.frames):
                if frame < self.until:
                    out[i] = self.frames[frame]
                else:
                    missing += 1
        return missing


class Sources(dict):
    def buffer(self, content_id):
        return self.get(content_id)


def track_of(name, frames, rate=RATE):
    return Track(name * 32, 1000, rate, len(frames), 2)


def noise(frames, seed):
    samples = np.random.default_rng(seed).standard_normal((frames, 2)) * 0.1
    return samples


def play(renderer, timeline, host_ns, blocks, ns_per_frame=NS_PER_S / RATE):
    """Render blocks one after the other from an instant, continuing exactly."""
    pieces = []
    whole, fraction = host_ns, 0.0
    for _ in range(blocks):
        out = np.empty((BLOCK, 2), np.float32)
        renderer.render(timeline, whole, fraction, ns_per_frame, out)
        pieces.append(out)
        fraction += BLOCK * ns_per_frame
        whole, fraction = whole + int(fraction), fraction - int(fraction)
    return np.concatenate(pieces)


def test_at_the_nominal_rate_the_samples_come_out_as_they_are():
    frames = noise(RATE, 1)
    track = track_of(b"a", frames)
    out = play(
        Renderer(RATE, 2, Sources({track.content_id: Decoded(frames)})),
        Timeline((Segment(START, 1, 0, track),)),
        START,
        8,
    )
    np.testing.assert_allclose(out, frames[: len(out)], atol=2e-6)


def test_a_track_is_as_much_louder_as_it_says_and_the_other_is_not():
    first, second = noise(10_000, 5), noise(RATE, 6)
    a = Track(b"a" * 32, 1000, RATE, len(first), 2, -6.0)
    b = Track(b"b" * 32, 1000, RATE, len(second), 2)
    end = Segment(START, 1, 0, a).natural_end_host_ns
    timeline = Timeline((Segment(START, 1, 0, a), Segment(end, 2, 0, b)))
    out = play(Renderer(RATE, 2, Sources({b"a" * 32: Decoded(first), b"b" * 32: Decoded(second)})), timeline, START, 20)
    np.testing.assert_allclose(out[:9_900], first[:9_900] * 10 ** (-6 / 20), atol=3e-6)
    np.testing.assert_allclose(out[10_100:], second[100 : len(out) - 10_000], atol=3e-5)


def test_a_join_in_mid_track_is_at_the_right_frame():
    frames = noise(RATE, 2)
    track = track_of(b"a", frames)
    timeline = Timeline((Segment(START, 1, 0, track),))
    out = play(Renderer(RATE, 2, Sources({track.content_id: Decoded(frames)})), timeline, START + NS_PER_S // 2, 2)
    np.testing.assert_allclose(out, frames[RATE // 2 : RATE // 2 + len(out)], atol=2e-6)


@pytest.mark.parametrize("drift", [1.0, 1.0 + 80e-6])
@pytest.mark.parametrize("cut", [20_011, 20_013, 1, 24_000])
def test_two_halves_in_a_row_are_the_whole(drift, cut):
    whole = noise(RATE, 3)
    first, second = whole[:cut], whole[cut:]
    a, b = track_of(b"a", first), track_of(b"b", second)
    end = Segment(START, 1, 0, a).natural_end_host_ns
    halves = Timeline((Segment(START, 1, 0, a), Segment(end, 2, 0, b)))
    sources = Sources({a.content_id: Decoded(first), b.content_id: Decoded(second), b"w" * 32: Decoded(whole)})
    w = track_of(b"w", whole)
    step = NS_PER_S / RATE * drift
    joined = play(Renderer(RATE, 2, sources), halves, START, 40, step)
    straight = play(Renderer(RATE, 2, sources), Timeline((Segment(START, 1, 0, w),)), START, 40, step)
    # As good as sums of some 64 float32 products can agree in another order: the halves join at the exact place.
    np.testing.assert_allclose(joined, straight, rtol=0, atol=2.0**-22)


@pytest.mark.parametrize(
    ("rates", "most_db"),
    [
        *[((a, b), -115.0) for a, b in ((44_100, 48_000), (48_000, 44_100), (44_100, 96_000), (192_000, 44_100))],
        ((8_000, 96_000), -85.0),  # The tone has but eight frames a period, and the polynomial gives less.
    ],
)
@pytest.mark.parametrize("phase", [0.0, 1.6])
def test_two_halves_of_different_rates_are_the_whole_to_within_the_resamplers_accuracy(rates, most_db, phase):
    """A tone goes on through the join; added up, the two halves would click at up to −11 dB of it."""

    def tone(times):
        return np.stack([0.5 * np.sin(2 * np.pi * 1_000 * times + phase)] * 2, axis=1)

    first_hz, second_hz = rates
    cut = round(0.2 * first_hz) + 3
    first, second = tone(np.arange(cut) / first_hz), tone(cut / first_hz + np.arange(second_hz // 2) / second_hz)
    a, b = track_of(b"a", first, first_hz), track_of(b"b", second, second_hz)
    start = Segment(START, 1, 0, a)
    timeline = Timeline((start, Segment(start.natural_end_host_ns, 2, 0, b)))
    out = play(Renderer(RATE, 2, sources_of([(a, Decoded(first)), (b, Decoded(second))])), timeline, START, 20)
    error = np.abs(out - tone(np.arange(len(out)) / RATE)).max(axis=1)[200:]
    assert 20 * np.log10(error.max() / 0.5) < most_db


def left_and_right(left_until=None, right_until=None):
    """Two tracks of 2 s: one that sounds on the left only, one on the right."""
    sides = []
    for name, side, until in ((b"a", 0, left_until), (b"b", 1, right_until)):
        frames = np.zeros((2 * RATE, 2))
        frames[:, side] = 0.4
        sides.append((track_of(name, frames), Decoded(frames, until)))
    return sides


def crossing(sides, *more):
    """The time line of two tracks of which the second rises over the last second of the first."""
    (a, _), (b, _) = sides
    return Timeline((Segment(START, 1, 0, a), Segment(START + NS_PER_S, 2, 0, b, 1_000), *more))


def sources_of(sides):
    return Sources({track.content_id: decoded for track, decoded in sides})


def test_one_track_falls_as_the_other_rises_and_their_powers_add_up_to_one():
    sides = left_and_right()
    out = play(Renderer(RATE, 2, sources_of(sides)), crossing(sides), START, 140)
    np.testing.assert_allclose(out[100:RATE, 0], 0.4, atol=1e-5)
    assert not out[100 : RATE - 100, 1].any()
    progress = np.arange(RATE) / RATE
    fade = out[RATE : 2 * RATE]
    np.testing.assert_allclose(fade[200:-200, 0], 0.4 * np.cos(np.pi / 2 * progress)[200:-200], atol=1e-5)
    np.testing.assert_allclose(fade[200:-200, 1], 0.4 * np.sin(np.pi / 2 * progress)[200:-200], atol=1e-5)
    np.testing.assert_allclose((fade[200:-200] ** 2).sum(axis=1), 0.16, rtol=1e-4)
    np.testing.assert_allclose(out[2 * RATE + 100 : 140 * BLOCK, 1], 0.4, atol=1e-5)
    assert np.abs(out[2 * RATE + 100 :, 0]).max() < 1e-6
    assert np.abs(np.diff(out[200:], axis=0)).max() < 1e-3, "it clicks"


def test_a_pause_in_the_middle_of_a_fade_ends_both_at_its_instant():
    sides = left_and_right()
    at = RATE + RATE // 3
    silence = Segment(START + at * NS_PER_S // RATE)
    paused = play(Renderer(RATE, 2, sources_of(sides)), crossing(sides, silence), START, 80)
    plain = play(Renderer(RATE, 2, sources_of(sides)), crossing(sides), START, 80)
    np.testing.assert_allclose(paused[:at], plain[:at], atol=1e-6)
    fade = FADE_DURATION_NS * RATE // NS_PER_S
    np.testing.assert_allclose(paused[at + fade // 2], plain[at + fade // 2] / 2, atol=0.01)
    assert not paused[at + fade + 1 :].any()


def test_of_two_tracks_that_fade_one_without_frames_does_not_disturb_the_other():
    sides = left_and_right(right_until=0)
    renderer = Renderer(RATE, 2, sources_of(sides))
    out = play(renderer, crossing(sides), START, 90)
    expected = play(Renderer(RATE, 2, sources_of(left_and_right())), crossing(left_and_right()), START, 90)
    np.testing.assert_allclose(out[:, 0], expected[:, 0], atol=1e-6)
    assert not out[:, 1].any()
    assert renderer.starving
    assert renderer.starved_frames > 10 * BLOCK
    sides[1][1].until = 2 * RATE
    later = play(renderer, crossing(sides), START + 90 * BLOCK * NS_PER_S // RATE, 2)
    assert np.abs(np.diff(later[:, 1])).max() < 0.05, "it comes in with a click"
    assert later[-1, 1] > 0.3
    assert not renderer.starving


def test_a_cut_fades_out_from_its_instant_and_then_there_is_silence():
    frames = np.full((RATE, 2), 0.5)
    track = track_of(b"a", frames)
    at = START + NS_PER_S // 4
    timeline = Timeline((Segment(START, 1, 0, track), Segment(at)))
    out = play(Renderer(RATE, 2, Sources({track.content_id: Decoded(frames)})), timeline, START, 14)[:, 0]
    instant, fade = RATE // 4, FADE_DURATION_NS * RATE // NS_PER_S
    np.testing.assert_allclose(out[100:instant], 0.5, atol=1e-5)
    assert out[instant + fade // 2] == pytest.approx(0.25, abs=0.01)
    assert np.all(np.diff(out[instant : instant + fade]) <= 1e-6)
    assert not out[instant + fade + 1 :].any()


def test_a_seek_to_the_same_place_is_inaudible():
    frames = noise(RATE, 4)
    track = track_of(b"a", frames)
    again = Segment(START + NS_PER_S // 4, 1, RATE // 4, track)
    sources = Sources({track.content_id: Decoded(frames)})
    out = play(Renderer(RATE, 2, sources), Timeline((Segment(START, 1, 0, track), again)), START, 14)
    np.testing.assert_allclose(out, frames[: len(out)], atol=3e-6)


def test_a_track_of_another_rate_keeps_its_pitch():
    rate = 44_100
    t = np.arange(rate) / rate
    frames = np.stack([np.sin(2 * np.pi * 997 * t)] * 2, 1) * 0.5
    track = track_of(b"a", frames, rate)
    out = play(
        Renderer(RATE, 2, Sources({track.content_id: Decoded(frames)})),
        Timeline((Segment(START, 1, 0, track),)),
        START,
        20,
    )
    expected = 0.5 * np.sin(2 * np.pi * 997 * np.arange(len(out)) / RATE)
    np.testing.assert_allclose(out[200:, 0], expected[200:], atol=1e-5)


def test_what_is_not_decoded_is_silence_and_counted_and_comes_back_softly():
    frames = np.full((RATE, 2), 0.5)
    track = track_of(b"a", frames)
    decoded = Decoded(frames, until=5 * BLOCK + 300)
    renderer = Renderer(RATE, 2, Sources({track.content_id: decoded}))
    timeline = Timeline((Segment(START, 1, 0, track),))
    before = play(renderer, timeline, START, 8)[:, 0]
    assert renderer.starved_frames > 2 * BLOCK
    assert not before[6 * BLOCK + 100 :].any()
    assert np.abs(np.diff(before[100:])).max() < 0.05, "it must not end in a click"
    decoded.until = len(frames)
    after = play(renderer, timeline, START + 8 * BLOCK * NS_PER_S // RATE, 3)[:, 0]
    assert np.abs(np.diff(after)).max() < 0.05
    np.testing.assert_allclose(after[BLOCK:], 0.5, atol=1e-5)


def test_a_track_that_is_unknown_is_silence():
    track = track_of(b"a", np.zeros((RATE, 2)))
    renderer = Renderer(RATE, 2, Sources())
    assert not play(renderer, Timeline((Segment(START, 1, 0, track),)), START, 2).any()
    assert renderer.starved_frames == 2 * BLOCK

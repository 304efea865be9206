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


def test_a_join_in_mid_track_is_at_the_right_frame():
    frames = noise(RATE, 2)
    track = track_of(b"a", frames)
    timeline = Timeline((Segment(START, 1, 0, track),))
    out = play(Renderer(RATE, 2, Sources({track.content_id: Decoded(frames)})), timeline, START + NS_PER_S // 2, 2)
    np.testing.assert_allclose(out, frames[RATE // 2 : RATE // 2 + len(out)], atol=2e-6)


def test_two_halves_in_a_row_are_the_whole():
    whole = noise(RATE, 3)
    cut = 20_011
    first, second = whole[:cut], whole[cut:]
    a, b = track_of(b"a", first), track_of(b"b", second)
    end = Segment(START, 1, 0, a).natural_end_host_ns
    halves = Timeline((Segment(START, 1, 0, a), Segment(end, 2, 0, b)))
    sources = Sources({a.content_id: Decoded(first), b.content_id: Decoded(second), b"w" * 32: Decoded(whole)})
    w = track_of(b"w", whole)
    for drift in (1.0, 1.0 + 80e-6):
        step = NS_PER_S / RATE * drift
        joined = play(Renderer(RATE, 2, sources), halves, START, 40, step)
        straight = play(Renderer(RATE, 2, sources), Timeline((Segment(START, 1, 0, w),)), START, 40, step)
        # The second half's start is rounded to a nanosecond: 2.4e-5 frames of noise with slopes of ~0.3 a frame.
        np.testing.assert_allclose(joined, straight, atol=3e-5)


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

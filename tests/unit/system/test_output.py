"""The outputs without a card: when their blocks sound, what lands in the file, and being late."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
import soundfile

from musicsyncd.errors import ConfigError
from musicsyncd.system.monotonic import now_ns
from musicsyncd.system.output import BLOCK_FRAMES, FALLBACK_RATE_HZ, FileOutput, LastingError, NullOutput, open_output
from musicsyncd.units import NS_PER_S

RATE = 96_000
BUFFER_MS = 30.0
PATIENCE_S = 20.0


class Listener:
    """Fills each block with its frame's number and keeps what it was told; ``late`` blocks are held up."""

    def __init__(self, blocks: int, late: dict[int, float] | None = None) -> None:
        self.calls: list[tuple[int, int, int, bool]] = []
        self.blocks: list[np.ndarray] = []
        self.enough = threading.Event()
        self._wanted = blocks
        self._late = late or {}

    def __call__(self, out, frame, sounds_ns, at_ns, broken, read_ns):
        out[:, 0] = (frame + np.arange(len(out))) % 1000 / 1000
        out[:, 1] = -out[:, 0]
        self.calls.append((frame, sounds_ns, at_ns, broken))
        self.blocks.append(out.copy())
        time.sleep(self._late.get(len(self.calls), 0.0))
        if len(self.calls) == self._wanted:
            self.enough.set()

    def hear(self, output) -> None:
        output.start(self)
        try:
            assert self.enough.wait(PATIENCE_S)
            assert output.healthy()
        finally:
            output.close()
        assert not output.healthy()


def expected(frames: np.ndarray) -> np.ndarray:
    return frames % 1000 / 1000


def check_line(calls) -> int:
    """All blocks lie on one line of frames and time; return when frame 0 sounds."""
    start_ns = calls[0][1]
    assert calls[0][0] == 0
    assert all(sounds_ns == start_ns + frame * NS_PER_S // RATE for frame, sounds_ns, _, _ in calls)
    return start_ns


def test_a_null_output_asks_for_each_block_once_and_a_buffer_ahead():
    output, listener = NullOutput(RATE, BUFFER_MS), Listener(8)
    began_ns = now_ns()
    listener.hear(output)
    start_ns = check_line(listener.calls)
    assert start_ns >= began_ns + BUFFER_MS * 1e6
    for frame, sounds_ns, at_ns, broken in listener.calls:
        # Never earlier than the buffer is long; how much later depends on the machine, but not after it sounds
        # unless it says so.
        assert sounds_ns - at_ns <= BUFFER_MS * 1e6
        assert frame % BLOCK_FRAMES == 0 or output.underruns
        assert not broken or output.underruns


def test_a_buffer_holds_two_blocks_at_least():
    output, listener = NullOutput(8_000, 5.0), Listener(1)
    before_ns = now_ns()
    listener.hear(output)
    _, sounds_ns, at_ns, _ = listener.calls[0]
    two_blocks_ns = 2 * BLOCK_FRAMES * NS_PER_S // 8_000
    assert before_ns + two_blocks_ns <= sounds_ns <= at_ns + two_blocks_ns


def test_after_a_late_block_frames_and_time_still_agree_and_the_next_one_is_told():
    output, listener = NullOutput(RATE, BUFFER_MS), Listener(6, late={3: 0.06})
    listener.hear(output)
    check_line(listener.calls)
    assert output.underruns >= 1
    broken = [was_broken for _, _, _, was_broken in listener.calls]
    assert broken[3]
    assert sum(broken) <= output.underruns
    lost = listener.calls[3][0] - listener.calls[2][0] - BLOCK_FRAMES
    assert lost * NS_PER_S / RATE > 0.06 * NS_PER_S - BUFFER_MS * 1e6
    for (frame, *_), (following, _, _, was_broken) in zip(listener.calls, listener.calls[1:], strict=False):
        assert was_broken == (following != frame + BLOCK_FRAMES)


def test_a_file_holds_what_was_rendered_at_the_time_in_its_comment(tmp_path):
    path = tmp_path / "out.wav"
    output, listener = FileOutput(path, RATE, BUFFER_MS), Listener(8)
    listener.hear(output)
    start_ns = check_line(listener.calls)
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.channels, file.subtype) == (RATE, 2, "PCM_24")
        assert int(re.search(r"local_ns=(\d+)", file.comment)[1]) == start_ns
        samples = file.read(dtype="float64")
    assert len(samples) == listener.calls[-1][0] + BLOCK_FRAMES
    for (frame, *_), block in zip(listener.calls, listener.blocks, strict=True):
        np.testing.assert_allclose(samples[frame : frame + BLOCK_FRAMES], block, atol=2**-23)


def test_frames_that_came_too_late_are_silence_in_the_file_and_nothing_moves(tmp_path):
    path = tmp_path / "out.wav"
    output, listener = FileOutput(path, RATE, BUFFER_MS), Listener(6, late={2: 0.06, 4: 0.07})
    listener.hear(output)
    samples, _ = soundfile.read(path)
    heard = np.zeros(len(samples), bool)
    for frame, *_ in listener.calls:
        heard[frame : frame + BLOCK_FRAMES] = True
    frames = np.arange(len(samples))
    np.testing.assert_allclose(samples[heard, 0], expected(frames[heard]), atol=2**-22)
    assert (~heard).sum() > 0.04 * RATE
    assert not samples[~heard].any()


def test_a_gap_longer_than_a_second_is_written_in_pieces(tmp_path):
    output = FileOutput(tmp_path / "out.wav", 8_000, BUFFER_MS)
    block = np.full((BLOCK_FRAMES, 2), 0.5, np.float32)
    output._take(block, 20_000)
    output.close()
    samples, _ = soundfile.read(tmp_path / "out.wav")
    assert len(samples) == 20_000 + BLOCK_FRAMES
    assert not samples[:20_000].any()
    assert (samples[20_000:] == 0.5).all()


def test_a_disk_that_fills_up_ends_the_file_and_not_the_music(tmp_path, caplog):
    output, listener = FileOutput(tmp_path / "out.wav", RATE, BUFFER_MS), Listener(5)
    real, written = output._file, []

    class Full:
        comment = ""

        def write(self, block):
            written.append(len(block))
            raise OSError("No space left on device")

        def close(self):
            real.close()

    output._file = Full()
    listener.hear(output)
    assert len(written) == 1
    assert [one.message for one in caplog.records if "no longer written" in one.message] != []
    assert len(caplog.records) == 1


def test_a_render_that_fails_is_seen_as_a_dead_output(monkeypatch):
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())

    def fail(*_):
        raise RuntimeError

    output = NullOutput(RATE, BUFFER_MS)
    assert not output.healthy()
    output.start(fail)
    assert died.wait(PATIENCE_S)
    output._thread.join(PATIENCE_S)
    assert not output.healthy()
    output.close()


def test_an_output_that_was_never_started_can_be_closed(tmp_path):
    NullOutput(RATE, BUFFER_MS).close()
    FileOutput(tmp_path / "out.wav", RATE, BUFFER_MS).close()
    assert soundfile.info(tmp_path / "out.wav").frames == 0


def test_the_words_of_output(tmp_path, monkeypatch):
    null = open_output("null", device=None, rate_hz=None, buffer_ms=BUFFER_MS)
    assert (type(null), null.rate_hz, null.channels) == (NullOutput, FALLBACK_RATE_HZ, 2)
    assert open_output("null", device=None, rate_hz=44_100, buffer_ms=BUFFER_MS).rate_hz == 44_100
    name = tmp_path / "a:b.wav"
    file = open_output(f"file:{name}", device=None, rate_hz=44_100, buffer_ms=BUFFER_MS)
    assert (type(file), file.rate_hz) == (FileOutput, 44_100)
    file.close()
    assert name.exists()
    made = []
    monkeypatch.setattr("musicsyncd.system.audio.PortAudioOutput", lambda *given: made.append(given))
    open_output("portaudio", device="DAC", rate_hz=None, buffer_ms=80.0)
    assert made == [("DAC", None, 80.0)]
    for wrong in ("alsa", "file", "file:", "null:x.wav", ""):
        with pytest.raises(ConfigError, match="portaudio, null or file"):
            open_output(wrong, device=None, rate_hz=None, buffer_ms=BUFFER_MS)


@pytest.mark.parametrize("path", ["nowhere/out.wav", "."])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path, path):
    with pytest.raises(LastingError, match=r"cannot write .*choose another file for --output") as caught:
        FileOutput(tmp_path / path, RATE, BUFFER_MS)
    assert "\n" not in str(caught.value)

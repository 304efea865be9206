"""Figures of the sound path: resampler, card's line, servo. ``python tests/bench/sound.py``, half a minute.

Prints, and judges nothing: CPU times are of the machine it runs on. The limits that do not depend on
one are tests in ``tests/unit/playback``.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when NumPy is imported

import numpy as np
import numpy.typing as npt

from musicsyncd.playback import resampler as resampler_module
from musicsyncd.playback.dac import DacModel
from musicsyncd.playback.resampler import FloatArray, Resampler
from musicsyncd.playback.servo import Servo

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from playback.ticking import TickingCard

RATES_HZ = (
    (48000, 48000),
    (44100, 48000),
    (44100, 44100),
    (8000, 48000),
    (48000, 44100),
    (88200, 48000),
    (96000, 48000),
    (192000, 48000),
    (192000, 44100),
)
SLEW_PPM = (0.0, 500.0, -500.0, 37.0, -310.0, 500.0, -120.0, 250.0)


class Table:
    """The same kernel as a table of 1,024 phases with straight lines between them, for comparison."""

    def __init__(self) -> None:
        self.half_width = 32
        taps = np.arange(1 - self.half_width, self.half_width + 1)
        phases = np.arange(1025) / 1024
        self.table = resampler_module._impulse_response(taps - phases[:, None], self.half_width, 1.0).astype(np.float32)
        self.rise = np.diff(self.table, axis=0)
        self.needed = Resampler(48000, 48000).needed

    def read(
        self, window: FloatArray, first_frame: int, base: int, fraction: float, step: float, out: FloatArray
    ) -> None:
        """Do what Resampler.read does, for a step near 1."""
        positions = fraction + step * np.arange(len(out))
        whole = np.floor(positions)
        phase = (positions - whole) * 1024
        row = phase.astype(np.intp)
        taps = self.table[row] + self.rise[row] * (phase - row).astype(np.float32)[:, None]
        frames = np.ascontiguousarray(window.T)
        slips = [0, *(np.flatnonzero(np.diff(whole) != 1) + 1).tolist(), len(out)]
        for begin, end in itertools.pairwise(slips):
            start = base - self.half_width + 1 - first_frame + int(whole[begin])
            for channel, samples in enumerate(frames):
                windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * self.half_width)
                np.einsum(
                    "ik,ik->i", windows[start : start + end - begin], taps[begin:end], out=out[begin:end, channel]
                )


def residue_db(resampler: Resampler | Table, hz: float, track_hz: int, ratio: float, block: int, slew: bool) -> float:
    """Return THD+N of a sine of half scale, over the card's whole band, against its commanded positions."""
    base, fraction = 1000, 0.123
    at, heard = [], []
    for number in range(32768 // block):
        step = ratio * (1.0 + (SLEW_PPM[number % len(SLEW_PPM)] if slew else 100.0) * 1e-6)
        first, frames = resampler.needed(base, fraction, step, block)
        angle = 2 * np.pi * np.mod(np.arange(first, first + frames) * (hz / track_hz), 1.0)
        out = np.empty((block, 1), np.float32)
        resampler.read((0.5 * np.sin(angle)[:, None]).astype(np.float32), first, base, fraction, step, out)
        at.append(base + fraction + step * np.arange(block))
        heard.append(out[:, 0].astype(np.float64))
        fraction += step * block
        base, fraction = base + math.floor(fraction), fraction % 1.0
    angle = 2 * np.pi * np.mod(np.concatenate(at) * (hz / track_hz), 1.0)
    model, sound = np.stack([np.sin(angle), np.cos(angle)], 1), np.concatenate(heard)
    parts = np.linalg.lstsq(model, sound, rcond=None)[0]
    return 10 * math.log10(2 * float(np.mean((sound - model @ parts) ** 2)) / float(parts @ parts))


def cpu_ms_per_s(resampler: Resampler | Table, ratio: float, card_hz: int, block: int, channels: int) -> float:
    """Return milliseconds of CPU for a second of sound, the best of five."""
    step = ratio * (1 + 37e-6)
    window = np.random.default_rng(0).standard_normal((int(block * step) + 2 * resampler.half_width + 9, channels))
    window32, out = window.astype(np.float32), np.empty((block, channels), np.float32)
    repeats = max(20, 60_000 // block)
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        for number in range(repeats):
            fraction = number * 0.037 % 1.0
            first, frames = resampler.needed(0, fraction, step, block)
            resampler.read(window32[:frames], first, 0, fraction, step, out)
        best = min(best, time.process_time() - began)
    return best / repeats / block * card_hz * 1e3


def bench_resampler() -> None:
    print("THD+N in dB, sine at half scale, +100 ppm / ±500 ppm from block to block of 256")
    print(f"{'':22}" + "".join(f"{hz:>15}" for hz in (100, 1000, 10000, 18000)))
    for track_hz, card_hz in RATES_HZ:
        ratio = track_hz / card_hz
        cells = [
            "/".join(
                f"{residue_db(Resampler(track_hz, card_hz), hz, track_hz, ratio, 256, s):.0f}" for s in (False, True)
            )
            if hz < 0.45 * track_hz
            else "-"
            for hz in (100, 1000, 10000, 18000)
        ]
        print(f"{track_hz:>9} → {card_hz:>6}     " + "".join(f"{cell:>15}" for cell in cells))
    cells = [
        "/".join(f"{residue_db(Table(), hz, 48000, 1.0, 256, s):.0f}" for s in (False, True))
        for hz in (100, 1000, 10000, 18000)
    ]
    print(f"{'table of 1,024 phases':22}" + "".join(f"{cell:>15}" for cell in cells))
    print("\nCPU, ms a second of sound")
    print(f"{'':22}" + "".join(f"{name:>12}" for name in ("256×2", "512×2", "1024×2", "2048×2", "1024×1", "1024×8")))
    sizes = ((256, 2), (512, 2), (1024, 2), (2048, 2), (1024, 1), (1024, 8))
    for track_hz, card_hz in RATES_HZ:
        times = [cpu_ms_per_s(Resampler(track_hz, card_hz), track_hz / card_hz, card_hz, *size) for size in sizes]
        print(f"{track_hz:>9} → {card_hz:>6}     " + "".join(f"{ms:12.1f}" for ms in times))
    times = [cpu_ms_per_s(Table(), 1.0, 48000, *size) for size in sizes]
    print(f"{'table of 1,024 phases':22}" + "".join(f"{ms:12.1f}" for ms in times))


FRAME_NS = 1e9 / 48000
Lateness = Callable[[np.random.Generator, int], float]
CARDS: dict[str, Lateness] = {
    "clean: rounded to frames": lambda r, _: r.random() * FRAME_NS,
    "steps of 48, read at any time": lambda r, _: r.random() * 48 * FRAME_NS,
    "steps of 480, read at any time": lambda r, _: r.random() * 480 * FRAME_NS,
    "steps of 480, woken by them": lambda r, _: r.exponential(100e3) + (r.random() < 0.05) * r.random() * 9e6,
    "steps of 480, read in step with the card": lambda r, frame: (
        ((300 + frame % 480) * FRAME_NS + r.exponential(80e3)) % (480 * FRAME_NS)
    ),
    "late by 200 µs, 1 % by 20 ms": lambda r, _: r.exponential(200e3) + (r.random() < 0.01) * 20e6 * r.random(),
    "normal, 60 µs": lambda r, _: r.normal() * 60e3,
}


def bench_dac() -> None:
    checks_s = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 59.0)
    print("\nThe card's line, blocks of 1,024, 12 seeds, −150…+180 ppm: worst phase in µs, rms rate in ppm")
    print(f"{'':42}" + "".join(f"{check:>15} s" for check in checks_s))
    for name, lateness in CARDS.items():
        rows = []
        for seed in range(12):
            random = np.random.default_rng(seed)
            ppm = (-150, -20, 30, 180)[seed % 4]
            model, row = DacModel(48000), []
            checks = [int(check * 48000 / 1024) for check in checks_s]
            for number in range(checks[-1] + 1):
                frame = number * 1024
                true_ns = 10**14 + frame * FRAME_NS / (1 + ppm * 1e-6)
                model.observe(frame, round(true_ns + lateness(random, frame)))
                if number in checks and model.line is not None:
                    row.append((model.line.local_at(frame) - true_ns, model.rate_ppm - ppm))
            rows.append(row)
        errors: npt.NDArray[np.float64] = np.array(rows)
        phase_us, rate_ppm = np.abs(errors[:, :, 0]).max(axis=0) / 1e3, np.sqrt((errors[:, :, 1] ** 2).mean(axis=0))
        print(f"{name:42}" + "".join(f"{p:9.1f} {r:7.3f}" for p, r in zip(phase_us, rate_ppm, strict=True)))
    random = np.random.default_rng(1)
    model, spent = DacModel(48000), []
    for number in range(5000):
        said_ns = 10**12 + round(number * 1024 * FRAME_NS + random.random() * 1e7)
        began = time.perf_counter()
        model.observe(number * 1024, said_ns)
        spent.append((time.perf_counter() - began) * 1e6)
    middle, rare = np.percentile(spent, [50, 99])
    print(
        f"observe(): median {middle:.1f} µs, 99 % {rare:.0f} µs, {sum(spent) / (5000 * 1024 / 48000):.0f} µs a second"
    )


def bench_pointer() -> None:
    """Print how well cards in steps are known over ALSA, as PortAudio reads them when it is woken at ticks of 1 ms."""
    spans_s = ((0.5, 1), (1, 3), (3, 10), (10, 30))
    print("\nA card read at ticks of 1 ms, 8 seeds, −40…+60 ppm, 0.2 % of looks interrupted: worst phase in µs")
    print(f"{'':42}" + "".join(f"{a:>9} … {b:<4} s" for a, b in spans_s) + "   rms rate in ppm at 10 s")
    for grain in (1, 48, 480):
        for keeps_back in (False, True):
            worst_us, rates_ppm = np.zeros(len(spans_s)), []
            for seed in range(8):
                card = TickingCard((60.0, -40.0, 20.0, 3.0)[seed % 4], grain, seed, keeps_back=keeps_back)
                card.play(10.0)
                rates_ppm.append(card.model.rate_ppm - card.ppm)
                card.play(30.0)
                errors_us = [max(abs(look.error_ns) for look in card.looks_between(*span)) / 1e3 for span in spans_s]
                worst_us = np.maximum(worst_us, errors_us)
            name = f"steps of {grain}, " + ("looked at where it tells most" if keeps_back else "as it comes")
            cells = "".join(f"{us:16.1f} " for us in worst_us)
            print(f"{name:42}{cells}{float(np.sqrt(np.mean(np.square(rates_ppm)))):14.2f}")


def bench_servo() -> None:
    ns_per_frame, block = FRAME_NS, 1024
    print("\nServo")
    for offset_us in (20, 100, 1000, 1900, -1000):
        servo, errors = Servo(), []
        servo.plan(0, ns_per_frame, block)
        for number in range(1, 700):
            servo.plan(round(number * block * ns_per_frame + offset_us * 1e3), ns_per_frame, block)
            errors.append(servo.error_ns / 1e3 * math.copysign(1, offset_us))
        within = [next(n for n, e in enumerate(errors) if abs(e) < limit) * block / 48000 for limit in (100, 10, 1)]
        print(
            f"  {offset_us:6} µs: within 100/10/1 µs after "
            + "/".join(f"{s:.1f}" for s in within)
            + f" s, overshoot {max(0.0, -min(errors)):.3f} µs"
        )
    random = np.random.default_rng(0)
    servo, offset_ns, corrections, actual = Servo(), 0.0, [], []
    for number in range(20_000):
        if number % 12 == 0:
            offset_ns = 3e3 * random.standard_normal()
        wanted_ns = number * block * ns_per_frame
        plan = servo.plan(round(wanted_ns + offset_ns), ns_per_frame, block)
        corrections.append(servo.correction_ppm)
        actual.append(plan.start_host_ns - wanted_ns)
    print(
        f"  wanted moves by 3 µs rms 4 times a second: correction {np.std(corrections):.2f} ppm rms, "
        f"{np.max(np.abs(corrections)):.1f} at most; actual {np.std(actual) / 1e3:.2f} µs rms"
    )


if __name__ == "__main__":
    bench_resampler()
    bench_dac()
    bench_pointer()
    bench_servo()

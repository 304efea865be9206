"""A track read at any position between its frames.

Owns the interpolation and nothing else: where to read is commanded for each block as an
absolute position (whole frames and a fraction) and a step, so nothing accumulates here and
blocks that follow one another join without a seam. 44.1 kHz on a 48 kHz card and a correction
of +37 ppm are the same operation. Must not know of clocks, tracks or sound cards.

Theory: between its samples a band-limited signal is x(p) = Σ x[n]·h(n − p) with h a sinc, here
cut off by a Kaiser window (J. O. Smith, *Digital Audio Resampling*, "Bandlimited Interpolation").
A polyphase table holds h at many phases; here each of its taps is a polynomial of the phase
instead (C. W. Farrow, *A Continuously Variable Digital Delay Element*, ISCAS 1988), the one that
goes through the kernel at Chebyshev–Lobatto points. Those points include both ends, so the kernel
is continuous from frame to frame, and an undisturbed position gives the track's own samples back.
The products with the polynomials' coefficients are the same for every output frame, so a block
is a few small matrix products, and the phases enter only in the Horner scheme after them.

Measured against a table of 1,024 phases with straight lines between them (``tests/bench/sound.py``,
x86-64): the same THD+N within 1 dB, at two thirds of the CPU time for blocks of 1,024 frames and a
quarter for 2,048, where the table's 64 coefficients for each frame no longer fit the cache.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

FloatArray = npt.NDArray[np.float32]

_KAISER_BETA = 11.0
"""Side lobes 108 dB down (Kaiser's formula); more costs taps and is under float32's noise anyway."""

_HALF_WIDTH = 32
"""Frames on each side of a position when no frequency must go: 64 taps, flat to 0.89 of Nyquist."""

_HALF_WIDTH_DOWN = 40
"""The same in frames of the card when the card is slower: its transition band must end at Nyquist."""

_CUTOFF_DOWN = 0.91
"""Middle of that transition band, of the card's Nyquist: flat to 0.82, 108 dB down at 1.0."""

_INTEGER_TOLERANCE = 0.005
"""A ratio this close to a whole number moves by whole strides with rare slips: far beyond any correction."""

_COLUMNS = 16
"""Output frames in one row of a matrix product: 8 to 32 cost the same within 5 %, 64 costs a quarter more."""

_MAX_ROWS = 72
"""Rows in one product: a block of 1,024 frames at once, also for 48 kHz on a card of 44.1."""

_MAX_PRODUCT = 1 << 18
"""Multiplications in one product: above this OpenBLAS wakes threads, which a callback must not wait for."""


class _Kernel(NamedTuple):
    """The constants of one ratio of rates.

    Attributes:
        half_width: frames of the track on each side of a position.
        stride: frames of the track between the positions at which products are taken.
        dense: products at every frame of the track, of which the wanted ones are picked; for a ratio
            that is not near a whole number.
        matrix: coefficients, float32, (terms, inputs of a row, ``_COLUMNS``): one banded matrix for
            each power of the phase.
        rows: rows in one product at the most.
    """

    half_width: int
    stride: int
    dense: bool
    matrix: FloatArray
    rows: int


def _impulse_response(distance: npt.NDArray[np.float64], half_width: int, cutoff: float) -> npt.NDArray[np.float64]:
    """Return the windowed sinc at distances in frames of the track; ``cutoff`` is of the track's Nyquist."""
    inside = np.clip(1.0 - (distance / half_width) ** 2, 0.0, None)
    window = np.i0(_KAISER_BETA * np.sqrt(inside)) / np.i0(_KAISER_BETA)
    return np.asarray(cutoff * np.sinc(cutoff * distance) * window)


def _polynomials(half_width: int, cutoff: float) -> npt.NDArray[np.float64]:
    """Return each tap as a polynomial of u = 2·phase − 1, float64, (terms, taps), lowest power first.

    A polynomial of n terms follows a tone of w radians a frame within about (w/4)ⁿ/n!·2, so a
    kernel that lets less pass needs fewer terms: these leave −115 dB at 18 kHz of 48.
    """
    terms = 8 if cutoff > 0.6 else 7 if cutoff > 0.3 else 6
    nodes = -np.cos(np.pi * np.arange(terms) / (terms - 1))
    taps = np.arange(1 - half_width, half_width + 1)
    values = _impulse_response(taps[None, :] - (nodes[:, None] + 1.0) / 2.0, half_width, cutoff)
    return np.asarray(np.linalg.solve(np.vander(nodes, increasing=True), values))


@lru_cache(maxsize=16)
def _kernel(track_rate_hz: int, card_rate_hz: int) -> _Kernel:
    """Return the constants of a ratio; a daemon meets a handful of them."""
    ratio = track_rate_hz / card_rate_hz
    down = ratio > 1.0
    half_width = math.ceil(_HALF_WIDTH_DOWN * ratio) if down else _HALF_WIDTH
    coefficients = _polynomials(half_width, _CUTOFF_DOWN / ratio if down else 1.0)
    stride = max(1, round(ratio))
    dense = abs(ratio - stride) > _INTEGER_TOLERANCE
    if dense:
        stride = 1
    terms, taps = coefficients.shape
    inputs = stride * (_COLUMNS - 1) + taps
    matrix = np.zeros((terms, inputs, _COLUMNS), np.float32)
    for column in range(_COLUMNS):
        matrix[:, column * stride : column * stride + taps, column] = coefficients
    rows = max(1, min(_MAX_ROWS, _MAX_PRODUCT // (inputs * _COLUMNS)))
    return _Kernel(half_width, stride, dense, matrix, rows)


class Resampler:
    """Reads a track of one rate for a card of another. Not for two threads at once: it owns scratch memory.

    Args:
        track_rate_hz: frames a second of the track.
        card_rate_hz: frames a second of the card, nominally.

    Attributes:
        half_width: frames of the track that are needed on each side of a position.

    Raises:
        ValueError: a rate is not positive.
    """

    def __init__(self, track_rate_hz: int, card_rate_hz: int) -> None:
        if track_rate_hz <= 0 or card_rate_hz <= 0:
            raise ValueError(f"rates must be positive: {track_rate_hz} Hz on {card_rate_hz} Hz")
        self._kernel = _kernel(track_rate_hz, card_rate_hz)
        self.half_width = self._kernel.half_width
        positions = self._kernel.rows * _COLUMNS
        ratio = track_rate_hz / card_rate_hz
        # In dense use a chunk's products span `ratio` times its frames, a little more where it is corrected.
        chunk = int((positions - 2) / (ratio * 1.01)) if self._kernel.dense else positions
        self._chunk = max(1, min(chunk, positions))
        self._numbers = np.arange(self._chunk, dtype=np.float64)
        self._positions = np.empty(self._chunk, np.float64)
        self._whole = np.empty(self._chunk, np.float64)
        self._phases = np.empty(self._chunk, np.float32)
        self._channels = 0
        self._reserve(2)

    def _reserve(self, channels: int) -> None:
        """Make the scratch memory for a number of channels."""
        kernel = self._kernel
        terms, inputs, _ = kernel.matrix.shape
        row_frames = kernel.stride * _COLUMNS
        positions = kernel.rows * _COLUMNS
        self._channels = channels
        self._frames = np.zeros((channels, row_frames * (kernel.rows - 1) + inputs), np.float32)
        by_channel, by_frame = self._frames.strides
        self._rows = as_strided(
            self._frames,
            (channels, 1, kernel.rows, inputs),
            (by_channel, 0, row_frames * by_frame, by_frame),
        )
        self._inputs = np.empty((channels, 1, kernel.rows, inputs), np.float32)
        self._products = np.empty((channels, terms, kernel.rows, _COLUMNS), np.float32)
        self._flat = self._products.reshape(channels, terms, positions)
        self._picked = np.empty((channels, terms, self._chunk if kernel.dense else 0), np.float32)
        self._sum = np.empty((channels, positions), np.float32)

    def needed(self, base: int, fraction: float, step: float, count: int) -> tuple[int, int]:
        """Say which part of the track :meth:`read` wants for the same arguments.

        Args:
            base: whole frames of the first position.
            fraction: the rest of it, 0 ≤ fraction < 1.
            step: frames of the track for each frame of the output, positive.
            count: frames of the output.

        Returns:
            The first frame, and how many. The caller puts zeros where the track has none (before
            its frame 0, after its last).
        """
        first = base + math.floor(fraction) - self.half_width + 1
        if count <= 0:
            return first, 0
        last = base + math.floor(fraction + (count - 1) * step) + self.half_width
        return first, last - first + 1

    def read(
        self, window: FloatArray, first_frame: int, base: int, fraction: float, step: float, out: FloatArray
    ) -> None:
        """Fill ``out[i]`` with the track at the position base + fraction + i·step.

        Args:
            window: a part of the track that holds what :meth:`needed` says, float32, (frames, channels).
            first_frame: the track's frame number of ``window[0]``.
            base: whole frames of the first position.
            fraction: the rest of it, 0 ≤ fraction < 1.
            step: frames of the track for each frame of the output, positive, within 1 % of the ratio of
                the rates (further away it is right but slow, and going down, not free of aliases).
            out: float32, (count, channels), overwritten.

        Raises:
            ValueError: the window is too short, or has another number of channels than ``out``.
        """
        count, channels = out.shape
        first, frames = self.needed(base, fraction, step, count)
        if window.shape[1] != channels or first < first_frame or first + frames > first_frame + len(window):
            raise ValueError(
                f"the window holds {window.shape} from frame {first_frame}, "
                f"wanted are {frames} frames from {first} of {channels} channels"
            )
        if channels != self._channels:
            self._reserve(channels)
        # The window's index of the first tap for the position `base`.
        origin = base - self.half_width + 1 - first_frame
        done = 0
        while done < count:
            size = min(self._chunk, count - done)
            done += self._chunk_into(window, origin, fraction, step, out[done : done + size], done)

    def _chunk_into(
        self, window: FloatArray, origin: int, fraction: float, step: float, out: FloatArray, done: int
    ) -> int:
        """Fill ``out`` with the positions from number ``done`` on and return how many that were."""
        size = len(out)
        positions, whole, phases = self._positions[:size], self._whole[:size], self._phases[:size]
        # The same expression as in needed(), so that both round alike.
        np.add(self._numbers[:size], done, out=positions)
        np.multiply(positions, step, out=positions)
        np.add(positions, fraction, out=positions)
        np.floor(positions, out=whole)
        np.subtract(positions, whole, out=positions)
        np.multiply(positions, 2.0, out=positions)
        np.subtract(positions, 1.0, out=phases, casting="same_kind")
        if self._kernel.dense:
            return self._dense(window, origin, whole, phases, out)
        begin = 0
        # A slip is where the phase passes from one frame to the next: less than one in a block as a rule.
        for slip in (np.flatnonzero(np.diff(whole) != self._kernel.stride) + 1).tolist():
            self._run(window, origin + int(whole[begin]), phases[begin:slip], out[begin:slip])
            begin = slip
        self._run(window, origin + int(whole[begin]), phases[begin:], out[begin:])
        return size

    def _run(self, window: FloatArray, start: int, phases: FloatArray, out: FloatArray) -> None:
        """Fill ``out`` where the positions' whole parts are exactly a stride apart."""
        size = len(out)
        self._multiply(window, start, size)
        self._combine(self._flat[:, :, :size], phases, out)

    def _dense(
        self,
        window: FloatArray,
        origin: int,
        whole: npt.NDArray[np.float64],
        phases: FloatArray,
        out: FloatArray,
    ) -> int:
        """Fill as much of ``out`` as one product reaches, from products at every frame of the track."""
        reach = self._kernel.rows * _COLUMNS
        indices = (whole - whole[0]).astype(np.intp)
        if indices[-1] >= reach:  # only with a step far from the ratio that the chunk was sized for
            indices = indices[: int(np.searchsorted(indices, reach))]
        size = len(indices)
        self._multiply(window, origin + int(whole[0]), int(indices[-1]) + 1)
        picked = self._picked[:, :, :size]
        for channel in range(self._channels):
            for products, chosen in zip(self._flat[channel], picked[channel], strict=True):
                np.take(products, indices, out=chosen, mode="clip")  # "raise" would make a copy
        self._combine(picked, phases[:size], out[:size])
        return size

    def _multiply(self, window: FloatArray, start: int, count: int) -> None:
        """Take the products for ``count`` positions a stride apart, the first tap of the first at ``start``."""
        kernel = self._kernel
        rows = -(-count // _COLUMNS)
        reach = kernel.stride * (count - 1) + 2 * kernel.half_width
        self._frames[:, :reach] = window[start : start + reach].T
        # The last row reads on, times zero, and zero times a NaN that an earlier block left there is a NaN.
        self._frames[:, reach : reach + kernel.stride * _COLUMNS] = 0.0
        np.copyto(self._inputs[:, :, :rows], self._rows[:, :, :rows])
        np.matmul(self._inputs[:, :, :rows], kernel.matrix, out=self._products[:, :, :rows])

    def _combine(self, products: FloatArray, phases: FloatArray, out: FloatArray) -> None:
        """Sum the products, (channels, terms, count), as polynomials of the phases into ``out``."""
        total = self._sum[:, : len(phases)]
        terms = products.shape[1]
        np.multiply(products[:, terms - 1], phases, out=total)
        for term in range(terms - 2, 0, -1):
            np.add(total, products[:, term], out=total)
            np.multiply(total, phases, out=total)
        np.add(total, products[:, 0], out=total)
        out[...] = total.T

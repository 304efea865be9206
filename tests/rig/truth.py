"""Where in the source was each card at each instant? Reads vdac captures."""

import glob
import re

import numpy as np

DT = {"S16_LE": ("<i2", 32768.0), "S32_LE": ("<i4", 2147483648.0), "FLOAT_LE": ("<f4", 1.0)}


def load(prefix):
    """All runs of one card: list of (true start time s [CLOCK_REALTIME], true rate Hz, mono float64 samples, xrun?)."""
    runs = []
    for log in sorted(glob.glob(prefix + ".*.log"), key=lambda f: int(f.split(".")[-2])):
        with open(log) as f:
            txt = f.read().splitlines()
        raw = None
        cur = None
        for line in txt:
            kv = dict(re.findall(r"(\w+)=(\S+)", line))
            word = line.split()[0]
            if word == "prepare":
                dt, sc = DT[kv["format"]]
                ch = int(kv["channels"])
                if raw is None:
                    raw = np.fromfile(log[:-4] + ".pcm", dt)
                rate = int(kv["rate"]) * (1 + float(kv["ppm"]) * 1e-6)
                lat = (int(kv["delay_us"]) + int(kv["hidden_us"])) * 1e-6
            elif word == "start":
                cur = (int(kv["file_frame"]), int(kv["real"]) * 1e-9 + lat)
            elif word in ("stop", "xrun", "close") and cur:
                n = min(int(kv["played"]), int(kv["written"]))
                f0, t0 = cur
                x = raw[f0 * ch : (f0 + n) * ch].reshape(-1, ch).astype(float).mean(1) / sc
                runs.append((t0, rate, x, word == "xrun"))
                cur = None
        if cur and raw is not None:  # killed: take what reached the file
            f0, t0 = cur
            x = raw[f0 * ch :]
            x = x[: len(x) // ch * ch].reshape(-1, ch).astype(float).mean(1) / sc
            runs.append((t0, rate, x, False))
    return runs


def delay_fine(a, b):
    """Delay of a against b in samples (|d| < 1) from the phase slope of the cross spectrum."""
    w = np.hanning(len(a))
    A, B = np.fft.rfft(a * w), np.fft.rfft(b * w)
    C = A * np.conj(B)
    f = np.arange(len(C)) * 2 * np.pi / len(a)
    sel = (f > 0.02 * np.pi) & (f < 0.6 * np.pi)
    wt = np.abs(C[sel])
    ph = np.angle(C[sel])
    return -np.sum(wt * f[sel] * ph) / np.sum(wt * f[sel] ** 2)


def regrid(src, src_rate, rate):
    """The source at another rate, better than 120 dB up to 16 kHz."""
    from fractions import Fraction

    from scipy.signal import firwin, resample_poly

    q = Fraction(rate, src_rate)
    big = max(q.numerator, q.denominator)
    return resample_poly(
        src, q.numerator, q.denominator, window=firwin(2 * 64 * big + 1, 0.95 / big, window=("kaiser", 14))
    )


TAPS = 64
_K = np.arange(-TAPS // 2 + 1, TAPS // 2 + 1)


_L = 4096


def _tables():
    u = _K[None, :] - np.arange(_L + 2)[:, None] / _L
    w = np.i0(12 * np.sqrt(np.clip(1 - (u / (TAPS / 2)) ** 2, 0, 1))) / np.i0(12)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(np.abs(u) < 1e-9, 0.0, (np.cos(np.pi * u) - np.sinc(u)) / u)
    return np.sinc(u) * w, -d * w


_H, _D = _tables()


def at(src, pos):
    """The source between its samples, and its slope there (per sample)."""
    b = np.floor(pos).astype(int)
    p = (pos - b) * _L
    i = p.astype(int)
    f = (p - i)[:, None]
    x = src[np.clip(b[:, None] + _K[None, :], 0, len(src) - 1)]
    return (
        np.einsum("ij,ij->i", x, _H[i] + f * (_H[i + 1] - _H[i])),
        np.einsum("ij,ij->i", x, _D[i] + f * (_D[i + 1] - _D[i])),
    )


def quality(runs, src, src_rate, tracked, card_rate, N=8192, every=10):
    """What is left, in dB below the signal, when the source (any gain, phase, rate and change of rate) is taken from
    what the card got: distortion, noise, clicks. One figure for every `every`th heard window."""
    if card_rate != src_rate:
        src, src_rate = regrid(src, src_rate, card_rate), card_rate
    out = []
    heard = tracked[~np.isnan(tracked[:, 1])]
    for T, pos, _ in heard[::every]:
        for t0, rate, x, _u in runs:
            i = round((T - t0) * rate - N / 2)
            if i >= 0 and i + N <= len(x):
                break
        else:
            continue
        seg = x[i : i + N]
        n = (np.arange(N) - N / 2) / N
        where = pos * src_rate + n * N * src_rate / rate
        if where[0] < TAPS or where[-1] > len(src) - TAPS:
            continue
        w = np.hanning(N)
        for _ in range(4):
            y, dy = at(src, where)
            basis = np.stack([y, dy, dy * n, dy * n * n], 1) * w[:, None]
            c, *_r = np.linalg.lstsq(basis, seg * w, rcond=None)
            if not c[0]:
                break
            where = where + (c[1] + c[2] * n + c[3] * n * n) / c[0]
        y, _d = at(src, where)
        g = np.dot(y * w, seg * w) / np.dot(y * w, y * w)
        out.append((T, 10 * np.log10(np.sum((seg * w) ** 2) / (np.sum(((seg - g * y) * w) ** 2) + 1e-30))))
    return np.array(out).reshape(-1, 2)


def track(runs, src, src_rate, N=8192, hop=4800, card_rate=None):
    """(T, pos, corr): at true time T (s) the card sounded source position pos (s); corr in 0..1."""
    if card_rate and card_rate != src_rate:  # one grid for both
        src, src_rate = regrid(src, src_rate, card_rate), card_rate
    out = []
    F = 1
    while len(src) + 2 * N > F:
        F *= 2
    SRC = np.fft.rfft(src, F)
    cs = np.concatenate([[0], np.cumsum(src**2)])
    guess = None
    for t0, rate, x, _ in runs:
        for i in range(0, len(x) - N, hop):
            seg = x[i : i + N]
            e = np.sum(seg**2)
            T = t0 + (i + N / 2) / rate
            if e < 1e-6 * N:
                out.append((T, np.nan, 0.0))
                guess = None
                continue
            k = None
            if guess is not None:
                g = round(guess + hop)
                R = 256
                lo, hi = g - R, g + R + N
                if lo >= 0 and hi <= len(src):
                    s = src[lo:hi]
                    n2 = 1 << int(np.ceil(np.log2(len(s) + N)))
                    c = np.fft.irfft(np.fft.rfft(s, n2) * np.conj(np.fft.rfft(seg, n2)), n2)[: 2 * R + 1]
                    j = int(np.argmax(c))
                    if c[j] / np.sqrt(e * (cs[lo + j + N] - cs[lo + j]) + 1e-12) > 0.6:
                        k = lo + j
            if k is None:
                c = np.fft.irfft(SRC * np.conj(np.fft.rfft(seg, F)), F)[: len(src) - N]
                j = int(np.argmax(c))
                k = j
            r = np.sum(seg * src[k : k + N]) / np.sqrt(e * (cs[k + N] - cs[k]) + 1e-12)
            if r < 0.3:
                out.append((T, np.nan, r))
                guess = None
                continue
            d = delay_fine(seg, src[k : k + N])  # seg lags by d -> earlier source position
            pos = k - d
            out.append((T, (pos + N / 2) / src_rate, r))
            guess = pos
    return np.array(out).reshape(-1, 3)


def compare(a, b, settle=0.0):
    """Source-position difference a-b (s) at a's instants, where both sound."""
    ga, gb = a[~np.isnan(a[:, 1])], b[~np.isnan(b[:, 1])]
    if len(ga) < 2 or len(gb) < 2:
        return np.zeros((0, 2))
    T = ga[:, 0]
    # b's line near T: nearest window, moved along at unit speed
    j = np.clip(np.searchsorted(gb[:, 0], T), 1, len(gb) - 1)
    j = np.where(np.abs(gb[j, 0] - T) < np.abs(gb[j - 1, 0] - T), j, j - 1)
    ok = np.abs(gb[j, 0] - T) < 0.2
    pb = gb[j, 1] + (T - gb[j, 0])
    d = np.stack([T, ga[:, 1] - pb], 1)[ok]
    return d[d[:, 0] > d[0, 0] + settle] if len(d) else d


def summary(d, unit=1e6):
    v = np.abs(d[:, 1]) * unit
    return (
        dict(
            n=len(v),
            median=np.median(v),
            p95=np.percentile(v, 95),
            p99=np.percentile(v, 99),
            max=v.max(),
            mean_signed=np.mean(d[:, 1]) * unit,
            std=np.std(d[:, 1]) * unit,
        )
        if len(v)
        else {}
    )

#!/usr/bin/env python3
"""How closely does a multi-room system keep its speakers together?

Runs one server and several players, each in a network namespace of its own,
each player on a virtual sound card (vdac.c) whose crystal is off by a chosen
number of ppm and whose monotonic clock is shifted, over a switch with faults
(lan.c). Every card keeps what it "played" and when, so the sync error between
speakers is read from the audio itself and not from what a system says of itself.

    sudo ./measure.py SYSTEM --net wire,wire --ppm 60,-40 --seconds 60

SYSTEM: a name in SYSTEMS below. Prints one JSON object; --keep DIR keeps the captures.
Needs root, Python with numpy, scipy and soundfile, and (the last line for the comparison with Snapcast only)

    apt-get install gcc libc6-dev libasound2-dev libportaudio2 iproute2 ethtool util-linux
    apt-get install snapserver snapclient ffmpeg
"""

import argparse
import contextlib
import http.client
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import numpy as np
import soundfile as sf
import truth

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(tempfile.gettempdir(), "musicsyncd-rig")
NET = "10.77.0."


def read(path):
    with open(path) as f:
        return f.read()


def build():
    os.makedirs(BUILD, exist_ok=True)
    vdac, lan, skew = f"{BUILD}/libasound_module_pcm_vdac.so", f"{BUILD}/lan", f"{BUILD}/skew.so"
    for out, cmd in (
        (vdac, ["gcc", "-O2", "-shared", "-fPIC", "-DPIC", "-o", vdac, f"{HERE}/vdac.c", "-lasound"]),
        (lan, ["gcc", "-O2", "-o", lan, f"{HERE}/lan.c", "-lm"]),
        (skew, ["gcc", "-O2", "-shared", "-fPIC", "-o", skew, f"{HERE}/skew.c", "-ldl"]),
    ):
        src = cmd[-2]
        if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(src):
            subprocess.run(cmd, check=True)
    return vdac, lan, skew


def source(path, rate, seconds, seed):
    """Broadband, never repeating, so that every instant of it can be told apart."""
    rng = np.random.default_rng(seed)
    n = int(rate * seconds)
    f = np.fft.rfftfreq(n, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(n)) / np.sqrt(np.maximum(f, 30))
    spectrum[(f > 16000) | (f < 20)] = 0
    x = np.fft.irfft(spectrum, n)
    x *= 0.6 / np.abs(x).max() * (0.7 + 0.3 * np.sin(2 * np.pi * 0.31 * np.arange(n) / rate))
    sf.write(path, np.stack([x, x], 1), rate, subtype="PCM_16")
    return sf.read(path)[0].mean(1)


class Room:
    """The namespaces, the switch and the processes of one measurement."""

    def __init__(self, run, nets, ppms, grain, rate, seed, shift, skews):
        self.run, self.ppms, self.procs, self.env = run, ppms, [], {}
        self.shift = shift
        vdac, lan, self.skew = build()
        self.skews, self.origin = skews, time.time_ns()
        self.tag = f"m{os.getpid() % 100000}"
        ports = []
        for i, net in enumerate(["wire", *nets]):
            ns, port = f"{self.tag}n{i}", f"{self.tag}p{i}"

            def sh(*c):
                return subprocess.run(c, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

            sh("ip", "netns", "add", ns)
            sh("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns)
            sh("ip", "-n", ns, "addr", "add", f"{NET}{i + 1}/24", "brd", "+", "dev", "eth0")
            for dev in ("lo", "eth0"):
                sh("ip", "-n", ns, "link", "set", dev, "up")
            sh("ip", "-n", ns, "route", "add", "224.0.0.0/4", "dev", "eth0")
            sh("ip", "link", "set", port, "up")
            off = ["tx", "off", "rx", "off", "gso", "off", "gro", "off", "tso", "off"]
            subprocess.run(["ethtool", "-K", port, *off], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run(
                ["ip", "netns", "exec", ns, "ethtool", "-K", "eth0", *off],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            ports.append(f"{port}={net}")
        for i, ppm in enumerate(ppms, 1):
            with open(f"{run}/card{i}.conf", "w") as f:
                f.write(
                    f'pcm_type.vdac {{ lib "{vdac}" }}\n'
                    f'pcm.dac {{ type vdac capture "{run}/card{i}" rate {rate} ppm "{ppm}" grain {grain} '
                    f'hint {{ show on description "virtual DAC" }} }}\n'
                    f'pcm.!default {{ type plug slave.pcm dac hint {{ show on description "default" }} }}\n'
                )
        with open(f"{run}/lan.txt", "w") as out:
            self.switch = subprocess.Popen(["chrt", "-f", "50", lan, str(seed), *ports], stderr=out)

    def start(self, i, *cmd, env=None, cwd=None, card=True, log=None):
        """Start a process on machine i (0: the server's). Returns its Popen."""
        e = dict(os.environ, HOME=f"{self.run}/home{i}", XDG_RUNTIME_DIR=f"{self.run}/rt{i}", PYTHONUNBUFFERED="1")
        os.makedirs(e["HOME"], exist_ok=True)
        os.makedirs(e["XDG_RUNTIME_DIR"], mode=0o700, exist_ok=True)
        for k in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            e.pop(k, None)
        if card and i > 0:
            e["ALSA_CONFIG_PATH"] = f"{self.run}/card{i}.conf"
        if self.skews[i]:
            e.update(LD_PRELOAD=self.skew, SKEW_PPM=str(self.skews[i]), SKEW_ORIGIN_NS=str(self.origin))
        e.update(env or {})
        wrap = ["ip", "netns", "exec", f"{self.tag}n{i}"]
        if self.shift:
            wrap += [
                "unshare",
                "--time",
                "--monotonic",
                str(1000 * i + 7),
                "--boottime",
                str(1000 * i + 7),
                "--fork",
                "--kill-child",
            ]
        with open(log or f"{self.run}/machine{i}.txt", "a") as out:
            p = subprocess.Popen(
                wrap + list(cmd), env=e, cwd=cwd or self.run, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.procs.append((i, p, " ".join(cmd)[:60]))
        return p

    def call(self, i, *cmd, env=None, check=True, timeout=30):
        e = dict(os.environ, HOME=f"{self.run}/home{i}", XDG_RUNTIME_DIR=f"{self.run}/rt{i}")
        for k in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            e.pop(k, None)
        e.update(env or {})
        return subprocess.run(
            ["ip", "netns", "exec", f"{self.tag}n{i}", *list(cmd)],
            env=e,
            cwd=self.run,
            check=check,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def usage(self):
        """CPU seconds and peak memory (MiB) of every started tree, by machine."""
        tick, kids = os.sysconf("SC_CLK_TCK"), {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                f = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
                kids.setdefault(int(f[1]), []).append((int(pid), (int(f[11]) + int(f[12])) / tick))
            except OSError:
                pass
        out = {}
        for i, p, _ in self.procs:
            todo, cpu, rss = [p.pid], 0.0, 0
            while todo:
                for pid, c in kids.get(todo.pop(), []):
                    todo.append(pid)
                    cpu += c
                    with contextlib.suppress(OSError, StopIteration):
                        status = read(f"/proc/{pid}/status").splitlines()
                        rss = max(rss, int(next(line for line in status if line.startswith("VmHWM")).split()[1]))
            o = out.setdefault(i, dict(cpu_s=0.0, rss_mib=0.0))
            o["cpu_s"] += cpu
            o["rss_mib"] = max(o["rss_mib"], rss / 1024)
        return out

    def traffic(self):
        """Bytes that the server sent and received."""
        s = f"/sys/class/net/{self.tag}p0/statistics/"
        return int(read(s + "rx_bytes")), int(read(s + "tx_bytes"))

    def cut(self, on):
        self.switch.send_signal(signal.SIGUSR1 if on else signal.SIGUSR2)

    def close(self):
        for _, p, _ in self.procs:
            p.terminate()
        end = time.time() + 4
        for _, p, _ in self.procs:
            try:
                p.wait(max(0.1, end - time.time()))
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.switch.terminate()
        self.switch.wait()
        for i in range(len(self.ppms) + 1):
            subprocess.run(["ip", "netns", "del", f"{self.tag}n{i}"], stderr=subprocess.DEVNULL)


def snapcast(room, track, players, args):
    r = room.run
    os.mkfifo(f"{r}/fifo")
    with open(f"{r}/server.conf", "w") as f:
        f.write(
            f"[server]\ndatadir = {r}/\n[http]\nenabled = false\n[tcp]\nenabled = true\n[stream]\n"
            f"source = pipe://{r}/fifo?name=default&mode=read\nsampleformat = 48000:16:2\ncodec = flac\n"
        )
    room.start(0, "snapserver", "-c", f"{r}/server.conf")
    time.sleep(1)

    def player(i):
        room.start(i, "snapclient", "-h", NET + "1", "--hostID", f"c{i}", "-i", str(i), "--player", "alsa", "-s", "dac")

    for i in players:
        player(i)
    time.sleep(2)
    room.start(
        0,
        "ffmpeg",
        "-loglevel",
        "error",
        "-re",
        "-i",
        track,
        "-f",
        "s16le",
        "-ar",
        "48000",
        "-ac",
        "2",
        "-y",
        f"{r}/fifo",
        log=f"{r}/feed.txt",
    )
    return player


def sendspin(room, track, players, args):
    exe = args.sendspin
    room.start(0, exe, "serve", track, "--name", "bench", "--port", "8927")
    time.sleep(3)

    def player(i):
        room.start(
            i,
            exe,
            "daemon",
            "--url",
            f"ws://{NET}1:8927/sendspin",
            "--name",
            f"p{i}",
            "--settings-dir",
            f"{room.run}/s{i}",
            "--audio-format",
            "pcm:48000:16:2",
            "--hardware-volume",
            "false",
            "--disable-mpris",
        )

    for i in players:
        player(i)
    return player


def musicsyncd(room, track, players, args):
    cmd, key = args.command.split(), f"{room.run}/room.key"
    env = room.env = dict(MUSICSYNCD_KEY_FILE=key)
    room.start(0, *cmd, "host", track, env=env)
    end = time.time() + 10
    while not os.path.exists(key) and time.time() < end:
        time.sleep(0.05)

    def player(i):
        room.start(i, *cmd, "peer", "--name", f"p{i}", env=env)

    for i in players:
        player(i)
    return player


SYSTEMS = {"snapcast": snapcast, "sendspin": sendspin, "musicsyncd": musicsyncd}


def span(words):
    """EVENT:FROM:TO as (words, event, seconds after it, seconds after it or infinity)."""
    event, begin, end = words.split(":")
    if event not in ("start", "late", "cut", "mend", "both"):
        raise ValueError(event)
    return words, event, float(begin), float(end) if end else math.inf


def arguments(argv=None):
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("system", choices=SYSTEMS)
    a.add_argument("--net", default="wire,wire", help="one profile a player: wire, wifi, busy")
    a.add_argument("--ppm", default="60,-40", help="each card's crystal")
    a.add_argument(
        "--clock-ppm", default="", help="each machine's system clock, the server's first (default: all true)"
    )
    a.add_argument("--grain", type=int, default=1, help="frames by which each card's pointer moves")
    a.add_argument("--seconds", type=float, default=60)
    a.add_argument("--settle", type=float, default=10, help="seconds of sound left out of the figures")
    a.add_argument("--late", type=float, default=0, help="start the last player this many seconds after the others")
    a.add_argument("--cut", default="", help="AT,FOR: the network is gone for FOR seconds from second AT")
    a.add_argument(
        "--spans",
        default=[],
        type=lambda words: [span(one) for one in words.split(",")],
        help="EVENT:FROM:TO,…: each pair's figures of these seconds after an event as well; EVENT is start, late, cut, "
        "mend, or both (the pair's first sound together), TO may be empty. A window belongs to its middle",
    )
    a.add_argument(
        "--do",
        default="",
        help="AT:WORDS;AT:WORDS: commands of musicsyncd's CLI given on the server's machine, their effect timed; "
        "AT:api ACTION JSON goes over its API",
    )
    a.add_argument("--no-shift", action="store_true", help="leave every machine the same monotonic clock")
    a.add_argument("--rate", type=int, default=48000)
    a.add_argument("--track", default="", help="a track to play (default: made)")
    a.add_argument("--track-rate", type=int, default=48000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--keep", default="")
    a.add_argument(
        "--sendspin",
        default="sendspin",
        help="path of its command (a virtual environment with Python 3.12 and sendspin==9.0.0)",
    )
    a.add_argument("--command", default="musicsyncd", help="how musicsyncd is started")
    args = a.parse_args(argv)
    happens = {"start", "both"} | ({"late"} if args.late else set()) | ({"cut", "mend"} if args.cut else set())
    for words, event, *_ in args.spans:
        if event not in happens:
            a.error(f"--spans {words}: nothing is {event}")
    return args


def main():
    args = arguments()
    nets, ppms = args.net.split(","), [float(x) for x in args.ppm.split(",")]
    assert len(nets) == len(ppms)
    skews = [float(x) for x in args.clock_ppm.split(",")] if args.clock_ppm else [0.0] * (len(nets) + 1)
    assert len(skews) == len(nets) + 1
    run = args.keep or tempfile.mkdtemp(prefix="rig-")
    os.makedirs(run, exist_ok=True)
    track = args.track or f"{run}/track.flac"
    if args.track:
        src, src_rate = sf.read(track)
        src = src.mean(1) if src.ndim > 1 else src
    else:
        src, src_rate = source(track, args.track_rate, args.seconds + 30, args.seed + 100), args.track_rate
    room = Room(run, nets, ppms, args.grain, args.rate, args.seed, not args.no_shift, skews)
    marks = {}
    try:
        everyone = list(range(1, len(nets) + 1))
        first = everyone[:-1] if args.late else everyone
        bytes0 = room.traffic()
        marks["start"] = time.time()
        player = SYSTEMS[args.system](room, track, first, args)
        t0 = time.time()
        events = []
        if args.late:
            events.append((args.late, "late"))
        if args.cut:
            at, gone = map(float, args.cut.split(","))
            events += [(at, "cut"), (at + gone, "mend")]
        for part in filter(None, args.do.split(";")):
            at, words = part.split(":", 1)
            events.append((float(at), words.split()))
        done = []
        for at, what in sorted(events, key=lambda e: e[0]):
            time.sleep(max(0, t0 + at - time.time()))
            if isinstance(what, list):
                begun = time.time()
                if what[0] == "api":
                    done.append((begun, *api(room, what[1], " ".join(what[2:]))))
                    continue
                answer = room.call(0, *args.command.split(), *what, env=room.env, check=False)
                done.append(
                    (
                        begun,
                        time.time(),
                        " ".join(what),
                        answer.returncode,
                        (answer.stdout + answer.stderr).strip()[-200:],
                    )
                )
                continue
            marks[what] = time.time()
            if what == "late":
                player(everyone[-1])
            else:
                room.cut(what == "cut")
        time.sleep(max(0, t0 + args.seconds - time.time()))
        usage, bytes1 = room.usage(), room.traffic()
    finally:
        room.close()
    result = report(run, src, src_rate, args, marks, len(nets))
    if done:
        result["commands"] = reactions(run, src, src_rate, args, done, len(nets))
    result["usage"] = {
        ("server" if i == 0 else f"player{i}"): {k: round(v, 2) for k, v in u.items()} for i, u in usage.items()
    }
    result["server_sent_bytes"], result["server_received_bytes"] = bytes1[0] - bytes0[0], bytes1[1] - bytes0[1]
    print(json.dumps(result, indent=1))
    if not args.keep:
        shutil.rmtree(run, ignore_errors=True)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket: files know nothing of network namespaces."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.host)


def api(room, action, body):
    """Give a command over the host's API; return when it was answered, its words, exit status and answer."""
    connection = UnixConnection(f"{room.run}/rt0/musicsyncd/host.sock")
    connection.request("POST", f"/api/rooms/-/{action}", body or "{}")
    answer = connection.getresponse()
    said = answer.read().decode()
    return time.time(), f"api {action} {body}".strip(), 0 if answer.status == 200 else 1, said[-200:]


def reactions(run, src, src_rate, args, done, n):
    """Seconds from giving a command to hearing it, per player, and how far apart the players then were (ms)."""
    out = []
    for begun, ended, words, code, said in done:
        heard = {}
        for i in range(1, n + 1):
            near = []
            for t0, rate, x, u in truth.load(f"{run}/card{i}"):
                lo, hi = int((begun - 0.6 - t0) * rate), int((begun + 3.0 - t0) * rate)
                if hi > 0 and lo < len(x):
                    near.append((t0 + max(lo, 0) / rate, rate, x[max(lo, 0) : hi], u))
            t = truth.track(near, src, src_rate, N=2048, hop=240, card_rate=args.rate)
            before = t[(t[:, 0] < begun) & ~np.isnan(t[:, 1])]
            after = t[t[:, 0] >= begun]
            if len(before):  # it was playing: when did it leave its line?
                line = np.median(before[:, 1] - before[:, 0])
                off = np.isnan(after[:, 1]) | (np.abs(after[:, 1] - after[:, 0] - line) > 0.02)
            else:  # it was silent: when was it heard?
                off = ~np.isnan(after[:, 1])
            k = np.flatnonzero(off)
            heard[i] = round(float(after[k[0], 0] - begun), 3) if len(k) else None
        times = [v for v in heard.values() if v is not None]
        out.append(
            dict(
                command=words,
                exit=code,
                said=said,
                call_s=round(ended - begun, 3),
                heard_after_s=heard,
                apart_ms=round(1000 * (max(times) - min(times)), 1) if len(times) == n else None,
            )
        )
    return out


def within_spans(d, spans, marks):
    """A pair's figures (µs) of each span alone; none where no window of it lies there."""
    marks, out = dict(marks, both=d[0, 0]), {}
    for words, event, begin, end in spans:
        since = d[:, 0] - marks[event]
        found = truth.summary(d[(since >= begin) & (since < end)])
        out[words] = {k: round(float(v), 2) for k, v in found.items()}
    return out


def report(run, src, src_rate, args, marks, n):
    cards = {i: truth.load(f"{run}/card{i}") for i in range(1, n + 1)}
    tracks = {i: truth.track(c, src, src_rate, card_rate=args.rate) for i, c in cards.items()}
    out = dict(
        system=args.system,
        net=args.net,
        ppm=args.ppm,
        clock_ppm=args.clock_ppm,
        grain=args.grain,
        seconds=args.seconds,
        players={},
        pairs={},
    )
    for i, t in tracks.items():
        heard = t[~np.isnan(t[:, 1])]
        runs = cards[i]
        p = dict(xruns=sum(u for *_, u in runs), windows=len(t), heard=len(heard))
        if len(heard):
            p["first_sound_s"] = round(heard[0, 0] - marks.get("late" if args.late and i == n else "start"), 3)
            after = t[(t[:, 0] > heard[0, 0] + args.settle)]
            p["silent_windows"] = int(np.isnan(after[:, 1]).sum())
            q = truth.quality(runs, src, src_rate, after, args.rate) if len(after) else np.zeros((0, 2))
            if len(q):
                p["purity_db"] = dict(
                    median=round(float(np.median(q[:, 1])), 1),
                    worst=round(float(q[:, 1].min()), 1),
                    below_60=int((q[:, 1] < 60).sum()),
                    windows=len(q),
                )
        out["players"][i] = p
    for i in tracks:
        for j in tracks:
            if i < j:
                d = truth.compare(tracks[i], tracks[j])
                if not len(d):
                    out["pairs"][f"{i}-{j}"] = None
                    continue
                good = d[d[:, 0] > d[0, 0] + args.settle]
                s = {k: round(float(v), 2) for k, v in truth.summary(good).items()}
                for name, limit in (("1ms", 1e-3), ("100us", 1e-4), ("20us", 2e-5)):
                    bad = np.flatnonzero(np.abs(d[:, 1]) > limit)
                    last = bad[-1] + 1 if len(bad) else 0
                    s[f"within_{name}_for_good_after_s"] = (
                        round(float(d[last, 0] - d[0, 0]), 2) if last < len(d) else None
                    )
                    first = np.flatnonzero(np.abs(d[:, 1]) <= limit)
                    s[f"within_{name}_first_after_s"] = (
                        round(float(d[first[0], 0] - d[0, 0]), 2) if len(first) else None
                    )
                if args.spans:
                    s["spans"] = within_spans(d, args.spans, marks)
                out["pairs"][f"{i}-{j}"] = s
    return out


if __name__ == "__main__":
    main()

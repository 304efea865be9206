"""Fuzz the targets: ``python -m tests.fuzz [--seconds N] [--target NAME] [--seed N] [--replay HEX]``.

With atheris, where it is installed, inputs are made so that they reach new lines; without it, they are valid ones with
changes. Each target runs in a process of its own, because atheris never returns and because a library that
is written in C may end the process, which is a finding, too. A finding is printed with its input and the line that
shows it again, once for each place, and the run goes on. The exit status is 1 when there was any.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 60.0
_GRACE_S = 60.0
_LAST = "last-"
"""Begins the name of the file with the input at which libFuzzer saw the process die."""

_INSTRUMENTED = ["musicsyncd", "tinytag", "tomllib"]


def main() -> int:
    options = _options()
    from . import names

    if options.replay is not None:
        return _replay(options.target, bytes.fromhex(options.replay))
    if options.inside:
        _fuzz(options)
        return 0
    chosen = [options.target] if options.target else list(names.NAMES)
    return int(sum(_run_apart(name, options) for name in chosen) > 0)


def _options() -> argparse.Namespace:
    from . import names

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each target (default: %(default)g)")
    parser.add_argument("--target", choices=names.NAMES, help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without atheris, also where it is installed")
    parser.add_argument("--replay", metavar="HEX", help="call --target with this input")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay is not None and not options.target:
        parser.error("--replay needs --target")
    return options


def _run_apart(name: str, options: argparse.Namespace) -> int:
    """Fuzz one target in a process of its own and return how many findings it had."""
    from . import folder

    words = ["--target", name, "--seconds", str(options.seconds), "--seed", str(options.seed), "--inside"]
    words += ["--plain"] if options.plain else []
    begin_s, findings = time.monotonic(), 0
    command = [sys.executable, "-m", "tests.fuzz", *words]
    with (
        tempfile.TemporaryDirectory(prefix="fuzz", dir=folder.parent()) as own,
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=os.environ | {folder.PARENT: own}) as child,
    ):
        assert child.stdout is not None
        done = ""
        for raw in child.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            findings += line.startswith("FINDING")
            if line.startswith("DONE "):
                done = line
            else:
                print(line, flush=True)
        status = child.wait(_GRACE_S)
        said.seek(0)
        tail = said.read()[-3000:]
        inputs = [path.read_bytes().hex() for path in Path(own).glob(f"{_LAST}*")]
    if not done and status != 0:
        findings += 1
        print(f"FINDING in {name}: the process ended with {status}\n{tail}", flush=True)
        for one in inputs:
            print(f"  replay: python -m tests.fuzz --target {name} --replay {one}", flush=True)
    took_s = time.monotonic() - begin_s
    calls = done.removeprefix("DONE ") or _calls_of_atheris(tail)
    print(f"{name}: {calls} calls in {took_s:.0f} s, {findings} findings", flush=True)
    return findings


def _calls_of_atheris(text: str) -> str:
    """Return how many calls libFuzzer says that there were: ``Done 1234 runs in 61 second(s)``."""
    words = text.split()
    return next((words[at + 1] for at, word in enumerate(words[:-2]) if word == "Done"), "?")


def _fuzz(options: argparse.Namespace) -> None:
    """Fuzz one target in this process."""
    if options.plain or importlib.util.find_spec("atheris") is None:
        from .running import fuzz

        calls, _ = fuzz(options.target, options.seconds, options.seed, report=lambda one: print(one, flush=True))
        print(f"DONE {calls}", flush=True)
        return
    _fuzz_with_atheris(options)


def _fuzz_with_atheris(options: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from . import targets
    from . import folder
    from .finding import MAX_INPUT_BYTES, examine, shortened
    from .mutation import mutated

    target, seeds = targets.TARGETS[options.target], targets.seeds_of(options.target)
    known: set[str] = set()

    def one(data: bytes) -> None:
        finding = examine(options.target, target, data)
        if finding is not None and finding.place not in known:
            known.add(finding.place)
            print(shortened(finding, target), flush=True)

    def changed(data: bytes, most_bytes: int, seed: int) -> bytes:
        """Change an input as libFuzzer does, and now and then as ours does, which knows what is odd in our formats."""
        chance = random.Random(seed)
        data = mutated(data, seeds, chance) if chance.random() < 0.3 else atheris.Mutate(data, most_bytes)
        return data[:most_bytes]

    corpus = Path(os.environ[folder.PARENT], "corpus")
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed[:MAX_INPUT_BYTES])
    words = [f"-max_total_time={max(1, round(options.seconds))}", f"-max_len={MAX_INPUT_BYTES}"]
    words += [f"-seed={options.seed}", "-rss_limit_mb=2048", "-timeout=60", f"-artifact_prefix={corpus.parent}/{_LAST}"]
    atheris.Setup([sys.argv[0], *words, str(corpus)], one, custom_mutator=changed)
    atheris.Fuzz()


def _replay(name: str, data: bytes) -> int:
    from .finding import examine
    from .targets import TARGETS

    finding = examine(name, TARGETS[name], data)
    print(finding or f"{name}: nothing is wrong with this input", flush=True)
    return finding is not None


if __name__ == "__main__":
    random.seed(0)
    sys.exit(main())

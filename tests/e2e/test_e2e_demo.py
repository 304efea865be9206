"""What a newcomer runs first."""

from __future__ import annotations

import re
import signal
import time

import numpy as np
from house import STOPS_WITHIN_S, part


def test_the_demo_is_together_and_prints_figures(house):
    done = house.run("demo", "--seconds", "8", "--output", "file", TMPDIR=str(house.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    figures = dict(re.findall(r"^  (median|99 %|most) +([\d.]+ [µm]s)$", done.stdout, re.MULTILINE))
    assert figures.keys() == {"median", "99 %", "most"}
    assert re.search(r"\((\d+) comparisons\)", done.stdout)[1] != "0"
    assert "SYNC" in done.stdout
    assert done.stdout.rstrip().endswith("Together.")
    assert not list(house.folder.glob("musicsyncd-demo-*")), "it left its folder behind"


def test_the_demo_of_something_that_is_no_music_says_so(house):
    done = house.run("demo", "--seconds", "8", "--output", "file", "missing.flac", TMPDIR=str(house.folder))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line == f"musicsyncd: there is no {house.folder}/missing.flac: check the path"


def test_a_host_with_a_speaker_of_its_own_is_heard_and_ends_with_it(house, songs):
    since = time.time()
    host = house.host("--speaker", str(songs["first"][0]), **house.card_for("own", 30.0))
    until = house.together("host") + 1.0
    heard = house.heard("own", part(songs["first"][1], 20.0), since, until)
    assert not np.isnan(heard[-5:, 1]).any()
    code, took_s = host.stop(signal.SIGTERM)
    assert (code, took_s <= STOPS_WITHIN_S) == (0, True), took_s
    assert "Traceback" not in host.log.read_text()
    since = time.time()
    assert house.captured("own", since, since + 0.2) == [], "its speaker outlived it"

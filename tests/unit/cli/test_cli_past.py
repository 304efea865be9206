"""The last hour of each speaker: as a table, and as a picture."""

import builtins
import json
import re

import pytest
from test_cli_trends import ID, record

from musicsyncd.cli.past import _underruns, quantile

HOUR = "/api/history?seconds=3600"


def rows(call, host, history):
    host.answer("GET", HOUR, history)
    return call("peers", "--history").stdout.splitlines()


def test_a_row_for_each_speaker_and_its_line(call, host):
    errors = [float(one) for one in range(-50, 50)]
    lines = rows(call, host, record(errors, every_s=10))
    assert re.split(r"\s{2,}", lines[2]) == [
        *("lamp", "main", "100 %", "100 %", "25 µs", "48 µs", "50 µs", "300 µs", "300 µs", "0.0", "99"),
    ]
    assert lines[3].endswith("1 h 0 min, at most 50 µs")


def test_what_was_not_there_or_did_not_play_is_left_out(call, host):
    states = ["away"] * 50 + ["silent"] * 20 + ["waiting"] * 15 + ["together"] * 15
    (row,) = [line for line in rows(call, host, record([7.0] * 100, states)) if line.startswith("lamp")]
    assert re.split(r"\s{2,}", row)[2:5] == ["50 %", "50 %", "7.0 µs"]
    (row,) = [line for line in rows(call, host, record([None] * 9, ["away"] * 9)) if line.startswith("lamp")]
    assert re.split(r"\s{2,}", row)[2:6] == ["0 %", "–", "–", "–"]


@pytest.mark.parametrize(
    ("counted", "text"),
    [([], "–"), ([None, None], "–"), ([7.0], "0"), ([7.0, None, 9.0], "2"), ([7.0, 9.0, 0.0, 3.0], "5")],
)
def test_underruns_are_those_of_the_hour_over_a_speakers_restart_too(counted, text):
    assert _underruns(counted).text == text


def test_quantiles():
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 3.0, 4.0, 4.0]


def test_the_record_for_programs_is_as_the_host_has_it(call, host):
    history = record([1.0, 2.0])
    host.answer("GET", HOUR, history)
    assert json.loads(call("peers", "list", "--history", "--json").stdout) == history


@pytest.mark.parametrize("history", [{}, {"peers": []}, {"peers": 7}])
def test_no_speaker_yet(call, host, history):
    assert rows(call, host, history) == ["no speaker has come yet: start `musicsyncd peer` on one"]


@pytest.mark.parametrize(
    "peer", [{}, {"id": 7, "state": 8, "ago_s": "x", "underruns": [None]}, {"state": [1, {}, None]}]
)
def test_a_record_of_another_version_never_breaks_the_table(call, host, peer):
    host.answer("GET", HOUR, {"peers": [peer]})
    assert call("peers", "--history").exit_code == 0


# -- plot --------------------------------------------------------------------------------------


def test_a_picture_of_each_kind(call, host, folder):
    pytest.importorskip("matplotlib")
    host.answer("GET", HOUR, record([3.0, None, -4.0] * 30, every_s=10))
    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        result = call("plot", str(folder / f"hour{suffix}"))
        assert result.exit_code == 0, result.stderr
        assert (folder / f"hour{suffix}").read_bytes().startswith(begins)
    assert result.stdout == f"{folder}/hour.pdf: 1 speaker, 60 minutes\n"


def test_what_is_drawn(host):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    from musicsyncd.cli.plot import draw

    history = record([3.0, None, -4.0], ["together", "away", "together"], every_s=10)
    history["peers"][0]["name"] = "_lamp $x$"
    draw(figure, history, history["peers"])
    errors, trips, ppm = figure.axes
    line = errors.get_lines()[0]
    assert [one.timestamp() for one in line.get_xdata()] == [-19.0, -9.0, 1.0]
    assert list(line.get_ydata())[::2] == [3.0, -4.0]
    assert line.get_ydata()[1] != line.get_ydata()[1], "a gap, and not zero"
    assert list(trips.get_lines()[0].get_ydata()) == [0.3] * 3
    assert list(ppm.get_lines()[0].get_ydata()) == [12.0] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r" _lamp \$x\$"]


def test_one_speaker_and_fewer_minutes_are_asked_for(call, host, folder):
    pytest.importorskip("matplotlib")
    host.answer("GET", "/api/history?seconds=300&peer=a%2Fb+%26c", record([1.0]))
    result = call("plot", "--minutes", "5", "--peer", "a/b &c", str(folder / "x.svg"))
    assert result.exit_code == 0, result.stderr


def test_what_cannot_be_drawn_is_said_in_a_line(call, host, folder):
    pytest.importorskip("matplotlib")
    assert call("plot", str(folder / "x.txt")).exit_code == 2
    host.answer("GET", HOUR, {"peers": [{"id": ID, "round_trip_us": [None]}]})
    result = call("plot", str(folder / "x.png"))
    assert (result.exit_code, "no record of a speaker" in result.stderr) == (1, True)
    host.answer("GET", HOUR, record([1.0]))
    result = call("plot", str(folder / "missing" / "x.png"))
    assert result.exit_code == 1
    assert result.stderr == f"musicsyncd: cannot write {folder}/missing/x.png: No such file or directory\n"


def test_without_matplotlib_it_is_said_how_to_get_it(call, host, folder, monkeypatch):
    real = builtins.__import__

    def refuse(name, *more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    result = call("plot", str(folder / "x.png"))
    assert (result.exit_code, result.stderr.strip()) == (
        1,
        "musicsyncd: a picture needs matplotlib: pip install 'musicsyncd[plot]'",
    )
    assert host.requests == []

"""The command ``doctor``: what keeps this machine from playing well, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import click

from musicsyncd.cli import options, output
from musicsyncd.cli.figures import clean, count
from musicsyncd.cli.framework import EXIT_FAILED, Command, FloatRange
from musicsyncd.cli.options import json_option, peer_options
from musicsyncd.cli.output import Cell, Line

MAX_LISTEN_S = 3600.0
_QUICK_LISTEN_S = 2.0
_SOUND_S = 10.0
_STYLES = {"good": "good", "advice": "fair", "bad": "bad", "skipped": "dim"}
_MARKS = {"good": "good   ", "advice": "advice ", "bad": "BAD    ", "skipped": "–      "}


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  musicsyncd doctor               # on the host, or on a speaker's machine
  musicsyncd doctor --quick       # no ten seconds of the sound card
  musicsyncd doctor --listen 300  # does a switch forget the group?
  musicsyncd doctor --json | jq '.findings[] | select(.verdict == "bad")'

\b
Each line is good, an advice (it plays, and could play better) or BAD (it does
not play well before this is seen to). The exit code is 1 when any is BAD.""",
)
@json_option
@click.option("--quick", is_flag=True, help="Only open the sound card, and wait less for the network.")
@click.option("--device", envvar="MUSICSYNCD_DEVICE", help="Sound card to look at, see `musicsyncd devices`.")
@click.option(
    "--listen",
    type=FloatRange(0.5, MAX_LISTEN_S),
    metavar="S",
    default=5.0,
    show_default=True,
    help="How long to wait for what the host says to the group.",
)
@peer_options
def doctor(json: bool, quick: bool, device: str | None, listen: float) -> int:
    """Find out what keeps this machine from playing well.

    A sound card that a speaker is playing on is asked after at that speaker; else it is opened, and plays silence.
    """
    from musicsyncd.system.doctor.examination import examine, patient_here

    patient = patient_here(
        options.network_config(),
        options.paths(),
        host=options.host_address(),
        open_room=options.without_key(),
        device=device,
        sound_s=0.0 if quick else _SOUND_S,
        listen_s=min(listen, _QUICK_LISTEN_S) if quick else listen,
    )
    verdicts = []
    findings = []
    for finding in examine(patient):
        verdicts.append(finding.verdict)
        if json:
            findings.append(asdict(finding))
            continue
        mark = Cell(_MARKS[finding.verdict], _STYLES[finding.verdict])
        lines = [Line.of(mark, Cell(f"{clean(finding.name)}: ", "strong"), clean(finding.line))]
        lines += [Line.of(" " * len(mark.text), Cell(f"→ {clean(finding.advice)}", "dim"))] if finding.advice else []
        output.print_lines(lines)
    bad = verdicts.count("bad")
    if json:
        output.print_json({"well": not bad, "findings": findings})
    else:
        said = f"{count(bad, 'thing')} to be seen to" if bad else "nothing keeps it from playing well"
        advice = verdicts.count("advice")
        click.echo(f"\n{said}" + (f", {count(advice, 'piece of advice', 'pieces of advice')}" if advice else ""))
    return EXIT_FAILED if bad else 0

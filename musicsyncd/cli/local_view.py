"""What ``status`` shows where no host answers: how the speakers of this machine are, as their own daemons say it."""

from __future__ import annotations

from collections.abc import Sequence

from musicsyncd.cli import figures, output
from musicsyncd.cli.given import Json, number_at, object_at, text_at
from musicsyncd.cli.output import Cell, Line
from musicsyncd.cli.status_view import speakers_table, told_apart

_MIB = 1 << 20
_NO_FAULT = ("own kind",)
"""What other speakers say to the group: heard, not for this one, and nothing to wonder about."""

_STATES = {"there": "good", "away": "bad"}


def local_lines(accounts: Sequence[Json], columns: int) -> list[Line]:
    """Return the view.

    Args:
        accounts: as the daemons answer, see :mod:`musicsyncd.system.peer_account`; one at least.
        columns: of the terminal.
    """
    speakers = told_apart([object_at(account, "speaker") for account in accounts])
    tables = [speakers_table([speaker]) for speaker in speakers]
    widths, gap = output.layout(tables, columns)
    lines = [Line.of("no host answers; ", Cell("what this machine's own speakers know:", "strong"))]
    for account, speaker, table in zip(accounts, speakers, tables, strict=True):
        uptime_s = number_at(account, "uptime_s")
        up = "" if uptime_s is None else f" · up {figures.span_s(uptime_s)}"
        lines += [Line(()), Line.of(Cell(text_at(speaker, "room"), "accent"), f" · {text_at(speaker, 'name')}{up}")]
        lines += output.lines_of(table, widths, gap)
        lines += [_host_line(object_at(account, "host")), *_sound_lines(account), _network_line(account)]
        lines += _media_lines(object_at(account, "media"))
        fault = text_at(object_at(account, "hooks"), "fault")
        lines += [Line.of("  hooks    ", Cell(fault, "bad"))] if fault else []
    return lines


def _host_line(host: Json) -> Line:
    state = text_at(host, "state")
    who = " at ".join(one for one in (text_at(host, "name"), text_at(host, "address")) if one)
    away_s = number_at(host, "away_s")
    if state == "away" and away_s is not None:
        reason = text_at(host, "reason")
        said = f"away for {figures.span_s(away_s)}" + (f" ({reason})" if reason else "")
    else:
        said = {"there": "it is followed", "searching": "none was found yet"}.get(state, state or "–")
    return Line.of("  host     ", f"{who}: " if who else "", Cell(said, _STATES.get(state, "fair")))


def _sound_lines(account: Json) -> list[Line]:
    track, card = object_at(account, "track"), object_at(account, "card")
    lines = []
    position_s, duration_s = number_at(track, "position_s"), number_at(track, "duration_s")
    if position_s is not None and duration_s is not None:
        left = "what it has of the track goes on" if object_at(account, "host").get("state") == "away" else "it plays"
        where = f"{figures.position_s(position_s)} of {figures.position_s(duration_s)}"
        lines.append(Line.of("  playing  ", f"{left}: {where}"))
    rate_hz = number_at(card, "rate_hz")
    if rate_hz is not None:
        facts = [
            text_at(card, "output"),
            figures.rate_hz(int(rate_hz)),
            f"{number_at(card, 'card_ppm') or 0.0:+.1f} ppm",
        ]
        frames = number_at(card, "pointer_frames")
        facts += [f"its pointer moves {frames:.0f} frames at once"] if frames is not None and frames > 1 else []
        facts += ["it does not say when it sounds"] if card.get("tells_its_time") is False else []
        lines.append(Line.of("  card     ", " · ".join(facts)))
    return lines


def _network_line(account: Json) -> Line:
    network = object_at(account, "network")
    reach = text_at(network, "reach")
    names = network.get("interfaces")
    listed = ", ".join(str(one) for one in names) if isinstance(names, list) and names else "no interface"
    said = {"none": "no datagram of a host comes", "": "–"}.get(reach, f"the host's datagrams come by {reach}")
    dropped = object_at(network, "dropped")
    refused = sum(int(number_at(dropped, reason) or 0) for reason in dropped if reason not in _NO_FAULT)
    more = f" · {figures.count(refused, 'datagram')} refused" if refused else ""
    return Line.of("  network  ", figures.clean(f"{said} · on {listed}{more}"))


def _media_lines(media: Json) -> list[Line]:
    held, most = number_at(media, "cache_bytes"), number_at(media, "cache_max_bytes")
    if held is None or most is None:
        return []
    facts = [f"cache {held / _MIB:.0f} of {most / _MIB:.0f} MiB"]
    fetched, missing = number_at(media, "fetched_bytes"), number_at(media, "missing_bytes")
    facts += [f"{fetched / _MIB:.1f} MiB fetched since its start"] if fetched is not None else []
    facts += [f"{missing / _MIB:.1f} MiB missing of what comes next"] if missing else []
    fault = text_at(media, "fault")
    return [
        Line.of("  media    ", " · ".join(facts)),
        *([Line.of("  └ ", Cell(fault, "bad"))] if fault else []),
    ]

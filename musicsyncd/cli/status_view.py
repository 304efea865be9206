"""What ``status`` shows: the host, every room, and how well each of its speakers is in step.

Turns the host's status (a JSON object) into lines. A figure that is missing, as from a host
of another version, is shown as ``–`` and never an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from musicsyncd.cli import figures, output
from musicsyncd.cli.figures import clean
from musicsyncd.cli.given import Json, number_at, object_at, objects_at, text_at
from musicsyncd.cli.output import Cell, Column, Line, Table
from musicsyncd.text import listed

GOOD_SYNC_US = 1_000
"""Below it two speakers cannot be told from one, even side by side."""

FAIR_SYNC_US = 5_000
"""Above it, speech and drums begin to blur."""

FAIR_LOSS_PERCENT, BAD_LOSS_PERCENT = 2.0, 20.0
_BAR_COLUMNS = 24
_MAX_NAMED = 4
_MIN_NAME_COLUMNS = 12
_MODES = {"playing": "▶", "waiting": "▷", "paused": "‖", "stopped": "■"}
_REACH = {"multicast": "mcast", "unicast": "ucast", "web": "web"}
_NOTHING = Cell("–", "dim")

NO_TRENDS: Mapping[str, Line] = MappingProxyType({})

COLUMNS = (
    Column("SPEAKER", flexible=True),
    Column("STATE"),
    Column("SYNC\nERROR", right=True),
    Column("CLOCK\nOFFSET", right=True),
    Column("\n±", right=True),
    Column("ROUND\nTRIP", right=True),
    Column("JITTER", right=True),
    Column("LOSS\n%", right=True),
    Column("UNDER-\nRUNS", right=True),
    Column("RATE\nPPM", right=True),
    Column("VOL\n%", right=True),
    Column("BY"),
)


def status_lines(status: Json, columns: int, trends: Mapping[str, Line] = NO_TRENDS) -> list[Line]:
    """Return the whole view.

    Args:
        status: as the host's ``GET /api/status`` answers.
        columns: of the terminal.
        trends: by a speaker's id, a line to be set below it.
    """
    peers = told_apart(objects_at(status, "peers"))
    rooms = objects_at(status, "rooms")
    lines = [_host_line(object_at(status, "host"), peers)]
    names = [text_at(room, "name") for room in rooms]
    members = [[peer for peer in peers if text_at(peer, "room") == name] for name in names]
    tables = [speakers_table(of_room, trends) for of_room in members]
    lost = [peer for peer in peers if text_at(peer, "room") not in names]
    if lost:
        tables.append(speakers_table(lost, trends))
    widths, gap = output.layout(tables or [Table(COLUMNS)], columns)
    for room, of_room, table in zip(rooms, members, tables, strict=False):
        lines += [Line(()), *_room_lines(room)]
        if of_room:
            lines += output.lines_of(table, widths, gap)
            lines += _together(of_room)
        else:
            lines.append(Line.of(Cell("  no speaker is in this room", "dim")))
    if lost:
        lines += [Line(()), Line.of(Cell("in no room", "strong")), *output.lines_of(tables[-1], widths, gap)]
    return [*lines, *_remarks(status, peers)]


def told_apart(peers: Sequence[Json]) -> list[Json]:
    """Return the speakers with their ids behind names that more than one of them has."""
    names = Counter(text_at(peer, "name") for peer in peers)
    return [
        {**peer, "name": f"{text_at(peer, 'name')} {text_at(peer, 'id')}"} if names[text_at(peer, "name")] > 1 else peer
        for peer in peers
    ]


def is_away(peer: Json) -> bool:
    """Return whether a speaker is known and not there."""
    return peer.get("reach") == "away"


def _host_line(host: Json, peers: Sequence[Json]) -> Line:
    away = sum(is_away(peer) for peer in peers)
    address = f"{text_at(host, 'address')}:{text_at(host, 'port')}".strip(":")
    facts = [f"musicsyncd {text_at(host, 'version')}", address]
    uptime = number_at(host, "uptime_s")
    if uptime is not None:
        facts.append(f"up {figures.span_s(uptime)}")
    facts.append(figures.count(len(peers), "speaker") + (f", {away} away" if away else ""))
    pieces: list[Cell | str] = [
        "host ",
        Cell(text_at(host, "name"), "strong"),
        " · " + " · ".join(fact for fact in facts if fact),
    ]
    if host.get("open"):
        pieces += [" · ", Cell("open: no key", "fair")]
    return Line.of(*pieces)


def _room_lines(room: Json) -> list[Line]:
    mode = text_at(room, "mode") or "stopped"
    track = object_at(room, "track")
    style = {"playing": "good", "paused": "fair"}.get(mode, "dim")
    waits_for = text_at(room, "waits_for")
    if mode == "playing" and waits_for:
        mode, style = "waiting", "fair"
    head: list[Cell | str] = [
        Cell(text_at(room, "name"), "accent"),
        "  ",
        Cell(f"{_MODES.get(mode, '?')} {mode}", style),
    ]
    if track:
        artist = text_at(track, "artist")
        head += [
            "  ",
            Cell(text_at(track, "title") or text_at(track, "path"), "strong"),
            f" · {artist}" if artist else "",
        ]
    lines = [Line.of(*head), Line.of("  ", *_where(room, track), Cell(" · ".join(_room_facts(room, track)), "dim"))]
    if waits_for:
        lines.append(Line.of("  ", Cell(f"waits for its track: {waits_for}", "fair")))
    damage = text_at(track, "damage")
    if damage:
        lines.append(Line.of("  ", Cell(f"! the track is damaged: {damage}", "fair")))
    fault = text_at(room, "fault")
    if fault:
        lines.append(Line.of("  ", Cell(f"! {fault}", "bad")))
    return lines


def _where(room: Json, track: Json) -> list[Cell | str]:
    position, duration = number_at(room, "position_s"), number_at(track, "duration_s")
    if position is None or not duration:
        return []
    bar = figures.bar(position / duration, _BAR_COLUMNS)
    filled = bar.count("━")
    return [
        figures.position_s(position) + " ",
        Cell(bar[:filled], "good"),
        Cell(bar[filled:], "dim"),
        f" {figures.position_s(duration)}   ",
    ]


def _room_facts(room: Json, track: Json) -> list[str]:
    facts = []
    length, place = int(number_at(room, "queue_length") or 0), int(number_at(room, "queue_position") or 0)
    if length:
        facts.append(f"track {place} of {length}" if place else f"{figures.count(length, 'track')} queued")
    else:
        facts.append("queue empty")
    rate, channels = number_at(track, "rate_hz"), number_at(track, "channels")
    if rate and channels:
        facts.append(f"{figures.rate_hz(int(rate))} {figures.channel_word(int(channels))}")
    facts.append("muted" if room.get("muted") else f"volume {text_at(room, 'volume')} %")
    lead = number_at(room, "lead_ms")
    if lead is not None:
        facts.append(f"lead {lead:.0f} ms")
    facts += ["shuffled"] if room.get("shuffled") else []
    facts += [f"repeats {room['repeat']}"] if room.get("repeat") in ("one", "all") else []
    fade_s = number_at(room, "crossfade_s")
    facts += [f"crossfade {fade_s:g} s"] if fade_s else []
    return facts


def speakers_table(peers: Sequence[Json], trends: Mapping[str, Line] = NO_TRENDS) -> Table:
    """Return a table of speakers, as the host's status has them, each with its fault and its trend below it."""
    table = Table(COLUMNS, indent=2)
    for peer in sorted(peers, key=lambda one: (is_away(one), text_at(one, "name").casefold())):
        if is_away(peer):
            seen = number_at(peer, "seen_s_ago")
            ago = "" if seen is None else f"last seen {figures.span_s(seen)} ago"
            table.rows.append((Cell(text_at(peer, "name"), "dim"), Cell("away", "dim"), Cell(ago, "dim")))
            continue
        table.rows.append(_peer_row(peer))
        fault = text_at(peer, "fault")
        if fault:
            table.rows.append(Line.of("  └ ", Cell(fault, "bad")))
        trend = trends.get(text_at(peer, "id"))
        if trend is not None:
            table.rows.append(trend)
    return table


def _peer_row(peer: Json) -> tuple[Cell, ...]:
    clock = object_at(peer, "clock")
    known = bool(number_at(clock, "uncertainty_us"))
    state = text_at(peer, "state")
    muted = bool(peer.get("muted"))
    underruns = number_at(peer, "underruns")
    return (
        Cell(text_at(peer, "name"), "strong"),
        Cell(state, {"together": "good", "no card": "bad"}.get(state, "fair" if state == "catching up" else "")),
        _sync(peer) if state in ("together", "catching up") else _NOTHING,
        _duration(clock, "offset_us", signed=True) if known else _NOTHING,
        _duration(clock, "uncertainty_us") if known else _NOTHING,
        _duration(clock, "round_trip_us") if known else _NOTHING,
        _duration(clock, "jitter_us") if known else _NOTHING,
        _loss(clock) if known else _NOTHING,
        _NOTHING if underruns is None else Cell(f"{underruns:.0f}", "fair" if underruns else ""),
        _ppm(peer, "correction_ppm") if state in ("together", "catching up") else _NOTHING,
        Cell("mute", "fair") if muted else Cell(text_at(peer, "volume")),
        Cell(_REACH.get(str(peer.get("reach")), "?"), "" if peer.get("reach") == "multicast" else "fair"),
    )


def _duration(value: Json, key: str, *, signed: bool = False) -> Cell:
    found = number_at(value, key)
    return _NOTHING if found is None else Cell(figures.duration_us(found, signed=signed))


def _sync(peer: Json) -> Cell:
    error = number_at(peer, "sync_error_us")
    if error is None:
        return _NOTHING
    return Cell(figures.duration_us(error, signed=True), sync_style(error))


def sync_style(error_us: float) -> str:
    """Return how good a sync error is: ``good``, ``fair`` or ``bad``."""
    size_us = abs(error_us)
    return "good" if size_us < GOOD_SYNC_US else "fair" if size_us < FAIR_SYNC_US else "bad"


def _loss(clock: Json) -> Cell:
    loss = number_at(clock, "loss_percent")
    if loss is None:
        return _NOTHING
    style = "bad" if loss >= BAD_LOSS_PERCENT else "fair" if loss >= FAIR_LOSS_PERCENT else ""
    return Cell("0" if loss == 0 else f"{loss:.1f}" if loss < 9.95 else f"{loss:.0f}", style)


def _ppm(peer: Json, key: str) -> Cell:
    ppm = number_at(peer, key)
    return _NOTHING if ppm is None else Cell(f"{ppm:+.1f}")


def spread_us(peers: Sequence[Json]) -> float | None:
    """Return how far apart the earliest and the latest of the speakers that play are, or None below two."""
    errors = [
        error
        for peer in peers
        if not is_away(peer) and peer.get("state") in ("together", "catching up")
        if (error := number_at(peer, "sync_error_us")) is not None
    ]
    return max(errors) - min(errors) if len(errors) >= 2 else None


def _together(peers: Sequence[Json]) -> list[Line]:
    spread = spread_us(peers)
    if spread is None:
        return []
    return [
        Line.of(
            "  ", Cell("earliest to latest speaker: ", "dim"), Cell(figures.duration_us(spread), sync_style(spread)),
            Cell(", by their own account", "dim"),
        )
    ]  # fmt: skip


def _remarks(status: Json, peers: Sequence[Json]) -> list[Line]:
    """Return what an engineer would want pointed out."""
    version = text_at(object_at(status, "host"), "version")
    there = [peer for peer in peers if not is_away(peer)]
    other = [
        f"{text_at(peer, 'name')} {text_at(peer, 'version')}" for peer in there if text_at(peer, "version") != version
    ]
    remarks = []
    if object_at(status, "host").get("open"):
        remarks.append("open, without a key: whoever is on this network may listen to all speakers and command them")
    if other:
        remarks.append(f"other versions than the host's {version}: {', '.join(other)}")
    user = [text_at(peer, "name") for peer in there if object_at(peer, "clock").get("stamps") == "user"]
    if user:
        remarks.append(f"no time stamps from the kernel, a less certain clock: {', '.join(user)}")
    half = [text_at(peer, "name") for peer in there if object_at(peer, "clock").get("stamps") == "receive"]
    if half:
        remarks.append(f"no send times from the kernel, a slightly less certain clock: {', '.join(half)}")
    if object_at(status, "host").get("interfaces") == []:
        remarks.append("the host is on no network: no interface that is up carries multicast")
    remarks += _other_hosts(status)
    if not peers:
        remarks.append("no speaker has come yet: start `musicsyncd peer` on one")
    return [Line(()), *(Line.of(Cell(remark, "dim")) for remark in remarks)] if remarks else []


def _other_hosts(status: Json) -> list[str]:
    """Return what is to be said of the other hosts on the LAN."""
    host = object_at(status, "host")
    others = objects_at(host, "others")
    own_rooms = [text_at(room, "name") for room in objects_at(status, "rooms")]
    remarks = []
    for other in others:
        if other.get("has_our_key"):
            rooms = other.get("rooms")
            names = [clean(str(room)) for room in rooms] if isinstance(rooms, list) else []
            shared = [f"“{name}”" for name in names if name in own_rooms]
            what = "without a key" if host.get("open") else "of this key"
            has = f" has {'a room' if len(shared) == 1 else 'rooms'} {listed(shared, _MAX_NAMED, ', ')}, too"
            remarks.append(
                f"another host {what}, “{text_at(other, 'name')}” ({text_at(other, 'address')}),"
                f"{has if shared else ' is here'}: a speaker keeps to the one it heard first"
            )
    strangers = [text_at(other, "address") for other in others if not other.get("has_our_key")]
    if strangers:
        one = len(strangers) == 1
        who, whose = ("a host with another key is", "its") if one else ("hosts with other keys are", "their")
        remarks.append(f"{who} on this LAN ({listed(strangers, _MAX_NAMED, ', ')}): {whose} speakers are not ours")
    return remarks


def watch_rows(status: Json, clock_time: str) -> list[str]:
    """Return a line for each speaker, for a log or a pipe.

    Args:
        status: as the host answers.
        clock_time: to begin each line with.
    """
    rows = []
    peers = told_apart(objects_at(status, "peers"))
    width = max((len(text_at(peer, "name")) for peer in peers), default=0)
    for peer in peers:
        cells = [cell.text.replace(" ", "") for cell in _peer_row(peer)[2:-1]] if not is_away(peer) else []
        name = text_at(peer, "name").replace(" ", "_")
        state = "away" if is_away(peer) else text_at(peer, "state").replace(" ", "-") or "–"
        texts = [
            clock_time,
            name.ljust(max(width, _MIN_NAME_COLUMNS)),
            state.ljust(11),
            *(cell.rjust(9) for cell in cells),
            *(["open: no key"] if object_at(status, "host").get("open") else []),
        ]
        rows.append("  ".join(texts).rstrip())
    return rows


def watch_header() -> str:
    """Return the titles of :func:`watch_rows`."""
    titles = ["sync", "offset", "±", "trip", "jitter", "loss%", "underruns", "ppm", "vol%"]
    return "  ".join(
        ["time    ", "speaker".ljust(_MIN_NAME_COLUMNS), "state".ljust(11), *(title.rjust(9) for title in titles)]
    )

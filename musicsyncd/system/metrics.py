"""What Prometheus is told of a host, its rooms and its speakers.

Owns names and units: base units, as Prometheus's conventions have them (https://prometheus.io/docs/practices/naming/);
the correction of a rate keeps the field's own unit, ppm. A speaker that is away has no figures: none is better than an
old one. Imported when somebody asks for the first time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as MEDIA_TYPE
from prometheus_client.registry import Collector

from musicsyncd.system.site import Site

__all__ = ["MEDIA_TYPE", "exposed"]

_Values = Iterable[tuple[Sequence[str], float]]

_LABELS = ("peer", "room", "id")
_US, _MS, _PERCENT = 1e-6, 1e-3, 1e-2

_OF_PEERS = (
    ("sync_error_seconds", "When a frame sounded minus when it should have; positive is late", "sync_error_us", _US),
    ("rate_correction_ppm", "Change of rate that keeps it in step", "correction_ppm", 1.0),
    ("lead_seconds", "How far ahead it needs to know", "lead_ms", _MS),
    ("clock_offset_seconds", "The host's clock minus its own", "offset_us", _US),
    ("clock_skew_ppm", "Rate of that offset; positive when the host runs fast", "skew_ppm", 1.0),
    ("clock_uncertainty_seconds", "Half the width of what the offset may be", "uncertainty_us", _US),
    ("round_trip_seconds", "Least round trip of the last minute", "round_trip_us", _US),
    ("jitter_seconds", "Spread of the round trips of the last minute", "jitter_us", _US),
    ("loss_ratio", "Share of the last minute's probes without an answer", "loss_percent", _PERCENT),
)
"""Gauges: name, help, field of the status or of the clock in it, and what makes a base unit of that."""


class _HostCollector(Collector):
    def __init__(self, site: Site) -> None:
        self._site = site

    def collect(self) -> Iterator[Metric]:
        status = self._site.control.status()
        host = status["host"]
        info = {"version": str(host.get("version", "")), "name": str(host.get("name", ""))}
        yield InfoMetricFamily("musicsyncd", "The host", value=info)
        yield _gauge("uptime_seconds", "Since the host's start", [((), host.get("uptime_s", 0.0))])
        yield _gauge("websockets", "Pages that are open and browsers that play", [((), len(self._site.sockets))])
        dropped = (((reason,), count) for reason, count in host.get("dropped", {}).items())
        yield _counter("dropped_datagrams", "Datagrams that were refused", dropped, "reason")
        answered = (((str(code),), count) for code, count in self._site.answered.items())
        yield _counter("http_requests", "Requests, by the status of the answer", answered, "code")
        yield from _of_rooms(status["rooms"])
        yield from _of_peers(status["peers"])


def _of_rooms(rooms: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    named = [((one["name"],), one) for one in rooms]
    yield _gauge("room_playing", "Whether a room sounds", ((name, one["moving"]) for name, one in named), "room")
    yield _gauge("queue_tracks", "Tracks in a queue", ((name, one["queue_length"]) for name, one in named), "room")
    volumes = ((name, one["volume"] * _PERCENT) for name, one in named)
    yield _gauge("room_volume_ratio", "A room's volume", volumes, "room")


def _of_peers(peers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    states = Counter(str(one["state"]) for one in peers)
    yield _gauge("peers", "Speakers, by their state", (((state,), count) for state, count in states.items()), "state")
    here = [(_labels(one), one) for one in peers if one["reach"] != "away"]
    for name, text, key, unit in _OF_PEERS:
        values = ((labels, (one[key] if key in one else one["clock"][key]) * unit) for labels, one in here)
        yield _gauge(name, text, values, *_LABELS)
    underruns = ((labels, one["underruns"]) for labels, one in here)
    yield _counter("underruns", "Times that a speaker's card ran dry", underruns, *_LABELS)


def _labels(peer: Mapping[str, Any]) -> tuple[str, ...]:
    # Names need not be different, and two samples with the same labels would spoil all.
    return str(peer["name"]), str(peer["room"]), str(peer["id"])


def _gauge(name: str, text: str, values: _Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"musicsyncd_{name}", text, labels=labels), values)


def _counter(name: str, text: str, values: _Values, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"musicsyncd_{name}", text, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: _Values) -> Metric:
    for labels, value in values:
        family.add_metric(labels, float(value))
    return family


def exposed(site: Site) -> bytes:
    """Return everything in Prometheus's text format, of the type :data:`MEDIA_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_HostCollector(site))
    return generate_latest(registry)

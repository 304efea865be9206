"""All targets by name, and the valid inputs that they begin with."""

from __future__ import annotations

from collections.abc import Callable

from . import datagrams, files, kept, requests
from .finding import Target
from .names import NAMES

TARGETS: dict[str, Target] = {
    "from_host": datagrams.from_host,
    "from_peer": datagrams.from_peer,
    "opener": datagrams.opener,
    "host": datagrams.host,
    "peer": datagrams.peer,
    "http": requests.http,
    "media_request": requests.media_request,
    "playlist": files.playlist,
    "tags": files.tags,
    "inspect": files.header,
    "ogg": files.ogg,
    "mpeg": files.mpeg,
    "config": kept.config,
    "options": kept.options,
    "keys": kept.keys,
    "identity": kept.identity,
    "journal": kept.journal,
    "snapshot": kept.snapshot,
    "rows": kept.rows,
    "search": kept.search,
}
_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "from_host": datagrams.from_host_seeds,
    "from_peer": datagrams.from_peer_seeds,
    "opener": datagrams.opener_seeds,
    "host": datagrams.host_seeds,
    "peer": datagrams.peer_seeds,
    "http": requests.http_seeds,
    "media_request": requests.media_request_seeds,
    "playlist": files.playlist_seeds,
    "tags": files.tag_seeds,
    "inspect": files.wave_seeds,
    "ogg": files.ogg_seeds,
    "mpeg": files.mpeg_seeds,
    "config": kept.config_seeds,
    "options": kept.options_seeds,
    "keys": kept.keys_seeds,
    "identity": kept.identity_seeds,
    "journal": kept.journal_seeds,
    "snapshot": kept.snapshot_seeds,
    "rows": kept.rows_seeds,
    "search": kept.search_seeds,
}
assert list(TARGETS) == list(_SEEDS) == list(NAMES)


def seeds_of(name: str) -> list[bytes]:
    """Return a target's valid inputs; the same at every call."""
    return _SEEDS[name]()

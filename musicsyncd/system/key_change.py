"""A host's key is changed while it runs: kept on the disk, given to the speakers, and taken over by HTTP.

Owns the order of those three, which is what makes a change survive a stop in the middle of it: the new
secret is in the key's file before any speaker hears of it, beside the old one, and the old one goes when the change is
over. How speakers are told is :mod:`musicsyncd.protocol.rotation`; what a key's file looks
like, :mod:`musicsyncd.system.keyfile`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from typing import Any

from musicsyncd.errors import ConfigError, ControlError
from musicsyncd.paths import Paths
from musicsyncd.protocol.auth import HOST_SECRET_BYTES, HostKeys, http_token, key_id
from musicsyncd.protocol.host import HostNode, RotationDone
from musicsyncd.system.keyfile import keep_host_keys, load_coming_keys, load_host_keys
from musicsyncd.system.links import Links
from musicsyncd.system.speakers import Speakers

log = logging.getLogger(__name__)


class KeyChange:
    """The keys of a host, and a change of them.

    Args:
        node: gives new keys to the speakers.
        paths: where the key's file is.
        keys: in force.
        speakers: who must have them.
        links: good under the keys in force; those of other keys are taken back at once.
        accept: told which tokens HTTP requests may carry.
        changed: called when the node has something to send.
    """

    def __init__(
        self,
        node: HostNode,
        paths: Paths,
        keys: HostKeys,
        speakers: Speakers,
        links: Links,
        accept: Callable[[Collection[str]], None],
        changed: Callable[[], None],
    ) -> None:
        self._node = node
        self._paths = paths
        self._keys = keys
        self._speakers = speakers
        self._links = links
        self._accept = accept
        self._changed = changed
        coming = load_coming_keys(paths.key_file, paths.rotated_key_file)
        links.hold(key_id(keys.room_key), [key_id(coming.room_key)] if coming is not None else ())
        # Until its end is kept, which the node knows of a moment earlier.
        self._changing = False
        self._have = self._present = 0
        self._without: list[str] = []

    def open(self) -> None:
        """Go on with a change that a stop of the host has broken off."""
        try:
            coming = load_coming_keys(self._paths.key_file, self._paths.rotated_key_file)
        except ConfigError as error:
            log.warning("%s", error)
            return
        if coming is not None:
            log.info("going on to change the room's key")
            self._begin(coming)

    def begin(self) -> str:
        """Give every speaker that is here a new key, without a gap in the music.

        Raises:
            ControlError: a change is going on already.
            ConfigError: the new key cannot be kept, or is not to be; nothing has changed then.
        """
        if self._changing:
            raise ControlError("the key is being changed already: wait until that is done")
        coming = HostKeys(os.urandom(HOST_SECRET_BYTES))
        self._keep(coming)
        self._begin(coming)
        return "the speakers are given a new key"

    def _begin(self, coming: HostKeys) -> None:
        self._changing = True
        self._without = []
        self._accept([http_token(keys.room_key) for keys in (self._keys, coming)])
        self._node.begin_rotation(coming)
        self._changed()

    def done(self, event: RotationDone) -> None:
        """Take the new key over."""
        self._changing = False
        old_id, new_id = key_id(self._keys.room_key), key_id(event.keys.room_key)
        self._keys = event.keys
        speakers = self._speakers.all()
        present = {info.peer_id for _, info in speakers if info is not None and info.present}
        # Whoever took it and then went away has it.
        self._without = [saved.name for saved, info in speakers if info is None or info.report.has_key != new_id]
        self._present, self._have = len(present), len(present - set(event.without))
        self._accept([http_token(self._keys.room_key)])
        self._links.hold(new_id, [old_id])  # Before the old key goes: a stop in between finds both in the key's file.
        try:
            self._keep(None)
        except ConfigError as error:  # Both are in the file: the next start goes on from there.
            log.warning("%s", error)
        log.info("the room has a new key, and so have %d of %d speakers that are here", self._have, self._present)

    def _keep(self, coming: HostKeys | None) -> None:
        """Keep the keys in force, and those that the speakers are being given."""
        path, rotated = self._paths.key_file, self._paths.rotated_key_file
        if self._keys not in (load_coming_keys(path, rotated), load_host_keys(path, rotated)):
            # It was made by `key new` meanwhile, and its join code may be in people's hands.
            raise ConfigError(f"the key in {path} is newer than this host's: restart the host, which takes it over")
        keep_host_keys(path, self._keys, coming, rotated)

    def status(self) -> dict[str, Any]:
        """Return how far a change is, or how the last one ended: who must join again."""
        progress = self._node.rotation
        if progress is not None:
            self._have, self._present = progress.have, progress.present
        return {
            "rotating": self._changing,
            "have": self._have,
            "speakers": self._present,
            "without": self._without,
        }

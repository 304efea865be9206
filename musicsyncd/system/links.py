"""Links that were given away: what each lets its holder do, and taking one back.

Owns the tokens. A token is 128 random bits in base32: nobody guesses one, so there is nothing to slow down, and a hash
without salt or many rounds keeps it as well as any. The host keeps only its SHA-256: whoever reads the state file
learns no token. In a link the token stands behind ``#``, which no browser ever sends and no server ever logs; the page
sends it once, in the body of its request to sign in.

A link is good under the room key of its time. When the host starts with another one, as `musicsyncd key new` makes it,
its links are taken back: whoever is to be locked out may have one. A key that replaced it while the host ran
(`musicsyncd key rotate`), which locks nobody out, leaves them as they are.

Must not know HTTP: who shows a token, and how, is :mod:`musicsyncd.system.http_guard`'s.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from musicsyncd.config import check_name
from musicsyncd.errors import ControlError, MusicSyncError
from musicsyncd.system.database import MAX_LINKS, Database, SavedLink
from musicsyncd.system.http_guard import ROLES, Role
from musicsyncd.system.log import Throttle

log = logging.getLogger(__name__)

TOKEN_BYTES = 16
ID_BYTES = 5
"""Eight characters of base32. Ids are no secret."""

KEEP_USED_S = 60.0
"""So often it is kept when a link was used last: each time costs a sync of the disk."""


class Links:
    """The links of a host.

    Args:
        database: keeps them.
        random_bytes: gives so many bytes that nobody can know.
        day_s: the clock of the day, seconds since 1970.

    Attributes:
        revoked: is called with the id of a link that was taken back.
    """

    def __init__(
        self,
        database: Database,
        random_bytes: Callable[[int], bytes],
        day_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._random_bytes = random_bytes
        self._day_s = day_s
        self._by_hash = {one.token_hash: one for one in database.links()}
        self._kept_used_s = {one.link_id: one.used_s or 0.0 for one in self._by_hash.values()}
        self._key_id = b""
        self._throttle = Throttle(log)
        self.revoked: Callable[[str], None] = lambda _link_id: None

    def make(self, role: str, name: str) -> tuple[SavedLink, str]:
        """Make a link, and return it and its token, which is nowhere else.

        Raises:
            ControlError: there is no such role, or there are too many links.
            ConfigError: the name cannot be one.
            MusicSyncError: the link cannot be kept.
        """
        if role not in ROLES[1:]:
            raise ControlError(f"no role {role[:20]!r}: {', '.join(ROLES[1:])}")
        if name:
            check_name("link", name)
        if len(self._by_hash) >= MAX_LINKS:
            raise ControlError(
                f"there are {MAX_LINKS} links already: revoke some, `musicsyncd link list` says when each was used last"
            )
        token = _base32(self._random_bytes(TOKEN_BYTES))
        link_id = _base32(self._random_bytes(ID_BYTES))
        link = SavedLink(link_id, _hash(token), role, name, self._day_s(), key_id=self._key_id)
        self._database.save_links([link])  # A link that is not kept must not be given away.
        self._by_hash[link.token_hash] = link
        log.info("made the link %s: %s%s", link.link_id, role, f", for {name}" if name else "")
        return link, token

    def find(self, token: str) -> SavedLink | None:
        """Return the link that a token is of, and note that it was used."""
        found = self._by_hash.get(_hash(token))
        if found is None:
            return None
        found = self._by_hash[found.token_hash] = replace(found, used_s=self._day_s())
        return found

    def entitled(self, token: str) -> tuple[Role, str] | None:
        """Return role and id of the link that a token is of, as :class:`~.http_guard.Guard` asks for them."""
        found = self.find(token)
        role = None if found is None else next((one for one in ROLES if one == found.role), None)
        return None if found is None or role is None else (role, found.link_id)

    def named(self, link_id: str) -> SavedLink | None:
        """Return a link by its id."""
        return next((one for one in self._by_hash.values() if one.link_id == link_id), None)

    def revoke(self, link_id: str) -> str:
        """Take a link back: from now on it opens nothing.

        Args:
            link_id: in any case, or as much of its beginning as no other link has.

        Raises:
            ControlError: there is no such link, or several begin so.
            MusicSyncError: it cannot be kept that it is revoked; it is, until the host starts again.
        """
        found = [one for one in self._by_hash.values() if one.link_id.startswith(link_id.upper())]
        if not link_id or not found:
            raise ControlError(f"no link {link_id[:20]!r}: see `musicsyncd link list`")
        if len(found) > 1:
            raise ControlError(f"{len(found)} links begin with {link_id[:20]!r}: write more of it")
        link = found[0]
        self._take_back([link])
        log.info("revoked the link %s", link.link_id)
        return f"revoked the link {link.link_id}{f' of {link.name}' if link.name else ''}"

    def hold(self, key_id: bytes, others: Collection[bytes] = ()) -> None:
        """Say which room key is in force, under which links are good from now on.

        Links that are good under it, under one of the others, or of which no key was noted yet, stay; all that are not
        are taken back. That holds also when it cannot be kept, until the host starts again.

        Args:
            key_id: of the key in force.
            others: ids of keys that it replaces, or that are to replace it.
        """
        self._key_id = key_id
        gone = [one for one in self._by_hash.values() if one.key_id not in (key_id, *others, b"")]
        if gone:
            log.warning("the room has a new key: revoked all links, %d, that were made under the one before", len(gone))
            try:
                self._take_back(gone)
            except MusicSyncError as error:
                self._throttle.warning("save", str(error))
        renewed = [replace(one, key_id=key_id) for one in self._by_hash.values() if one.key_id != key_id]
        self._by_hash.update((one.token_hash, one) for one in renewed)
        self._save(renewed)

    def all(self) -> list[dict[str, Any]]:
        """Return all links for programs, the oldest first; without their tokens, which nobody has."""
        return [
            {
                "id": one.link_id,
                "role": one.role,
                "name": one.name,
                "made_s": round(one.made_s, 3),
                "used_s": None if one.used_s is None else round(one.used_s, 3),
            }
            for one in sorted(self._by_hash.values(), key=lambda one: (one.made_s, one.link_id))
        ]

    def keep_used(self, *, at_once: bool = False) -> None:
        """Keep when links were used last, for those of which that is :data:`KEEP_USED_S` newer than what is kept.

        Args:
            at_once: all that is newer, as at a stop of the host.
        """
        least_s = 0.0 if at_once else KEEP_USED_S
        newer = [
            one
            for one in self._by_hash.values()
            if (one.used_s or 0.0) - self._kept_used_s.get(one.link_id, 0.0) > least_s
        ]
        self._kept_used_s.update((one.link_id, one.used_s or 0.0) for one in newer)
        self._save(newer)

    def _save(self, links: list[SavedLink]) -> None:
        if links:
            try:
                self._database.save_links(links)
            except MusicSyncError as error:
                self._throttle.warning("save", str(error))

    def _take_back(self, links: list[SavedLink]) -> None:
        for link in links:
            del self._by_hash[link.token_hash]
            self._kept_used_s.pop(link.link_id, None)
            self.revoked(link.link_id)
        self._database.remove_links(one.link_id for one in links)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.strip().upper().encode("utf-8", "surrogatepass")).digest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=")

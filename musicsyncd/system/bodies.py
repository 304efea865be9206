"""What requests to the host's API carry: the bodies of commands, and what stands behind the question mark of a GET.

Owns their fields and limits; msgspec refuses what does not fit, with the field's name.
What tracks are meant by, and what is looked for in a library, is :mod:`musicsyncd.system.library_control`'s.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from musicsyncd.config import MAX_NAME_CHARS as MAX_LINK_NAME_CHARS
from musicsyncd.media.queue import MAX_QUEUE
from musicsyncd.system.library_control import MAX_NAME_CHARS
from musicsyncd.system.trends import COARSE_S, FINE_S

MAX_TOKEN_CHARS = 200

_Text = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """A field that is misspelt is refused, and not passed over."""


class Seek(_Body):
    """Where to: ``83.2``, ``1:23``, ``+10``, ``-10`` or ``50%``."""

    to: _Text


class Volume(_Body):
    """Percent: ``40``, or ``+5`` and ``-5`` from where it is."""

    volume: _Text


class Mute(_Body):
    """Silent or not."""

    muted: bool


class Positions(_Body):
    """Entries of a queue by their positions, from 1, as they were at a revision."""

    positions: Annotated[list[int], msgspec.Meta(max_length=MAX_QUEUE)]
    revision: int | None = None


class Move(_Body, rename={"from_": "from"}):
    """From one position of a queue to another, as it was at a revision."""

    from_: int
    to: int
    revision: int | None = None


class Jump(_Body):
    """An entry of a queue: by its position, as it was at a revision, or by words of its title and artist."""

    position: int | None = None
    words: _Text = ""
    revision: int | None = None


class AtRevision(_Body):
    """The revision of a queue for which a command is meant; refused when it has changed since."""

    revision: int | None = None


class Switch(_Body):
    """On or off."""

    on: bool


class Repeat(_Body):
    """``off``, ``one`` or ``all``."""

    repeat: _Text


class Crossfade(_Body):
    """Seconds, 0 for gapless."""

    seconds: float


class Name(_Body):
    """A new room's name."""

    name: _Text


class RoomOf(_Body):
    """The room into which a speaker goes."""

    room: _Text


class Delay(_Body):
    """How late what stands behind a speaker's card is, in milliseconds."""

    output_delay_ms: float


class Channels(_Body):
    """``stereo``, ``left``, ``right`` or ``mono``."""

    channels: _Text


class SignIn(_Body):
    """A link's token."""

    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_CHARS)]


class NewLink(_Body):
    """A link that is to be made."""

    role: _Text = "control"
    name: Annotated[str, msgspec.Meta(max_length=MAX_LINK_NAME_CHARS)] = ""


class Span(_Body):
    """Which speaker, all by default, and how far back."""

    peer: _Text = ""
    seconds: Annotated[int, msgspec.Meta(ge=1, le=COARSE_S)] = FINE_S


class Nothing(_Body):
    """No field at all."""

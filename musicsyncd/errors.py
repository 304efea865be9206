"""The one tree of exceptions.

Every message is a line for a person: what is wrong, why, and what to do. What
comes from outside (a datagram, a file, a request, a user) raises one of these and
nothing else; ``assert`` is for our own mistakes.
"""

from __future__ import annotations


class MusicSyncError(Exception):
    """Something that can be said to a user in one line."""


class ConfigError(MusicSyncError):
    """An option, an environment variable, a configuration or key file is not usable."""


class ProtocolError(MusicSyncError):
    """A datagram is not what it should be. ``reason`` is a short name to count it by."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class ClockError(MusicSyncError):
    """Four time stamps that cannot be of one exchange."""


class MediaError(MusicSyncError):
    """A track cannot be found, read, decoded, fetched or kept."""


class DeviceError(MusicSyncError):
    """A sound card or an interface cannot be opened or used."""


class ControlError(MusicSyncError):
    """A command cannot be carried out as it was given."""


class StaleError(MusicSyncError):
    """A command was meant for a state that has changed since. ``revision`` is that of the present one."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision

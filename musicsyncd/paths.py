"""Where files belong: this user's folders, those that systemd made, or those that were given.

Owns the folders' places and the modes of what is made in them. Must not know what the files hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from musicsyncd.errors import ConfigError

APP_NAME = "musicsyncd"
KEY_FILE_NAME = "room.key"

SYSTEM_RUNTIME_DIR = Path("/run") / APP_NAME
"""Where systemd puts the socket of a host that runs as a system service."""

SYSTEM_STATE_DIR = Path("/var/lib") / APP_NAME
SYSTEM_CACHE_DIR = Path("/var/cache") / APP_NAME
"""The other folders that systemd makes for the system services."""

SERVICE_USER = APP_NAME
"""The user, and the group, of the system services."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where files belong on this system.

    Attributes:
        state_dir: what must outlive a restart: the database, the identity, the key.
        cache_dir: tracks that can be fetched again.
        runtime_dir: the control socket.
        key_file: the room's key; systemd's credential of that name, where it gives one.
        config_file: the TOML file that was read, or None.
    """

    state_dir: Path
    cache_dir: Path
    runtime_dir: Path
    key_file: Path
    config_file: Path | None = None

    @property
    def rotated_key_file(self) -> Path:
        """Where the newer key is kept when the key's own file cannot be written, as a credential of systemd's."""
        return self.state_dir / "rotated.key"

    @property
    def control_socket(self) -> Path:
        """The Unix socket on which a host on this machine takes commands."""
        return self.runtime_dir / "host.sock"

    @classmethod
    def find(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        state_dir: Path | None = None,
        cache_dir: Path | None = None,
        runtime_dir: Path | None = None,
        key_file: Path | None = None,
        config_file: Path | None = None,
        of_service: bool = False,
    ) -> Paths:
        """Return the paths for what is given, then systemd's folders, then this user's.

        A state folder given by hand holds the cache and the socket too, so that two instances on
        one machine never meet by accident.

        The key is the file given by hand, then systemd's credential, then ``room.key`` in the state folder.

        Args:
            environment: variables to look at; the process's own by default.
            state_dir: instead of the one found; likewise the others.
            cache_dir: see there.
            runtime_dir: see there.
            key_file: see there.
            config_file: kept as it is.
            of_service: instead of this user's, those of the system services.
        """
        environment = os.environ if environment is None else environment
        if state_dir is not None:
            cache_dir = cache_dir or state_dir / "cache"
            runtime_dir = runtime_dir or state_dir / "run"
        elif of_service:
            state_dir = SYSTEM_STATE_DIR
            cache_dir = cache_dir or SYSTEM_CACHE_DIR
            runtime_dir = runtime_dir or SYSTEM_RUNTIME_DIR
        state_dir = state_dir or _systemd_dir(environment, "STATE_DIRECTORY") or _user_dir("state")
        cache_dir = cache_dir or _systemd_dir(environment, "CACHE_DIRECTORY") or _user_dir("cache")
        runtime_dir = runtime_dir or _systemd_dir(environment, "RUNTIME_DIRECTORY")
        if runtime_dir is None:
            xdg = environment.get("XDG_RUNTIME_DIR", "")
            runtime_dir = Path(xdg) / APP_NAME if os.path.isabs(xdg) else state_dir / "run"
        return cls(
            state_dir=state_dir.absolute(),
            cache_dir=cache_dir.absolute(),
            runtime_dir=runtime_dir.absolute(),
            key_file=(key_file or credential_key(environment) or state_dir / KEY_FILE_NAME).absolute(),
            config_file=config_file,
        )

    def make(self) -> None:
        """Make the folders that do not exist, for their owner only.

        Raises:
            ConfigError: one of them cannot be made.
        """
        for folder in (self.state_dir, self.cache_dir, self.runtime_dir):
            make_folder(folder)


def make_folder(folder: Path) -> Path:
    """Make a folder of our own that nobody else may look into, if it is not there, and return it.

    Raises:
        ConfigError: when it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make the folder {folder}: {error.strerror}"
        raise ConfigError(f"{what}; choose another with --state-dir") from None
    return folder


def credential_key(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the room's key that systemd hands over (``LoadCredential=room.key:/…``), or None without one.

    Args:
        environment: variables to look at; the process's own by default.
    """
    folder = (os.environ if environment is None else environment).get("CREDENTIALS_DIRECTORY", "")
    file = Path(folder, KEY_FILE_NAME)
    # A folder of somebody else's, that a variable was kept of, may not be looked into: that is no credential, either.
    return file if os.path.isabs(folder) and os.path.exists(file) else None


def socket_mode(path: Path, environment: Mapping[str, str] | None = None) -> int:
    """Return the mode of a local socket: for its owner only, or for the group too in a folder that systemd made.

    Who may get into that folder is said by its own mode: for a system service, root and the group of its user.

    Args:
        path: of the socket.
        environment: variables to look at; the process's own by default.
    """
    made = _systemd_dir(os.environ if environment is None else environment, "RUNTIME_DIRECTORY")
    return 0o660 if path.parent == made else 0o600


def _systemd_dir(environment: Mapping[str, str], variable: str) -> Path | None:
    # systemd gives several folders separated by colons when the unit names several.
    first = environment.get(variable, "").split(":")[0]
    return Path(first) if os.path.isabs(first) else None


def _user_dir(kind: str) -> Path:
    import platformdirs

    folder = platformdirs.user_state_dir if kind == "state" else platformdirs.user_cache_dir
    return Path(folder(APP_NAME, appauthor=False))

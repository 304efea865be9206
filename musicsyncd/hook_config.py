"""What a speaker is told of its hooks: commands that it runs when sound begins and when it ends.

Owns what such a command may look like, and the limits of the times around it. It comes from this machine's own command
line, environment and configuration file, and from nowhere else: what runs here is not for the network to say. Must not
know how a command is run (:mod:`musicsyncd.system.hooks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from musicsyncd.errors import ConfigError

MAX_SILENCE_AFTER_S = 86_400.0
MIN_HOOK_TIMEOUT_S, MAX_HOOK_TIMEOUT_S = 0.1, 300.0


@dataclass(frozen=True, slots=True)
class HookConfig:
    """The commands of a speaker.

    Attributes:
        on_sound: the words of the command that is run when there is something to sound; empty for none.
        on_silence: that when there is nothing any more.
        silence_after_s: without sound for so long counts as silence.
        timeout_s: a command that takes longer is killed, with all that it has started.
    """

    on_sound: tuple[str, ...] = ()
    on_silence: tuple[str, ...] = ()
    silence_after_s: float = 30.0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.silence_after_s <= MAX_SILENCE_AFTER_S:
            raise ConfigError(f"silence after {self.silence_after_s:g} s is not possible: 0 to {MAX_SILENCE_AFTER_S:g}")
        if not MIN_HOOK_TIMEOUT_S <= self.timeout_s <= MAX_HOOK_TIMEOUT_S:
            limits = f"{MIN_HOOK_TIMEOUT_S:g} to {MAX_HOOK_TIMEOUT_S:g}"
            raise ConfigError(f"{self.timeout_s:g} s are no time for a hook: {limits}")


def parse_command(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command. No shell sees it: whoever wants one names it, ``["sh", "-c", "…"]``.

    Args:
        given: a text, whose quotes and backslashes mean what they mean to a shell, and nothing else does; or the
            words themselves.

    Raises:
        ConfigError: it is not a command.
    """
    import shlex

    try:
        words = tuple(shlex.split(given) if isinstance(given, str) else given)
    except ValueError as error:
        raise ConfigError(f"{given!r} cannot be a command: {str(error).lower()}") from None
    if words and not words[0]:
        raise ConfigError(f"{given!r} cannot be a command: it names no program")
    if any("\0" in word for word in words):
        raise ConfigError(f"{given!r} cannot be a command: it has a zero byte")
    return words

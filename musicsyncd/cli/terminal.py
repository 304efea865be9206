"""Lines in colour, and a view that is kept up to date, by ``rich``. Imported only for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from musicsyncd.cli.output import Line

_STYLES = {
    "": "",
    "dim": "dim",
    "strong": "bold",
    "good": "green",
    "fair": "yellow",
    "bad": "bold red",
    "accent": "bold cyan",
}


def _text(lines: Iterable[Line]) -> Text:
    # Text takes no markup, so a track called "[red]" stays one.
    joined = Text(no_wrap=True, overflow="ellipsis")
    for number, line in enumerate(lines):
        if number:
            joined.append("\n")
        for piece in line.pieces:
            joined.append(piece.text, _STYLES[piece.style])
    return joined


def show(lines: Sequence[Line]) -> None:
    """Print lines once."""
    Console(highlight=False).print(_text(lines))


def keep_showing(look: Callable[[], Sequence[Line]], wait: Callable[[], None]) -> None:
    """Show what ``look`` returns, again after each ``wait``, until something is raised.

    Args:
        look: returns the lines as they are now.
        wait: returns when it is time for the next.
    """
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(_text(look()), refresh=True)
            wait()

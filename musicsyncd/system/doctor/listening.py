"""Listens to a sound card for some seconds, in a process of its own: a driver that hangs takes only that with it.

Run as ``python -m musicsyncd.system.doctor.listening JSON``; prints one JSON object: :class:`Heard`, or ``{"error":
…}``. The card plays silence, by the same player that plays music, so the rate, the steps of its pointer and what is
an underrun are found as a speaker finds them.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

from musicsyncd.errors import MusicSyncError
from musicsyncd.playback.player import Player
from musicsyncd.playback.renderer import FrameSource
from musicsyncd.system.output import Output, open_output
from musicsyncd.units import ns_to_us

BUFFER_MS = 80.0
"""As a speaker has it by default."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a card was like.

    Attributes:
        output: its name.
        rate_hz: as it was opened.
        channels: as it was opened.
        listened_s: for so long.
        blocks: that it asked for.
        underruns: blocks that came too late.
        card_ppm: its rate against the nominal one, positive when it runs fast.
        uncertainty_us: of when a frame sounds; None without any time.
        pointer_frames: by how many frames its pointer moves at once; 1 for a fine one.
        tells_its_time: it says when a block sounds.
        discontinuities: how often its time jumped.
    """

    output: str
    rate_hz: int
    channels: int
    listened_s: float
    blocks: int = 0
    underruns: int = 0
    card_ppm: float = 0.0
    uncertainty_us: float | None = None
    pointer_frames: int = 1
    tells_its_time: bool = True
    discontinuities: int = 0


class _Nothing:
    def buffer(self, content_id: bytes) -> FrameSource | None:
        return None


def listen(output: Output, seconds: float) -> Heard:
    """Return what an open card is like.

    Args:
        output: it is not closed.
        seconds: to listen; 0 only looks at how it was opened.

    Raises:
        DeviceError: it does not start.
    """
    opened = Heard(output.description, output.rate_hz, output.channels, seconds)
    if seconds <= 0.0:
        return opened
    player = Player(output.rate_hz, output.channels, _Nothing())
    output.start(player.render)
    time.sleep(seconds)
    line = player.dac.line
    return Heard(
        output=opened.output,
        rate_hz=opened.rate_hz,
        channels=opened.channels,
        listened_s=seconds,
        blocks=player.blocks,
        underruns=output.underruns,
        card_ppm=round(player.dac.rate_ppm, 2),
        uncertainty_us=None if line is None else round(ns_to_us(line.uncertainty_ns), 1),
        pointer_frames=player.pointer_grain_frames,
        tells_its_time=not player.dac.counting,
        discontinuities=player.dac.discontinuities,
    )


def main(arguments: str) -> str:
    """Return what is to be printed.

    Args:
        arguments: a JSON object of ``output``, ``device`` and ``seconds``.
    """
    asked = json.loads(arguments)
    try:
        output = open_output(asked["output"], device=asked["device"], rate_hz=None, buffer_ms=BUFFER_MS)
        try:
            return json.dumps(asdict(listen(output, asked["seconds"])))
        finally:
            output.close()
    except MusicSyncError as error:
        return json.dumps({"error": str(error)})


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")

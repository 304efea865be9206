"""From host time to samples.

:mod:`~musicsyncd.playback.timeline` says what sounds when, :mod:`~musicsyncd.playback.dac`
when each frame of the sound card sounds, :mod:`~musicsyncd.playback.servo` holds the two
together, :mod:`~musicsyncd.playback.resampler` reads a track between its frames, and
:mod:`~musicsyncd.playback.renderer` makes the blocks.
"""

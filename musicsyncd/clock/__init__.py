"""From exchanged time stamps to the host's time.

:mod:`~musicsyncd.clock.exchange` is one probe and its reply,
:mod:`~musicsyncd.clock.filter` makes offset and skew of many of them, and
:mod:`~musicsyncd.clock.mapping` is the line that the sound path reads.
"""

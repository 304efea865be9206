"""From exchanged time stamps to the host's time.

:mod:`~musicsyncd.clock.exchange` is one probe and its reply,
:mod:`~musicsyncd.clock.filter` decides which of many to believe,
:mod:`~musicsyncd.clock.envelope` fits offset and skew to those, and
:mod:`~musicsyncd.clock.mapping` is the line that the sound path reads. What probes cannot see,
a path that is longer one way, shows in what several peers hear together:
:mod:`~musicsyncd.clock.receivers` finds them, :mod:`~musicsyncd.clock.correction` is what each makes of it.
"""

"""musicsyncd plays music in step on every speaker of a LAN.

One host decides what plays and when, and multicasts that as state. Peers
estimate the host's clock, decode the track themselves and give their sound card
the sample that must sound at each instant.

The packages, in the order of the data: :mod:`~musicsyncd.protocol` turns
datagrams into meaning, :mod:`~musicsyncd.clock` turns probes into host time,
:mod:`~musicsyncd.playback` turns host time into samples, :mod:`~musicsyncd.media`
holds tracks and queues, :mod:`~musicsyncd.system` is every edge to the operating
system, and :mod:`~musicsyncd.cli` is what a person types. The first three do no
input or output and never look at a clock: bytes, times and frames come in from
outside, so that a whole room runs in virtual time in a test.
"""

__version__ = "0.1.0"

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

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a source tree runs under whatever Python somebody has
    # Before anything that an older Python cannot read is imported: one line, and no traceback.
    sys.exit("musicsyncd needs Python 3.11 or newer, this is {}.{}.{}".format(*sys.version_info[:3]))

__version__ = "0.1.0"

"""Datagrams and what they mean, without any input or output.

:mod:`~musicsyncd.protocol.wire` is the messages and their encoding,
:mod:`~musicsyncd.protocol.auth` is the keys and seals and opens datagrams with them,
:mod:`~musicsyncd.protocol.signing` is what a host signs,
:mod:`~musicsyncd.protocol.proving` is who is alive and what was had before,
:mod:`~musicsyncd.protocol.host` and :mod:`~musicsyncd.protocol.peer` are the two
kinds of node. A node has five calls: ``receive_datagram``, ``datagrams_to_send``,
``next_timer_ns``, ``handle_timer`` and ``next_event``. It is given bytes, addresses and
times, and gives back bytes, addresses, times and events.

What the nodes are made of: :mod:`~musicsyncd.protocol.node` and the :mod:`~musicsyncd.protocol.door`, through which
all goes that they hear and say, are common to both; :mod:`~musicsyncd.protocol.knowing` is what a host knows
of its peers, :mod:`~musicsyncd.protocol.rooms` when it says what, :mod:`~musicsyncd.protocol.answering` how it
answers them, :mod:`~musicsyncd.protocol.insisting` how it says something until it has arrived, and
:mod:`~musicsyncd.protocol.others` which other hosts it hears;
:mod:`~musicsyncd.protocol.following`, :mod:`~musicsyncd.protocol.probing` and
:mod:`~musicsyncd.protocol.reporting` are what a peer knows of its host, asks it and tells it;
:mod:`~musicsyncd.protocol.hearing` is when beacons were heard, on both sides. A change of the
room's key is :mod:`~musicsyncd.protocol.rotation` on the host's side and the peer's
:mod:`~musicsyncd.protocol.keyring`.
"""

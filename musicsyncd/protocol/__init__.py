"""Datagrams and what they mean, without any input or output.

:mod:`~musicsyncd.protocol.wire` is the messages and their encoding,
:mod:`~musicsyncd.protocol.auth` seals and opens datagrams with the room key,
:mod:`~musicsyncd.protocol.host` and :mod:`~musicsyncd.protocol.peer` are the two
kinds of node. A node has five calls: ``receive_datagram``, ``datagrams_to_send``,
``next_timer_ns``, ``handle_timer`` and ``next_event``. It is given bytes, addresses and
times, and gives back bytes, addresses, times and events.

What the nodes are made of: :mod:`~musicsyncd.protocol.node` is common to both;
:mod:`~musicsyncd.protocol.rooms` is when a host says what;
:mod:`~musicsyncd.protocol.following`, :mod:`~musicsyncd.protocol.probing` and
:mod:`~musicsyncd.protocol.reporting` are what a peer knows of its host, asks it and tells it;
:mod:`~musicsyncd.protocol.hearing` is when beacons were heard, on both sides.
"""

"""The edges: the operating system's clock, sockets, sound cards, files, HTTP, and the daemons that wire it all.

Nothing but :mod:`musicsyncd.cli` imports this package.
"""

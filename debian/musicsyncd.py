#!/usr/lib/musicsyncd/bin/python3 -I
"""The command, in the environment that the Debian package carries, whatever a shell's own says of Python."""

from musicsyncd.cli import main

main()

"""``status --watch``: the view that is kept up to date, on a terminal, in a pipe, and for programs.

While the host is gone it says so and goes on: on a speaker's machine with what that speaker knows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from musicsyncd.cli import output, status_view
from musicsyncd.cli.given import objects_at
from musicsyncd.cli.local_view import local_lines
from musicsyncd.cli.output import Cell, Line
from musicsyncd.cli.trends import WATCHED_S, Trends, history_path
from musicsyncd.errors import ControlError
from musicsyncd.system.control_client import api_path

if TYPE_CHECKING:
    from musicsyncd.system.control_client import ControlClient

HEADER_EVERY_LINES = 20
STATUS = api_path("status")
"""Where the host answers with its status."""

Accounts = Callable[[], list[dict[str, Any]]]


class Watch:
    """Looks at the host again and again.

    Args:
        client: talks to it.
        accounts: gives what the speakers of this machine say of themselves.
        wait: returns when it is time to look again.
    """

    def __init__(self, client: ControlClient, accounts: Accounts, wait: Callable[[], None]) -> None:
        self._client = client
        self._accounts = accounts
        self._wait = wait
        self._trends = Trends()
        self._knows_past = False
        self._last: list[Line] = []

    def as_json(self) -> None:
        """Print one JSON document a line, for ever; what a speaker here says of itself stands in for the host.

        Raises:
            ControlError: neither the host nor a speaker of this machine answers.
        """
        while True:
            try:
                said = self._client.get(STATUS)
            except ControlError as error:
                said = away_status(error, self._accounts())
            output.print_json(said, one_line=True)
            self._wait()

    def as_lines(self) -> None:
        """Print a line for each speaker, for ever; while the host is gone, say so once and go on.

        Raises:
            ControlError: neither the host nor a speaker of this machine answers at the start.
        """
        until_header, complained, began = 0, False, False
        while True:
            status: dict[str, Any] = {}
            try:
                status = self._client.get(STATUS)
                complained = False
            except ControlError as error:
                accounts = self._accounts()
                if not accounts and not began:
                    raise
                status = {"peers": [account.get("speaker") for account in accounts]}
                if not complained:
                    click.echo(f"musicsyncd: {error}", err=True)
                complained = True
            began = True
            for row in status_view.watch_rows(status, time.strftime("%H:%M:%S")):
                if until_header == 0:
                    click.echo(status_view.watch_header())
                    until_header = HEADER_EVERY_LINES
                click.echo(row)
                until_header -= 1
            self._wait()

    def live(self) -> None:
        """Keep a terminal up to date, for ever.

        Raises:
            ControlError: neither the host nor a speaker of this machine answers at the start.
        """
        from musicsyncd.cli.terminal import keep_showing

        keep_showing(self.look, self._wait)

    def look(self) -> Sequence[Line]:
        """Return what is to be seen now.

        Raises:
            ControlError: neither the host nor a speaker of this machine answers, and none ever did.
        """
        columns = output.width()
        try:
            status = self._client.get(STATUS)
            now_s = time.monotonic()
            if not self._knows_past:
                self._begin_trends(now_s)
        except ControlError as error:
            self._knows_past = False  # It may come back with other speakers, or as another host.
            accounts = self._accounts()
            if accounts:
                self._last = local_lines(accounts, columns)
            elif not self._last:
                raise
            return [*self._last, Line(()), Line.of(Cell(f"! {error}", "bad"))]
        self._trends.note(objects_at(status, "peers"), now_s)
        self._last = status_view.status_lines(status, columns, self._trends.lines(now_s, WATCHED_S, columns))
        return self._last

    def _begin_trends(self, now_s: float) -> None:
        self._knows_past = True
        with contextlib.suppress(ControlError):  # A host of a former version keeps no record.
            self._trends.begin(self._client.get(history_path(WATCHED_S)), now_s)


def away_status(error: ControlError, accounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what stands in for the host's status: why there is none, and what the speakers of this machine say.

    Raises:
        ControlError: that error, when there is no such speaker.
    """
    if not accounts:
        raise error
    return {"host": None, "rooms": [], "peers": [], "error": str(error), "local_speakers": accounts}

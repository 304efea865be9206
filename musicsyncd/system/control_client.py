"""Finds the host and asks it to do things, for commands: one request each, standard library only.

The host is, in this order: the one that was named; the one on this machine, on its Unix
socket; the one that answers a sealed hello to the multicast group; the one that answers it where multicast DNS says
that there may be a host. Over TCP a request carries
a token made from the room's key; the Unix socket is guarded by its folder's permissions.

Must not import what is slow to import (numpy, aiohttp): a command is over in a tenth of a second.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from musicsyncd.config import OPEN_ROOM_KEY, NetworkConfig, address_text, parse_address
from musicsyncd.errors import ConfigError, ControlError, DeviceError, ProtocolError
from musicsyncd.paths import SERVICE_USER, SYSTEM_RUNTIME_DIR, Paths

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 60.0
"""The host reads the headers of all files that it is asked to play; a folder of 10,000 takes a while."""

MAX_ANSWER_BYTES = 32 << 20
"""A queue of 10,000 entries is some 4 MB."""

HELLO_TIMES_S = (0.0, 0.15, 0.45)
HELLO_TIMEOUT_S = 1.0
"""Three hellos in a second: a lost one costs little, and no host at all is said soon."""

OTHERS_S = 0.06
"""After the first answer, for other hosts to answer: a command must not go to whichever was faster."""

MDNS_LOOK_S = 1.5
"""For the first answer by mDNS: with the hellos before and after it, no host at all is said within three seconds."""

MDNS_HELLO_TIMEOUT_S = 0.6
"""For what was found that way to answer two hellos."""

MDNS_AGAIN_AFTER_S = 30.0
"""Between two such looks of a command that stays, such as ``status --watch``."""

MAX_HOSTS = 8
"""That are told apart; nobody has more, and a line names them all."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How the host is reached.

    Attributes:
        where: for people.
        unix: its Unix socket, or None.
        address: its address and port otherwise.
        token: for the ``Authorization`` header, or empty.
    """

    where: str
    unix: Path | None = None
    address: tuple[str, int] = ("", 0)
    token: str = ""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ControlClient:
    """Talks to the host that a command is meant for.

    Args:
        network: port and group.
        paths: where the control socket and the key are.
        host: ``ADDRESS[:PORT]`` of the host, or None to find it.
        open_room: the host runs without a key.
        local_only: talk to a host on this machine, or to none.
        other_sockets: Unix sockets to look at after this user's own.

    Raises:
        ConfigError: ``host`` is not an address.
    """

    def __init__(
        self,
        network: NetworkConfig,
        paths: Paths,
        *,
        host: str | None = None,
        open_room: bool = False,
        local_only: bool = False,
        other_sockets: tuple[Path, ...] = (SYSTEM_RUNTIME_DIR / "host.sock",),
    ) -> None:
        self._network = network
        self._paths = paths
        self._named = None if host is None else parse_address(host, network.port)
        self._open_room = open_room
        self._local_only = local_only
        self._sockets = (paths.control_socket, *(one for one in other_sockets if one != paths.control_socket))
        self._reach: Reach | None = None
        self._mdns_due_s = 0.0

    @property
    def is_local(self) -> bool:
        """Whether the host is reached over a Unix socket, and so sees the same files.

        Raises:
            ControlError: no host is found.
        """
        return self.reach().unix is not None

    def reach(self) -> Reach:
        """Return how the host is reached; it is searched for once.

        Raises:
            ControlError: no host is found.
            ConfigError: the key cannot be used.
        """
        if self._reach is None:
            self._reach = self._find()
        return self._reach

    def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a GET. ``path`` is as from :func:`api_path`. Raises as :meth:`request`."""
        return self.request("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a POST of a JSON object. Raises as :meth:`request`."""
        return self.request("POST", path, {} if body is None else body)

    def delete(self, path: str) -> dict[str, Any]:
        """Return the answer to a DELETE. Raises as :meth:`request`."""
        return self.request("DELETE", path)

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object that the host answers.

        Args:
            method: of HTTP.
            path: quoted, as from :func:`api_path`.
            body: a JSON object, or None.

        Raises:
            ControlError: no host is found, it refuses, or its answer makes no sense.
            ConfigError: the key cannot be used.
        """
        reach = self.reach()
        headers = {"Authorization": f"Bearer {reach.token}"} if reach.token else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = _connection(reach)
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_TIMEOUT_S)
            if reach.unix is None:
                # A host answers to its addresses and its own name only, and may well be called otherwise here.
                address, port = connection.sock.getpeername()[:2]
                headers["Host"] = address_text((address.partition("%")[0], port))
            connection.request(method, path, data, headers)
            return _answer(connection.getresponse(), reach)
        except TimeoutError:
            self._reach = None
            raise ControlError(f"the host at {reach.where} does not answer in time") from None
        except (OSError, HTTPException) as error:
            self._reach = None  # It may have moved: whoever asks again (status --watch) looks again.
            reason = getattr(error, "strerror", None) or str(error) or "it closed the connection"
            raise ControlError(f"cannot reach the host at {reach.where}: {reason}") from None
        finally:
            connection.close()

    def _find(self) -> Reach:
        if self._named is not None:
            where = address_text(self._named)
            return Reach(where, address=self._named, token=_token(self._room_key()))
        forbidden = ""
        for path in self._sockets:
            problem = _probe(path)
            if problem is None:
                return Reach(str(path), unix=path)
            if isinstance(problem, PermissionError):
                forbidden = f"{_why_forbidden(path)}, and "
        if self._local_only:
            raise ControlError(
                forbidden.removesuffix(", and ")
                or "no host runs on this machine: run the command on the host's, with its --state-dir if it has one"
            )
        try:
            key = self._room_key()
        except ConfigError as error:
            raise ControlError(
                f"{forbidden or 'no host answers: none runs here, and '}without the room's key the LAN cannot be asked "
                f"({error}); start one with `musicsyncd host`, or take the key of one with `musicsyncd key join`"
            ) from None
        found = find_on_lan(self._network, key) or self._find_by_mdns(key)
        if found is None:
            raise ControlError(
                f"{forbidden}no host answers, here or on the LAN ({self._network.group} port {self._network.port}): "
                "is `musicsyncd host` running, is the key its key (`musicsyncd key show` on both), "
                "does the network pass multicast (name the host with --host if not)?"
            )
        return Reach(address_text(found), address=found, token=_token(key))

    def _find_by_mdns(self, key: bytes) -> tuple[str, int] | None:
        if not self._network.mdns or time.monotonic() < self._mdns_due_s:
            return None
        self._mdns_due_s = time.monotonic() + MDNS_AGAIN_AFTER_S
        from musicsyncd.system.mdns import find

        try:
            hints = find(self._network, at_most_s=MDNS_LOOK_S)
        except DeviceError:
            return None  # What is said of the group is as true without it.
        return find_on_lan(self._network, key, timeout_s=MDNS_HELLO_TIMEOUT_S, at=hints) if hints else None

    def _room_key(self) -> bytes:
        from musicsyncd.protocol.auth import HostKeys
        from musicsyncd.system.keyfile import load_room_key

        if self._open_room:
            return HostKeys(OPEN_ROOM_KEY).room_key
        return load_room_key(self._paths.key_file, self._paths.rotated_key_file)


def api_path(*parts: str) -> str:
    """Return ``/api/…`` with each part quoted, so that a room called ``a/b?`` stays one part."""
    return "/api/" + "/".join(quote(part, safe="-") for part in parts)


def _token(room_key: bytes) -> str:
    from musicsyncd.protocol.auth import http_token

    return http_token(room_key)


def _probe(path: Path) -> OSError | None:
    """Return why nobody can be talked to on a Unix socket, or None if somebody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error
    return None


def _why_forbidden(path: Path) -> str:
    if path.parent == SYSTEM_RUNTIME_DIR:
        return (
            f"musicsyncd runs here as a service, whose socket {path} is for root and the group {SERVICE_USER}: say "
            f"`sudo musicsyncd …`, or once `sudo adduser $USER {SERVICE_USER}` and sign in again"
        )
    return f"a host runs here, but you may not use its socket {path} (try sudo)"


def _connection(reach: Reach) -> HTTPConnection:
    if reach.unix is not None:
        return _UnixConnection(reach.unix)
    return HTTPConnection(*reach.address, timeout=CONNECT_TIMEOUT_S)


def _answer(response: HTTPResponse, reach: Reach) -> dict[str, Any]:
    data = response.read(MAX_ANSWER_BYTES + 1)
    if len(data) > MAX_ANSWER_BYTES:
        raise ControlError(f"the answer of {reach.where} is longer than {MAX_ANSWER_BYTES >> 20} MiB")
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if response.status == 401:
        raise ControlError(
            f"the host at {reach.where} does not know this key: compare `musicsyncd key show` here and there"
        )
    if not isinstance(answer, dict):
        raise ControlError(
            f"what answers at {reach.where} is not a musicsyncd host (HTTP status {response.status}, no JSON)"
        )
    if response.status >= 400:
        raise ControlError(str(answer.get("error") or f"the host failed with HTTP status {response.status}"))
    return answer


def find_on_lan(
    network: NetworkConfig,
    room_key: bytes,
    *,
    timeout_s: float = HELLO_TIMEOUT_S,
    at: Sequence[tuple[str, int]] = (),
) -> tuple[str, int] | None:
    """Return the HTTP address and port of the host that answers a hello, by the address that answered first, or None.

    Args:
        network: group, port, interfaces.
        room_key: 32 bytes; a host with another key is not heard.
        timeout_s: how long to wait.
        at: addresses to ask, in place of the group.

    Raises:
        ConfigError: this machine has no such interface.
        ControlError: several hosts answer.
    """
    from musicsyncd.protocol import auth, wire
    from musicsyncd.system.multicast import Asker

    sealer = auth.Sealer(auth.derive_key(room_key, auth.PEER_PURPOSE), os.urandom(8), time.time_ns())
    opener = auth.Opener(auth.derive_key(room_key, auth.HOST_PURPOSE))
    nonce = os.urandom(8)
    found: dict[bytes, tuple[str, tuple[str, int]]] = {}
    begin_s = time.monotonic()
    end_s = begin_s + timeout_s
    due_s = [begin_s + at_s for at_s in HELLO_TIMES_S if at_s < timeout_s]
    with Asker(network) as lan:
        while (now_s := time.monotonic()) < end_s and len(found) < MAX_HOSTS:
            if due_s and now_s >= due_s[0]:
                del due_s[0]
                lan.ask(sealer.seal(wire.encode(wire.Hello(nonce))), at)
            heard = lan.answer(max(0.001, min([end_s, *due_s]) - now_s))
            if heard is None:
                continue
            try:
                opened = opener.open(heard[0])
                answer = wire.decode_from_host(opened.body)
            except ProtocolError:
                continue  # Nothing that a host of this room sent.
            if isinstance(answer, wire.Here) and answer.nonce == nonce:
                if not found:
                    end_s = time.monotonic() + OTHERS_S
                    due_s.clear()  # Whoever is slower has been asked already.
                # A host may answer at several of its addresses.
                found.setdefault(opened.sender, (answer.host_name, (heard[1][0], answer.http_port)))
    return _the_only(list(found.values()), network.port)


def _the_only(found: list[tuple[str, tuple[str, int]]], port: int) -> tuple[str, int] | None:
    """Return the address of the host that was found; hosts are a name and an address each."""
    if len(found) > 1:
        said = [f"{name} ({at[0] if at[1] == port else address_text(at)})" for name, at in found]
        many = "two" if len(found) == 2 else len(found)
        raise ControlError(f"{many} hosts answer, {', '.join(said[:-1])} and {said[-1]}: say which with --host")
    return found[0][1] if found else None

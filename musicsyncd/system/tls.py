"""HTTPS beside HTTP, with a certificate of the host's own.

Browsers give some things, such as an AudioWorklet or a lock that keeps the screen on, to pages of HTTPS only. Nobody
vouches for a machine at home, so a browser warns of the certificate once; whoever wants to be sure compares its
fingerprint, which `musicsyncd link` shows, with the one in the browser's warning.

Owns the certificate's file and how a connection becomes one of TLS. The file is made once, so that the fingerprint
stays the same when the machine's addresses do not.

A connection is counted as a stranger's from the moment it is made, and not only when its handshake is done: otherwise
whoever opens connections by the thousand and says nothing would take all descriptors of the process.

Sources: RFC 5280 (certificates), RFC 6125 section 6 (names in them).
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from musicsyncd.errors import ConfigError
from musicsyncd.system.http_connections import STRANGER_S, Connections
from musicsyncd.system.identity import write_atomically
from musicsyncd.system.site import Secured

YEARS = 10
MAX_FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Tls:
    """What HTTPS is served with."""

    context: ssl.SSLContext
    secured: Secured


def load_tls(path: Path, port: int, names: Iterable[str], addresses: Iterable[str]) -> Tls:
    """Return what HTTPS is served with; the certificate is made when there is none, or when its time is over.

    Args:
        path: of the file with certificate and private key (mode 0600).
        port: to serve on.
        names: of this machine.
        addresses: of this machine; one with a zone is left out.

    Raises:
        ConfigError: the file cannot be read, made or used.
    """
    try:
        if not path.exists() or _is_over(path):
            write_atomically(path, _make(names, addresses), replace=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(path)
        der = ssl.PEM_cert_to_DER_cert(_certificate(path))
    except (OSError, ValueError) as error:  # Errors of ssl are OSErrors.
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot use the certificate {path}: {reason}; remove it to have another made") from None
    digest = hashlib.sha256(der).hexdigest().upper()
    return Tls(context, Secured(port, ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))))


def _certificate(path: Path) -> str:
    """Return the certificate in a file.

    Raises:
        ValueError: there is none.
    """
    with path.open(encoding="ascii") as file:
        text = file.read(MAX_FILE_BYTES)
    begin, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if begin < 0 or end < begin:
        raise ValueError("there is no certificate in it")
    return text[begin : end + len(ssl.PEM_FOOTER)] + "\n"


def _is_over(path: Path) -> bool:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(_certificate(path).encode())
    return found.not_valid_after_utc <= datetime.datetime.now(datetime.UTC)


def _make(names: Iterable[str], addresses: Iterable[str]) -> bytes:
    """Return a new private key and a certificate of it, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "musicsyncd")])
    called: list[x509.GeneralName] = [x509.DNSName(one) for one in sorted(names) if one.isascii()]
    numbered = [ipaddress.ip_address(one) for one in dict.fromkeys(addresses) if "%" not in one]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A machine without a battery may think that it is an hour, or a day, ago.
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName([*called, *map(x509.IPAddress, numbered)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


class TlsSite(web.BaseSite):
    """A port on which connections begin with TLS.

    Args:
        runner: of the application.
        connections: are counted there.
        context: of TLS.
        address: to listen at.
        port: to listen on.
    """

    def __init__(
        self, runner: web.AppRunner, connections: Connections, context: ssl.SSLContext, address: str, port: int
    ) -> None:
        super().__init__(runner)
        self._connections = connections
        self._context = context
        self._address = address
        self._port = port

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"https://{self._address}:{self._port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: it cannot.
        """
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Handshake(server, self._connections, self._context), self._address, self._port, reuse_address=True
        )


class _Handshake(asyncio.Protocol):
    """A connection until TLS is agreed upon; the server's own protocol takes it over then."""

    def __init__(self, server: web.Server, connections: Connections, context: ssl.SSLContext) -> None:
        self._server = server
        self._connections = connections
        self._context = context
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connections.made(self, transport)
        self._task = asyncio.get_running_loop().create_task(self._agree(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.lost(self)

    async def _agree(self, transport: asyncio.Transport) -> None:
        handler = self._server()
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                transport, handler, self._context, server_side=True, ssl_handshake_timeout=STRANGER_S
            )
        except OSError:  # So are errors of ssl, of the connection and of its time.
            transport.abort()
            secure = None
        self._connections.lost(self)
        if secure is not None:
            handler.connection_made(secure)

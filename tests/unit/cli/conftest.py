"""A host that answers what it is told to, on a Unix socket and on TCP, and a way to call commands."""

import json
import shutil
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from musicsyncd.cli import cli


class FakeHost:
    """Keeps the requests that came, and answers them from ``answers`` by (method, path)."""

    def __init__(self, folder):
        self.folder = folder
        self.requests = []
        self.answers = {}
        self.tokens = []
        self.names: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                host.requests.append((self.command, self.path, json.loads(body) if body else None))
                host.tokens.append(self.headers.get("Authorization"))
                host.names.append(self.headers.get("Host"))
                status, answer = host.answers.get((self.command, self.path), (200, {"message": "done"}))
                if isinstance(answer, list):  # One after the other; the last one for ever.
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do

            def log_message(self, *args):
                pass

        class UnixServer(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        run = folder / "run"
        run.mkdir()
        self.servers = [UnixServer(str(run / "host.sock"), Handler), ThreadingHTTPServer(("127.0.0.1", 0), Handler)]
        self.port = self.servers[1].server_address[1]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, method, path, answer, status=200):
        self.answers[method, path] = (status, answer)

    def close_socket(self):
        """Leave the TCP port only."""
        self._close(self.servers.pop(0))
        (self.folder / "run" / "host.sock").unlink()

    def close(self):
        for server in self.servers:
            self._close(server)

    @staticmethod
    def _close(server):
        server.shutdown()
        server.server_close()


@pytest.fixture
def folder():
    # A Unix socket's path has 107 bytes at most; pytest's own folders are long.
    path = Path(tempfile.mkdtemp(prefix="ms"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(folder):
    fake = FakeHost(folder)
    yield fake
    fake.close()


@pytest.fixture
def environment(folder):
    """Nothing of the machine's own settings: no configuration file, no key, no host."""
    return {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_RUNTIME_DIR": None,
        "STATE_DIRECTORY": None,
        "CACHE_DIRECTORY": None,
        "RUNTIME_DIRECTORY": None,
        "CREDENTIALS_DIRECTORY": None,
        "MUSICSYNCD_STATE_DIR": str(folder),
    }


@pytest.fixture
def call(environment, monkeypatch):
    """Run a command; returns click's result with ``exit_code``, ``stdout`` and ``stderr``."""
    from musicsyncd.cli import settings
    from musicsyncd.system import control_client, local_peers

    # What this machine happens to have must not decide a test.
    monkeypatch.setattr(settings, "SYSTEM_FILE", Path("/nonexistent.toml"))
    monkeypatch.setattr(control_client.ControlClient.__init__, "__kwdefaults__", {
        **control_client.ControlClient.__init__.__kwdefaults__, "other_sockets": ()
    })  # fmt: skip

    monkeypatch.setattr(local_peers.local_peers, "__defaults__", ((),))

    def run(*args, input=None, **variables):
        result = CliRunner(env={**environment, **variables}).invoke(cli, args, prog_name="musicsyncd", input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run

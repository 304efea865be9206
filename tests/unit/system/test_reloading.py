"""The configuration read again: what the signal means, what systemd is told, and which keys have changed."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
from pathlib import Path

import pytest

from musicsyncd.cli.settings import COMMON, SECTIONS
from musicsyncd.config import HostConfig, NetworkConfig, PeerConfig
from musicsyncd.errors import ConfigError
from musicsyncd.hook_config import HookConfig
from musicsyncd.paths import Paths
from musicsyncd.system import reloading as module
from musicsyncd.system.host_daemon import _AT_ONCE as HOSTS
from musicsyncd.system.peer_daemon import _AT_ONCE as PEERS
from musicsyncd.system.reloading import changed_keys, on_hangup, reload_for_ever


def another(value: object, name: str) -> object:
    """Return another value of the same kind that a configuration takes."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return ("/other",)
    if isinstance(value, Path):
        return Path("/other")
    others = {"group": "239.1.2.3", "output": "null", "channels": "left", "replaygain": "track"}
    numbers = {"rate_hz": 44_100, "output_delay_ms": 1.0, "cache_mib": 64, "given_tls_port": 99}
    return {**others, **numbers, "after_restart": "stopped"}.get(name, "other")


PATHS = Paths.find({}, state_dir=Path("/s"))


@pytest.mark.parametrize(("kind", "section"), [(HostConfig, "host"), (PeerConfig, "peer")])
def test_every_field_of_a_configuration_is_called_by_its_key_when_it_has_changed(kind, section):
    made = kind(name="den", paths=PATHS)
    found = set()
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if not dataclasses.is_dataclass(value):
            changes = [another(value, field.name)]
        else:
            changes = [
                dataclasses.replace(value, **{one.name: another(getattr(value, one.name), one.name)})
                for one in dataclasses.fields(value)
            ]
        for change in changes:
            found |= changed_keys(made, dataclasses.replace(made, **{field.name: change}))
    keys = COMMON.keys() | SECTIONS[section].keys()
    assert found <= keys
    assert {"host": HOSTS, "peer": PEERS}[section] <= found
    # A key that no configuration has is not the daemons', or the log's.
    assert SECTIONS[section].keys() - found == set()


def test_what_is_the_same_has_not_changed_wherever_it_was_read():
    one = PeerConfig(name="a", paths=PATHS, network=NetworkConfig(port=9))
    again = PeerConfig(
        name="a", paths=dataclasses.replace(PATHS, config_file=Path("/f")), network=NetworkConfig(port=9)
    )
    assert changed_keys(one, again) == set()
    assert changed_keys(one, dataclasses.replace(one, hooks=HookConfig(("x",)))) == {"on-sound"}


# -- the signal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminal", "systemd", "ignored", "reloads"),
    [
        (True, False, False, False),  # The terminal of a daemon in its foreground was closed.
        (False, False, False, True),
        (True, True, False, True),
        (True, False, True, True),  # nohup.
    ],
)
def test_a_hangup_is_a_reload_unless_a_terminal_has_gone(monkeypatch, terminal, systemd, ignored, reloads):
    monkeypatch.setattr(module, "_has_terminal", lambda: terminal)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify" if systemd else "")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    async def test():
        stop = asyncio.Event()
        hangup = on_hangup(stop)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(10.0):
            await (hangup if reloads else stop).wait()
        assert (hangup.is_set(), stop.is_set()) == (reloads, not reloads)

    try:
        asyncio.run(test())
    finally:
        signal.signal(signal.SIGHUP, before)


def reloaded(monkeypatch, outcome) -> list[str]:
    """Reload once and return what systemd was told."""
    told: list[str] = []
    over = asyncio.Event()

    def notify(message: str) -> None:
        told.append(message)
        if message.startswith("READY"):
            over.set()

    async def reload() -> set[str]:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def test():
        hangup = asyncio.Event()
        task = asyncio.create_task(reload_for_ever(hangup, reload))
        await asyncio.sleep(0)
        assert told == []
        hangup.set()
        await asyncio.wait_for(over.wait(), 10.0)
        assert not hangup.is_set()
        assert not task.done()
        task.cancel()

    monkeypatch.setattr(module, "notify", notify)
    monkeypatch.setattr(module, "now_ns", lambda: 5_000_001_999)
    asyncio.run(test())
    return told


def test_systemd_is_told_of_a_reload_and_what_waits_is_named_in_one_line(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    assert reloaded(monkeypatch, {"device", "buffer-ms"}) == ["RELOADING=1\nMONOTONIC_USEC=5000001", "READY=1"]
    assert [one.message for one in caplog.records] == [
        "the configuration was read again",
        "takes effect at the next start: buffer-ms, device",
    ]


def test_a_broken_file_is_one_line_and_the_daemon_is_as_ready_as_before(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    told = reloaded(monkeypatch, ConfigError("/etc/m.toml is not valid TOML"))
    assert told == ["RELOADING=1\nMONOTONIC_USEC=5000001", "READY=1"]
    assert [one.message for one in caplog.records] == [
        "the configuration stays as it was: /etc/m.toml is not valid TOML"
    ]

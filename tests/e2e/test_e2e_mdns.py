"""A host that the group does not reach is found by multicast DNS: real processes in network namespaces.

What keeps the group from coming through is that speaker and command listen to another one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from house import COMMAND
from test_e2e_mpris import Bus
from test_e2e_network import HOST, OTHER, PEER, Lan, as_root, followed, give

__all__ = ["as_root"]

ELSEWHERE = ("--group", "239.255.77.84")
FOUND_S = 30.0
"""Five seconds of silence and a look, and on a busy machine a second one after its pause."""

NO_HOST_S = 10.0
"""Until a command says that there is no host: three seconds of asking, and its own start on a busy machine."""

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def lan() -> Iterator[Lan]:
    made = Lan(HOST, PEER, OTHER)
    for number, machine in enumerate((HOST, PEER, OTHER), 1):
        give(made, machine, number)
    yield made
    for name, text in made.logs():
        print(f"-- {name}\n{text}")
    made.close()


def asked(lan: Lan, machine: str, *words: str) -> subprocess.CompletedProcess[str]:
    folder = ("--state-dir", str(lan.folder / "elsewhere"), "--key-file", str(lan.key))
    return subprocess.run(
        [*lan.entering(machine), *COMMAND, *words, *folder, *lan.network],
        capture_output=True,
        text=True,
        timeout=60,
        env=lan.environment(),
        check=False,
    )


def descriptors_on_mdns(lan: Lan, machine: str) -> list[str]:
    shown = subprocess.run(
        [*lan.entering(machine), "cat", "/proc/net/udp", "/proc/net/udp6"], check=True, capture_output=True, text=True
    ).stdout
    return [line for line in shown.splitlines() if f":{5353:04X} " in line]


def test_a_speaker_finds_the_host_and_plays_in_step_with_one_that_hears_the_group(lan, songs):
    lan.host(str(songs["first"][0]))
    lan.speaker_on(OTHER)
    left = lan.speaker_on(PEER, *ELSEWHERE)
    lan.together(PEER, within_s=FOUND_S)
    lan.together(PEER, OTHER)
    assert lan.speaker(PEER)["reach"] == "unicast"
    assert lan.speaker(OTHER)["reach"] == "multicast"
    assert lan.speaker(OTHER)["clock"]["uncertainty_us"] < 1000
    assert lan.speaker(PEER)["clock"]["uncertainty_us"] < 1000
    assert "by mDNS, there may be a host at" in left.log.read_text()
    assert followed(left)
    # The host is heard: nobody on the speakers' machines listens to mDNS any more.
    lan.until("its sockets are closed", lambda: descriptors_on_mdns(lan, PEER) == [])
    assert descriptors_on_mdns(lan, HOST)


def test_a_host_that_comes_later_moves_and_goes_is_found_again(lan, songs):
    lan.set(HOST, "net.ipv6.conf.eth0.disable_ipv6", "1")
    lan.host().stop()  # It makes the key.
    left = lan.speaker_on(PEER, *ELSEWHERE)
    time.sleep(10.0)  # Its first look was in vain.
    host = lan.host(str(songs["first"][0]))
    lan.together(PEER, within_s=FOUND_S + 5)
    lan.on(HOST, "addr", "flush", "dev", "eth0")
    give(lan, HOST, 77)
    lan.until("at the new address", lambda: followed(left)[-1:] == ["10.66.0.77"], 2 * FOUND_S)
    found = asked(lan, OTHER, "status", "--json", *ELSEWHERE)
    assert found.returncode == 0, "it is announced at the new address"
    _, took_s = host.stop()
    assert took_s < 2.0
    assert "mDNS" not in host.log.read_text()


def test_a_command_finds_the_host_and_says_soon_when_there_is_none(lan, songs):
    lan.host(str(songs["first"][0]))
    found = asked(lan, PEER, "status", "--json", *ELSEWHERE)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["host"]["name"] == "host"
    done = asked(lan, PEER, "volume", "33", *ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert lan.room()["volume"] == 33
    for words in (("status", "--no-mdns", *ELSEWHERE), ("status", *ELSEWHERE, "--interface", "lo")):
        begin_s = time.monotonic()
        lost = asked(lan, PEER, *words)
        assert time.monotonic() - begin_s < NO_HOST_S
        assert lost.returncode == 1
        assert lost.stderr.count("\n") == 1
        assert "no host answers" in lost.stderr


def test_a_host_that_is_not_to_be_announced_is_not(lan, songs):
    lan.host("--no-mdns")
    assert asked(lan, PEER, "status", *ELSEWHERE).returncode == 1
    assert descriptors_on_mdns(lan, HOST) == []


def test_a_host_whose_port_of_mdns_is_taken_says_so_once_and_serves(lan, songs):
    taking = "import socket,time; s=socket.socket(2,2); s.bind(('',5353)); print(flush=True); time.sleep(60)"
    taken = subprocess.Popen([*lan.entering(HOST), *COMMAND[:1], "-c", taking], stdout=subprocess.PIPE)
    try:
        assert taken.stdout is not None
        taken.stdout.readline()
        host = lan.host(str(songs["first"][0]))
        lan.speaker_on(OTHER)
        lan.together(OTHER)
        time.sleep(3.0)
        warnings = [line for line in host.log.read_text().splitlines() if "warning" in line]
        assert len(warnings) == 1, warnings
        assert "not announced by mDNS" in warnings[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            taken.kill()
        taken.wait()


def test_with_ipv6_alone_addresses_come_with_their_link(songs):
    lan = Lan(HOST, PEER)
    try:
        lan.host(str(songs["first"][0]))
        left = lan.speaker_on(PEER, *ELSEWHERE)
        lan.together(PEER, within_s=FOUND_S)
        assert followed(left)[-1].startswith("fe80::")
        assert followed(left)[-1].endswith("%eth0")
        found = asked(lan, PEER, "status", "--json", *ELSEWHERE)
        assert found.returncode == 0, found.stderr
        with contextlib.closing(Bus()) as bus:
            key = ("--state-dir", str(lan.folder / "desk"), "--key-file", str(lan.key))
            desk = lan.start(PEER, "mpris", *key, *ELSEWHERE, DBUS_SESSION_BUS_ADDRESS=bus.address)
            lan.until("it is a player", lambda: "on the session bus as" in desk.log.read_text())
    finally:
        lan.close()

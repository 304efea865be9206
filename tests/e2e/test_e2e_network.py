"""Networks that are not as one would like them: real processes, each in a network namespace of its own.

The machines hang on one bridge, as on a switch. Addresses, interfaces and cables come and go with ``ip``. Nothing
here is judged by how exactly the sound fits: the speakers have no cards.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import COMMAND, House, Started, need

HOST, PEER, OTHER = "host", "left", "right"
REJOIN_S = 3.0
"""From an interface's being there again to the group's being heard on it."""

MOVE_S = 8.0
"""Until a host at another address is followed: two seconds of trust in the old one, and some beacons."""

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture(scope="module")
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root")
    need(shutil.which("ip"), "iproute2")


class Lan(House):
    """A house whose machines have networks of their own.

    Args:
        machines: their names; a process runs on the machine that is called as it is.
    """

    def __init__(self, *machines: str) -> None:
        super().__init__(Path())
        self.network = ("--port", str(self.port))
        self.tag = f"ms{os.getpid() % 100_000}"
        self.machines = machines
        try:
            self._wire()
        except BaseException:
            self.close()
            raise

    def _wire(self) -> None:
        self.ip("netns", "add", f"{self.tag}-hub")
        for switch in ("br0", "br1"):
            self.on("hub", "link", "add", switch, "type", "bridge", "mcast_snooping", "0")
            self.on("hub", "link", "set", switch, "up")
        for machine in self.machines:
            self.ip("netns", "add", f"{self.tag}-{machine}")
            self.on(machine, "link", "set", "lo", "up")
            self.plug(machine, "eth0", "br0")

    def ip(self, *words: str) -> str:
        """Run ``ip``.

        Raises:
            AssertionError: it failed; with what it said.
        """
        done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
        return done.stdout

    def on(self, machine: str, *words: str) -> str:
        """Run ``ip`` for a machine."""
        return self.ip("-n", f"{self.tag}-{machine}", *words)

    def set(self, machine: str, name: str, value: str) -> None:
        """Set a kernel variable of a machine."""
        subprocess.run([*self.entering(machine), "sysctl", "-qw", f"{name}={value}"], check=True)

    def plug(self, machine: str, interface: str, switch: str) -> None:
        """Give a machine an interface that hangs on a switch."""
        port = ("name", f"{machine}-{interface}", "netns", f"{self.tag}-hub")
        self.on(machine, "link", "add", interface, "type", "veth", "peer", *port)
        self.on("hub", "link", "set", f"{machine}-{interface}", "master", switch, "up")
        self.on(machine, "link", "set", interface, "up")

    def cable(self, machine: str, state: str) -> None:
        """Pull a machine's cable out (``down``) or put it in again (``up``)."""
        self.on("hub", "link", "set", f"{machine}-eth0", state)

    def entering(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.tag}-{name}"]

    def speaker_on(self, machine: str, *words: str) -> Started:
        """Start a speaker without a card on a machine."""
        return self.peer(machine, "--output", "null", *words)

    def asked_from(self, machine: str, *words: str) -> dict[str, object]:
        """Return what a command on a machine says, that finds the host over the network; empty when it does not."""
        folder = ("--state-dir", str(self.folder / "elsewhere"), "--key-file", str(self.key))
        done = subprocess.run(
            [*self.entering(machine), *COMMAND, *words, "--json", *folder, *self.network],
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(),
            check=False,
        )
        answer: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}
        return answer

    def heard_by_multicast(self, name: str) -> bool:
        """Return whether a speaker is there and gets its beacons by multicast."""
        return self.speaker(name).get("reach") == "multicast"

    def close(self) -> None:
        super().close()
        for machine in ("hub", *self.machines):
            with contextlib.suppress(AssertionError):
                self.ip("netns", "del", f"{self.tag}-{machine}")


@pytest.fixture
def lan() -> Iterator[Lan]:
    made = Lan(HOST, PEER, OTHER)
    yield made
    for name, text in made.logs():
        print(f"-- {name}\n{text}")
    made.close()


def give(lan: Lan, machine: str, number: int, interface: str = "eth0", network: str = "10.66.0") -> None:
    lan.on(machine, "addr", "add", f"{network}.{number}/24", "dev", interface)


def followed(started: Started) -> list[str]:
    """Return the addresses at which a speaker followed a host, in order."""
    words = "following the host at "
    return [line.split(words)[1].strip() for line in started.log.read_text().splitlines() if words in line]


def test_an_ipv6_lan_needs_no_configuration(lan, songs):
    lan.host(str(songs["first"][0]))
    left, right = lan.speaker_on(PEER), lan.speaker_on(OTHER)
    lan.together(PEER, OTHER)
    assert [one.partition("::")[0] for one in followed(left)] == ["fe80"]
    assert followed(left)[0].endswith("%eth0")
    for name in (PEER, OTHER):
        assert lan.speaker(name)["address"].endswith("%eth0")
        assert lan.heard_by_multicast(name)
        # Stamps of the kernel for what leaves and arrives, as in IPv4.
        assert lan.speaker(name)["clock"]["stamps"] == "kernel"
        assert lan.speaker(name)["clock"]["round_trip_us"] < 5000
    lan.call("volume", PEER, "40")
    found = lan.asked_from(OTHER, "status")
    assert [one["volume"] for one in found["peers"] if one["name"] == PEER] == [40], found
    # A host that is named by its address and zone is asked over TCP.
    at = f"[{followed(right)[0]}]:{lan.port}"
    assert lan.asked_from(OTHER, "status", "--host", at)["host"]["name"] == "host"


def test_with_both_families_a_speaker_keeps_to_one(lan, songs):
    for number, machine in enumerate((HOST, PEER), 1):
        give(lan, machine, number)
    lan.host(str(songs["first"][0]))
    left = lan.speaker_on(PEER)
    lan.together(PEER)
    time.sleep(4.0)  # Two times as long as an address is trusted without answers.
    assert len(followed(left)) == 1
    assert lan.speaker(PEER)["clock"]["loss_percent"] < 20


def test_where_ipv4_addresses_are_wrong_ipv6_is_found(lan, songs):
    """Another subnet for each: IPv4 carries the group and no answer."""
    give(lan, HOST, 1, network="10.66.0")
    give(lan, PEER, 2, network="10.67.0")
    lan.set(PEER, "net.ipv4.conf.all.rp_filter", "0")
    lan.set(PEER, "net.ipv4.conf.eth0.rp_filter", "0")
    lan.host(str(songs["first"][0]))
    left = lan.speaker_on(PEER)
    lan.together(PEER)
    assert followed(left)[-1].startswith("fe80::")


@pytest.mark.parametrize("switch", ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.eth0.disable_ipv6"])
def test_a_machine_without_ipv6_uses_ipv4(lan, songs, switch):
    for number, machine in enumerate((HOST, PEER), 1):
        lan.set(machine, switch, "1")
        give(lan, machine, number)
    lan.host(str(songs["first"][0]))
    left = lan.speaker_on(PEER)
    lan.together(PEER)
    assert followed(left) == ["10.66.0.1"]
    for started in lan.started:
        assert "warning" not in started.log.read_text(), "what is switched off on purpose is no fault"


def test_a_cable_that_was_out_is_noticed_at_once(lan, songs):
    for number, machine in enumerate((HOST, PEER), 1):
        give(lan, machine, number)
    lan.host(str(songs["first"][0]))
    left = lan.speaker_on(PEER)
    lan.together(PEER)
    lan.until("multicast", lambda: lan.heard_by_multicast(PEER))
    for interrupted in (lan.cable, lambda machine, state: lan.on(machine, "link", "set", "eth0", state)):
        interrupted(PEER, "down")
        lan.until("it is away", lambda: lan.speaker(PEER)["state"] == "away")
        interrupted(PEER, "up")
        lan.until("it is back", lambda: lan.heard_by_multicast(PEER), REJOIN_S + 2.0)  # IPv6 checks its address first.
    assert left.process.poll() is None


def test_an_interface_that_comes_later_is_used_within_seconds(lan, songs):
    """Daemons start before the network is there."""
    lan.on(PEER, "link", "set", "eth0", "down")
    lan.host(str(songs["first"][0]))
    lan.speaker_on(PEER)
    time.sleep(2.0)
    assert lan.speaker(PEER) == {}
    lan.on(PEER, "link", "set", "eth0", "up")
    lan.until("it is there", lambda: lan.heard_by_multicast(PEER), REJOIN_S + 2.0)
    lan.on(HOST, "link", "set", "eth0", "down")
    # Another interface, on another switch, on both machines; the first stays down.
    for machine in (HOST, PEER):
        lan.plug(machine, "eth1", "br1")
    lan.until("the other is used", lambda: lan.speaker(PEER)["address"].endswith("%eth1"), MOVE_S)
    lan.until("it is heard on it", lambda: lan.heard_by_multicast(PEER))


def test_a_host_with_a_new_address_is_followed(lan, songs):
    for machine in (HOST, PEER):
        lan.set(machine, "net.ipv6.conf.eth0.disable_ipv6", "1")
    give(lan, HOST, 1)
    give(lan, PEER, 2)
    lan.host(str(songs["first"][0]))
    left = lan.speaker_on(PEER)
    lan.together(PEER)
    lan.on(HOST, "addr", "flush", "dev", "eth0")
    give(lan, HOST, 77)
    lan.until("the new address", lambda: followed(left)[-1] == "10.66.0.77", MOVE_S)
    lan.together(PEER)
    # What it has not fetched yet comes from there, too.
    lan.call("play", str(songs["second"][0]))
    lan.together(PEER)
    assert lan.speaker(PEER)["fault"] == ""


def settled_address(lan: Lan, machine: str, device: str) -> str:
    """Return the IPv6 address of an interface once no other machine is found to have it (RFC 4862); empty before."""
    shown = json.loads(lan.on(machine, "-j", "-6", "addr", "show", "dev", device, "-tentative"))
    addresses = [one["local"] for interface in shown for one in interface.get("addr_info", [])]
    return addresses[0] if addresses else ""


def test_a_named_interface_is_the_only_one(lan, songs):
    for machine in (HOST, PEER):
        lan.plug(machine, "eth1", "br1")
    lan.host(str(songs["first"][0]))
    lan.until("the address is not looked for on the link any more", lambda: settled_address(lan, PEER, "eth1"))
    lan.speaker_on(PEER, "--interface", settled_address(lan, PEER, "eth1"))
    lan.together(PEER)
    assert lan.speaker(PEER)["address"].endswith("%eth1")

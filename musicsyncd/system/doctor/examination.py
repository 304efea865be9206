"""The examination: what is known of this machine beforehand, and all checks in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from musicsyncd.config import OPEN_ROOM_KEY, NetworkConfig, parse_address
from musicsyncd.errors import ConfigError, ControlError, MusicSyncError
from musicsyncd.paths import Paths
from musicsyncd.protocol.auth import HostKeys
from musicsyncd.system.control_client import ControlClient, api_path, find_on_lan
from musicsyncd.system.doctor.files import check_disk, check_key, check_port, check_versions
from musicsyncd.system.doctor.finding import Check, Finding, Patient, found_by
from musicsyncd.system.doctor.group import check_beacons, check_group
from musicsyncd.system.doctor.machine import check_clock, check_permissions, check_processors, check_wifi
from musicsyncd.system.doctor.reach import check_speakers, check_unicast
from musicsyncd.system.doctor.services import check_services
from musicsyncd.system.doctor.sound import check_sound
from musicsyncd.system.keyfile import load_room_key
from musicsyncd.system.local_peers import local_peers

CHECKS: tuple[tuple[str, Check], ...] = (
    ("services", check_services),
    ("key", check_key),
    ("port", check_port),
    ("network", check_group),
    ("multicast", check_beacons),
    ("way to the host", check_unicast),
    ("Wi-Fi", check_wifi),
    ("speakers", check_speakers),
    ("clock", check_clock),
    ("processors", check_processors),
    ("permissions", check_permissions),
    ("disk", check_disk),
    ("sound card", check_sound),
    ("versions", check_versions),
)


def patient_here(
    network: NetworkConfig,
    paths: Paths,
    *,
    host: str | None = None,
    open_room: bool = False,
    device: str | None = None,
    sound_s: float = 10.0,
    listen_s: float = 5.0,
) -> Patient:
    """Return this machine with what can be known of it beforehand.

    Args:
        network: how nodes find each other.
        paths: where files are.
        host: ``ADDRESS[:PORT]`` as a user named it, or None.
        open_room: there is no key.
        device: the sound card that is meant, or None.
        sound_s: how long to listen to the card; 0 only opens it.
        listen_s: how long to wait for the group.

    Raises:
        ConfigError: ``host`` is no address.
    """
    speakers = local_peers(paths.runtime_dir)
    open_room = open_room or any(one.get("open") is True for one in speakers)
    key, fault = None, ""
    try:
        key = HostKeys(OPEN_ROOM_KEY).room_key if open_room else load_room_key(paths.key_file, paths.rotated_key_file)
    except ConfigError as error:
        fault = str(error)
    status = None
    with contextlib.suppress(ControlError):  # None runs here, which is no fault.
        status = ControlClient(network, paths, local_only=True).get(api_path("status"))
    address = parse_address(host, network.port) if host is not None else None
    if address is None and status is None:
        address = _told_by(speakers) or _found(network, key)
    return Patient(network, paths, address, key, fault, open_room, speakers, status, device, sound_s, listen_s)


def _told_by(speakers: list[dict[str, object]]) -> tuple[str, int] | None:
    """Return where the speakers of this machine have their host."""
    for account in speakers:
        host = account.get("host")
        address = host.get("address") if isinstance(host, dict) else None
        if isinstance(address, str):
            return parse_address(address)
    return None


def _found(network: NetworkConfig, key: bytes | None) -> tuple[str, int] | None:
    try:
        return None if key is None else find_on_lan(network, key)
    except MusicSyncError:
        return None  # Why there is no network is said by the check of it.


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield the findings of all checks, each as soon as it is there."""
    for name, check in CHECKS:
        yield from found_by(name, check, patient)

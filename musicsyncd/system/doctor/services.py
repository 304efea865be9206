"""Check of the services: whether what was set up to run at every boot does run, and stays up.

Source: systemctl(1) and org.freedesktop.systemd1(5) for the properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from musicsyncd.system.doctor.finding import Finding, Patient
from musicsyncd.system.installing.place import Place, run_command
from musicsyncd.system.installing.units import ROLES, Role, unit_name

FEW_RESTARTS = 3
"""A driver that hung, a power dip; more by itself since its start is more than chance."""

_PROPERTIES = "LoadState,ActiveState,SubState,NRestarts,StatusText,UnitFileState,User,SupplementaryGroups,LimitRTPRIO"
_SYSTEMCTL_S = 3.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is set up here.

    Attributes:
        place: whose it is.
        role: host or peer.
        shown: systemd's properties of it, by their names.
    """

    place: Place
    role: Role
    shown: Mapping[str, str]


def places(root: Path = Path("/")) -> tuple[Place, ...]:
    """Return where services may be set up: for the system, and for this user."""
    run = partial(run_command, timeout_s=_SYSTEMCTL_S)
    return tuple(replace(one, run=run) for one in (Place.of_system(root), Place.of_this_user()))


def set_up_in(where: Iterable[Place]) -> Iterator[Service]:
    """Yield the services that are set up; none where there is no systemd, or none for this user."""
    for place in where:
        for role in ROLES if place.has_systemd else ():
            shown = place.look_at(unit_name(role), _PROPERTIES)
            # A package has both units on every machine; `install` enables what this one is to be.
            if shown.get("LoadState") == "loaded" and (
                shown.get("UnitFileState") == "enabled" or shown.get("ActiveState") != "inactive"
            ):
                yield Service(place, role, shown)


def sounding(where: Iterable[Place]) -> Service | None:
    """Return the service that sound comes from here: a speaker's before a host's, the system's before this user's."""
    found = list(set_up_in(where))
    return next((one for role in ("peer", "host") for one in found if one.role == role), None)


def check_services(_: Patient) -> Iterator[Finding]:
    """Look at the services of the system and of this user that are set up."""
    found = False
    for service in set_up_in(places()):
        found = True
        yield judge_service(service.role, service.shown, "--user " if service.place.of_user else "")
    if not found:
        yield Finding("service", "skipped", "none is set up here: `musicsyncd install host` or `peer` does it")


def judge_service(role: Role, shown: Mapping[str, str], of: str = "") -> Finding:
    """Judge a service.

    Args:
        role: host or peer.
        shown: systemd's properties of it, by their names.
        of: ``--user`` and a space for one of this user's.
    """
    name = f"musicsyncd-{role}"
    restarts = int(shown["NRestarts"]) if shown.get("NRestarts", "").isdecimal() else 0
    advice = f"journalctl {of}-e -u {name} says why"
    state = shown.get("ActiveState", "")
    if state == "active":
        said = f"runs: {shown.get('StatusText') or 'active'}"
        if restarts > FEW_RESTARTS:
            return Finding(name, "advice", f"{said}; systemd had to start it anew {restarts} times", advice)
        return Finding(name, "good", said)
    if state in ("activating", "reloading", "deactivating") and shown.get("SubState") != "auto-restart":
        return Finding(name, "advice", f"is {state} at this moment", "look again")
    if state == "inactive":
        return Finding(name, "bad", "is set up and does not run", f"systemctl {of}start {name}")
    if state == "failed":
        after = f", after systemd had started it anew {restarts} times" if restarts else ""
        return Finding(name, "bad", f"has failed, and is not tried once more{after}", advice)
    anew = f": systemd has started it anew {restarts} times" if restarts else ""
    return Finding(name, "bad", f"does not stay up{anew}", advice)

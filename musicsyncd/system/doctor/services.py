"""Check of the services: whether what was set up to run at every boot does run, and stays up.

Source: systemctl(1) and org.freedesktop.systemd1(5) for the properties.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping

from musicsyncd.system.doctor.finding import Finding, Patient

UNITS = ("musicsyncd-host.service", "musicsyncd-peer.service")

FEW_RESTARTS = 3
"""A driver that hung, a power dip; more by itself since its start is more than chance."""

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "NRestarts", "StatusText", "UnitFileState")
_SYSTEMCTL_S = 3.0


def check_services(patient: Patient) -> Iterator[Finding]:
    """Look at the services of the system and of this user that are set up."""
    found = False
    for manager in ((), ("--user",)):
        for unit in UNITS:
            shown = _show(manager, unit)
            # A package has both units on every machine; `install` enables what this one is to be.
            if shown.get("LoadState") == "loaded" and (
                shown.get("UnitFileState") == "enabled" or shown.get("ActiveState") != "inactive"
            ):
                found = True
                yield judge_service(unit, shown, " ".join(manager))
    if not found:
        yield Finding("service", "skipped", "none is set up here: `musicsyncd install host` or `peer` does it")


def judge_service(unit: str, shown: Mapping[str, str], manager: str = "") -> Finding:
    """Judge a service.

    Args:
        unit: its name.
        shown: systemd's properties of it, by their names.
        manager: ``--user`` for one of this user's.
    """
    name = unit.removesuffix(".service")
    restarts = int(shown["NRestarts"]) if shown.get("NRestarts", "").isdecimal() else 0
    of = f"{manager} " if manager else ""
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
    return Finding(name, "bad", f"does not stay up: systemd has started it anew {restarts} times", advice)


def _show(manager: tuple[str, ...], unit: str) -> dict[str, str]:
    """Return what systemd says of a unit; nothing where there is no systemd, or none for this user."""
    words = ["systemctl", *manager, "show", f"--property={','.join(_PROPERTIES)}", unit]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode:
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

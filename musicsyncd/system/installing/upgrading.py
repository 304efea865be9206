"""The second half of an upgrade, which the new version does: new units, and new processes of what runs.

Owns only which plans that is: those of all that is set up here, with nothing new asked for.
"""

from __future__ import annotations

from musicsyncd.system.installing.place import Place
from musicsyncd.system.installing.plan import Plan, Wishes, plan_install
from musicsyncd.system.installing.record import load_record
from musicsyncd.system.installing.way import Way


def plans_to_renew(place: Place, way: Way) -> list[Plan]:
    """Return what is to be done for all that is set up in a place. What does not run is not started.

    Under a source tree nothing tells whether it was changed, so what runs is started anew.

    Raises:
        ConfigError: something cannot be renewed.
    """
    roles = load_record(place.record_file).roles
    wishes = [Wishes(role, renew=True, restart=way.kind == "source") for role in roles]
    return [plan_install(place, way, one) for one in wishes]

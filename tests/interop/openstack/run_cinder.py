"""Cinder: the flows of its API, scheduler and volume manager, and those of two drivers."""

from __future__ import annotations

import logging
from unittest import mock

from cinder import objects

objects.register_all()  # flows refer to objects by their names when they are imported

from cinder import context
from cinder.scheduler.flows import create_volume as in_scheduler
from cinder.volume.drivers.dell_emc.vnx import taskflows as vnx
from cinder.volume.flows.api import create_volume as in_api, manage_existing as manage_in_api
from cinder.volume.flows.manager import (
    create_volume as in_manager,
    manage_existing,
    manage_existing_snapshot,
)
from standins import explore, flow_of
from transcript import Transcript

OUT = Transcript()


def main() -> None:
    who = context.get_admin_context()
    some, db, _host, driver = mock.MagicMock, mock.MagicMock(), mock.MagicMock(), mock.MagicMock()

    def create(reschedule: bool, properties: object = None) -> object:
        return in_manager.get_flow(
            who, some(), db, driver, some(), "host", some(), reschedule, some(), {}, properties or {"retry": {}}
        )

    for title, load in {
        "API: create a volume": lambda: in_api.get_flow(db, some(), ["nova"], {}, some(), some()),
        "API: create an entry": lambda: in_api.get_flow(db, some(), ["nova"], {}),
        "API: take over a volume": lambda: manage_in_api.get_flow(some(), db, {}),
        "scheduler: create a volume": lambda: in_scheduler.get_flow(who, some(), {}, {}, some()),
        "manager: create a volume": lambda: create(False),
        "manager: create or send on": lambda: create(True),
        "manager: create for the last time": lambda: create(True, {"retry": {"num_attempts": 9}}),
        "manager: take over a volume": lambda: manage_existing.get_flow(who, db, driver, "host", some(), "ref"),
        "manager: take over a snapshot": lambda: manage_existing_snapshot.get_flow(
            who, db, driver, "host", "snapshot", "ref"
        ),
        "VNX: clone": lambda: vnx.create_cloned_volume(some(), "snap", 1, "lun", 2, "base", "pool", "thin", "auto"),
        "VNX: clone in the background": lambda: vnx.create_cloned_volume(
            some(), "snap", 1, "lun", 2, "base", "pool", "thin", "auto", True
        ),
        "VNX: clone at once": lambda: vnx.fast_create_cloned_volume(some(), "snap", 1, "lun", "base"),
        "VNX: from a snapshot": lambda: vnx.create_volume_from_snapshot(
            some(), "snap", "lun", 2, "base", "pool", "thin", "auto", "new snap"
        ),
        "VNX: from a snapshot at once": lambda: vnx.fast_create_volume_from_snapshot(
            some(), "snap", "new snap", "lun", "base", "pool"
        ),
        "VNX: a group": lambda: vnx.create_cloned_cg(
            some(), "group", "source", "pool", [1, 2], ["one", "two"], ["a", "b"], [some(), some()]
        ),
        "VNX: a mirror": lambda: vnx.create_mirror_view(some(), "mirror", 1, "pool", "lun", 2, "thin", "auto"),
    }.items():
        explore(OUT, title, lambda load=load: flow_of(load))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    # A task connects to the database when it is made.
    with mock.patch("time.sleep"), mock.patch("cinder.db.api.dispose_engine"):
        main()

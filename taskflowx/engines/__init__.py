"""Engines run flows: `load` makes one, `run` makes one and runs it."""

from taskflowx.engines.helpers import (
    flow_from_detail,
    load,
    load_from_detail,
    load_from_factory,
    run,
    save_factory_details,
)

__all__ = ["flow_from_detail", "load", "load_from_detail", "load_from_factory", "run", "save_factory_details"]

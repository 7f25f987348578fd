"""Entities: kind, name, metadata."""

from __future__ import annotations

from taskflowx.types.entity import Entity


def test_an_entity_as_a_dict():
    entity = Entity("conductor", "c1", {"hostname": "h"})
    assert (entity.kind, entity.name, entity.metadata) == ("conductor", "c1", {"hostname": "h"})
    assert entity.to_dict() == {"kind": "conductor", "name": "c1", "metadata": {"hostname": "h"}}

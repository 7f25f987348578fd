"""Participants that register themselves, such as a conductor; a type of TaskFlow's, which nothing here uses."""

from __future__ import annotations

from typing import Any


class Entity:
    """A participant with a kind and a name.

    :param kind: its kind, such as 'conductor'
    :param name: its name, unique in its kind
    :param metadata: facts about it, which can be stored as JSON
    """

    def __init__(self, kind: str, name: str, metadata: dict[str, Any]) -> None:
        self.kind = kind
        self.name = name
        self.metadata = metadata

    def to_dict(self) -> dict[str, Any]:
        """Return kind, name and metadata in one dict."""
        return {"kind": self.kind, "name": self.name, "metadata": self.metadata}

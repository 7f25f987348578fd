"""The record of runs: a `LogBook` holds `FlowDetail`s, each of which holds one `AtomDetail` per atom."""

from __future__ import annotations

import copy
import datetime as dt
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Self

from taskflowx import states
from taskflowx._util import arguments, reprs
from taskflowx.persistence.details import (
    ATOM_TYPES,
    META_LET_GO,
    META_SENSITIVE,
    STATES_OF_EXECUTE_RESULTS,
    AtomDetail,
    RetryDetail,
    TaskDetail,
    atom_detail_class,
    atom_detail_type,
    check_data,
    describe,
    identify,
    make_uuid,
    marshal,
    utcnow,
)

__all__ = [
    "ATOM_TYPES",
    "META_LET_GO",
    "META_SENSITIVE",
    "STATES_OF_EXECUTE_RESULTS",
    "AtomDetail",
    "FlowDetail",
    "LogBook",
    "RetryDetail",
    "TaskDetail",
    "atom_detail_class",
    "atom_detail_type",
    "identify",
    "make_uuid",
]


def _forget_lock() -> None:
    global _adding  # noqa: PLW0603 - one for the process
    _adding = threading.RLock()


# Held while a member with a known uuid is added: threads share the book of their runs.
_adding = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


class _Container:
    """Base class of containers of details: ordered, and found by uuid through an index that is made on demand.

    The index is complete if it is as long as the list, which other threads may extend at any time.
    """

    __slots__ = ("_index", "_members", "_meta")

    def __init__(self) -> None:
        self._members: list[Any] = []
        self._index: dict[str, Any] | None = None
        self._meta: dict[str, Any] = {}

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about all that is in here; no None, which callers may set."""
        return self._meta

    @meta.setter
    def meta(self, value: dict[str, Any] | None) -> None:
        self._meta = {} if value is None else value

    def add(self, member: Any) -> None:
        """Add a member; one with the same uuid is replaced."""
        if isinstance(member, AtomDetail) and member.own_uuid is None:
            # Its uuid does not exist yet, so no member can have the same one.
            self._members.append(member)
            return
        if not isinstance(member, AtomDetail):
            arguments.check_like(
                "A member", member, ("name", "uuid"), f"a detail that a {type(self).__name__} can hold"
            )
        uuid = member.uuid
        with _adding:
            index = self._indexed()
            known = index.get(uuid)
            if known is None:
                self._members.append(member)
            else:
                self._members[self._members.index(known)] = member
            index[uuid] = member

    def extend(self, members: Iterable[AtomDetail]) -> None:
        """Add details whose uuids do not exist yet."""
        self._members.extend(members)

    def find(self, uuid: str) -> Any:
        """Return the member with this uuid, or None."""
        return self._indexed().get(uuid)

    def _indexed(self) -> dict[str, Any]:
        index = self._index
        if index is None or len(index) != len(self._members):
            with _adding:
                self._index = index = {member.uuid: member for member in self._members}
        return index

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _tree(self, indent: int, linesep: str) -> str:
        return "".join(linesep + member.pformat(indent + 1, linesep) for member in self)


class FlowDetail(_Container):
    """The record of one flow; iterates over the details of its atoms.

    :param name: name of the flow
    :param uuid: uuid of this detail
    """

    __slots__ = ("log", "name", "revision", "state", "unsaved", "uuid", "writer")

    def __init__(self, name: str, uuid: str) -> None:
        super().__init__()
        self.name = name
        self.uuid = uuid
        self.state: str | None = None
        #: the number of writes of the run in its store, when this was read or written; see `persistence.owners`
        self.revision = 0
        #: the writer of this copy outside of runs; see `persistence.owners.writer_of`
        self.writer: Any = None
        #: what notes the transitions of this copy, a `persistence.history.Log`; None where no history is kept
        self.log: Any = None
        #: the details that a commit has failed to write: the next one has them, too, whichever engine makes it
        self.unsaved: tuple[AtomDetail, ...] = ()

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name!r} {self.state}: {reprs.counted(one.state for one in self)}"

    def update(self, fd: FlowDetail) -> Self:
        """Copy state, metadata and the details of the atoms from another detail, by reference."""
        if fd is not self:
            arguments.check_like("fd", fd, ("state", "meta"), "a FlowDetail")
            self.state, self.meta = fd.state, fd.meta
            self._members, self._index = list(fd), None
        return self

    def merge(self, fd: FlowDetail, deep_copy: bool = False) -> Self:
        """Copy state and metadata from another detail.

        :param deep_copy: whether the metadata is copied rather than shared
        """
        if fd is not self:
            arguments.check_like("fd", fd, ("state", "meta"), "a FlowDetail")
            self.state = fd.state
            self.meta = copy.deepcopy(fd.meta) if deep_copy else fd.meta
        return self

    def copy(self, retain_contents: bool = True) -> Self:
        """Return a shallow copy with the same uuid, with the same atom details or without them."""
        other = type(self)(self.name, self.uuid)
        other.state, other.meta, other.revision = self.state, dict(self.meta), self.revision
        if retain_contents:
            other._members, other.unsaved = list(self._members), self.unsaved
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the atom details in one dict."""
        return {"name": self.name, "meta": self.meta, "state": self.state, "uuid": self.uuid}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make a detail from the result of `to_dict`.

        :raises KeyError, TypeError, ValueError: when it is invalid; names the part
        """
        check_data(data, states.FLOW_STATES)
        made = cls(data["name"], data["uuid"])
        made.state = data.get("state")
        made.meta = data.get("meta") or {}
        return made

    def pformat(self, indent: int = 0, linesep: str = "\n") -> str:
        """Describe this detail and its content in human-readable lines."""
        return describe(self, [("state", self.state)], indent, linesep) + self._tree(indent, linesep)


class LogBook(_Container):
    """A named collection of flow details, over which it iterates.

    :param name: any name
    :param uuid: uuid of this book; made if it is None
    """

    __slots__ = ("created_at", "name", "updated_at", "uuid")

    def __init__(self, name: str, uuid: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.uuid = uuid or make_uuid()
        self.created_at: dt.datetime = utcnow()
        self.updated_at: dt.datetime | None = None

    def add(self, member: FlowDetail) -> None:
        """Add a flow detail."""
        super().add(member)
        self.updated_at = utcnow()

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name!r}: {reprs.number_of(len(self), 'flow')}"

    def merge(self, lb: LogBook, deep_copy: bool = False) -> Self:
        """Copy times and metadata from another book; the flow details stay as they are.

        :param deep_copy: whether the metadata is copied rather than shared
        """
        if lb is not self:
            arguments.check_like("lb", lb, ("meta", "created_at"), "a LogBook")
            self.meta = copy.deepcopy(lb.meta) if deep_copy else lb.meta
            self.created_at, self.updated_at = lb.created_at, lb.updated_at
        return self

    def copy(self, retain_contents: bool = True) -> Self:
        """Return a shallow copy with the same uuid, with the same flow details or without them."""
        other = type(self)(self.name, self.uuid)
        other.meta = dict(self.meta)
        other.created_at, other.updated_at = self.created_at, self.updated_at
        if retain_contents:
            other._members = list(self._members)
        return other

    def to_dict(self, marshal_time: bool = False) -> dict[str, Any]:
        """Return everything but the flow details in one dict.

        :param marshal_time: whether times are given as dicts of their parts (`year`, `month`, ...
            `microsecond`) rather than as datetime
        """
        times: dict[str, Any] = {"updated_at": self.updated_at, "created_at": self.created_at}
        if marshal_time:
            times = {key: marshal(at) for key, at in times.items()}
        return {"name": self.name, "meta": self.meta, "uuid": self.uuid, **times}

    @classmethod
    def from_dict(cls, data: dict[str, Any], unmarshal_time: bool = False) -> Self:
        """Make a book from the result of `to_dict`.

        :param unmarshal_time: whether times come as dicts of their parts
        :raises KeyError, TypeError, ValueError: when it is invalid; names the part
        """
        check_data(data)
        made = cls(data["name"], data["uuid"])
        made.meta = data.get("meta") or {}
        for key in ("created_at", "updated_at"):
            at = data.get(key)
            if at is not None:
                kind = dict if unmarshal_time else dt.datetime
                arguments.check_type(f"data['{key}']", at, kind, f"a {kind.__name__} or None")
            setattr(made, key, dt.datetime(**at) if unmarshal_time and at else at)  # noqa: DTZ001 - UTC
        return made

    def pformat(self, indent: int = 0, linesep: str = "\n") -> str:
        """Describe this book and its content in human-readable lines."""
        times = (("created_at", self.created_at), ("updated_at", self.updated_at))
        return describe(self, [], indent, linesep, times) + self._tree(indent, linesep)


for _kind in (AtomDetail, TaskDetail, RetryDetail):
    _kind.__module__ = __name__  # callers import them from here, and errors name them so

"""Long histories of retries in a tree of paths: attempts that are over are written once, beside the record.

What must stay true: the record says how many attempts are beside it, and is written after they are; so what a writer
that died has left there is not read, and is written again. What is known of a record that was written last is used only
if the store still has that very record.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.persistence import codec, models
from taskflowx.persistence.path_tree import CHUNK, PathTree, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONG_HISTORY = 8  # attempts
_MOST_WRITTEN = 16  # records of retries that are known


class Change(NamedTuple):
    """A record that is to be written."""

    link: str | None  # to be made before it, when the record is new in its parent
    kept: Any  # what `_pack` has made of it
    is_new: bool  # whether nothing was stored at its path
    flow: str | None = None  # of an atom: the uuid of its flow, where that is known


Changes = dict[str, Change]  # by path, in the order in which they are to be written


class Written(NamedTuple):
    """What was written last of a retry with a history."""

    kept: Any
    place: Place
    last: Any  # the last of the attempts that are beside the record, by which the history is known again


class Histories(PathTree, abc.ABC):
    """Writes retries with a history; the back end has a dict of what was `written` of them last."""

    def _fits(self, path: str, packed: Any) -> bool:
        """Tell whether a record can be written as a whole."""
        return True

    def _stage_history(
        self, changes: Changes, path: str, detail: models.AtomDetail, flow: str, *, at_rest: bool
    ) -> bool:
        """Add a retry with a history to what is to be written; returns whether it is one.

        Its record is not taken apart when it is known, which takes the longer the more attempts there were.

        :param flow: the uuid of its flow
        :param at_rest: whether all attempts are to be in the record
        :raises NotFound: when it is not stored
        """
        if not isinstance(detail, models.RetryDetail) or len(detail.results) < _LONG_HISTORY:
            return False
        kept, place, _ = self._last_written(path, detail) or (None, None, None)
        if place is None:
            stored, place = self._read(path, codec.load_atom)
            if stored.KIND != detail.KIND:
                return False
            place = Place(place.at, flow)  # all that is beside the record is written again
        if at_rest:
            packed = self._pack(detail, place._replace(past=0))
            if self._fits(path, packed):
                if packed != kept:
                    changes[path] = Change(None, packed, is_new=False, flow=flow)
                return True
        place = place._replace(past=self._stage_attempts(changes, detail, place.past))
        packed = self._pack(detail, place)
        if packed != kept:
            changes[path] = Change(None, packed, is_new=False, flow=flow)
        self._remember(path, Written(packed, place, detail.results[place.past - 1] if place.past else None))
        return True

    def _stage_attempts(self, changes: Changes, detail: models.RetryDetail, past: int) -> int:
        """Add attempts that are over, when they are many, to what is written beside the record.

        :param past: how many are there; returns how many there are then
        """
        count = len(detail.results)
        if count - past <= 2 * CHUNK:
            return past
        for begin in range(past, count - CHUNK, CHUNK):
            text = codec.dump_attempts(detail, begin, begin + CHUNK)
            changes[self._chunk_path(detail.uuid, begin)] = Change(None, text, is_new=True)
            past = begin + CHUNK
        return past

    def _last_written(self, path: str, detail: models.RetryDetail) -> Written | None:
        """Return what was written last, if the store has it, and the history has only grown since."""
        written: Written | None = self._backend.written.pop(path, None)
        if written is None:
            return None
        past = written.place.past
        if past and (len(detail.results) <= past or detail.results[past - 1] is not written.last):
            return None
        return written if self._get_item(path) == written.kept else None

    def _remember(self, path: str, written: Written) -> None:
        known = self._backend.written
        while len(known) >= _MOST_WRITTEN:
            known.pop(next(iter(known)), None)
        known[path] = written

    def _parted(self, details: Iterable[models.AtomDetail]) -> list[models.AtomDetail]:
        """Return the details of retries of which attempts may be beside the record."""
        return [each for each in details if isinstance(each, models.RetryDetail) and len(each.results) > 2 * CHUNK]

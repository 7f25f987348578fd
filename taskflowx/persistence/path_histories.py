"""Long histories of retries in a tree of paths: finished attempts are written once, beside the record.

What must stay true: the record says how many attempts are beside it, and is written after they are; so leftovers of a
writer that has died are not read, and are overwritten. The cache of the last written record is used only if the store
still has that very record.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.persistence import codec, models
from taskflowx.persistence.path_tree import CHUNK, PathTree, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONG_HISTORY = 8  # attempts
_MOST_WRITTEN = 16  # the size of the cache: records of retries


class Change(NamedTuple):
    """A record that is to be written."""

    link: str | None  # made before the record, when it is new in its parent
    kept: Any  # the stored form, of `_pack`
    is_new: bool  # whether nothing was stored at its path
    flow: str | None = None  # of an atom: the uuid of its flow, if known


Changes = dict[str, Change]  # by path, in the order of writing


class Written(NamedTuple):
    """The last written state of a retry with a history."""

    kept: Any
    place: Place
    last: Any  # the last of the attempts beside the record, which identifies the history


class Histories(PathTree, abc.ABC):
    """Writes retries with a history; the back end caches their last `written` states."""

    def _fits(self, path: str, packed: Any) -> bool:
        """Tell whether a record can be written as a whole."""
        return True

    def _stage_history(
        self, changes: Changes, path: str, detail: models.AtomDetail, flow: str, *, at_rest: bool
    ) -> bool:
        """Stage a retry with a history; returns whether the detail is one.

        A cached record is not parsed, which takes the longer the more attempts there are.

        :param flow: the uuid of its flow
        :param at_rest: whether all attempts must be in the record
        :raises NotFound: when it is not stored
        """
        if not isinstance(detail, models.RetryDetail) or len(detail.results) < _LONG_HISTORY:
            return False
        kept, place, _ = self._last_written(path, detail) or (None, None, None)
        if place is None:
            stored, place = self._read(path, codec.load_atom)
            if stored.KIND != detail.KIND:
                return False
            place = Place(place.at, flow)  # everything beside the record is written again
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
        """Stage finished attempts for writing beside the record, when there are many.

        :param past: how many are there; returns the new number
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
        """Return the last written state, if the store still has it, and the history has only grown since."""
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
        """Return the details of retries that may have attempts beside their records."""
        return [each for each in details if isinstance(each, models.RetryDetail) and len(each.results) > 2 * CHUNK]

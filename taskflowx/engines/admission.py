"""What is ready, admitted by the limits of the engine; what has to wait is parked in `Walk.held`.

The scheduler asks before it takes what is ready. A call that is admitted begins in the same turn, or is put back. It
is released when it comes back from the executor, or there is nothing to call; one that is requeued, as it has not
begun, is put back. Nothing of this is in the record: a run that goes on has all that waited ready again, and all
capacities free.

What must stay true: what waits is in `Walk.held` and nowhere else, and is taken out of it as from `ready` and `undo`
when its region is rolled back. Retries have no limits: they run in the thread of the engine.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry
from taskflowx.engines.limit_names import Limited, Table, fill
from taskflowx.engines.limits import Bucket, Gate, Group, Limits
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.limit_names import Kind
    from taskflowx.engines.options import Options
    from taskflowx.engines.shared import Run


#: so many calls have ended at most before that is taken in
_MOST_ENDED = 65536


class Admission:
    """The limits in one run.

    A key is the index of an atom that executes, and `~index` of one that is reverted.

    :param run: the run
    :param options: the options of the engine
    """

    def __init__(self, run: Run, options: Options) -> None:
        self._run, self._walk, self._plan = run, run.walk, run.plan
        limited = run.plan.limited or Limited({}, {}, {})
        self._capacities, self._rates = Table(limited.capacities), Table(limited.rates)
        self._shares = options.revert_limits == "shared"
        at_once = _at_once(run, options)
        self._limits = Limits(run.clock, run.walk.held, at_once)
        self._kind_of = limited.kinds.get
        self._gates: dict[tuple[str, bool], Gate | None] = {}
        self._groups: dict[tuple[tuple[Gate, int], ...], Group] = {}
        #: the groups of kinds that are the same each time, for executes and for reverts
        self._group_of: tuple[dict[Kind, Group | None], dict[Kind, Group | None]] = ({}, {})
        #: the group of tasks without limits of their own; None where `max_in_flight` is not given
        self._others = Group(((self._limits.room, 1),)) if at_once < math.inf else None
        #: the names that an execute had, for its revert
        self._names: dict[int, tuple[str, ...]] = {}
        #: what has passed as a whole and is not noted yet, as nobody has had to wait since: how many had ended before,
        #: and the atoms that execute and revert
        self._batches: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []
        self._places: list[int] | None = None
        if run.plan.rank is not None:
            self._places = [0] * len(run.plan)
            for place, i in enumerate(sorted(range(len(run.plan)), key=run.plan.rank.__getitem__)):
                self._places[i] = place
        self._ended = run.ended = []
        self._requeued = run.requeued = []

    # -- who passes --------------------------------------------------------------------------------

    def admit(self) -> bool:
        """Leave in `ready` and `undo` of the Walk what may begin now, with what has waited and may begin now.

        Returns whether there is something.
        """
        walk = self._walk
        if len(self._ended) > _MOST_ENDED or walk.held or self._requeued:
            self._take_in()
        if not self._pass_all():
            self._take_in()
            new: dict[Group, list[int]] = {}
            ready = self._sort(walk.ready, new)
            undo = self._sort([~i for i in walk.undo], new)
            passing = self._limits.admit(new, self._rank, self._run.in_flight)
            walk.ready = [*ready, *(key for key in passing if key >= 0)]
            walk.undo = [~key for key in (*undo, *passing) if key < 0]
        return bool(walk.ready or walk.undo)

    def _pass_all(self) -> bool:
        """Let all pass that is ready, if nobody waits and there is room for all of it; tells whether it is so."""
        walk, kind_of = self._walk, self._kind_of
        if walk.held:
            return False
        new: dict[Group, int] = {}
        may_fail = walk.ready if self._run.time_limits is not None else []
        if any(map(self._is_uncalled, (*may_fail, *(~i for i in walk.undo)))):
            return False
        for reverts, batch in enumerate((walk.ready, walk.undo)):
            for kind, count in Counter(map(kind_of, batch)).items():
                if kind is not None and kind.is_open:
                    return False
                group = self._others if kind is None else self._closed_group(kind, reverts=reverts)
                if group is not None:
                    new[group] = new.get(group, 0) + count
        if not self._limits.pass_all(new, self._run.in_flight):
            return False
        if new:
            self._batches.append((len(self._ended), tuple(walk.ready), tuple(walk.undo)))
        return True

    def _sort(self, keys: list[int], new: dict[Group, list[int]]) -> list[int]:
        """Put keys to their groups, and return those that need nothing."""
        free = []
        for key in keys:
            group = self._find_group(key)
            if group is None:
                free.append(key)
            elif group in new:
                new[group].append(key)
            else:
                new[group] = [key]
        return free

    def _rank(self, key: int) -> int:
        """Return the place of a key: what is undone comes first, the last of it before the others."""
        if self._places is None:
            return key
        return self._places[key] if key >= 0 else ~self._places[~key]

    # -- what each needs ---------------------------------------------------------------------------

    def _find_group(self, key: int) -> Group | None:
        """Return the group of what needs the same as a call; None if it needs nothing."""
        i, reverts = (key, 0) if key >= 0 else (~key, 1)
        if self._is_uncalled(key):
            return None
        kind = self._kind_of(i)
        if kind is None:
            return None if isinstance(self._plan.atoms[i], retry.Retry) else self._others
        if kind.is_open:
            return self._group(self._fill(i, kind, reverts=reverts), kind, reverts=reverts)
        return self._closed_group(kind, reverts=reverts)

    def _is_uncalled(self, key: int) -> bool:
        """Tell whether there is no call: a flow around it is over its time limit, or there is nothing to undo."""
        if key >= 0:
            limits = self._run.time_limits
            return limits is not None and limits.keeps_from_beginning(key)
        return bool((self._run.details[~key].own_meta or {}).get(metadata.NOT_CALLED))

    def _closed_group(self, kind: Kind, *, reverts: int) -> Group | None:
        """Return the group of a kind of which the names are the same each time."""
        known = self._group_of[reverts]
        if kind not in known:
            known[kind] = self._group([name for name, _ in kind.limits], kind, reverts=reverts)
        return known[kind]

    def _group(self, names: Iterable[str], kind: Kind, *, reverts: int) -> Group | None:
        """Return the group of what needs the limits of these names.

        :param kind: has the amounts
        """
        amounts: dict[Gate, int] = {}
        for name, (_, amount) in zip(names, kind.limits, strict=True):
            gate = self._gate(name, reverts=bool(reverts) and not self._shares)
            if gate is not None:
                amounts[gate] = amounts.get(gate, 0) + amount
        # Open names may become one name: such a call takes no more than there is.
        needs = tuple((gate, min(amount, gate.most)) for gate, amount in amounts.items())
        if self._others is not None:
            needs = (*needs, *self._others.needs)
        if not needs:
            return None
        if needs not in self._groups:
            self._groups[needs] = Group(needs)
        return self._groups[needs]

    def _fill(self, i: int, kind: Kind, *, reverts: int) -> tuple[str, ...]:
        """Return the names of the limits of a call, with its arguments filled in."""
        if reverts and i in self._names:
            return self._names[i]
        given: dict[str, Any] = {}
        with contextlib.suppress(exceptions.NotFound):  # it will fail by that, or the value was let go of
            given = self._run.binder.execute_arguments(i)
        execute = self._plan.atoms[i].execute
        names = self._names[i] = tuple(fill(template, given, execute) for template, _ in kind.limits)
        return names

    def _gate(self, name: str, *, reverts: bool) -> Gate | None:
        """Return the gate of a name, or None when it is without limit."""
        which = name, reverts
        if which not in self._gates:
            capacity, rate = self._capacities.value(name), self._rates.value(name)
            self._gates[which] = None
            if capacity is not None or rate is not None:
                bucket = None if rate is None else Bucket(*rate)
                self._gates[which] = Gate(name, math.inf if capacity is None else capacity, bucket)
        return self._gates[which]

    # -- who has ended -----------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Take in who has passed, who has ended, and who has not begun, since this was last done, in this order."""
        limits, kind_of, ended = self._limits, self._kind_of, self._ended
        begin = 0
        for before, ready, undo in self._batches:
            limits.release(ended[begin:before])
            begin = before
            for reverts, batch in enumerate((ready, undo)):
                known = self._group_of[reverts]
                for i in batch:
                    group = known.get(kind_of(i))  # type: ignore[arg-type] # those of no kind are in no group
                    if group is not None:
                        limits.passed[~i if reverts else i] = group
        self._batches.clear()
        if ended:
            limits.release(ended[begin:] if begin else ended)
            ended.clear()
        if self._requeued:
            limits.put_back(self._requeued)
            self._requeued.clear()

    def release(self, batch: list[int], *, undo: bool) -> None:
        """Take in that calls need nothing any more: they are made here, one after another, or there are none."""
        self._take_in()
        self._limits.release([~i for i in batch] if undo else batch)

    def put_back(self, undo: list[int], ready: list[int]) -> None:
        """Take in that what was admitted does not begin in this turn."""
        self._take_in()
        self._limits.put_back(ready)
        self._limits.put_back([~i for i in undo])

    # -- waiting -----------------------------------------------------------------------------------

    def awaits_time(self) -> bool:
        """Tell whether nothing is to be done but to wait for a rate, while no call is under way."""
        walk = self._walk
        if not walk.held or walk.ready or walk.undo or self._ended or self._requeued or self._limits.stirs:
            return False
        due = self.due()
        assert due < math.inf, "no call is under way, so that nothing is held of a limit that is waited for"
        return bool(self._run.clock.monotonic() < due)

    def due(self) -> float:
        """Return when a rate lets something pass that waits, in seconds of the clock; infinity for never."""
        return self._limits.due() if self._walk.held else math.inf


def of(run: Run, options: Options) -> Admission | None:
    """Return the limits of a run; None when nothing in it is limited."""
    limited = run.plan.limited
    counts_all = not run.executor.serial and _at_once(run, options) < math.inf
    return Admission(run, options) if counts_all or (limited is not None and limited.kinds) else None


def _at_once(run: Run, options: Options) -> float:
    """Return how many calls the executor has at once at most.

    Where calls have time limits it has none that waits for a worker: a limit counts from the beginning of a call.
    """
    at_once = math.inf if options.max_in_flight is None else float(options.max_in_flight)
    width = run.executor.width
    if width is not None and run.plan.times_calls:
        at_once = min(at_once, float(width))
    return at_once if at_once < len(run.plan) else math.inf  # all of the plan is no more

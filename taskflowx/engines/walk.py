"""What can happen now: counters over a Plan.

`unmet[i]` counts the predecessors of node i that have not run (SUCCESS or IGNORE); an atom is ready when it is 0.
While a region is rolled back, `standing[i]` counts the successors of i that still stand; at 0 the atom is undone, or
cleared at once if there is nothing to undo. A node outside of all such regions, and one that is cleared, has CLEAR
there.

The engine calls the moves below and takes `ready` (atoms to execute) and `undo` (atoms to revert, and retries to run
again). What of these waits for a limit it moves to `held`, and back. The counters follow from the details of the atoms
alone: `open` makes them for a new run and for a resume, and at any moment a new Walk that is opened over the same
details has the same counters. Nothing here is locked: only the thread of the engine comes here.

A record may not be closed under predecessors: the flow was changed between two runs, one atom was reset by hand, or
another program was killed between two of its writes. An atom that is done is then passed, as an ignored one is, once
its predecessors have run, and is never executed again. A region that is rolled back takes along the atoms that have
run after it. For such a record, and for no other, `unclosed` makes all counters again whenever a region is rolled
back.

What must stay true: a region that is rolled back is closed under successors that have run; an atom that never ran is
never in `undo`; an atom that is on record as done is never in `ready`.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.engines import unclosed
from taskflowx.engines.unclosed import CLEAR

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan
    from taskflowx.persistence.models import AtomDetail

_first = operator.itemgetter(0)


class Walk:
    """The counters of one run.

    :param plan: what must happen
    :param details: the record of each atom, by index; None for a barrier
    :param go_on: whether a rollback goes on past an atom whose revert failed
    """

    def __init__(self, plan: Plan, details: list[Any], *, go_on: bool = False) -> None:
        self._plan = plan
        self._details = details
        self._go_on = go_on
        self.unmet: list[int] = []
        self.standing: list[int] = []
        self.ready: list[int] = []
        self.undo: list[int] = []
        #: what is ready and waits for a limit: the index of an atom to execute, `~index` of one to undo
        self.held: dict[int, Any] = {}
        #: atoms whose failure had triggered no rollback when `open` met them
        self.failed: list[int] = []
        #: atoms that were under way, or whose revert had failed, when `open` met them, and that nobody has taken since:
        #: nothing will be heard of them, so they are undone as what has run
        self.interrupted: set[int] = set()
        #: the ranges (lo, hi) that are rolled back, in order; none is within another one
        self.rolling_back: list[tuple[int, int]] = []
        #: as `Plan.plain`, with 0 for what is ignored, and for what counts a further attempt when it is called again
        self.plain: list[int] = []
        #: whether all that has begun follows what has run
        self.closed = True
        #: atoms whose intention had to be completed when the counters were made
        self.adjusted: list[int] = []

    def open_new(self) -> None:
        """Make the counters of a run of which nothing has happened yet, as `open` would."""
        plan = self._plan
        self.unmet = plan.degree.copy()
        self.standing = [CLEAR] * len(self.unmet)
        self.plain = plan.plain.copy()
        self.ready = plan.sources.copy()

    def open(self) -> None:  # noqa: C901 - one sweep sees every kind of node
        """Make the counters from the details, in one sweep.

        What was under way when the record was made (RUNNING, REVERTING, RETRYING) is to be done again, and an atom
        whose revert failed is to be reverted again.
        """
        plan, details = self._plan, self._details
        unmet = self.unmet = plan.degree.copy()
        self.standing = [CLEAR] * len(unmet)
        self.plain = plan.plain.copy()
        self.ready, self.undo, self.rolling_back, self.failed = [], [], [], []
        self.interrupted, self.adjusted, self.closed = set(), [], True
        ready, succ = self.ready, plan.succ
        first = last = end = -1  # of the region that is rolled back and that is being passed
        pending, execute = states.PENDING, states.EXECUTE
        for i, count in enumerate(unmet):
            detail = details[i]
            if detail is None:
                ran = not count
            elif detail.state == pending and detail.intention == execute and first < 0:
                if not count:
                    ready.append(i)
                continue
            elif detail.intention in states.ROLLING_BACK:
                unmet[i] = plan.degree[i]
                if detail.state == states.IGNORE:
                    self.plain[i] = 0
                elif detail.state in states.INTERRUPTED:
                    self.interrupted.add(i)
                retries = detail.intention == states.RETRY
                if first >= 0 and (retries or i >= end):  # regions next to each other stay apart: one may restart
                    self.rolling_back.append((first, last + 1))
                    first = -1
                if first < 0:
                    first, end = i, plan.region(i)[1] if retries else len(unmet)
                    if count and retries:
                        self.closed = False  # something new stands before what is to run again
                last = i
                continue
            else:
                if first >= 0:
                    self.rolling_back.append((first, last + 1))
                    first = -1
                state = detail.state
                ran = not count and state in states.PASSED
                if (count and state not in states.NOT_BEGUN) or state == states.RETRYING:
                    self.closed = False
                if state == states.IGNORE:
                    self.plain[i] = 0
                elif state == states.FAILURE:
                    self.failed.append(i)
                elif not ran and not count:
                    ready.append(i)
                elif state == states.RUNNING:
                    self.interrupted.add(i)
            if ran:
                for s in succ[i]:
                    unmet[s] -= 1
        if first >= 0:
            self.rolling_back.append((first, last + 1))
        if not (self.closed and all(unclosed.is_region(plan, *found) for found in self.rolling_back)):
            self.closed = False
            unclosed.recount(self, plan, details, fresh=True)
            return
        for lo, hi in self.rolling_back:
            self._sweep(lo, hi)

    def _sweep(self, lo: int, hi: int) -> None:
        """Set `standing` in a range that is rolled back, from its end to its beginning."""
        details, standing, plan = self._details, self.standing, self._plan
        standing[lo:hi] = plan.fan_out[lo:hi]
        if hi < len(standing):  # what comes after the range has not run, so nothing stands there
            for i in range(lo, hi):
                after = plan.succ[i]
                if after and after[-1] >= hi:
                    standing[i] -= sum(s >= hi for s in after)
        pred = plan.pred
        for i in range(hi - 1, lo - 1, -1):
            if not standing[i]:
                self.settle(i, details[i])
                if standing[i] == CLEAR:
                    for p in pred[i]:
                        if p >= lo:
                            standing[p] -= 1

    def settle(self, i: int, detail: AtomDetail | None) -> None:
        """Decide what becomes of a node in a region that is rolled back when none of its successors stands any more."""
        self.standing[i] = 0
        if detail is None:
            self.standing[i] = CLEAR
        elif detail.intention == states.RETRY or detail.state in states.STANDING:
            self.undo.append(i)
        elif detail.state in states.NOTHING_TO_UNDO:
            self.standing[i] = CLEAR
        elif i in self.interrupted:
            self.undo.append(i)
        elif detail.state == states.REVERT_FAILURE and self._go_on:
            self.standing[i] = CLEAR

    def ran(self, i: int) -> None:
        """Release the successors of a node that has run or is ignored."""
        unmet, plain, ready, succ = self.unmet, self.plain, self.ready, self._plan.succ
        for s in succ[i]:
            count = unmet[s] - 1
            unmet[s] = count
            if not count:
                if plain[s]:
                    ready.append(s)
                else:
                    self.reached(s)

    def reached(self, i: int) -> None:
        """Take in a node of which all predecessors have run: it is ready, or passed: a barrier, ignored, or done."""
        unmet, succ, details = self.unmet, self._plan.succ, self._details
        stack = [i]
        while stack:
            node = stack.pop()
            detail = details[node]
            if detail is not None and detail.intention in states.ROLLING_BACK:
                continue  # it waits for its own region to be undone
            if detail is not None and detail.state not in states.PASSED:
                self.ready.append(node)
                continue
            for s in succ[node]:
                unmet[s] -= 1
                if not unmet[s]:
                    stack.append(s)

    def ignore(self, refused: int, atoms: list[int]) -> None:
        """Note that atoms are ignored, one of them by a veto when it was ready.

        Each is passed when its predecessors have run.
        """
        for i in atoms:
            self.plain[i] = 0
        self.reached(refused)

    def finished(self, i: int) -> None:
        """Note that an atom in a region that is rolled back has ended its execution."""
        if not self.standing[i]:
            self.settle(i, self._details[i])

    def cleared(self, i: int) -> None:
        """Release the predecessors of a node of which nothing stands any more."""
        standing, plain, details, undo = self.standing, self.plain, self._details, self.undo
        standing[i] = CLEAR
        for p in self._plan.pred[i]:
            if standing[p] > 0:
                standing[p] -= 1
                if not standing[p]:
                    if plain[p] and details[p].state == states.SUCCESS:
                        undo.append(p)
                    else:
                        self.freed(p)

    def freed(self, i: int) -> None:
        """Take in a node of which no successor stands any more: it is to be undone, or is cleared and passed."""
        standing, details, pred = self.standing, self._details, self._plan.pred
        stack = [i]
        while stack:
            node = stack.pop()
            self.settle(node, details[node])
            if standing[node] == CLEAR:
                for p in pred[node]:
                    if standing[p] > 0:
                        standing[p] -= 1
                        if not standing[p]:
                            stack.append(p)

    def rolling_back_around(self, lo: int, hi: int) -> tuple[int, int] | None:
        """Return the range that is rolled back already and holds the whole region, or None."""
        place = bisect_right(self.rolling_back, lo, key=_first)
        around = self.rolling_back[place - 1] if place else None
        return around if around is not None and hi <= around[1] else None

    def note_rolling_back(self, lo: int, hi: int) -> None:
        """Note that a range is rolled back."""
        insort(self.rolling_back, (lo, hi))

    def _forget_rolling_back(self, lo: int, hi: int) -> bool:
        """Forget the ranges within another one; returns whether there were any."""
        low, high = (bisect_left(self.rolling_back, end, key=_first) for end in (lo, hi))
        within = self.rolling_back[low:high]
        self.rolling_back[low:high] = [(first, last) for first, last in within if last > hi]
        return bool(within)

    def roll_back(self, lo: int, hi: int, restart: int = -1, cause: int = -1) -> list[int]:
        """Roll a region back: all of it gets the intention REVERT, and the atoms that can be undone first go to `undo`.

        A region inside of it that is rolled back already is taken up as it stands. Returns the atoms after the region
        that are rolled back with it, as they have run in spite of it.

        :param restart: index of the retry at `lo` if it is to run again when the rest has been undone, or -1
        :param cause: index of the atom of which the failure is the cause; it is the last to get its intention: when
            this is interrupted, `open` finds the failure among those that are not resolved
        """
        if not self.closed:
            self.interrupted.update(i for i in self.ready if self._details[i].state in states.INTERRUPTED)
            self._forget_rolling_back(lo, hi)
            self.note_rolling_back(lo, hi)
            self._mark(lo, hi, restart, cause)
            self.adjusted = []
            unclosed.recount(self, self._plan, self._details, fresh=False)
            return self.adjusted
        if hi < len(self.unmet):
            self._withdraw(lo, hi)
        # The two lists are looked through only where something of this region can be in them: of a flow in which many
        # regions are rolled back, each costs its own atoms, and not those of all others.
        details, unmet = self._details, self.unmet
        if self.ready and any(
            not unmet[i] and getattr(details[i], "state", "") in states.MAY_START for i in range(lo, hi)
        ):
            withdrawn = {i for i in self.ready if lo <= i < hi}
            self.ready = [i for i in self.ready if i not in withdrawn]
            self.interrupted.update(i for i in withdrawn if details[i].state in states.INTERRUPTED)
        within = self._forget_rolling_back(lo, hi)
        if within:
            self.undo = [i for i in self.undo if not lo <= i < hi]
        if self.held:
            for i in range(lo, hi):
                self.held.pop(i, None)
                if within:
                    self.held.pop(~i, None)
        self.note_rolling_back(lo, hi)
        unmet[lo:hi] = self._plan.degree[lo:hi]
        self._mark(lo, hi, restart, cause)
        self._sweep(lo, hi)
        return []

    def _mark(self, lo: int, hi: int, restart: int, cause: int) -> None:
        """Give a region its intentions, that of the cause last."""
        details = self._details
        if cause >= 0 and details[cause].state == states.FAILURE:
            details[cause].intention = states.EXECUTE
        for i in range(lo, hi):
            detail = details[i]
            if detail is not None and i != cause:
                detail.intention = states.RETRY if i == restart else states.REVERT
        if cause >= 0:
            details[cause].intention = states.REVERT

    def _withdraw(self, lo: int, hi: int) -> None:
        """Count, in the nodes after a region, its nodes that have run as unmet again."""
        unmet, succ = self.unmet, self._plan.succ
        for i in range(lo, hi):
            after = succ[i]
            if after and after[-1] >= hi:
                detail = self._details[i]
                if detail is None:
                    ran = not unmet[i]
                elif detail.state == states.SUCCESS:
                    ran = detail.intention == states.EXECUTE
                else:
                    ran = detail.state == states.IGNORE and detail.intention not in states.ROLLING_BACK and not unmet[i]
                if ran:
                    for s in after:
                        if s >= hi:
                            unmet[s] += 1

    def restarted(self, r: int) -> None:
        """Take in that all that `restart` has returned has been reset; the retry waits for what is new before it."""
        if not self.closed:
            unclosed.count_unmet(self, self._plan, self._details, fresh=False)

    def restart(self, r: int, readmitted: Sequence[int] = ()) -> list[int]:
        """Restart the region of a retry; returns the atoms that the caller resets to PENDING.

        :param readmitted: atoms after the region that are ignored no more
        """
        lo, hi = self._plan.region(r)
        self.standing[lo:hi] = [CLEAR] * (hi - lo)
        self.unmet[r] = 0  # it stands outside of what it controls: all before it has run
        self.plain[lo:hi] = self._plan.plain[lo:hi]
        self._forget_rolling_back(lo, hi)
        if self.interrupted:
            self.interrupted.difference_update(range(lo, hi))
        for i in readmitted:
            self.plain[i] = self._plan.plain[i]
        after = [] if self.closed else unclosed.undone_with(self._details, self._details[r].name)
        for i in after:
            self._forget_rolling_back(i, i + 1)
        # Those after it first: while a veto in it is on record, it is known which atoms it has skipped.
        return [*readmitted, *after, *(i for i in range(lo + 1, hi) if self._details[i] is not None)]

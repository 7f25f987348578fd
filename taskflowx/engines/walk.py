"""What can happen now: counters over a Plan.

`need[i]` counts the predecessors of node i that have not run (SUCCESS or IGNORE); an atom is ready when it is 0. Once
something has to be undone, `hold[i]` counts the successors of i that still stand; at 0 the atom is undone, or, if it
has nothing to undo, cleared at once. A node outside of all regions that turn round, and one that is cleared, has
CLEAR there.

The scheduler calls the moves below and takes `ready` (atoms to execute) and `undo` (atoms to revert, and retries to
run again). The counters follow from the details of the atoms alone: `open` makes them for a new run and for a resume,
and at any moment a new Walk that is opened over the same details has the same counters. Nothing here is locked: only
the thread of the scheduler comes here.

A record may not be closed under predecessors: the flow was changed between two runs, one atom was reset by hand, or
another program was killed between two of its writes. What is done is then passed, as an atom that is ignored, once its
predecessors have run, and never taken again. A region that is rolled back takes with it what has run after it. For such
a record, and for no other, all counters are made anew by `unclosed` whenever a region is rolled back.

What must stay true: a region that turns round is closed under successors that have run; an atom that never ran is never
in `undo`; what is on record as done is never in `ready`.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.engines import unclosed
from taskflowx.engines.unclosed import CLEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskflowx.engines.plan import Plan
    from taskflowx.persistence.models import AtomDetail

_first = operator.itemgetter(0)


class Walk:
    """The counters of one run.

    :param plan: what must happen
    :param details: the record of each atom, by index; None for a barrier
    :param go_on: whether a rollback goes on past an atom whose revert failed
    """

    __slots__ = (
        "_details",
        "_go_on",
        "_plan",
        "adjusted",
        "closed",
        "cut_off",
        "failed",
        "hold",
        "need",
        "plain",
        "ready",
        "turned",
        "undo",
    )

    def __init__(self, plan: Plan, details: list[Any], *, go_on: bool = False) -> None:
        self._plan = plan
        self._details = details
        self._go_on = go_on
        self.need: list[int] = []
        self.hold: list[int] = []
        self.ready: list[int] = []
        self.undo: list[int] = []
        #: atoms whose failure has turned nothing round when `open` met them
        self.failed: list[int] = []
        #: atoms that were under way, or whose revert had failed, when `open` met them, and that nobody has taken since:
        #: nothing will be heard of them, so they are undone as what has run
        self.cut_off: set[int] = set()
        #: the ranges (lo, hi) that turn round, in order; none is within another one
        self.turned: list[tuple[int, int]] = []
        #: as `Plan.plain`, with 0 for what is ignored
        self.plain: list[int] = []
        #: whether all that has begun follows what has run
        self.closed = True
        #: atoms whose intention had to be completed when the counters were made
        self.adjusted: list[int] = []

    def open_new(self) -> None:
        """Make the counters of a run of which nothing has happened yet, as `open` would."""
        plan = self._plan
        self.need = plan.degree.copy()
        self.hold = [CLEAR] * len(self.need)
        self.plain = plan.plain.copy()
        self.ready = plan.sources.copy()

    def open(self) -> None:  # noqa: C901 - one sweep sees every kind of node
        """Make the counters from the details, in one sweep.

        What was under way when the record was made (RUNNING, REVERTING, RETRYING) is to be done again, and an atom
        whose revert failed is to be reverted again.
        """
        plan, details = self._plan, self._details
        need = self.need = plan.degree.copy()
        self.hold = [CLEAR] * len(need)
        self.plain = plan.plain.copy()
        self.ready, self.undo, self.turned, self.failed = [], [], [], []
        self.cut_off, self.adjusted, self.closed = set(), [], True
        ready, succ = self.ready, plan.succ
        first = last = end = -1  # of the region that turns round and that is being passed
        pending, execute = states.PENDING, states.EXECUTE
        for i, count in enumerate(need):
            detail = details[i]
            if detail is None:
                ran = not count
            elif detail.state == pending and detail.intention == execute and first < 0:
                if not count:
                    ready.append(i)
                continue
            elif detail.intention in states.ROLLING_BACK:
                need[i] = plan.degree[i]
                if detail.state == states.IGNORE:
                    self.plain[i] = 0
                elif detail.state in states.CUT_OFF:
                    self.cut_off.add(i)
                retries = detail.intention == states.RETRY
                if first >= 0 and (retries or i >= end):  # regions next to each other stay apart: one may begin anew
                    self.turned.append((first, last + 1))
                    first = -1
                if first < 0:
                    first, end = i, plan.region(i)[1] if retries else len(need)
                    if count and retries:
                        self.closed = False  # something new stands before what is to run again
                last = i
                continue
            else:
                if first >= 0:
                    self.turned.append((first, last + 1))
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
                    self.cut_off.add(i)
            if ran:
                for s in succ[i]:
                    need[s] -= 1
        if first >= 0:
            self.turned.append((first, last + 1))
        if not (self.closed and all(unclosed.is_region(plan, *found) for found in self.turned)):
            self.closed = False
            unclosed.recount(self, plan, details, fresh=True)
            return
        for lo, hi in self.turned:
            self._sweep(lo, hi)

    def _sweep(self, lo: int, hi: int) -> None:
        """Set `hold` in a range that turns round, from its end to its beginning."""
        details, hold, plan = self._details, self.hold, self._plan
        hold[lo:hi] = plan.fan_out[lo:hi]
        if hi < len(hold):  # what comes after the range has not run, so it holds nothing
            for i in range(lo, hi):
                after = plan.succ[i]
                if after and after[-1] >= hi:
                    hold[i] -= sum(s >= hi for s in after)
        pred = plan.pred
        for i in range(hi - 1, lo - 1, -1):
            if not hold[i]:
                self.settle(i, details[i])
                if hold[i] == CLEAR:
                    for p in pred[i]:
                        if p >= lo:
                            hold[p] -= 1

    def settle(self, i: int, detail: AtomDetail | None) -> None:
        """Decide what becomes of a node in a region that turns round when none of its successors stands any more."""
        self.hold[i] = 0
        if detail is None:
            self.hold[i] = CLEAR
        elif detail.intention == states.RETRY or detail.state in states.STANDING:
            self.undo.append(i)
        elif detail.state in states.NOTHING_TO_UNDO:
            self.hold[i] = CLEAR
        elif i in self.cut_off:
            self.undo.append(i)
        elif detail.state == states.REVERT_FAILURE and self._go_on:
            self.hold[i] = CLEAR

    def ran(self, i: int) -> None:
        """Release the successors of a node that has run or is ignored."""
        need, plain, ready, succ = self.need, self.plain, self.ready, self._plan.succ
        for s in succ[i]:
            count = need[s] - 1
            need[s] = count
            if not count:
                if plain[s]:
                    ready.append(s)
                else:
                    self.reached(s)

    def reached(self, i: int) -> None:
        """Take in a node of which all predecessors have run: it is ready, or passed: a barrier, ignored, or done."""
        need, succ, details = self.need, self._plan.succ, self._details
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
                need[s] -= 1
                if not need[s]:
                    stack.append(s)

    def ignore(self, refused: int, atoms: list[int]) -> None:
        """Note that atoms are ignored, one of them since it was refused when it was ready.

        Each is passed when its predecessors have run.
        """
        for i in atoms:
            self.plain[i] = 0
        self.reached(refused)

    def finished(self, i: int) -> None:
        """Note that an atom in a region that turns round has ended its execution."""
        if not self.hold[i]:
            self.settle(i, self._details[i])

    def cleared(self, i: int) -> None:
        """Release the predecessors of a node of which nothing stands any more."""
        hold, plain, details, undo = self.hold, self.plain, self._details, self.undo
        hold[i] = CLEAR
        for p in self._plan.pred[i]:
            if hold[p] > 0:
                hold[p] -= 1
                if not hold[p]:
                    if plain[p] and details[p].state == states.SUCCESS:
                        undo.append(p)
                    else:
                        self.freed(p)

    def freed(self, i: int) -> None:
        """Take in a node that nothing holds any more: it is to be undone, or is cleared and passed."""
        hold, details, pred = self.hold, self._details, self._plan.pred
        stack = [i]
        while stack:
            node = stack.pop()
            self.settle(node, details[node])
            if hold[node] == CLEAR:
                for p in pred[node]:
                    if hold[p] > 0:
                        hold[p] -= 1
                        if not hold[p]:
                            stack.append(p)

    def turned_with(self, lo: int, hi: int) -> tuple[int, int] | None:
        """Return the range that turns round already and that holds the whole region, or None."""
        place = bisect_right(self.turned, lo, key=_first)
        around = self.turned[place - 1] if place else None
        return around if around is not None and hi <= around[1] else None

    def note_turned(self, lo: int, hi: int) -> None:
        """Note that a range turns round."""
        insort(self.turned, (lo, hi))

    def _forget_turned(self, lo: int, hi: int) -> bool:
        """Forget the ranges within another one; returns whether there were any."""
        low, high = (bisect_left(self.turned, end, key=_first) for end in (lo, hi))
        within = self.turned[low:high]
        self.turned[low:high] = [(first, last) for first, last in within if last > hi]
        return bool(within)

    def turn(self, lo: int, hi: int, restart: int = -1, cause: int = -1) -> list[int]:
        """Turn a region round: all of it gets the intention REVERT, and what can be undone first goes to `undo`.

        A region inside of it that turns round already is taken up as it stands. Returns the atoms after the region that
        are rolled back with it, as they have run in spite of it.

        :param restart: index of the retry at `lo` if it is to run again when the rest has been undone, or -1
        :param cause: index of the atom of which the failure turns it round; it is the last to get its intention: when
            this is interrupted, `open` finds the failure among those that have turned nothing round
        """
        if not self.closed:
            return self._turn_unclosed(lo, hi, restart, cause)
        if hi < len(self.need):
            self._withdraw(lo, hi)
        # The two lists are looked through only where something of this region can be in them: of a flow in which many
        # regions turn round, each costs its own atoms, and not those of all others.
        details, need = self._details, self.need
        if self.ready and any(
            not need[i] and getattr(details[i], "state", "") in states.MAY_START for i in range(lo, hi)
        ):
            self.ready = [i for i in self.ready if not lo <= i < hi]
        if self._forget_turned(lo, hi):
            self.undo = [i for i in self.undo if not lo <= i < hi]
        self.note_turned(lo, hi)
        need[lo:hi] = self._plan.degree[lo:hi]
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

    def _turn_unclosed(self, lo: int, hi: int, restart: int, cause: int) -> list[int]:
        self._forget_turned(lo, hi)
        self.note_turned(lo, hi)
        self._mark(lo, hi, restart, cause)
        self.adjusted = []
        unclosed.recount(self, self._plan, self._details, fresh=False)
        return self.adjusted

    def _withdraw(self, lo: int, hi: int) -> None:
        """Take back from the nodes after a region what those in it that have run have released."""
        need, succ = self.need, self._plan.succ
        for i in range(lo, hi):
            after = succ[i]
            if after and after[-1] >= hi:
                detail = self._details[i]
                if detail is None:
                    ran = not need[i]
                elif detail.state == states.SUCCESS:
                    ran = detail.intention == states.EXECUTE
                else:
                    ran = detail.state == states.IGNORE and detail.intention not in states.ROLLING_BACK and not need[i]
                if ran:
                    for s in after:
                        if s >= hi:
                            need[s] += 1

    def restarted(self, r: int) -> None:
        """Take in that all that `restart` has returned has been reset; the retry waits for what is new before it."""
        if not self.closed:
            unclosed.count_unmet(self, self._plan, self._details, fresh=False)

    def restart(self, r: int, let_in: Sequence[int] = ()) -> list[int]:
        """Begin the region of a retry anew; returns the atoms that the caller resets to PENDING.

        :param let_in: atoms after the region that are ignored no more
        """
        lo, hi = self._plan.region(r)
        self.hold[lo:hi] = [CLEAR] * (hi - lo)
        self.need[r] = 0  # it stands outside of what it controls: all before it has run
        self.plain[lo:hi] = self._plan.plain[lo:hi]
        self._forget_turned(lo, hi)
        if self.cut_off:
            self.cut_off.difference_update(range(lo, hi))
        for i in let_in:
            self.plain[i] = self._plan.plain[i]
        after = [] if self.closed else unclosed.undone_with(self._details, self._details[r].name)
        for i in after:
            self._forget_turned(i, i + 1)
        # Those after it first: while a refusal in it is on record, it is known whom it has left out.
        return [*let_in, *after, *(i for i in range(lo + 1, hi) if self._details[i] is not None)]

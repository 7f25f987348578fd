"""A rollback that somebody asks for: of all that stands, or of what ran after one atom.

A rollback to an atom is a run in which nothing is executed. Its atoms are marked, each on its own, as those that come
after a region that is rolled back (`unclosed.UNDONE_WITH`); the metadata of the flow names the atom until all of it is
undone. They are then reset, so that the flow can be run on. A run that finds the name in the record, because another
one was interrupted, completes the rollback first.

That of all of the flow is noted there, too: it is no failure of the run that completes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import deciders, exceptions, states
from taskflowx.engines import vetoes
from taskflowx.engines.compilation import quoted
from taskflowx.engines.unclosed import UNDONE_WITH
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.preparation import Preparation
    from taskflowx.engines.resetting import Resetting
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.storage import Storage


class Undoing:
    """The rollbacks of one engine that somebody asks for.

    :param preparation: the flow with its record
    :param storage: the record by name
    :param resetting: carries a step out
    """

    def __init__(self, preparation: Preparation, storage: Storage, resetting: Resetting) -> None:
        self._preparation, self._storage, self._resetting = preparation, storage, resetting

    @property
    def target(self) -> str | None:
        """The atom to which the flow is being rolled back; None when it is not."""
        meta: dict[str, Any] = self._storage.record.flow_detail.meta or {}
        target: str | None = meta.get(metadata.ROLLED_BACK_TO)
        return target

    def begin(self, to: str | None, entry: dict[str, Any]) -> bool:
        """Have all that stands rolled back, or all that ran after an atom; returns whether the flow is to be run.

        It is not when it is REVERTED already, and nothing stands.

        :param to: the name of the atom, which stands; None for all of the flow
        :param entry: what is noted in the record of the flow
        :raises NotFound: when there is no such atom
        :raises InvalidState: when it has not run, or is being undone
        """
        details = self._preparation.details
        if to is None and self._storage.get_flow_state() == states.REVERTED and not self._preparation.not_undone():
            return False
        after = range(len(details)) if to is None else self._after(to)
        marked = [
            i for i in after if details[i] is not None and (to is None or details[i].state not in states.NOT_BEGUN)
        ]

        if to is not None:
            self._refuse_without_values(to, marked)

        def step(_: dict[int, str | None]) -> None:
            meta = self._storage.record.flow_detail.meta
            metadata.note_by_hand(meta, {**entry, "to": to}, self._storage.writes.masked)
            if to is None:
                meta.pop(metadata.ROLLED_BACK_TO, None)
                meta[metadata.ROLLED_BACK] = True
            else:
                meta[metadata.ROLLED_BACK_TO] = to
            for i in marked:
                if to is not None:
                    details[i].meta[UNDONE_WITH] = ""
                elif details[i].own_meta:
                    details[i].own_meta.pop(UNDONE_WITH, None)
                details[i].intention = states.REVERT
            self._storage.save_all()

        self._resetting.carry_out(step)
        return True

    def _after(self, to: str) -> list[int]:
        """Return the atoms that come after one, in the order of the plan."""
        plan, details = self._preparation.compiled(), self._preparation.details
        detail = self._storage.record.detail(to)  # it says what is close to a wrong name
        i = plan.names.get(to)
        if i is None:
            raise exceptions.NotFound(f"Atom '{to}' is on record, and the flow does not have it any more")
        self._preparation.refuse_after_rollback(f"roll back to atom '{to}'")
        if detail.state != states.SUCCESS or detail.intention != states.EXECUTE:
            undone = ", and it is being undone" if detail.intention in states.ROLLING_BACK else ""
            raise exceptions.InvalidState(
                f"Can not roll back to atom '{to}', which is {detail.state}{undone}: name one that has run and stands"
            )
        after = _reached(plan, {i})
        busy = [
            details[n].name
            for n in after
            if details[n] is not None and details[n].intention in states.ROLLING_BACK and self.target is None
        ]
        if busy:
            raise exceptions.InvalidState(
                f"Can not roll back to atom '{to}' while {quoted(busy)} are being undone: run() completes that first"
            )
        return after

    def _refuse_without_values(self, to: str, marked: list[int]) -> None:
        """Refuse to undo what could not run again, as a result that it takes was not kept.

        :param marked: the atoms that are to be undone
        :raises InvalidState: names the atoms of which the results are missing
        """
        plan, details = self._preparation.compiled(), self._preparation.details
        binder = self._preparation.prepared("roll back")
        again = {*marked, *self._readmitted(plan, details, plan.names[to])}
        again.update(i for i, one in enumerate(details) if one is not None and _is_marked(one))
        names = {details[i].name for i in again}
        lacking = sorted({name for i in again for name in binder.not_kept(i, names)}, key=plan.names.__getitem__)
        if lacking:
            raise exceptions.InvalidState(
                f"Can not roll back to atom '{to}': what comes after it takes results of {quoted(lacking)}, which were "
                "not kept, so it could not run again\n"
                "Name an atom before these, or undo all by rollback(). In further runs the option keep_results keeps "
                "them, unless they are sensitive and in memory alone"
            )

    # -- its end -----------------------------------------------------------------------------------

    def is_complete(self) -> bool:
        """Tell whether all that was to be undone after the atom is undone."""
        return not any(
            one.state not in states.NOT_BEGUN for one in filter(None, self._preparation.details) if _is_marked(one)
        )

    def complete(self) -> None:
        """Reset what was undone, with what vetoes in it have skipped, so that the flow can be run on."""
        plan, details = self._preparation.compiled(), self._preparation.details
        undone = [i for i, one in enumerate(details) if one is not None and _is_marked(one)]
        target = self._storage.record.flow_detail.meta.get(metadata.ROLLED_BACK_TO)
        readmitted = self._readmitted(plan, details, plan.names.get(target or "", -1))

        def step(moved: dict[int, str | None]) -> None:
            self._preparation.reset(moved, only=[*undone, *readmitted])
            self._storage.record.flow_detail.meta.pop(metadata.ROLLED_BACK_TO, None)
            self._storage.save_all()

        self._resetting.carry_out(step)

    def _readmitted(self, plan: Plan, details: list[Any], target: int) -> list[int]:
        """Return the skipped atoms after the target of which the vetoes come from there, too."""
        if target < 0 or not plan.votes:
            return []
        after = set(_reached(plan, {target}))
        ignored = {i for i, one in enumerate(details) if one is not None and one.state == states.IGNORE}
        kept: set[int] = set()
        for i in ignored - after:
            depth = details[i].meta.get(vetoes.META_REFUSED)
            if depth is not None:
                kept.update(vetoes.Vetoes(plan).skipped_by(i, deciders.Depth(depth))[0])
        return sorted(i for i in ignored & after if i not in kept)


def _is_marked(detail: AtomDetail) -> bool:
    return detail.intention == states.REVERT and (detail.own_meta or {}).get(UNDONE_WITH) == ""


def _reached(plan: Plan, nodes: set[int]) -> list[int]:
    """Return the nodes after some others, in order."""
    found: set[int] = set()
    stack = list(nodes)
    while stack:
        for s in plan.succ[stack.pop()]:
            if s not in found:
                found.add(s)
                stack.append(s)
    return sorted(found)

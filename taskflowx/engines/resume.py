"""The record, taken up as it is: a new run and one that was interrupted anywhere are the same code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflowx import states
from taskflowx._util import logs
from taskflowx.engines import resolve, vetoes
from taskflowx.engines.transitions import forget_part
from taskflowx.persistence import models
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.rollback import Rollback
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions

LOG = logs.calm(__name__)


def open_run(run: Run, commits: Commits, transitions: Transitions, rollback: Rollback) -> None:
    """Make the counters of the Walk from the record, and complete the record where it has a part of something."""
    if run.storage.record.untouched:
        run.storage.record.untouched = False
        run.walk.open_new()
        notifier = run.notifier
        if notifier._tfx_target_of(states.RUNNING) is not None or notifier._tfx_target_of(states.SUCCESS) is not None:
            models.identify(filter(None, run.details))
    else:
        _take_up(run, commits, transitions, rollback)
        _find_to_count(run)


def _find_to_count(run: Run) -> None:
    """Have a further attempt counted of each call that was interrupted, once it is made again."""
    unknown = run.plan.unknown
    for i in run.binder.counted:
        state = run.details[i].state
        if state in states.INTERRUPTED and not (i in unknown and state == states.RUNNING):  # those it counts itself
            run.to_count.add(i)
            run.walk.plain[i] = 0  # no short path counts it


def _take_up(run: Run, commits: Commits, transitions: Transitions, rollback: Rollback) -> None:
    walk, details = run.walk, run.details
    if any(one is not None and one.own_meta and models.META_LET_GO in one.own_meta for one in details):
        run.binder.look_again_for(metadata.is_let_go)
    if run.plan.votes:
        _complete_vetoes(run, commits, transitions)
    walk.open()
    commits.mark_all(walk.adjusted)
    if metadata.CANCELLED in run.storage.flow_meta:  # an interrupt may have come before all was marked
        rollback.roll_back_all()
        walk.open()
    if walk.failed and not (rollback.never_resolve or run.only_undoes):
        # Failures that were recorded, but not resolved before the run was interrupted.
        run.failed = walk.failed
        rollback.resolve_failures()
        walk.open()  # in the regions that they roll back, what was under way then is to be undone
        commits.mark_all(walk.adjusted)
    for i in (*walk.ready, *walk.interrupted):
        one = details[i]
        if one.intention != states.EXECUTE:
            continue
        if one.own_meta and metadata.NOT_CALLED in one.own_meta:  # an interrupt came before its failure was on record
            commits.mark(i)
            walk.interrupted.discard(i)
            one.state = states.PENDING
        elif one.state == states.RUNNING:
            run.repeated.add(i)
            walk.interrupted.add(i)  # until it is taken: what waits for a limit may be undone first
        else:
            continue
        forget_part(one)


def _complete_vetoes(run: Run, commits: Commits, transitions: Transitions) -> None:
    """Skip the atoms of a veto, where the record has a part of it.

    OpenStack TaskFlow writes one atom after the other, and does not write which veto skipped it.
    """
    plan, details = run.plan, run.details
    ignored = [i for i in plan.votes if details[i].state == states.IGNORE]
    if not ignored or any(vetoes.is_known(details[i]) for i in ignored):
        return
    for i in ignored:
        try:
            depth = resolve.veto(plan, i, details, run.binder.seen_values)
        except Exception as error:  # it is skipped, whatever its deciders say now
            LOG.warning("A decider before atom '%s', which was skipped, raised %r", details[i].name, error)
            continue
        if depth is None:
            continue
        commits.mark(i)
        details[i].meta = {**details[i].meta, vetoes.META_REFUSED: depth.value}
        skipped, passed = run.vetoes.skipped_by(i, depth)
        for s in skipped:
            after = details[s]
            if after.state == states.PENDING and after.intention == states.EXECUTE:
                commits.mark(s)
                after.state = after.intention = states.IGNORE
                transitions.publish(s, states.PENDING, states.IGNORE)
        run.vetoes.note(i, depth, passed)

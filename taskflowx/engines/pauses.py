"""How long a retry waits, and where it is kept when that is over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from taskflowx.pacing import delay_of
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx._util.clock import Clock
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.retry import Retry
    from taskflowx.types.failure import Failure


def seconds_before_next(
    controller: Retry, decision: Any, failure: Failure, *, attempt: int, passed: float
) -> float | None:
    """Return after how many seconds a controller has the next attempt begin; None when it gives up.

    What its `on_failure` says counts before what the task has asked for, and that before the settings.

    :param decision: RETRY, or what `retry.again` has made
    :param failure: that of the attempt
    :param attempt: the number of the attempt, from 1
    :param passed: the seconds since the first one began
    :raises Exception: what a predicate of the controller has raised
    """
    import random  # a run without failures does without it

    pacing = controller._tfx_pacing
    seconds = delay_of(decision, failure, pacing, attempt, random)
    if pacing is not None and pacing.gives_up(failure, passed + seconds):
        return None
    return seconds


def begin(controller: Retry, detail: AtomDetail, now: float) -> None:
    """Put on record when the first attempt of a controller with a deadline begins.

    :param now: the time of day, as the run has it
    """
    pacing = controller._tfx_pacing
    if pacing is not None and pacing.deadline is not None:
        detail.meta.setdefault(metadata.SINCE, now)


def note(detail: AtomDetail, clock: Clock, seconds: float) -> None:
    """Put on record that an atom waits; of several failures of one attempt, the longest delay counts."""
    wake = clock.time() + seconds
    if wake > detail.meta.get(metadata.WAKE, (-math.inf,))[0]:
        detail.meta[metadata.WAKE] = [wake, seconds]

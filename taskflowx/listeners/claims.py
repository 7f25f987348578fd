"""A listener that stops the run of a job whose claim was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import arguments
from taskflowx.listeners import base

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

LOG = logging.getLogger(__name__)


class CheckingClaimListener(base.Listener):
    """Checks at each transition of the flow and of tasks that a job is still claimed by its owner.

    :param engine: the engine that runs the job
    :param job: the job; its `state` is checked
    :param board: the board of the job; `find_owner(job)` is checked
    :param owner: the owner of the claim
    :param on_job_loss: called with the engine, the state that was just entered and its details at each check that finds
        the claim lost; by default the engine is suspended
    :raises ValueError: when `on_job_loss` cannot be called
    """

    def __init__(
        self,
        engine: Engine,
        job: Any,
        board: Any,
        owner: Any,
        on_job_loss: Callable[[Any, str, dict[str, Any]], object] | None = None,
    ) -> None:
        super().__init__(engine)
        self._job = job
        self._board = board
        self._owner = owner
        self._on_job_loss: Callable[[Any, str, dict[str, Any]], object] = self._suspend_engine_on_loss
        if on_job_loss is not None:
            arguments.check_callback("Custom 'on_job_loss' handler", on_job_loss)
            self._on_job_loss = on_job_loss

    def _suspend_engine_on_loss(self, engine: Engine, state: str, details: dict[str, Any]) -> None:
        """Suspend the engine, so that the new owner of the claim can resume the flow."""
        try:
            engine.suspend()
        except exceptions.TaskFlowException as error:
            LOG.warning(
                "Failed suspending engine '%s', (previously owned by '%s'):\n%s", engine, self._owner, error.pformat()
            )

    def _has_been_lost(self) -> bool:
        """Tell whether the claim is lost; it counts as lost when the board cannot tell."""
        try:
            if self._job.state == states.UNCLAIMED:
                return True
            return bool(self._board.find_owner(self._job) != self._owner)
        except (exceptions.NotFound, exceptions.JobFailure):
            return True

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        if self._has_been_lost():
            LOG.warning("Job '%s' has lost its claim (previously owned by '%s')", self._job, self._owner)
            self._on_job_loss(self._engine, state, details)
        else:
            LOG.debug("Job '%s' is still claimed (actively owned by '%s')", self._job, self._owner)

    _task_receiver = _flow_receiver

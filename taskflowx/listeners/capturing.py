"""A listener that records transitions, for tests and for reports after a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import formatters
from taskflowx._util import arguments
from taskflowx.listeners import base

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine


class CaptureListener(base.UniformListener):
    """Appends transitions to `values`.

    :param capture_flow: whether to record transitions of the flow
    :param capture_task: whether to record transitions of tasks
    :param capture_retry: whether to record transitions of retries
    :param skip_tasks: names of tasks to skip
    :param skip_retries: names of retries to skip
    :param skip_flows: names of flows to skip
    :param values: the list to append to; a new list by default
    """

    FLOW = "flow"
    TASK = "task"
    RETRY = "retry"

    def __init__(
        self,
        engine: Engine,
        task_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        flow_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        retry_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        capture_flow: bool = True,
        capture_task: bool = True,
        capture_retry: bool = True,
        skip_tasks: Iterable[str] | None = None,
        skip_retries: Iterable[str] | None = None,
        skip_flows: Iterable[str] | None = None,
        values: Any = None,
    ) -> None:
        super().__init__(
            engine,
            task_listen_for if capture_task else (),
            flow_listen_for if capture_flow else (),
            retry_listen_for if capture_retry else (),
        )
        self._tfx_skipped = {
            "task": formatters.names_of(skip_tasks, "skip_tasks"),
            "retry": formatters.names_of(skip_retries, "skip_retries"),
            "flow": formatters.names_of(skip_flows, "skip_flows"),
        }
        if values is not None:
            arguments.check_like("values", values, ("append",), "a list, or None")
        self.values: Any = [] if values is None else values

    @staticmethod
    def _format_capture(kind: str, state: str, details: dict[str, Any]) -> Any:
        """Return the entry for a transition.

        :param kind: FLOW, TASK or RETRY
        """
        return (kind, state, details)

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        if details[f"{kind}_name"] not in self._tfx_skipped[kind]:
            named = {"flow": self.FLOW, "task": self.TASK, "retry": self.RETRY}[kind]
            self.values.append(self._format_capture(named, state, details))

"""A listener that prints each transition."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx._util import reprs
from taskflowx.listeners import base

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine


class PrintingListener(base.DumpingListener):
    """Prints a line for each transition, and the traceback of each failure.

    :param stderr: whether to print to the standard error stream rather than to the standard output
    """

    def __init__(
        self,
        engine: Engine,
        task_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        flow_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        retry_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        stderr: bool = False,
    ) -> None:
        super().__init__(engine, task_listen_for, flow_listen_for, retry_listen_for)
        self._stderr = stderr

    def _dump(self, message: str, *args: Any, **kwargs: Any) -> None:
        stream = sys.stderr if self._stderr else sys.stdout  # read now, as a program may redirect it
        print(message % tuple(map(reprs.Text, args)), file=stream)
        exc_info = kwargs.get("exc_info")
        if exc_info is not None:
            traceback.print_exception(*exc_info, file=stream)

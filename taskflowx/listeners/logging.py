"""Listeners that log each transition."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import formatters, states
from taskflowx._util import arguments, masking, reprs
from taskflowx.listeners import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

LOG = logging.getLogger(__name__)


class LoggingListener(base.DumpingListener):
    """Logs a line for each transition.

    :param log: the logger; that of this module by default
    :param level: the level of the lines
    """

    #: the logger of a subclass, when `log` is not given
    _LOGGER: Any = None

    def __init__(
        self,
        engine: Engine,
        task_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        flow_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        retry_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        log: Any = None,
        level: int = logging.DEBUG,
    ) -> None:
        super().__init__(engine, task_listen_for, flow_listen_for, retry_listen_for)
        _check_log(log, level=level)
        self._logger = log or self._LOGGER or LOG
        self._level = level

    def _dump(self, message: str, *args: Any, **kwargs: Any) -> None:
        self._logger.log(self._level, message, *map(reprs.Text, args), **kwargs)


def _check_log(log: Any, **levels: Any) -> None:
    if log is not None:
        arguments.check_like("log", log, ("log",), "a logger, or None")
    for name, level in levels.items():
        arguments.check_type(name, level, int, "the number of a level, such as logging.DEBUG")


class DynamicLoggingListener(base.UniformListener):
    """Logs a line for each transition, at a level that depends on it, with descriptions of failures.

    Ordinary transitions are logged at `level`. A failure is logged at `failure_level`, with its exception and the atoms
    that ran before it, and so are its consequences: that an atom, or the flow, has been reverted. Results are logged
    only where `level` is enabled.

    :param log: the logger; that of this module by default
    :param failure_level: the level for failures and for reverted atoms and flows
    :param level: the level for everything else
    :param hide_inputs_outputs_of: names of atoms whose values are never shown
    :param fail_formatter: describes failures, see `taskflowx.formatters.FailureFormatter`, which is the default
    :param mask_inputs_keys: names of arguments, and keys in their values, that are masked
    :param mask_outputs_keys: names that atoms provide, and keys in their results, that are masked
    """

    #: the logger of a subclass, when `log` is not given
    _LOGGER: Any = None

    def __init__(
        self,
        engine: Engine,
        task_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        flow_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        retry_listen_for: Iterable[str] | None = base.DEFAULT_LISTEN_FOR,
        log: Any = None,
        failure_level: int = logging.WARNING,
        level: int = logging.DEBUG,
        hide_inputs_outputs_of: Iterable[str] = (),
        fail_formatter: Any = None,
        mask_inputs_keys: Iterable[str] = (),
        mask_outputs_keys: Iterable[str] = (),
    ) -> None:
        super().__init__(engine, task_listen_for, flow_listen_for, retry_listen_for)
        _check_log(log, failure_level=failure_level, level=level)
        if fail_formatter is not None:
            arguments.check_like("fail_formatter", fail_formatter, ("format",), "a FailureFormatter, or None")
        self._logger = log or self._LOGGER or LOG
        self._failure_level = failure_level
        self._level = level
        self._hide_inputs_outputs_of = formatters.names_of(hide_inputs_outputs_of, "hide_inputs_outputs_of")
        self._mask_outputs_keys = formatters.names_of(mask_outputs_keys, "mask_outputs_keys")
        if fail_formatter is None:
            fail_formatter = formatters.FailureFormatter(
                engine, self._hide_inputs_outputs_of, mask_inputs_keys, self._mask_outputs_keys
            )
        self._fail_formatter = fail_formatter

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        level = self._failure_level if state in _BAD_STATES else self._level
        if kind != "flow" and not self._logger.isEnabledFor(level):
            return
        name = details[f"{kind}_name"]
        message = f"{kind.capitalize()} '%s' (%s) transitioned into state '%s' from state '%s'"
        facts: tuple[Any, ...] = (name, details[f"{kind}_uuid"], state, details["old_state"])
        if kind == "flow" or state not in base.FINISH_STATES:
            self._logger.log(level, message, *facts)
            return
        result = details.get("result")
        exc_info = None
        if isinstance(result, Failure):
            exc_info, text = self._fail_formatter.format(result, formatters.AtomNamed(name))
            if text:
                message += "%s%s"
                facts = (*facts, "\n", text)
        elif name not in self._hide_inputs_outputs_of and self._logger.isEnabledFor(self._level):
            message += " with result '%s'"
            if self._mask_outputs_keys:
                plan = self._engine.compilation.plan
                result = masking.mask_outputs(plan.atoms[plan.names[name]], result, self._mask_outputs_keys)
            facts = (*facts, reprs.Text(result))
        self._logger.log(level, message, *facts, exc_info=exc_info)


_BAD_STATES = frozenset((states.FAILURE, states.REVERT_FAILURE, states.REVERTED))

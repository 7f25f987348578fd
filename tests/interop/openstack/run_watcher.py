"""Watcher: action plans as its applier runs them, with actions that succeed, are skipped, or fail."""

from __future__ import annotations

import logging
import types
from unittest import mock

from transcript import Transcript
from watcher.applier.workflow_engine import base, default

OUT = Transcript()
OUT.in_order = False
WORKERS = 3


def action(number: int, parents: tuple[int, ...], kind: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        uuid=f"action-{number}",
        parents=[f"action-{parent}" for parent in parents],
        action_type=kind,
        action_plan_id=1,
        input_parameters={},
        state="PENDING",
    )


#: number -> the actions before it
PLANS = {
    "line": {0: (), 1: (0,), 2: (1,), 3: (2,)},
    "diamond": {0: (), 1: (0,), 2: (0,), 3: (1, 2)},
    "two lines": {0: (), 1: (0,), 2: (), 3: (2,), 4: (1, 3)},
    "apart": {0: (), 1: (), 2: ()},
    "one": {0: ()},
}


class Container(base.BaseTaskFlowActionContainer):
    """An action of Watcher's, without the cloud that it would change."""

    def __init__(self, db_action: types.SimpleNamespace, engine: default.DefaultWorkFlowEngine) -> None:
        super().__init__(f"action_type:{db_action.action_type} uuid:{db_action.uuid}", db_action, engine)

    def pre_execute(self) -> None:
        OUT.note(self.name, "before")
        if self._db_action.action_type == "fails":
            raise LookupError("the cloud is gone")

    def execute(self, *args: object, **kwargs: object) -> bool:
        OUT.note(self.name, "action", sorted(kwargs))
        return self._db_action.action_type != "in vain"

    def post_execute(self) -> None:
        OUT.note(self.name, "after")

    def revert(self, *args: object, **kwargs: object) -> None:
        OUT.note(self.name, "undo", sorted(kwargs))

    do_pre_execute = do_execute = do_post_execute = do_revert = do_abort = None


def run(title: str, plan: dict[int, tuple[int, ...]], kinds: dict[int, str], rule: str | None) -> None:
    OUT.say("plan", title, kinds, rule)
    engine = default.DefaultWorkFlowEngine(
        config=mock.Mock(max_workers=WORKERS, action_execution_rule={}),
        context=mock.Mock(),
        applier_manager=mock.Mock(),
    )
    actions = [action(number, parents, kinds.get(number, "works")) for number, parents in plan.items()]
    with (
        mock.patch.object(default.DefaultWorkFlowEngine, "get_execution_rule", return_value=rule),
        mock.patch.object(default, "TaskFlowActionContainer", Container),
    ):
        try:
            OUT.say("  returned", type(engine.execute(actions)).__name__)
        except Exception as error:  # noqa: BLE001 - whatever it is, both packages must raise it
            OUT.say("  raised", type(error).__name__, error)


def main() -> None:
    with OUT.every_run():
        for rule in (None, "ANY", "ALWAYS"):
            for title, plan in PLANS.items():
                run(title, plan, {}, rule)
                # Of two lines, how far the other one comes before a failure is a matter of time.
                for number in plan:
                    for kind in ("in vain",) if title == "two lines" else ("fails", "in vain"):
                        run(title, plan, {number: kind}, rule)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main()

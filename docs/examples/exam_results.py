"""Asking the record after a run: states, results and failures, by name.

`engine.storage` answers for what has been provided, for each task, and for the flow; what is not there is `NotFound`.
"""

from __future__ import annotations

from taskflowx import Task, exceptions, linear, load


class Mark(Task):
    default_provides = ("points", "grade")

    def execute(self, answers: str, key: str) -> tuple[int, str]:
        points = sum(given == right for given, right in zip(answers, key, strict=True))
        return points, "ABCD"[len(key) - points]

    def revert(self) -> str:
        return "marks withdrawn"


class Publish(Task):
    default_provides = "page"

    def execute(self, grade: str) -> str:
        raise OSError("the notice board is full")


def main() -> None:
    engine = load(linear("exam", Mark("mark"), Publish("publish")), {"answers": "bda", "key": "bca"})
    try:
        engine.run()
    except OSError as error:
        print("failed:", error)

    storage = engine.storage
    print("flow:", storage.flow_name, storage.get_flow_state())
    for name, (state, intention) in sorted(storage.get_atoms_states(["mark", "publish"]).items()):
        print(f"{name}: {state}, intention {intention}")
    print("failures:", {name: failure.exception_str for name, failure in storage.get_execute_failures().items()})
    print("what undoing gave:", storage.get_revert_result("mark"))
    print("what was given:", storage.fetch("answers"))
    print("in place of the page:", storage.fetch("page"))
    try:
        storage.fetch("grade")
    except exceptions.NotFound:
        print("the grade is gone: its task has been reverted")


if __name__ == "__main__":
    main()

# Output:
#   failed: the notice board is full
#   flow: exam REVERTED
#   mark: REVERTED, intention REVERT
#   publish: REVERTED, intention REVERT
#   failures: {'publish': 'the notice board is full'}
#   what undoing gave: marks withdrawn
#   what was given: bda
#   in place of the page: Failure: OSError: the notice board is full
#   the grade is gone: its task has been reverted

"""A switch: conditions on the links of a graph flow say which branch is taken.

A condition is asked before its task would run, with the values that it takes by their names. When it says no, the task
and all that comes after it is ignored.
"""

from __future__ import annotations

from taskflowx import as_task, graph, load


@as_task(provides="kind")
def read(letter: str) -> str:
    return "bill" if "owe" in letter else "advert" if "buy" in letter else "personal"


@as_task
def pay(letter: str) -> None:
    print("  pay:", letter)


@as_task
def throw_away(letter: str) -> None:
    print("  throw away:", letter)


@as_task
def answer(letter: str) -> None:
    print("  answer:", letter)


@as_task
def file_receipt(letter: str) -> None:
    print("  file the receipt:", letter)


def main() -> None:
    flow = graph("mail", read, pay, throw_away, answer, file_receipt)
    flow.link(read, pay, when=lambda kind: kind == "bill")
    flow.link(read, throw_away, when=lambda kind: kind == "advert")
    flow.link(read, answer, when=lambda kind: kind == "personal")
    flow.link(pay, file_receipt)

    for letter in ("you owe us 30", "buy two, pay one", "happy birthday"):
        engine = load(flow, {"letter": letter})
        engine.run()
        tasks = (pay, throw_away, answer, file_receipt)
        ignored = [task.name for task in tasks if engine.storage.get_atom_state(task.name) == "IGNORE"]
        print("  ignored:", ", ".join(ignored))


if __name__ == "__main__":
    main()

# Output:
#     pay: you owe us 30
#     file the receipt: you owe us 30
#     ignored: throw_away, answer
#     throw away: buy two, pay one
#     ignored: pay, answer, file_receipt
#     answer: happy birthday
#     ignored: pay, throw_away, file_receipt

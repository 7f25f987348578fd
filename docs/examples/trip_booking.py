"""How much is undone: the inner flow alone with `AlwaysRevert`, everything with `AlwaysRevertAll`.

A trip is booked, with a concert that may be sold out. The retry on the flow of the concert decides whether that is a
reason to stay at home.
"""

from __future__ import annotations

from taskflowx import Task, linear, load, retry


class Book(Task):
    def execute(self) -> None:
        print(f"  {self.name} booked")

    def revert(self) -> None:
        print(f"  {self.name} cancelled")


class SoldOut(Task):
    def execute(self) -> None:
        raise LookupError("no tickets left")


def travel(on_sold_out: retry.Retry) -> None:
    evening = linear("evening", Book("taxi"), SoldOut("concert"), retry=on_sold_out)
    engine = load(linear("trip", Book("train"), Book("hotel"), evening))
    try:
        engine.run()
    except LookupError as error:
        print(f"  {error}; the flow is {engine.storage.get_flow_state()}")
    states = {name: engine.storage.get_atom_state(name) for name in ("train", "hotel", "taxi")}
    print("  still booked:", ", ".join(name for name, state in states.items() if state == "SUCCESS") or "nothing")


def main() -> None:
    print("AlwaysRevert")
    travel(retry.AlwaysRevert())
    print("AlwaysRevertAll")
    travel(retry.AlwaysRevertAll())
    print("Times, with everything undone after the last attempt")
    travel(retry.Times(2, revert_all=True))


if __name__ == "__main__":
    main()

# Output:
#   AlwaysRevert
#     train booked
#     hotel booked
#     taxi booked
#     taxi cancelled
#     no tickets left; the flow is REVERTED
#     still booked: train, hotel
#   AlwaysRevertAll
#     train booked
#     hotel booked
#     taxi booked
#     taxi cancelled
#     hotel cancelled
#     train cancelled
#     no tickets left; the flow is REVERTED
#     still booked: nothing
#   Times, with everything undone after the last attempt
#     train booked
#     hotel booked
#     taxi booked
#     taxi cancelled
#     taxi booked
#     taxi cancelled
#     hotel cancelled
#     train cancelled
#     no tickets left; the flow is REVERTED
#     still booked: nothing

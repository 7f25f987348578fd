"""Wiring: one task class used twice under other names, and plain functions as tasks.

`rebind` says under which names a task's arguments are stored, `provides` under which names its result is.
"""

from __future__ import annotations

from taskflowx import engines, task
from taskflowx.patterns import graph_flow


class Multiply(task.Task):
    def execute(self, amount: float, factor: float) -> float:
        return round(amount * factor, 2)


def split(address: str) -> dict[str, str]:
    street, town = address.split(", ")
    return {"street": street, "town": town}


def write(customer: str, town: str, net: float, tax: float, note: str = "thank you") -> str:
    return f"{customer} of {town} owes {net + tax:.2f}, of which {tax:.2f} are tax; {note}"


def main() -> None:
    flow = graph_flow.Flow("invoice").add(
        # As a dict: argument -> stored name.
        Multiply("net", provides="net", rebind={"amount": "pieces", "factor": "price"}),
        # As a list: the stored names in the order of the arguments.
        Multiply("tax", provides="tax", rebind=["net", "tax_rate"]),
        task.FunctorTask(split, name="split", provides={"street", "town"}, inject={"address": "2 Mill Lane, Thornby"}),
        task.FunctorTask(write, name="write", provides="letter", rebind={"customer": "name"}),
    )
    print("to be given:", ", ".join(sorted(flow.requires)))
    results = engines.run(flow, store={"name": "A. Weaver", "pieces": 3, "price": 19.5, "tax_rate": 0.2})
    print(results["letter"])


if __name__ == "__main__":
    main()

# Output:
#   to be given: name, pieces, price, tax_rate
#   A. Weaver of Thornby owes 70.20, of which 11.70 are tax; thank you

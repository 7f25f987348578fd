"""Wiring: one function used as two tasks under other names, and values under other names than the parameters have.

`rebind` says under which names a task's inputs are stored, `provides` under which names its result is, and `inject`
gives a task values of its own.
"""

from __future__ import annotations

from taskflowx import as_task, graph, run


@as_task
def multiply(amount: float, factor: float) -> float:
    return round(amount * factor, 2)


@as_task(provides={"street", "town"}, inject={"address": "2 Mill Lane, Thornby"})
def split(address: str) -> dict[str, str]:
    street, town = address.split(", ")
    return {"street": street, "town": town}


@as_task(provides="letter", rebind={"customer": "name"})
def write(customer: str, town: str, net: float, tax: float, note: str = "thank you") -> str:
    return f"{customer} of {town} owes {net + tax:.2f}, of which {tax:.2f} are tax; {note}"


def main() -> None:
    flow = graph(
        "invoice",
        # As a dict: parameter -> stored name.
        multiply.named("net", provides="net", rebind={"amount": "pieces", "factor": "price"}),
        # As a list: the stored names in the order of the parameters.
        multiply.named("tax", provides="tax", rebind=["net", "tax_rate"]),
        split,
        write,
    )
    print("to be given:", ", ".join(sorted(flow.requires)))
    results = run(flow, {"name": "A. Weaver", "pieces": 3, "price": 19.5, "tax_rate": 0.2})
    print(results["letter"])


if __name__ == "__main__":
    main()

# Output:
#   to be given: name, pieces, price, tax_rate
#   A. Weaver of Thornby owes 70.20, of which 11.70 are tax; thank you

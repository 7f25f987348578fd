"""Unknown outcomes: a task looks for the payment before its call is made again.

A process dies in the middle of a payment. The record says that the call had begun. The next process asks
`find_outcome`, with the idempotency key of that call. The interrupts below stand for the deaths.
"""

from __future__ import annotations

import contextlib
import tempfile

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models

LEDGER: dict[str, str] = {}  # what the bank has on its books, by idempotency key


class Pay(task.Task):
    default_provides = "receipt"
    default_on_unknown = "ask"  # were the bank not to answer, a person would have to

    def execute(self, amount: int, dies: list[str], idempotency_key: str) -> str:
        if "before" in dies:
            dies.remove("before")
            raise KeyboardInterrupt
        print("  the bank takes", amount)
        LEDGER[idempotency_key] = f"receipt for {amount}"
        if "after" in dies:
            raise KeyboardInterrupt
        return LEDGER[idempotency_key]

    def find_outcome(self, idempotency_key: str) -> object:
        found = LEDGER.get(idempotency_key, retry.NOT_DONE)
        print("  what does the bank say?", found)
        return found


class Ship(task.Task):
    def execute(self, receipt: str) -> None:
        print("  ship, with a", receipt)


def shop() -> linear_flow.Flow:
    return linear_flow.Flow("shop").add(Pay("pay"), Ship("ship"))


def first_process(folder: str, dies: str) -> None:
    with backends.backend({"connection": "dir", "path": folder}) as backend:
        book = models.LogBook("orders")
        engine = engines.load(shop(), store={"amount": 5, "dies": [dies]}, book=book, backend=backend)
        with contextlib.suppress(KeyboardInterrupt):
            engine.run()


def second_process(folder: str) -> None:
    with backends.backend({"connection": "dir", "path": folder}) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            [book] = connection.get_logbooks()
        [flow_detail] = book
        engine = engines.load(shop(), flow_detail=flow_detail, book=book, backend=backend)
        engine.storage.inject({"dies": []})
        engine.run()
        print("  the order is a", engine.storage.get_flow_state())


def main() -> None:
    for moment in ("before", "after"):
        print("the process dies", moment, "the money has gone")
        with tempfile.TemporaryDirectory() as folder:
            first_process(folder, moment)
            second_process(folder)
    print("payments:", len(LEDGER))


if __name__ == "__main__":
    main()

# Output:
#   the process dies before the money has gone
#     what does the bank say? retry.NOT_DONE
#     the bank takes 5
#     ship, with a receipt for 5
#     the order is a SUCCESS
#   the process dies after the money has gone
#     the bank takes 5
#     what does the bank say? receipt for 5
#     ship, with a receipt for 5
#     the order is a SUCCESS
#   payments: 2

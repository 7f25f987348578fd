"""A bank transfer that is rolled back: when a step fails, those before it are undone, the last one first.

`revert` may take what `execute` took, `result` (what `execute` returned, or the `Failure` that it ended with), and
`flow_failures`: the failures by the names of the tasks.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, task
from taskflowx.patterns import linear_flow
from taskflowx.types import failure

Accounts = dict[str, int]


class AccountClosedError(Exception):
    """The account takes no money."""


class Withdraw(task.Task):
    def execute(self, accounts: Accounts, payer: str, amount: int) -> None:
        accounts[payer] -= amount
        print(f"  {amount} taken from {payer}")

    def revert(self, accounts: Accounts, payer: str, amount: int, flow_failures: dict[str, failure.Failure]) -> None:
        accounts[payer] += amount
        print(f"  {amount} given back to {payer}, since this failed: {', '.join(flow_failures)}")


class Deposit(task.Task):
    def execute(self, accounts: Accounts, payee: str, amount: int) -> None:
        if payee not in accounts:
            raise AccountClosedError(payee)
        accounts[payee] += amount
        print(f"  {amount} put on {payee}")

    def revert(self, accounts: Accounts, payee: str, amount: int, result: Any) -> None:
        if isinstance(result, failure.Failure):
            print("  nothing was put anywhere")  # the task that failed is asked too: half of it may have been done
        else:
            accounts[payee] -= amount


def transfer(accounts: Accounts, payer: str, payee: str, amount: int) -> None:
    """Move money. Either all of it has happened in the end, or nothing."""
    print(f"{payer} pays {amount} to {payee}")
    flow = linear_flow.Flow("transfer").add(Withdraw("withdraw"), Deposit("deposit"))
    store = {"accounts": accounts, "payer": payer, "payee": payee, "amount": amount}
    try:
        engines.run(flow, store=store)
    except AccountClosedError as error:  # the task's own exception
        print(f"  the account {error} is closed")
    print(f"  now: {accounts}")


def main() -> None:
    accounts = {"ann": 100, "bob": 5}
    transfer(accounts, "ann", "bob", 30)
    transfer(accounts, "ann", "carl", 50)


if __name__ == "__main__":
    main()

# Output:
#   ann pays 30 to bob
#     30 taken from ann
#     30 put on bob
#     now: {'ann': 70, 'bob': 35}
#   ann pays 50 to carl
#     50 taken from ann
#     nothing was put anywhere
#     50 given back to ann, since this failed: deposit
#     the account carl is closed
#     now: {'ann': 70, 'bob': 35}

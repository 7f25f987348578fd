"""A bank transfer that is rolled back: when a step fails, those before it are undone, the last one first.

`@withdraw.revert` is the function that undoes `withdraw`. It may take what the task took, `result` (what the task
returned, or the `Failure` that it ended with), and `flow_failures`: the failures by the names of the tasks.
"""

from __future__ import annotations

from taskflowx import Failure, as_task, linear, run

Accounts = dict[str, int]


class AccountClosedError(Exception):
    """The account takes no money."""


@as_task
def withdraw(accounts: Accounts, payer: str, amount: int) -> None:
    accounts[payer] -= amount
    print(f"  {amount} taken from {payer}")


@withdraw.revert
def give_back(accounts: Accounts, payer: str, amount: int, flow_failures: dict[str, Failure]) -> None:
    accounts[payer] += amount
    print(f"  {amount} given back to {payer}, since this failed: {', '.join(flow_failures)}")


@as_task
def deposit(accounts: Accounts, payee: str, amount: int) -> None:
    if payee not in accounts:
        raise AccountClosedError(payee)
    accounts[payee] += amount
    print(f"  {amount} put on {payee}")


@deposit.revert
def reclaim(accounts: Accounts, payee: str, amount: int, result: Failure | None) -> None:
    if isinstance(result, Failure):
        print("  nothing was put anywhere")  # the task that failed is asked too: half of it may have been done
    else:
        accounts[payee] -= amount


def transfer(accounts: Accounts, payer: str, payee: str, amount: int) -> None:
    """Move money. Either all of it has happened in the end, or nothing."""
    print(f"{payer} pays {amount} to {payee}")
    store = {"accounts": accounts, "payer": payer, "payee": payee, "amount": amount}
    try:
        run(linear("transfer", withdraw, deposit), store)
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

"""A linear flow: tasks that run one after another, each with what the ones before it made.

What `execute` returns is stored under the name that the task provides, and whoever has an argument of that name gets
it. What no task provides is given to the run as `store`.
"""

from __future__ import annotations

from taskflowx import engines, task
from taskflowx.patterns import linear_flow


class Mix(task.Task):
    default_provides = "batter"

    def execute(self, flour: int, eggs: int) -> str:
        return f"batter of {flour} g of flour and {eggs} eggs"


class Fry(task.Task):
    default_provides = ("pancakes", "fat_left")  # the result is a pair, and each half has a name

    def execute(self, batter: str, fat: int) -> tuple[str, int]:
        return f"pancakes from {batter}", fat - 10


class Serve(task.Task):
    def execute(self, pancakes: str, topping: str = "sugar") -> None:  # nobody provides a topping: the default holds
        print(f"{pancakes}, with {topping}")


def main() -> None:
    flow = linear_flow.Flow("breakfast").add(Mix(), Fry(), Serve())
    results = engines.run(flow, store={"flour": 200, "eggs": 3, "fat": 25})
    print(results["fat_left"], "g of fat are left")


if __name__ == "__main__":
    main()

# Output:
#   pancakes from batter of 200 g of flour and 3 eggs, with sugar
#   15 g of fat are left

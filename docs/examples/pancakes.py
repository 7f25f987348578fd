"""A linear flow: tasks that run one after another, each with what the ones before it made.

What a function returns is stored under the name that its task provides, and whoever has a parameter of that name gets
it. What no task provides is given to the run.
"""

from __future__ import annotations

from taskflowx import as_task, linear, run


@as_task(provides="batter")
def mix(flour: int, eggs: int) -> str:
    return f"batter of {flour} g of flour and {eggs} eggs"


@as_task(provides=("pancakes", "fat_left"))  # the result is a pair, and each half has a name
def fry(batter: str, fat: int) -> tuple[str, int]:
    return f"pancakes from {batter}", fat - 10


@as_task
def serve(pancakes: str, topping: str = "sugar") -> None:  # nobody provides a topping: the default holds
    print(f"{pancakes}, with {topping}")


def main() -> None:
    results = run(linear("breakfast", mix, fry, serve), {"flour": 200, "eggs": 3, "fat": 25})
    print(results["fat_left"], "g of fat are left")


if __name__ == "__main__":
    main()

# Output:
#   pancakes from batter of 200 g of flour and 3 eggs, with sugar
#   15 g of fat are left

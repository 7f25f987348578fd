"""`ParameterizedForEach`: a retry that takes the values to try from the data of the flow.

Here a task before it finds them. `rebind` says under which name; without it the name is `values`.
"""

from __future__ import annotations

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow


class FullyBookedError(Exception):
    """There is no room left."""


class Search(task.Task):
    default_provides = "offers"

    def execute(self, budget: int) -> list[str]:
        prices = {"Grand Hotel": 210, "Harbour Inn": 90, "The Swan": 75}
        return [hotel for hotel, price in prices.items() if price <= budget]


class Book(task.Task):
    default_provides = "confirmation"

    def execute(self, hotel: str, full: list[str]) -> str:
        print("ask", hotel)
        if hotel in full:
            raise FullyBookedError(hotel)
        return f"a room at {hotel}"


def book(full: list[str]) -> None:
    each_offer = retry.ParameterizedForEach(rebind={"values": "offers"}, provides="hotel")
    flow = linear_flow.Flow("holiday").add(Search(), linear_flow.Flow("booking", retry=each_offer).add(Book()))
    try:
        print("booked:", engines.run(flow, store={"budget": 100, "full": full})["confirmation"])
    except FullyBookedError as error:
        print("nothing is free, the last one asked was", error)


def main() -> None:
    book(full=["Harbour Inn"])
    book(full=["Harbour Inn", "The Swan"])


if __name__ == "__main__":
    main()

# Output:
#   ask Harbour Inn
#   ask The Swan
#   booked: a room at The Swan
#   ask Harbour Inn
#   ask The Swan
#   nothing is free, the last one asked was The Swan

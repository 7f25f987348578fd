"""`ParameterizedForEach`: a retry that takes the values to try from the data of the flow.

Here a task before it finds them. `rebind` says under which name; without it the name is `values`.
"""

from __future__ import annotations

from taskflowx import as_task, linear, retry, run


class FullyBookedError(Exception):
    """There is no room left."""


@as_task(provides="offers")
def search(budget: int) -> list[str]:
    prices = {"Grand Hotel": 210, "Harbour Inn": 90, "The Swan": 75}
    return [hotel for hotel, price in prices.items() if price <= budget]


@as_task(provides="confirmation")
def reserve(hotel: str, full: list[str]) -> str:
    print("ask", hotel)
    if hotel in full:
        raise FullyBookedError(hotel)
    return f"a room at {hotel}"


def book(full: list[str]) -> None:
    each_offer = retry.ParameterizedForEach(rebind={"values": "offers"}, provides="hotel")
    flow = linear("holiday", search, linear("booking", reserve, retry=each_offer))
    try:
        print("booked:", run(flow, {"budget": 100, "full": full})["confirmation"])
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

"""Creating a volume as a block storage service does: requests validated, quota reserved, rolled back when a step fails.

The tasks are used under other names by other flows, so `rebind` joins them: here the manager's name for a size, a
volume, and the reservations. `revert` takes what it needs of the arguments, and `result`, what `execute` returned.
"""

from __future__ import annotations

from typing import Any

from taskflowx import Failure, Task, linear, run

Context = dict[str, Any]


class ExtractRequest(Task):
    default_provides = frozenset(["size", "volume_type"])

    def execute(self, size: int, volume_type: str | None) -> dict[str, Any]:
        if size <= 0:
            raise ValueError(f"a volume of {size} GB cannot be made")
        return {"size": size, "volume_type": volume_type or "standard"}


class QuotaReserve(Task):
    default_provides = "reservation"

    def execute(self, context: Context, size: int) -> int:
        context["reserved"] += size
        return size

    def revert(self, context: Context, result: Any) -> None:
        if not isinstance(result, Failure):
            context["reserved"] -= result
            print(f"  {result} GB are no longer reserved")


class EntryCreate(Task):
    default_provides = frozenset(["volume_id", "volume"])

    def execute(self, context: Context, size: int, volume_type: str) -> dict[str, Any]:
        volume_id = f"vol-{len(context['volumes']) + 1}"
        volume = {"size": size, "type": volume_type, "status": "creating"}
        context["volumes"][volume_id] = volume
        return {"volume_id": volume_id, "volume": volume}

    def revert(self, context: Context, result: Any) -> None:
        if not isinstance(result, Failure):
            context["volumes"][result["volume_id"]]["status"] = "error"  # the row stays, for who asks what became of it
            print(f"  {result['volume_id']} is marked as failed")


class Build(Task):
    def execute(self, context: Context, volume: dict[str, Any], host: str) -> None:
        if host not in context["hosts"]:
            raise ConnectionError(f"{host} does not answer")
        volume["status"] = "available"


def create(context: Context, size: int, host: str) -> None:
    flow = linear(
        "volume_create",
        ExtractRequest(rebind={"size": "raw_size", "volume_type": "raw_volume_type"}),
        QuotaReserve(),
        EntryCreate(),
        Build(rebind={"host": "chosen_host"}),
    )
    store = {"context": context, "raw_size": size, "raw_volume_type": None, "chosen_host": host}
    try:
        print("created:", run(flow, store)["volume_id"])
    except ConnectionError as error:
        print("failed:", error)


def main() -> None:
    context: Context = {"reserved": 0, "volumes": {}, "hosts": {"host-a"}}
    create(context, 10, "host-a")
    create(context, 20, "host-b")
    print(context["reserved"], "GB reserved;", {name: row["status"] for name, row in context["volumes"].items()})


if __name__ == "__main__":
    main()

# Output:
#   created: vol-1
#     vol-2 is marked as failed
#     20 GB are no longer reserved
#   failed: host-b does not answer
#   10 GB reserved; {'vol-1': 'available', 'vol-2': 'error'}

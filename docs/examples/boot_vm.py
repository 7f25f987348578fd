"""Booting a virtual machine: nested flows of each kind, and a network that is tried again without its disk being lost.

Disk and network do not depend on each other and are made at the same time. The network has a retry of its own; when it
gives up, all is undone.
"""

from __future__ import annotations

from typing import Any

from taskflowx import Failure, Task, as_task, graph, linear, retry, run


class Allocate(Task):
    """Base of the tasks that take something from the cloud, and give it back."""

    def execute(self, cloud: set[str], host: str, vm: str) -> str:
        thing = f"{vm}/{self.name}"
        cloud.add(thing)
        return thing

    def revert(self, cloud: set[str], result: Any) -> None:
        if not isinstance(result, Failure):
            cloud.remove(result)


class AllocatePort(Allocate):
    def execute(self, cloud: set[str], host: str, vm: str, network: str = "", full: tuple[str, ...] = ()) -> str:
        if network in full:
            raise LookupError(f"{network} has no address left")
        return f"{super().execute(cloud, host, vm)} in {network}"

    def revert(self, cloud: set[str], result: Any) -> None:
        if not isinstance(result, Failure):
            cloud.remove(result.partition(" in ")[0])


@as_task(provides="host")
def schedule(hosts: dict[str, float]) -> str:
    return min(hosts, key=lambda host: hosts[host])


@as_task(provides="machine")
def start(host: str, disk: str, port: str) -> str:
    return f"runs on {host} with {disk} and {port}"


def boot(full: tuple[str, ...]) -> None:
    networks = retry.ForEach(["net-1", "net-2"], provides="network", revert_all=True)
    networking = linear("networking", Allocate("firewall"), AllocatePort("port", provides="port"), retry=networks)
    machine = graph(
        "machine",
        start,  # what it needs comes first, wherever it stands in the list
        Allocate("disk", provides="disk"),
        networking,
    )
    cloud: set[str] = set()
    store = {"vm": "web", "hosts": {"rack-1": 0.9, "rack-2": 0.2}, "cloud": cloud, "full": full}
    try:
        print(run(linear("boot", schedule, machine), store, executor="threads")["machine"])
    except LookupError as error:
        print("not booted:", error)
    print("  taken from the cloud:", ", ".join(sorted(cloud)) or "nothing")


def main() -> None:
    boot(full=())
    boot(full=("net-1",))
    boot(full=("net-1", "net-2"))


if __name__ == "__main__":
    main()

# Output:
#   runs on rack-2 with web/disk and web/port in net-1
#     taken from the cloud: web/disk, web/firewall, web/port
#   runs on rack-2 with web/disk and web/port in net-2
#     taken from the cloud: web/disk, web/firewall, web/port
#   not booted: net-2 has no address left
#     taken from the cloud: nothing

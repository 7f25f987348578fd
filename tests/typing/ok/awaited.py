"""What may be awaited besides the methods of tasks: hooks, deciders, retries, subscribers."""

from __future__ import annotations

from typing import Any

from taskflowx import Retry, Task, graph, load
from taskflowx.listeners import base
from taskflowx.retry import RETRY, Decision


class Hooked(Task[int]):
    default_provides = "size"

    async def pre_execute(self) -> None: ...

    async def execute(self) -> int:
        return 3

    async def post_execute(self) -> None: ...

    async def pre_revert(self) -> None: ...

    async def post_revert(self) -> None: ...


class HookedAtOnce(Task[None]):
    def pre_execute(self) -> None: ...

    def execute(self) -> None: ...


class Asks(Retry):
    async def execute(self, history: Any, *args: Any, **kwargs: Any) -> int:
        return len(history)

    async def on_failure(self, history: Any, *args: Any, **kwargs: Any) -> Decision:
        return RETRY


class AsksAtOnce(Retry):
    def execute(self, *args: Any, **kwargs: Any) -> None: ...

    def on_failure(self, *args: Any, **kwargs: Any) -> Decision:
        return RETRY


class Receives(base.Listener):
    async def _task_receiver(self, state: str, details: dict[str, Any]) -> None: ...

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None: ...


async def is_large(size: int, limit: int) -> bool:
    return size > limit


async def decide(*, history: dict[str, Any]) -> bool:
    return bool(history)


async def tell(state: str, details: dict[str, Any]) -> None: ...


a, b, c = Hooked("a"), HookedAtOnce("b"), HookedAtOnce("c")
flow = graph("f", a, b, c, retry=Asks("r")).link(a, b, when=is_large).link(a, c, decide)
engine = load(flow, {"limit": 1}, executor="asyncio")
engine.notifier.register("*", tell)
with Receives(engine):
    engine.run()

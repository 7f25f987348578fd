"""Tasks as classes, with and without the type of their result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from taskflowx import Failure, Task, retry, task
from taskflowx.types.notifier import RestrictedNotifier


class Create(Task[int]):
    default_provides = "volume"

    def execute(self, size: int, name: str = "none") -> int:
        self.update_progress(0.5, step="half")
        return size

    def revert(self, result: int | Failure, **kwargs: Any) -> None:
        if isinstance(result, Failure):
            assert_type(result, Failure)
        else:
            assert_type(result, int)


class Plain(Task):
    """A task that says nothing of its result."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(name, provides=("a", "b"), rebind={"size": "volume_size"}, requires=["more"])
        self.where = where

    def execute(self, size: int, **kwargs: object) -> tuple[int, int]:
        return size, size


class Awaited(task.Task[str]):
    async def execute(self, size: int) -> str:
        return str(size)


class Settled(Task[str]):
    default_retry = retry.Times(3, delay=0.5, backoff=2, jitter=0.1, retry_on=(ConnectionError, "requests.Timeout"))
    default_timeout = 30
    default_limits = ("net",)
    default_on_unknown = "undo"

    def execute(self, url: str) -> str:
        raise retry.RetryAfter(3)

    def revert(self, **kwargs: object) -> None:
        pass

    def find_outcome(self, idempotency_key: str, url: str) -> object:
        return retry.NOT_DONE


class WithHooks(Task[None]):
    def pre_execute(self) -> None:
        pass

    def execute(self) -> None:
        pass


created = Create("create", provides="volume", rebind=["size"], inject={"size": 3}, pure=True)
assert_type(created, Create)
assert_type(created.execute(3), int)
assert_type(created.copy(), Task[Any])
assert_type(created.notifier, RestrictedNotifier)
assert_type(created.save_as, dict[str, Any])
Create(provides={"a": "key"})
Create("limited", timeout=5, revert_timeout=0.5, retry=retry.Times(3), limits=("db",), on_unknown="ask")
Create("held", limits={"db": 2, "host:{name}": 1}, revert_retry=retry.Times(2, delay=1), grace=1, strict_timeout=None)
Create(provides={"a", "b"})
Create(provides=["a"], ignore_list=["name"])
Plain("plain", where="here")


def area(width: int, height: int) -> int:
    return width * height


def undo(**_: object) -> None:
    pass


functor: task.FunctorTask[int] = task.FunctorTask(area, provides="area", revert=undo)
mapped = task.MapFunctorTask(str, ["a", "b"], provides="texts")
reduced = task.ReduceFunctorTask(max, ["a", "b"], provides="most")
made: list[Task] = [functor, mapped, reduced]
makers: list[Callable[[str], Task]] = [Create]

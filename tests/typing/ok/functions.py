"""Functions that are tasks."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, TypedDict, assert_type

import taskflowx
from taskflowx import Failure, FunctionTask, as_task, linear, retry


class Size(TypedDict):
    width: int
    height: int


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Volume:
    name: str
    size: int


@as_task
def create(size: int, name: str = "data") -> Volume:
    return Volume(name, size)


@create.revert
def remove(result: Volume | Failure, size: int) -> None:
    pass


@as_task(name="look", provides="found", rebind={"text": "name"}, pure=True, version=(1, 2))
def look(text: str) -> list[str]:
    return [text]


@as_task()
def measure() -> Size:
    return {"width": 1, "height": 2}


@as_task
async def fetch(url: str) -> bytes:
    return url.encode()


def undo_nothing() -> None:
    pass


@as_task(timeout=5, retry=retry.Times(3), limits=("net",), on_unknown="ask")
def limited(url: str) -> str:
    return url


paint = as_task(lambda: 3, name="paint", provides="colour", timeout=5, revert=undo_nothing)
assert_type(as_task(str.upper, name="upper").result({}), str)
paint.named("again", provides="other")

text: str = limited("a")
assert_type(limited.named("other", timeout=3).result({}), str)


@as_task
def nothing() -> None:
    pass


def undo(result: object, **kwargs: object) -> None:
    pass


@as_task(revert=undo)
def point(x: int) -> Point:
    return Point(x, x)


assert_type(create(3), Volume)
assert_type(create(3, name="a"), Volume)
assert_type(look("a"), list[str])
assert_type(measure(), Size)
assert_type(point(3), Point)
nothing()
remove(create(3), 3)


async def direct() -> bytes:
    return await fetch("a")


async def fetched() -> bytes:
    values = await taskflowx.arun(fetch, {"url": "a"})
    assert_type(fetch.result(values), bytes)
    async with taskflowx.load(fetch, {"url": "a"}, executor="asyncio") as waiting:
        await waiting.arun()
        return fetch.result(waiting)


assert_type(measure("other").result({}), Size)
again = create.named("again", provides="other", rebind={"size": "big"})
assert_type(again(3), Volume)

engine = taskflowx.load(linear("volume", create, look), {"size": 3})
engine.run()
assert_type(create.result(engine), Volume)
assert_type(look.result(engine), list[str])
assert_type(again.result(engine), Volume)
values = taskflowx.run(linear("points", point, measure), {"x": 3})
assert_type(point.result(values), Point)
assert_type(measure.result(values), Size)
assert_type(point.result(values).x, int)


def takes_a_task(of: FunctionTask[..., list[str]]) -> str:
    return of("a")[0]


takes_a_task(look)

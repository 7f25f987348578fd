"""Tasks that note in a file when they are called, and then do what somebody else's code does."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from taskflowx import task
from tests.model import specs
from tests.soak import deeds, gifts, harm

_ALL = {**deeds.QUIET, **harm.FAILS, **harm.STOPS, **harm.DIES, **harm.SPILLS}


class Plain(task.Task):
    """Returns its name."""

    def execute(self):
        return self.name


class Notes:
    """What has been done, in a file to which all processes append.

    :param path: of the file
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, verb: str, name: str) -> int:
        """Note that a task is called; returns how often that has been noted."""
        with open(self.path, "ab", buffering=0) as file:  # noqa: PTH123 - in one write
            file.write(f"{verb} {name}\n".encode())
        return self.read().count((verb, name))

    def read(self) -> list[tuple[str, str]]:
        """Return all (verb, name) in order."""
        with open(self.path, "rb") as file:  # noqa: PTH123
            return [tuple(line.split()) for line in file.read().decode().splitlines()]  # type: ignore[misc]


class Hostile(task.Task):
    """The task of a job of a spec.

    :param plan: what it does when it is executed and reverted, how it fails and is left, and what it returns
    :param notes: where it notes its calls
    """

    def __init__(self, job: specs.Job, needs: tuple[str, ...], plan: Plan, notes: Notes) -> None:
        super().__init__(job.name, provides=job.gives, requires=list(needs))
        self.priority = job.priority
        self.job = job
        self.plan = plan
        self.notes = notes

    def execute(self, **given):
        """Do it."""
        return self._work(given)

    def _work(self, given):
        job, plan = self.job, self.plan
        count = self.notes.add("execute", job.name)
        rng = random.Random(f"{plan.seed} {job.name} {count}")
        self._do(plan.deeds, rng)
        if count <= job.interrupted:
            _ALL[plan.leaves].do(self, rng)
        try:
            result = specs.result_of(job, given)
        except specs.Broken:
            _ALL[plan.fails].do(self, rng)
            raise
        return result if plan.gift is None else gifts.GIFTS[plan.gift].make(result)

    def _do(self, names, rng):
        """Do things that do not fail, whatever an earlier task has left behind for them."""
        for name in names:
            try:
                _ALL[name].do(self, rng)
            except AssertionError:
                self.notes.add("wrong", f"{self.job.name}:{name}")
            except Exception:
                if name in harm.SPILLS and rng.random() < 0.5:
                    raise

    def revert(self, result, **given):
        """Undo it."""
        count = self.notes.add("revert", self.job.name)
        rng = random.Random(f"{self.plan.seed} {self.job.name} revert {count}")
        self._do(self.plan.undoes, rng)
        if count <= self.job.stuck:
            raise specs.Broken(f"revert of {self.job.name}")


class HostileCoroutine(Hostile):
    """The same as a coroutine."""

    async def execute(self, **given):
        """Do it, with a pause before and after it."""
        await asyncio.sleep(0)
        result = self._work(given)
        await asyncio.sleep(0)
        return result


class Plan:
    """What one task does, by the names of deeds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.deeds: list[str] = []
        self.undoes: list[str] = []
        self.fails = "raise_something_odd"
        self.leaves = "leave"
        self.gift: str | None = None
        self.spills = False

    def __repr__(self) -> str:
        what: dict[str, Any] = {name: value for name, value in vars(self).items() if value and name != "seed"}
        return f"{what}"


def effects_of(path: str) -> list[tuple[str, str]]:
    """Return what has been noted; nothing where nobody has."""
    return Notes(path).read() if os.path.exists(path) else []  # noqa: PTH110

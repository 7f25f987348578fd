"""Each flow of `shapes`, left by one package at each of its writes, and taken up by the other one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.interop import judge, shapes, sides

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

BY_TASKFLOW, FOR_TASKFLOW = "left by TaskFlow", "left for TaskFlow"
DIRECTIONS = (BY_TASKFLOW, FOR_TASKFLOW)


@dataclass
class Outcome:
    """What came of a run that was left at one place."""

    direction: str
    kind: str
    shape: str
    moment: str
    before: dict[str, Any] = field(default_factory=dict)
    calls: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    wrong: list[str] = field(default_factory=list)
    #: what came of it when the package that had left it took it up as well, where that is another end
    other: str = ""

    def __str__(self) -> str:
        record = ", ".join(f"{name} {atom['state']}/{atom['intention']}" for name, atom in sorted(self.before.items()))
        before, after = (" ".join(calls) for calls in self.calls)
        lines = [f"{self.direction}, {self.kind}, {self.shape}, {self.moment}: {before} | {after}", f"  {record}"]
        return "\n".join([*lines, *(f"  {text}" for text in self.wrong), *([f"  {self.other}"] if self.other else [])])


class Matrix:
    """Runs on one kind of store.

    :param sample: how many places of each flow are looked at, None for all
    :param compare: whether the package that has left a run takes it up, too
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        theirs: sides.Peer,
        ours: sides.Peer,
        *,
        rng: random.Random,
        sample: int | None = None,
        compare: bool = False,
    ) -> None:
        self.kind = kind
        self._sides = {BY_TASKFLOW: (theirs, ours), FOR_TASKFLOW: (ours, theirs)}
        self._rng = rng
        self._sample = sample
        self._compare = compare
        self._folder = folder
        self._stores = sides.Stores(kind, folder, theirs, ours)

    def look_at(self, direction: str, name: str, workers: int = 0) -> Iterator[Outcome]:
        """Leave a flow at its writes, and take it up; gives what came of each."""
        left = shapes.SHAPES[name]
        first, second = self._sides[direction]
        places = self._kept if self.kind in sides.FILES else self._killed
        for moment, place, again in places(first, left, f"{name}-{direction}-{workers}", workers):
            outcome = Outcome(direction, self.kind, name, moment)
            before = place.calls()
            read = first.do("read", place.settings, uuid=place.uuid)
            order = {"uuid": place.uuid, "spec": left.spec}
            answer = second.do("resume", place.settings, effects=place.effects, **order)
            if answer.get("before", {}).get("state") == "REVERTED":
                continue  # it had come to its end, and starts again
            calls = place.calls()[len(before) :]
            record = answer.get("before", {}).get("atoms", {})
            outcome.before = {name: atom for name, atom in record.items() if not name.startswith("_")}
            outcome.calls = (before, calls)
            outcome.wrong = judge.complaints(left.spec, answer, before, calls, theirs=direction == FOR_TASKFLOW)
            if _of_record(read) != _of_record(answer.get("before", {})):
                outcome.wrong.append(f"who left it reads {_of_record(read)}, the other one {_of_record(answer)}")
            if self._compare:
                twin = again()
                theirs = first.do("resume", twin.settings, effects=twin.effects, **order | {"uuid": twin.uuid})
                if "state" in theirs and judge.end_of(theirs) != judge.end_of(answer):
                    outcome.other = f"{first.package} ends {judge.end_of(theirs)}, {' '.join(twin.calls())}"
            yield outcome

    def _kept(self, side: sides.Peer, left: shapes.Left, name: str, workers: int) -> Iterator[Any]:
        """Run a flow once, with a copy of its store at each place; gives these one by one, back where it was."""
        keep = self._folder / f"kept-{name}".replace(" ", "-")
        keep.mkdir()
        place = self._stores.new()
        self._begin(side, left, place, keep=str(keep), workers=workers)
        for kept in self._picked(sorted(keep.iterdir(), key=_in_order)):
            self._stores.put_back(place, kept)
            yield kept.name, place, lambda kept=kept: self._stores.put_back(place, kept)
        self._stores.remove(place, keep)

    def _killed(self, side: sides.Peer, left: shapes.Left, name: str, workers: int) -> Iterator[Any]:
        """Run a flow once for each place, at which its process ends."""
        writes = self._begin(side, left, self._stores.new(), workers=workers)["writes"]
        moments = [(number, late) for number in range(1, len(writes) + 1) for late in (False, True)]

        def killed(die: int, late: bool) -> sides.Place:
            place = self._stores.new()
            self._begin(side, left, place, die=die, late=late, workers=workers)
            return place

        for die, late in self._picked(moments):
            moment = f"{die}-{'late' if late else 'early'}"
            yield moment, killed(die, late), lambda die=die, late=late: killed(die, late)

    def _begin(self, side: sides.Peer, left: shapes.Left, place: sides.Place, **order: Any) -> dict[str, Any]:
        order |= {"uuid": place.uuid, "effects": place.effects, "spec": left.spec, "stop": left.stop}
        answer = side.do("begin", place.settings, **order)
        assert "error" not in answer, answer
        return answer

    def _picked(self, moments: list[Any]) -> list[Any]:
        if self._sample is None or len(moments) <= self._sample:
            return moments
        return [moments[n] for n in sorted(self._rng.sample(range(len(moments)), self._sample))]


def _of_record(told: dict[str, Any]) -> Any:
    """Return what is on record as both packages read it."""
    atoms = {name: (atom["state"], atom["intention"], atom["attempts"]) for name, atom in told.get("atoms", {}).items()}
    return told.get("state"), atoms


def _in_order(kept: Path) -> tuple[int, str]:
    number, moment = kept.name.split("-")
    return int(number), moment

"""Flows to draw, and what a drawing says, read back from its SVG."""

from __future__ import annotations

import itertools
import random
import re
from xml.etree import ElementTree as ET

from taskflowx import flow as flows, retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

SVG = "{http://www.w3.org/2000/svg}"


class Step(task.Task):
    """Provides a value for each of its names; fails as often as it is told to."""

    def __init__(self, name, *, fails=0, error="Woot!", **kwargs):
        super().__init__(name, **kwargs)
        self.fails = fails
        self.error = error

    def execute(self, **kwargs):
        if self.fails:
            self.fails -= 1
            raise RuntimeError(self.error)
        return tuple(range(len(self.save_as))) if len(self.save_as) > 1 else 1


class Drawn:
    """A box of a drawing, with its frame (x, y, width, height)."""

    def __init__(self, group):
        frame = group.find(f"{SVG}rect")
        self.x, self.y, self.width, self.height = (float(frame.get(side)) for side in ("x", "y", "width", "height"))
        self.number, self.inside = group.get("data-id"), group.get("data-in")
        self.kind, self.name = group.get("data-kind"), group.get("data-name")
        self.kinds = group.get("class").split()
        self.tip = group.find(f"{SVG}title").text
        self.lines = ["".join(text.itertext()) for text in group.findall(f"{SVG}text")]

    def contains(self, other):
        """Tell whether another frame is within this one."""
        return (
            self.x < other.x
            and self.y < other.y
            and other.x + other.width < self.x + self.width
            and other.y + other.height < self.y + self.height
        )

    def overlaps(self, other):
        """Tell whether this frame and another one have a point in common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


class Drawing:
    """What the SVG of a picture says."""

    def __init__(self, picture):
        self.root = ET.fromstring(picture.svg)
        groups = self.root.findall(f"{SVG}g")
        self.boxes = {box.number: box for box in (Drawn(group) for group in groups if group.get("data-id"))}
        self.by_name = {box.name: box for box in self.boxes.values()}
        self.links = [
            (self.boxes[group.get("data-from")].name, self.boxes[group.get("data-to")].name)
            for group in groups
            if group.get("data-from")
        ]
        self.labels = [group for group in groups if group.get("class") == "tfx-label"]

    def check(self):
        """See that each box is within its flow, and overlaps none of its neighbours."""
        inside = {}
        for box in self.boxes.values():
            if box.inside is not None:
                assert self.boxes[box.inside].contains(box), box.name
                inside.setdefault(box.inside, []).append(box)
        for members in inside.values():
            for one, other in itertools.combinations(members, 2):
                assert not one.overlaps(other), (one.name, other.name)
        x, y, width, height = map(float, self.root.get("viewBox").split())
        for box in self.boxes.values():
            assert x < box.x
            assert y < box.y
            assert box.x + box.width < width
            assert box.y + box.height < height
        labels = [Frame(label.find(f"{SVG}rect")) for label in self.labels]
        for label in labels:
            for box in self.boxes.values():
                assert box.kind in ("linear", "unordered", "graph") or not label.overlaps(box), box.name
        for one, other in itertools.combinations(labels, 2):
            assert not one.overlaps(other)


class Frame(Drawn):
    """The frame of a label."""

    def __init__(self, rect):
        self.x, self.y, self.width, self.height = (float(rect.get(side)) for side in ("x", "y", "width", "height"))


def points_of(link):
    """Iterate over points on the line of a link, as it is drawn."""
    down = link.route[0][0] == link.route[1][0]
    for (x, y), (x2, y2) in itertools.pairwise(link.route):
        yield x, y
        if not link.curved or x == x2 or y == y2:
            continue
        near, far = ((x, (y + y2) / 2), (x2, (y + y2) / 2)) if down else (((x + x2) / 2, y), ((x + x2) / 2, y2))
        for t in (0.1, 0.3, 0.5, 0.7, 0.9):
            shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            corners = list(zip(shares, ((x, y), near, far, (x2, y2)), strict=True))
            yield (
                sum(share * corner[0] for share, corner in corners),
                sum(share * corner[1] for share, corner in corners),
            )
    yield link.route[-1]


def random_flow(seed, atoms=40):
    """Return a flow of nested flows of all patterns, and the names of its atoms."""
    chance = random.Random(seed)
    numbers, names = itertools.count(), []

    def step(provided):
        number = next(numbers)
        names.append(
            f"{'step' if chance.random() < 0.8 else 'a step with quite a long name, indeed, of number'} {number}"
        )
        needed = chance.sample(provided, min(len(provided), chance.choice([0, 1, 1, 2, 3])))
        provided.append(f"v{number}")
        return Step(names[-1], provides=f"v{number}", requires=needed)

    def make(depth, most):
        pattern = chance.choice([linear_flow, unordered_flow, graph_flow])
        controller = retry.Times(chance.randint(2, 9)) if chance.random() < 0.2 else None
        made = pattern.Flow(f"flow {next(numbers)}", controller)
        if controller is not None:
            names.append(controller.name)
        provided = []
        while most > 0:
            if depth < 4 and chance.random() < 0.2:
                share = chance.randint(0, most)
                made.add(make(depth + 1, share))
                most -= max(share, 1)
            else:
                made.add(step(provided if pattern is graph_flow else []))
                most -= 1
        return made

    return make(0, atoms), names


def atoms_of(root):
    """Return name -> atom of a flow, nested ones included."""
    return {
        member.name: member
        for nested in flows.nested_flows(root)
        for member in nested
        if not isinstance(member, flows.Flow)
    }


def words(text):
    """Return the words of a text, as a set."""
    return set(re.findall(r"\w+", text))

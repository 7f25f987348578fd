"""The layout of one graph flow: members in layers, each below what it follows, and links that cross as few as may be.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981): layers by
the longest path, a node where a link passes a layer, an order within layers by barycenters. The label of a link is a
node, too, in a layer of labels below its source. Links of one source with one label and the same deciders share it and
what follows, and so do links into one target, whichever are more. Places are those nearest to the mean of the
neighbours, found by isotonic regression (pool adjacent violators; Ayer et al. 1955).

Coordinates here are *along* the direction of the links, and *across* it.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from typing import TYPE_CHECKING

from taskflowx.pictures import wording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskflowx.pictures import model

#: the widest layer when links go down, and when they go to the right; a wider one is split
WIDEST, HIGHEST = 860, 640
#: between members, between other nodes, and along between layers
APART, CLOSE, STEP = 22, 10, 12
#: the last part of a link, which is straight: its arrow
ARROW = 11
#: the first part, too
BEGIN = 5
#: a label: its font, its height, and what is added to the width of its text
FONT, HIGH, AROUND = 11, 16, 10
#: with more passes of links through layers than this, a long link is a curve from label to target
MOST_PASSES = 50_000
SWEEPS = 12
#: so many times at most groups of members are moved down
MOST_SINKS = 20
#: with many nodes there are fewer of them: so many moves in all, and at least so many sweeps
MOST_MOVES, FEWEST_SWEEPS = 120_000, 3
#: how much more the place of a node counts that is no member, so that links are straight
STRAIGHT = 6
#: how far apart the ends of links at one side of a box are at most, and the part of the side that they take
PORTS, SHARE = 16, 0.7
#: a step between layers is longer by this share of the longest way across in it, and at most by so much
SLOPE, STEEPEST = 0.08, 64


class _Node:
    """A member, a label, or a place where links pass a layer."""

    __slots__ = ("across", "after", "along", "before", "box", "layer", "long", "place", "wide")

    def __init__(self, layer: int, wide: float, long: float, box: model.Box | None = None) -> None:
        self.layer = layer
        self.wide = wide
        self.long = long
        self.box = box
        self.across = self.along = 0.0
        self.place = 0.0
        self.before: dict[_Node, None] = {}
        self.after: dict[_Node, None] = {}


def arrange(box: model.Box, *, down: bool) -> tuple[float, float]:
    """Place the members of a graph flow and its links; returns the width and the height that they take.

    :param down: whether links go down, and not to the right
    """
    nodes = {
        id(member): _Node(0, *((member.width, member.height) if down else (member.height, member.width)), member)
        for member in box.members
    }
    widest = WIDEST if down else HIGHEST
    links = [(nodes[id(one.source)], nodes[id(one.target)], one) for one in box.links]
    links = _layered(list(nodes.values()), links, widest)
    _split(nodes.values(), widest)
    ways = _ways(links, down=down)
    rows = _rows([*nodes.values(), *(node for way in ways for node in way)])
    _order(rows)
    across = _spread(rows)
    along, spans = _stack(rows)
    _route(links, ways, spans, down=down)
    for node in nodes.values():
        assert node.box is not None
        begin = (node.across - node.wide / 2, node.along - node.long / 2)
        node.box.x, node.box.y = begin if down else begin[::-1]
    return (across, along) if down else (along, across)


Linked = tuple[_Node, _Node, "model.Link"]


def _layered(nodes: list[_Node], links: list[Linked], widest: float) -> list[Linked]:
    """Set the layer of each member by the longest path to it; returns the links, without those that close a cycle.

    Members are then moved down to those that need them, as far as links do not get longer in all: a source, and what
    follows from it alone, is just above the first member that needs it. Members without a link come last if they are
    many.
    """
    after: dict[_Node, list[_Node]] = {}
    waits = dict.fromkeys(nodes, 0)
    for u, v, _ in links:
        after.setdefault(u, []).append(v)
        waits[v] += 1
    ready = [node for node in nodes if not waits[node]]
    for u in ready:  # it grows meanwhile
        for v in after.get(u, ()):
            v.layer = max(v.layer, u.layer + 1)
            waits[v] -= 1
            if not waits[v]:
                ready.append(v)
    linked = [(u, v, link) for u, v, link in links if u.layer < v.layer]
    follows = Counter(v for _, v, _ in linked)
    for u in reversed(ready):
        following = after.get(u, ())
        if following and follows[u] <= len(following):
            u.layer = max(u.layer, min(v.layer for v in following) - 1)
    _sink(nodes, [(u, v) for u, v, _ in linked])
    alone = [node for node in nodes if node not in follows and node not in after]
    if sum(node.wide + APART for node in nodes if node.layer == 0) > widest:
        last = max(node.layer for node in nodes) + 1
        for node in alone:
            node.layer = last
    return linked


def _sink(nodes: list[_Node], links: list[tuple[_Node, _Node]]) -> None:
    """Move groups of members down, where more of their long links go down than up."""
    for _ in range(MOST_SINKS):
        group, members = _groups(nodes, [(u, v) for u, v in links if v.layer - u.layer == 1])
        pull = Counter[_Node]()
        room: dict[_Node, int] = {}
        for u, v in links:
            one, other, left = group[u], group[v], v.layer - u.layer - 1
            if left and one is not other:
                pull[one] += 1
                pull[other] -= 1
                room[one] = min(room.get(one, left), left)
        moved = [one for one, by in pull.items() if by > 0]
        if not moved:
            return
        for one in moved:
            for node in members[one]:
                node.layer += room[one]


def _groups(
    nodes: list[_Node], links: list[tuple[_Node, _Node]]
) -> tuple[dict[_Node, _Node], dict[_Node, list[_Node]]]:
    """Return the first node of the group of each node, and the members of groups, which links join."""
    close: dict[_Node, list[_Node]] = {}
    for u, v in links:
        close.setdefault(u, []).append(v)
        close.setdefault(v, []).append(u)
    group: dict[_Node, _Node] = {}
    members: dict[_Node, list[_Node]] = {}
    for first in nodes:
        if first in group:
            continue
        group[first], members[first] = first, [first]
        for node in members[first]:  # it grows meanwhile
            for other in close.get(node, ()):
                if other not in group:
                    group[other] = first
                    members[first].append(other)
    return group, members


def _split(nodes: Iterable[_Node], widest: float) -> None:
    """Split layers that are too wide; then layers with labels lie between those with members: they are odd."""
    layers: dict[int, list[_Node]] = {}
    for node in nodes:
        layers.setdefault(node.layer, []).append(node)
    number = 0
    for layer in sorted(layers):
        wide = 0.0
        for node in layers[layer]:
            if wide and wide + node.wide > widest:
                number, wide = number + 2, 0.0
            node.layer = number
            wide += node.wide + APART
        number += 2


def _ways(links: list[Linked], *, down: bool) -> list[list[_Node]]:
    """Return for each link the nodes of the layers between its ends, beginning with its label."""
    groups = [(u, link.label, tuple(link.deciders)) for u, _, link in links]
    outgoing, incoming = Counter(groups), Counter(v for _, v, _ in links)
    passes = sum(v.layer - u.layer for u, v, _ in links) <= MOST_PASSES
    labels: dict[object, _Node] = {}
    passed: dict[tuple[object, int], _Node] = {}
    ways = []
    for (u, v, link), group in zip(links, groups, strict=True):
        if group not in labels:
            labels[group] = _label(u.layer + 1, link.label, down=down)
        way = [labels[group]]
        shared: object = group if outgoing[group] >= incoming[v] else v
        for layer in range(u.layer + 2, v.layer if passes else u.layer):
            if (shared, layer) not in passed:
                passed[shared, layer] = _Node(layer, 0, 0)
            way.append(passed[shared, layer])
        for earlier, later in itertools.pairwise([u, *way, v]):
            earlier.after[later] = later.before[earlier] = None
        ways.append(way)
    return ways


def _label(layer: int, text: str, *, down: bool) -> _Node:
    if not text:
        return _Node(layer, 0, 0)
    wide = wording.width(text, FONT) + AROUND
    return _Node(layer, wide, HIGH) if down else _Node(layer, HIGH, wide)


def _rows(nodes: list[_Node]) -> list[list[_Node]]:
    """Return the layers; links that pass one do so in the middle, until the order says otherwise."""
    rows: list[tuple[list[_Node], list[_Node]]] = [([], []) for _ in range(max(node.layer for node in nodes) + 1)]
    for node in dict.fromkeys(nodes):
        rows[node.layer][not node.wide].append(node)
    joined = ([*wide[: len(wide) // 2], *passing, *wide[len(wide) // 2 :]] for wide, passing in rows)
    return [row for row in joined if row]


def _sweeps(rows: list[list[_Node]]) -> int:
    return max(FEWEST_SWEEPS, min(SWEEPS, MOST_MOVES // sum(map(len, rows))))


def _order(rows: list[list[_Node]]) -> None:
    """Order each layer by the barycenters of the neighbours, down and up by turns; the least crossings win."""
    for row in rows:
        _number(row)
    best, least = list(map(list, rows)), _crossings(rows)
    for sweep in range(_sweeps(rows)):
        if not least:
            break
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            row.sort(key=lambda node: _mean_place(node, node.before if downwards else node.after))
            _number(row)
        crossings = _crossings(rows)
        if crossings < least:
            best, least = list(map(list, rows)), crossings
    for row, ordered in zip(rows, best, strict=True):
        row[:] = ordered
        _number(row)


def _number(row: list[_Node]) -> None:
    """Set the place of each node, from 0.0 to 1.0: in a layer of one node it is in the middle."""
    for place, node in enumerate(row):
        node.place = (place + 0.5) / len(row)


def _crossings(rows: list[list[_Node]]) -> int:
    """Return how many pairs of lines between layers cross."""
    found = 0
    for row in rows:
        met: list[float] = []  # the ends of the lines so far, in order
        for node in row:
            places = sorted(other.place for other in node.after)
            found += sum(len(met) - bisect.bisect_right(met, place) for place in places)
            for place in places:
                bisect.insort(met, place)
    return found


def _mean_place(node: _Node, others: Iterable[_Node]) -> float:
    places = [other.place for other in others]
    return sum(places) / len(places) if places else node.place


# -- places ----------------------------------------------------------------------------------------------------------


def _spread(rows: list[list[_Node]]) -> float:
    """Set the place of each node across; returns how much all take."""
    room = max(_width(row) for row in rows) / 2
    for row in rows:
        _put(row, [0.0] * len(row), room)
    for sweep in range(_sweeps(rows) // 2 * 2 + 1):  # the last one goes down: links leave labels straight
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            _put(row, [_mean(node, node.before if downwards else node.after) for node in row], room)
    first = min(node.across - node.wide / 2 for row in rows for node in row)
    for row in rows:
        for node in row:
            node.across -= first
    return max(node.across + node.wide / 2 for row in rows for node in row)


def _mean(node: _Node, others: Iterable[_Node]) -> float:
    """Return the mean place of neighbours; where a link passes several layers it is to be straight."""
    places = [other.across for other in others if node.box is not None or other.box is None]
    places = places or [other.across for other in others]
    return sum(places) / len(places) if places else node.across


def _width(row: list[_Node]) -> float:
    gaps = sum(_gap(earlier, later) for earlier, later in itertools.pairwise(row))
    return sum(node.wide for node in row) + gaps


def _gap(earlier: _Node, later: _Node) -> float:
    return APART if earlier.box is not None and later.box is not None else CLOSE


def _put(row: list[_Node], wanted: list[float], room: float) -> None:
    """Put the nodes of a layer as near as may be to where they should be, in their order and side by side.

    :param room: how far from 0 they may be, on both sides
    """
    offset = 0.0
    offsets, blocks = (
        [],
        list[list[float]](),
    )  # each block: the weight of its nodes, the sum of their places, their number
    for place, (node, target) in enumerate(zip(row, wanted, strict=True)):
        if place:
            last = row[place - 1]
            offset += (last.wide + node.wide) / 2 + _gap(last, node)
        offsets.append(offset)
        weight = 1 if node.box is not None else STRAIGHT
        block = [weight, weight * (target - offset), 1]
        while blocks and blocks[-1][1] / blocks[-1][0] > block[1] / block[0]:
            block = [one + other for one, other in zip(blocks.pop(), block, strict=True)]
        blocks.append(block)
    starts = itertools.chain.from_iterable([total / weight] * int(count) for weight, total, count in blocks)
    least, most = row[0].wide / 2 - room, room - row[-1].wide / 2 - offset
    for node, start, by in zip(row, starts, offsets, strict=True):
        node.across = max(least, min(start, most)) + by


def _stack(rows: list[list[_Node]]) -> tuple[float, dict[int, tuple[float, float]]]:
    """Set the place of each node along; returns how much all take, and where each layer begins and ends."""
    spans: dict[int, tuple[float, float]] = {}
    along = 0.0
    for number, row in enumerate(rows):
        if number:
            shifts = [abs(node.across - other.across) for node in row for other in node.before]
            along += STEP + min(max(shifts, default=0.0) * SLOPE, STEEPEST) + BEGIN + (0 if row[0].layer % 2 else ARROW)
        long = max(node.long for node in row)
        for node in row:
            node.along = along + long / 2
        spans[row[0].layer] = (along, along + long)
        along += long
    return along, spans


# -- links -----------------------------------------------------------------------------------------------------------


def _route(links: list[Linked], ways: list[list[_Node]], spans: dict[int, tuple[float, float]], *, down: bool) -> None:
    """Set the points of each link, and the place of its label."""
    ports: dict[_Node, tuple[dict[_Node, float], dict[_Node, float]]] = {}
    for u, v, _ in links:
        for node in (u, v):
            if node not in ports:
                ports[node] = (_ports(node, node.before), _ports(node, node.after))
    for (u, v, link), way in zip(links, ways, strict=True):
        begin, end = ports[u][1][way[0]], ports[v][0][way[-1]]
        points = [(begin, u.along + u.long / 2), (begin, spans[u.layer][1] + BEGIN)]
        for node in way:
            before, after = spans[node.layer]
            points += [(node.across, before - (0 if node.layer % 2 else ARROW)), (node.across, after + BEGIN)]
        points += [(end, spans[v.layer][0] - ARROW), (end, v.along - v.long / 2)]
        link.route = [one if down else one[::-1] for one in dict.fromkeys(points)]
        if link.label:
            label = way[0]
            link.at = (label.across, label.along) if down else (label.along, label.across)


def _ports(node: _Node, others: Iterable[_Node]) -> dict[_Node, float]:
    """Return where links to or from some nodes meet the side of a member."""
    ordered = sorted(others, key=lambda other: other.across)
    step = min(PORTS, node.wide * SHARE / max(len(ordered), 1))
    first = node.across - step * (len(ordered) - 1) / 2
    return {other: first + step * place for place, other in enumerate(ordered)}

"""Boxes lie within their flows and side by side, and links join the right ones without crossing others."""

from __future__ import annotations

import pytest

from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.pictures import layout, model, reading
from tests.unit.pictures.sample import Drawing, Step, points_of, random_flow

DIRECTIONS = ["down", "right"]


def steps(count):
    return [Step(f"s{number}") for number in range(count)]


def layers(count):
    """A graph flow in which each member follows two others, some of them far away."""
    return graph_flow.Flow("g").add(
        *(
            Step(f"s{n}", provides=f"v{n}", requires=[f"v{m}" for m in {n - 1, n // 2} if 0 <= m < n])
            for n in range(count)
        )
    )


def fan(count):
    return graph_flow.Flow("fan").add(
        Step("split", provides="parts"),
        *(Step(f"w{n}", requires=["parts"], provides=f"r{n}") for n in range(count)),
        Step("join", requires=[f"r{n}" for n in range(count)]),
    )


FLOWS = {
    "empty": linear_flow.Flow("f"),
    "linear": linear_flow.Flow("f").add(*steps(3)),
    "a long linear one": linear_flow.Flow("f").add(*steps(60)),
    "unordered": unordered_flow.Flow("f").add(*steps(30)),
    "graph": layers(30),
    "a large graph": layers(90),
    "fan": fan(40),
    "many that are alone": graph_flow.Flow("f").add(*steps(100), Step("x", provides="x"), Step("y", requires=["x"])),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", FLOWS)
def test_boxes_lie_in_their_flow_and_side_by_side(name, direction):
    Drawing(FLOWS[name].picture(direction=direction)).check()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(25))
def test_random_flows_have_all_atoms_side_by_side(seed, direction):
    made, names = random_flow(seed)
    drawing = Drawing(made.picture(direction=direction))
    drawing.check()
    assert {box.name for box in drawing.boxes.values() if box.kind in model.ATOMS} == set(names)
    assert sorted(drawing.links) == sorted(links_of(made))


def links_of(root):
    from taskflowx import flow as flows

    for nested in flows.nested_flows(root):
        for u, v, _ in nested.iter_links():
            yield u.name, v.name


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(25))
def test_a_link_goes_from_its_source_to_its_target_and_crosses_no_other_box(seed, direction):
    check_links(random_flow(seed)[0], direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", FLOWS)
def test_links_cross_no_box(name, direction):
    check_links(FLOWS[name], direction)


def check_links(made, direction):
    root = reading.read(made, 300)
    layout.lay_out(root, down=direction == "down")
    for box in model.outermost_first(root):
        for link in box.links:
            assert is_at_the_edge(link.source, link.route[0])
            assert is_at_the_edge(link.target, link.route[-1])
            points = list(points_of(link))
            for other in box.members:
                if other not in (link.source, link.target):
                    right, bottom = other.x + other.width, other.y + other.height
                    assert not any(other.x < x < right and other.y < y < bottom for x, y in points), other.name


def is_at_the_edge(box, point):
    x, y = point
    across = box.x <= x <= box.x + box.width
    along = box.y <= y <= box.y + box.height
    return (across and min(abs(y - box.y), abs(y - box.y - box.height)) < 0.01) or (
        along and min(abs(x - box.x), abs(x - box.x - box.width)) < 0.01
    )


def test_what_follows_is_below_or_to_the_right():
    made = layers(12)
    for direction, side in (("down", "y"), ("right", "x")):
        drawing = Drawing(made.picture(direction=direction))
        for source, target in drawing.links:
            assert getattr(drawing.by_name[source], side) < getattr(drawing.by_name[target], side)


def test_a_wide_layer_is_split():
    drawing = Drawing(fan(100).picture())
    assert drawing.by_name["fan"].width < 1200


def test_a_long_linear_flow_is_in_rows():
    drawing = Drawing(FLOWS["a long linear one"].picture())
    assert drawing.by_name["f"].width < 1000
    assert drawing.by_name["f"].height < 1000
    assert len(drawing.links) == 59


def test_links_that_share_a_label_have_it_once():
    drawing = Drawing(fan(40).picture())
    texts = ["".join(label.itertext()) for label in drawing.labels]
    assert texts.count("partsparts") == 1  # its title, and its text
    assert len(texts) == 41


def test_a_link_that_closes_a_cycle_is_not_drawn():
    root = model.Box(model.GRAPH, "f", ["f", "graph"])
    root.members = [model.Box(model.TASK, name, [name]) for name in "abc"]
    a, b, c = root.members
    root.links = [model.Link(a, b), model.Link(b, c), model.Link(c, b)]
    layout.lay_out(root, down=True)
    assert [bool(link.route) for link in root.links] == [True, False, True]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_begins_late_is_just_before_what_needs_it(direction):
    chain = [Step(f"c{n}", provides=f"v{n}", requires=[f"v{n - 1}"] if n else []) for n in range(9)]
    late = [Step("x", provides="x"), Step("y", requires=["x"], provides="y"), Step("z", provides="z")]
    late += [Step("p", provides="p"), Step("aside", requires=["p"]), Step("q", requires=["p"], provides="q")]
    last = Step("last", requires=["v8", "y", "z", "q"])
    boxes = Drawing(graph_flow.Flow("g").add(*late, *chain, last).picture(direction=direction)).by_name
    middle = {
        name: box.y + box.height / 2 if direction == "down" else box.x + box.width / 2 for name, box in boxes.items()
    }
    assert middle["z"] == middle["y"] == middle["q"] == middle["c8"] < middle["last"]
    assert middle["x"] == middle["p"] == middle["c7"]

"""The object that users get: its forms, files, and what notebooks show."""

from __future__ import annotations

import json
from concurrent import futures
from xml.etree import ElementTree as ET

import pytest

from taskflowx import engines
from taskflowx.patterns import graph_flow, linear_flow
from tests.unit.pictures.sample import SVG, Drawing, Step


def made():
    return linear_flow.Flow("f").add(Step("a"), Step("b"))


def test_it_is_saved_in_the_form_that_the_name_says(tmp_path):
    picture = made().picture()
    for name, text in (("f.svg", picture.svg), ("f.mmd", picture.mermaid), ("F.DOT", picture.dot)):
        picture.save(tmp_path / name)
        picture.save(str(tmp_path / name))
        assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_what_is_no_name_of_a_file_is_refused():
    with pytest.raises(TypeError, match=r"path must be the name of a file, not 3 \("):
        made().picture().save(3)


@pytest.mark.parametrize("name", ["f.png", "f", ".svg", "f.svg.gz"])
def test_another_form_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"^path must be the name of a file that ends in \.svg, \.mmd, \.dot, not "):
        made().picture().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"fold": 0}, "fold must be a number of atoms, one or more, not 0"),
        ({"fold": True}, "fold must be a number of atoms, one or more, not True"),
        ({"fold": "many"}, "fold must be a number of atoms, one or more, not 'many'"),
        ({"direction": "up"}, "direction must be one of 'down', 'right', not 'up'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    for drawn in (made(), engines.load(made())):
        with pytest.raises(ValueError, match=error):
            drawn.picture(**arguments)


def test_it_says_what_it_is():
    assert repr(made().picture()) == "<Picture of 'f'>"
    assert str(made().picture()) == "f · linear\n  a\n  b"


def test_the_same_flow_has_the_same_picture():
    assert made().picture().svg == made().picture().svg


def test_several_threads_may_ask_for_it():
    flow = linear_flow.Flow("f").add(*(Step(f"s{number}") for number in range(100)))
    with futures.ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            picture = flow.picture()
            drawn = {future.result() for future in [pool.submit(lambda shown=picture: shown.svg) for _ in range(4)]}
            assert drawn == {flow.picture().svg}


def test_it_stays_what_it_was():
    flow = made()
    engine = engines.load(flow)
    picture, of_run = flow.picture(), engine.picture()
    flow.add(Step("c"))
    engine.run()
    assert '"c"' not in picture.mermaid
    assert "SUCCESS" not in of_run.svg.partition("</style>")[2]


def test_notebooks_show_flows_engines_and_pictures():
    flow = made()
    for shown in (flow, engines.load(flow), flow.picture()):
        bundle = shown._repr_mimebundle_(include=None, exclude=None)
        assert set(bundle) == {"image/svg+xml", "text/plain"}
        assert ET.fromstring(bundle["image/svg+xml"]).tag.endswith("svg")
        assert json.dumps(bundle).encode()


def test_links_with_different_conditions_are_drawn_apart():
    class Asked:
        def __call__(self, history):
            return True

    one, other = Asked(), Asked()
    source = Step("a", provides="size")
    targets = [Step(f"b{number}", requires=["size"]) for number in range(6)]
    made = graph_flow.Flow("f").add(source, *targets)
    made.link(source, targets[0], when=lambda size: size < 5)
    made.link(source, targets[1], when=lambda size: size >= 5)
    for number in (2, 3):
        made.link(source, targets[number], decider=one)
    made.link(source, targets[4], decider=other)
    made.link(source, targets[5], decider=other, decider_depth="atom")
    picture = made.picture()
    drawing = Drawing(picture)
    drawing.check()
    labels = sorted(label.find(f"{SVG}text").text for label in drawing.labels)
    assert labels == [
        "size · if Asked", "size · if Asked", "size · if Asked (ATOM)", "size · if size < 5", "size · if size >= 5",
    ]  # fmt: skip
    for text in (picture.mermaid.replace("#60;", "<").replace("#62;", ">"), picture.dot, str(picture)):
        assert "if size < 5" in text
        assert "if size >= 5" in text

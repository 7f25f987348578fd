"""The forms of pictures as text, and names that mean harm."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from taskflowx import retry
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.pictures import wording
from tests.unit.pictures.sample import Drawing, Step


def volume():
    made = graph_flow.Flow("volume", retry.Times(2)).add(
        Step("create", provides="volume"),
        unordered_flow.Flow("copy").add(
            Step("copy a", requires=["volume"], provides="a"), Step("copy b", provides="b")
        ),
        Step("mount", requires=["a", "b", "volume"]),
        told := Step("tell"),
    )
    made.link(next(member for member in made if member.name == "mount"), told, decider=is_wanted)
    return made


def is_wanted(history):
    return True


MERMAID = """\
flowchart TD
    subgraph n0["volume · graph"]
        n1(["Times(attempts=2)"])
        n2("create")
        subgraph n3["copy · unordered"]
            n6("copy a")
            n7("copy b")
        end
        n4("mount")
        n5("tell")
    end
    n2 -->|"volume"| n3
    n2 -->|"volume"| n4
    n3 -->|"a, b"| n4
    n4 -.->|"if is_wanted"| n5
"""

DOT = r"""digraph "volume" {
    rankdir=LR;
    compound=true;
    node [shape=box, style="rounded,filled", fillcolor="#eef1f5", fontname="Arial"];
    graph [fontname="Arial", style=rounded, color="#8a94a3"];
    edge [fontname="Arial", fontsize=10];
    subgraph cluster_n0 {
        label="volume · graph";
        n1 [label="Times(attempts=2)", tooltip="volume_retry\nTimes(attempts=2)"];
        n2 [label="create", tooltip="create\nStep\nprovides volume"];
        subgraph cluster_n3 {
            label="copy · unordered";
            n6 [label="copy a", tooltip="copy a\nStep\nrequires volume\nprovides a"];
            n7 [label="copy b", tooltip="copy b\nStep\nprovides b"];
        }
        n4 [label="mount", tooltip="mount\nStep\nrequires a, b, volume"];
        n5 [label="tell", tooltip="tell\nStep"];
    }
    n2 -> n6 [label="volume", lhead=cluster_n3];
    n2 -> n4 [label="volume"];
    n7 -> n4 [label="a, b", ltail=cluster_n3];
    n4 -> n5 [label="if is_wanted", style=dashed];
}
"""

OUTLINE = """\
volume · graph
  Times(attempts=2)
  create
  copy · unordered
    copy a
    copy b
  mount
  tell
  create → copy (volume)
  create → mount (volume)
  copy → mount (a, b)
  mount → tell (if is_wanted)"""


def test_mermaid():
    assert volume().picture().mermaid == MERMAID


def test_dot():
    assert volume().picture(direction="right").dot == DOT


def test_outline():
    assert str(volume().picture()) == OUTLINE


def test_an_empty_flow_can_be_linked():
    first, empty = Step("a", provides="x"), linear_flow.Flow("empty")
    made = graph_flow.Flow("f").add(first, empty)
    made.link(first, empty)
    picture = made.picture()
    assert "n1 -> n2 [lhead=cluster_n2];" in picture.dot
    assert 'n2 [shape=point, style=invis, label=""];' in picture.dot
    assert "n1 --> n2" in picture.mermaid
    assert Drawing(picture).links == [("a", "empty")]


HOSTILE = [
    "<script>alert(1)</script>",
    "]]>--><!--",
    '"quoted"',
    "it's",
    "a & b &amp; &lt;",
    "two\nlines\r\nand\ttabs",
    "ends in \\",
    "\\N \\G \\l",
    "nul \x00 bell \x07 escape \x1b[31m",
    "lone \ud800 surrogate",
    "not a character \ufffe \uffff",
    "right to \u202e left",
    "\U0001f600 \U0001f468‍\U0001f469‍\U0001f467",
    "b\u0301 名前 " * 20,
    "end",
    'graph["x"]; click n0 call f()',
    "`markdown` **bold** #35; %% comment",
    "{{x}} [[y]] ((z)) |w|",
    "x" * 10_000,
    "",
    " ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_mean_only_themselves(name):
    a, b = Step(f"{name}a", provides=f"{name}v"), Step(f"{name}b", requires=[f"{name}v"])
    made = graph_flow.Flow(name, retry.ForEach([name])).add(a, b, linear_flow.Flow(name).add(Step(f"{name}c")))
    picture = made.picture()
    drawing = Drawing(picture)
    drawing.check()
    shown = f"{wording.legal(name)}a"
    assert shown in drawing.by_name
    assert drawing.by_name[shown].tip.startswith(f"{shown}\nStep\n")
    assert {element.tag.rpartition("}")[2] for element in drawing.root.iter()} <= {
        "svg", "style", "rect", "g", "title", "text", "tspan", "path", "polygon",
    }  # fmt: skip
    for text in (picture.svg, picture.mermaid, picture.dot, str(picture)):
        assert text.encode()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text)
    check_lines(picture)


def check_lines(picture):
    """See that what stands in quotes ends where it should."""
    for line in picture.mermaid.splitlines()[1:]:
        assert re.fullmatch(
            r' *(subgraph n\d+\["[^"]*"\]|n\d+\(\[?"[^"]*"\]?\)|n\d+ -->(\|"[^"]*"\|)? n\d+|end)', line
        ), line
    quoted = r'"(?:[^"\\]|\\.)*"'
    for line in picture.dot.splitlines():
        assert re.fullmatch(rf"(?:[^\"]|{quoted})*", line), line


@pytest.mark.parametrize("name", HOSTILE)
def test_text_is_cut_to_its_width(name):
    for most in (0, 5, 50, 500):
        assert wording.width(wording.cut(wording.one_line(name), 13, most), 13) <= max(most, wording.width("…", 13))
        assert wording.width(wording.shortened(name, 13, most), 13) <= max(most, wording.width("…", 13))


def test_a_long_name_keeps_both_ends():
    box = Drawing(linear_flow.Flow("f").add(Step("begins here and has far too many words until it ends")).picture())
    (line,) = [box.lines[0] for box in box.boxes.values() if box.kind == "task"]
    assert re.fullmatch(r"begins.+….+ends", line)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (1.5e-6, "1.5 µs"), (0.0123, "12.3 ms"), (0.25, "0.25 s"), (12.345, "12.3 s"),
        (75, "1 min 15 s"), (7260, "2 h 1 min"), (-1, "0 s"), (float("nan"), "0 s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert wording.duration(seconds) == text


def test_the_document_needs_nothing_else():
    svg = volume().picture().svg
    assert not re.search(r"url\(|href|@import|<script|<image", svg)
    assert "prefers-color-scheme:dark" in svg
    assert ET.fromstring(svg).get("viewBox")

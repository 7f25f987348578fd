"""A picture as SVG: one document that needs nothing else, for light and dark screens.

Boxes have the attributes `data-id`, `data-in` (the id of the flow around them), `data-kind` and `data-name`, links
`data-from` and `data-to`, for programs that look things up in it. Class names begin with `tfx-`, as the styles of a
drawing within a page hold for all of the page.
"""

from __future__ import annotations

import html
import itertools
from typing import TYPE_CHECKING

from taskflowx import states
from taskflowx.pictures import layout, model, wording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskflowx.pictures.model import Point

# Okabe and Ito's colours, which people who see fewer colours tell apart as well.
BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
GREY = "#8a94a3"
COLOURS = {
    states.SUCCESS: GREEN,
    states.FAILURE: VERMILION,
    states.REVERT_FAILURE: VERMILION,
    states.RUNNING: BLUE,
    states.REVERTING: PURPLE,
    states.REVERTED: PURPLE,
    states.RETRYING: ORANGE,
    states.IGNORE: GREY,
    states.PENDING: GREY,
}
#: the narrowest that a page may make a picture, as a share of its size: below that it is scrolled
LEAST = 0.7
#: an arrowhead: its length, and half of its width
HEAD, HALF = 7.0, 3.5
#: how many layers of links a curve may bend over
ROUND = {model.TASK: 8, model.RETRY: 14, model.FOLDED: 8, model.GAP: 8}
FLOW_ROUND = 6

_STYLE = (
    f".tfx{{font-family:{wording.FONT};font-size:{layout.SMALL}px}}"
    ".tfx-ground{fill:#fff}.tfx text{fill:#4c5665}.tfx .tfx-name{fill:#1b2029}.tfx .tfx-about{fill:#4c5665}"
    f".tfx-name{{font-size:{layout.NAME}px}}.tfx-flow>.tfx-name{{font-weight:bold}}"
    f".tfx-about{{font-weight:normal;font-size:{layout.SMALL}px}}"
    ".tfx-atom>text{text-anchor:middle}"
    ".tfx-flow>rect{fill:#f5f7f9;stroke:#b4bdc9}.tfx-odd>rect{fill:#fff}"
    f".tfx-atom>rect{{fill:{GREY};fill-opacity:.13;stroke:{GREY};stroke-width:1.2}}"
    ".tfx-gap>rect{stroke-dasharray:2 4}.tfx-folded>.tfx-inner{fill:none}"
    ".tfx-retry>rect{stroke-dasharray:none}"
    ".tfx .tfx-why{fill:#b34700}"
    ".tfx-link{fill:none;stroke:#7a8699;stroke-width:1.3;stroke-linejoin:round}.tfx-decided{stroke-dasharray:5 4}"
    ".tfx-head{fill:#7a8699}"
    ".tfx-label>rect{fill:#fff;stroke:#d5dbe3}.tfx-label>text{text-anchor:middle}"
    + "".join(f".tfx-{state}>rect{{fill:{colour};stroke:{colour}}}" for state, colour in COLOURS.items())
    + f".tfx-{states.IGNORE}>rect{{stroke-dasharray:5 3}}.tfx-{states.PENDING}>rect{{fill-opacity:.04}}"
    f".tfx-{states.FAILURE}>rect,.tfx-{states.REVERT_FAILURE}>rect{{stroke-width:2.4}}"
    "@media(prefers-color-scheme:dark){"
    ".tfx-ground{fill:#15181d}.tfx text{fill:#aab4c2}.tfx .tfx-name{fill:#eceff3}.tfx .tfx-about{fill:#aab4c2}"
    ".tfx-atom>rect{fill-opacity:.24}.tfx-flow>rect{fill:#1d2128;stroke:#4c5665}.tfx-odd>rect{fill:#15181d}"
    ".tfx-label>rect{fill:#15181d;stroke:#4c5665}.tfx .tfx-why{fill:#ff9d5c}"
    "}"
)


def draw(root: model.Box) -> str:
    """Return a picture whose layout is complete as SVG."""
    boxes = model.outermost_first(root)
    number = {id(box): place for place, box in enumerate(boxes)}
    around: dict[int, int] = {}
    odd: set[int] = set()  # flows in which frames change their shade
    for box in boxes:
        for inner in [*box.members, box.head] if box.head is not None else box.members:
            around[id(inner)] = number[id(box)]
            if id(box) not in odd:
                odd.add(id(inner))
    links = [link for box in boxes for link in box.links if link.route]
    wide, high = (_n(side + 2 * layout.MARGIN) for side in (root.width, root.height))
    flows = [box for box in boxes if box.kind in model.FLOWS]
    atoms = [box for box in boxes if box.kind not in model.FLOWS]
    least = _n((root.width + 2 * layout.MARGIN) * LEAST)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tfx" role="img" aria-label="{escape(root.lines[0])}" '
        f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'style="max-width:100%;min-width:{least}px;height:auto">'
    )
    parts = [
        head,
        f"<style>{_STYLE}</style>",
        f'<rect class="tfx-ground" width="{wide}" height="{high}"/>',
        *(_box(box, number, around, odd) for box in flows),
        *_lines(links, number),
        *(_box(box, number, around, odd) for box in atoms),
        *_labels(links),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return text as it stands in the document, where it means itself."""
    text = html.escape(wording.legal(text))
    return text.replace("\n", "&#10;").replace("\r", "&#13;").replace("\t", "&#9;")


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _box(box: model.Box, number: dict[int, int], around: dict[int, int], odd: set[int]) -> str:
    place = number[id(box)]
    inside = f' data-in="{around[id(box)]}"' if id(box) in around else ""
    is_flow = box.kind in model.FLOWS
    kinds = ["tfx-flow" if is_flow else "tfx-atom", f"tfx-{box.kind}"]
    if box.state and not is_flow:
        kinds.append(f"tfx-{box.state}")
    if is_flow and id(box) in odd:
        kinds.append("tfx-odd")
    frame = f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
    return (
        f'<g class="{escape(" ".join(kinds))}" data-id="{place}"{inside} data-kind="{box.kind}" '
        f'data-name="{escape(box.name)}"><title>{escape(box.tip)}</title>'
        f'<rect {frame} rx="{FLOW_ROUND if is_flow else ROUND[box.kind]}"/>'
        f"{_inner_frame(box) if box.kind == model.FOLDED else ''}"
        f"{_title(box) if is_flow else _text(box)}</g>"
    )


def _inner_frame(box: model.Box) -> str:
    return (
        f'<rect class="tfx-inner" x="{_n(box.x + 3)}" y="{_n(box.y + 3)}" width="{_n(box.width - 6)}" '
        f'height="{_n(box.height - 6)}" rx="5"/>'
    )


def _title(box: model.Box) -> str:
    """Return the line at the head of a flow: its name, and of what kind it is."""
    name, about = box.shown
    return (
        f'<text class="tfx-name" x="{_n(box.x + layout.PAD)}" y="{_n(box.y + 20)}">{escape(name)}'
        f'<tspan class="tfx-about" dx="{layout.APART}">{escape(about)}</tspan></text>'
    )


def _text(box: model.Box) -> str:
    """Return the lines in an atom's box."""
    middle = _n(box.x + box.width / 2)
    name, *others = box.shown
    used = layout.NAME_LINE + len(others) * layout.SMALL_LINE
    y = box.y + (box.height - used) / 2 + 13
    lines = [f'<text class="tfx-name" x="{middle}" y="{_n(y)}">{escape(name)}</text>']
    y += layout.NAME_LINE - 2
    for place, line in enumerate(others, 1):
        why = ' class="tfx-why"' if box.why and place == len(others) else ""
        lines.append(f'<text{why} x="{middle}" y="{_n(y)}">{escape(line)}</text>')
        y += layout.SMALL_LINE
    return "".join(lines)


def _lines(links: Iterable[model.Link], number: dict[int, int]) -> list[str]:
    """Return the lines of links; what several have in common is drawn once."""
    drawn: set[tuple[Point, Point, bool]] = set()
    return [_line(link, number, drawn) for link in links]


def _line(link: model.Link, number: dict[int, int], drawn: set[tuple[Point, Point, bool]]) -> str:
    decided = " tfx-decided" if link.deciders else ""
    about = f"{link.source.name} → {link.target.name}"
    names = [*link.names, *(f"if {decider}" for decider in link.deciders.values())]
    tip = f"{about}: {', '.join(names)}" if names else about
    return (
        f'<g data-from="{number[id(link.source)]}" data-to="{number[id(link.target)]}"><title>{escape(tip)}</title>'
        f'<path class="tfx-link{decided}" d="{_path(link, drawn)}"/>{_head(*link.route[-2:])}</g>'
    )


def _path(link: model.Link, drawn: set[tuple[Point, Point, bool]]) -> str:
    """Return the line of a link: straight along its direction, and curved across it."""
    parts: list[str] = []
    down = link.route[0][0] == link.route[1][0]
    pen = None
    for begin, end in itertools.pairwise(link.route):
        part = (begin, end, bool(link.deciders))
        if part in drawn:
            continue
        drawn.add(part)
        (x, y), (x2, y2) = begin, end
        if pen != begin:
            parts.append(f"M{_n(x)} {_n(y)}")
        pen = end
        if not link.curved or x == x2 or y == y2:
            parts.append(f"L{_n(x2)} {_n(y2)}")
            continue
        near, far = ((x, (y + y2) / 2), (x2, (y + y2) / 2)) if down else (((x + x2) / 2, y), ((x + x2) / 2, y2))
        parts.append(f"C{_n(near[0])} {_n(near[1])} {_n(far[0])} {_n(far[1])} {_n(x2)} {_n(y2)}")
    return "".join(parts)


def _head(before: Point, end: Point) -> str:
    """Return the arrowhead at the end of a line, whose last part is vertical or horizontal."""
    x, y = end
    corners = (
        [(x, y), (x - HALF, y - HEAD), (x + HALF, y - HEAD)]
        if abs(before[0] - x) < abs(before[1] - y)
        else [(x, y), (x - HEAD, y - HALF), (x - HEAD, y + HALF)]
    )
    return f'<polygon class="tfx-head" points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in corners)}"/>'


def _labels(links: Iterable[model.Link]) -> list[str]:
    """Return the labels of links, each once where links share it."""
    found = {}
    for link in links:
        if link.at is not None:
            x, y = link.at
            wide = wording.width(link.label, layout.SMALL) + 8
            found[link.at] = (
                f'<g class="tfx-label"><title>{escape(", ".join([*link.names, *link.deciders.values()]))}</title>'
                f'<rect x="{_n(x - wide / 2)}" y="{_n(y - 7.5)}" width="{_n(wide)}" height="15" rx="7"/>'
                f'<text x="{_n(x)}" y="{_n(y + 3.8)}">{escape(link.label)}</text></g>'
            )
    return list(found.values())

"""A picture as Mermaid, in the language of Graphviz, and as plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from taskflowx.pictures import model, svg, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: what Mermaid may take for its own in a text
_OF_MERMAID = re.compile(r"[^\w ,.:=()+…→·✗⚠▶◀↻‖✓↶–-]", re.ASCII)
_INDENT = "    "
#: the longest line of a box, in pixels, and the size of its font: Graphviz refuses what is too wide
_MOST, _FONT = 600, 13


def _walk(root: model.Box) -> Iterator[tuple[model.Box, int, bool]]:
    """Iterate over all boxes, depth first, with their depths; a flow comes again when it ends."""
    stack = [(root, 0, False)]
    while stack:
        box, depth, ended = stack.pop()
        yield box, depth, ended
        if box.kind in model.FLOWS and not ended:
            stack.append((box, depth, True))
            stack.extend((member, depth + 1, False) for member in reversed(box.members))
            if box.head is not None:
                stack.append((box.head, depth + 1, False))


def _numbered(root: model.Box) -> dict[int, str]:
    """Return an identifier for each box."""
    return {id(box): f"n{place}" for place, box in enumerate(model.outermost_first(root))}


def _lines(box: model.Box) -> list[str]:
    return [wording.cut(line, _FONT, _MOST) for line in box.text]


# -- Mermaid ---------------------------------------------------------------------------------------------------------


def mermaid(root: model.Box, *, down: bool) -> str:
    """Return a picture as a flowchart of Mermaid."""
    names = _numbered(root)
    lines = [f"flowchart {'TD' if down else 'LR'}"]
    for box, depth, ended in _walk(root):
        margin = _INDENT * (depth + 1)
        if ended:
            lines.append(f"{margin}end")
        elif box.kind in model.FLOWS:
            lines.append(f'{margin}subgraph {names[id(box)]}["{_for_mermaid(" · ".join(_lines(box)))}"]')
        else:
            text = "<br>".join(map(_for_mermaid, _lines(box)))
            begin, end = (
                ("[[", "]]") if box.kind == model.FOLDED else ("([", "])") if box.kind == model.RETRY else ("(", ")")
            )
            state = f":::{box.state}" if box.state in svg.COLOURS else ""
            lines.append(f'{margin}{names[id(box)]}{begin}"{text}"{end}{state}')
    for link in _links(root):
        arrow = "-.->" if link.deciders else "-->"
        label = f'|"{_for_mermaid(link.label)}"|' if link.label else ""
        lines.append(f"{_INDENT}{names[id(link.source)]} {arrow}{label} {names[id(link.target)]}")
    used = {box.state for box in model.outermost_first(root) if box.kind not in model.FLOWS}
    lines += [
        f"{_INDENT}classDef {state} fill:{colour}33,stroke:{colour}"
        for state, colour in svg.COLOURS.items()
        if state in used
    ]
    return "\n".join(lines) + "\n"


def _links(root: model.Box) -> Iterator[model.Link]:
    return (link for box in model.outermost_first(root) for link in box.links)


def _for_mermaid(text: str) -> str:
    """Return text as it stands in quotes: all that may be markup by its number, as in `#quot;`."""
    return _OF_MERMAID.sub(lambda found: f"#{ord(found[0])};", wording.one_line(text))


# -- Graphviz --------------------------------------------------------------------------------------------------------


def dot(root: model.Box, *, down: bool) -> str:
    """Return a picture in the language of Graphviz: flows are clusters."""
    names = _numbered(root)
    lines = [
        f'digraph "{_for_dot(root.lines[0])}" {{',
        f"{_INDENT}rankdir={'TB' if down else 'LR'};",
        f"{_INDENT}compound=true;",
        f'{_INDENT}node [shape=box, style="rounded,filled", fillcolor="#eef1f5", fontname="Arial"];',
        f'{_INDENT}graph [fontname="Arial", style=rounded, color="#8a94a3"];',
        f'{_INDENT}edge [fontname="Arial", fontsize=10];',
    ]
    for box, depth, ended in _walk(root):
        margin = _INDENT * (depth + 1)
        if ended:
            lines.append(f"{margin}}}")
        elif box.kind in model.FLOWS:
            lines.append(f"{margin}subgraph cluster_{names[id(box)]} {{")
            lines.append(f'{margin}{_INDENT}label="{_for_dot(" · ".join(_lines(box)))}";')
            if not box.members and box.head is None:
                lines.append(f'{margin}{_INDENT}{names[id(box)]} [shape=point, style=invis, label=""];')
        else:
            text = r"\n".join(map(_for_dot, _lines(box)))
            colour = f', fillcolor="{svg.COLOURS[box.state]}40"' if box.state in svg.COLOURS else ""
            frames = ", peripheries=2" if box.kind == model.FOLDED else ""
            lines.append(f'{margin}{names[id(box)]} [label="{text}", tooltip="{_for_dot(box.tip)}"{colour}{frames}];')
    first, last = _ends(root, lambda inside: inside[0]), _ends(root, lambda inside: inside[-1])
    lines += [f"{_INDENT}{_dot_link(link, names, first, last)}" for link in _links(root)]
    return "\n".join([*lines, "}"]) + "\n"


def _ends(root: model.Box, pick: Callable[[list[model.Box]], model.Box]) -> dict[int, model.Box]:
    """Return a box without members for each flow, at which a link to or from it is drawn."""
    found: dict[int, model.Box] = {}
    for box in reversed(model.outermost_first(root)):
        inside = box.members or ([box.head] if box.head is not None else [])
        found[id(box)] = found[id(pick(inside))] if inside else box
    return found


def _dot_link(link: model.Link, names: dict[int, str], first: dict[int, model.Box], last: dict[int, model.Box]) -> str:
    u, v = link.source, link.target
    facts = [f'label="{_for_dot(link.label)}"'] if link.label else []
    facts += [f"ltail=cluster_{names[id(u)]}"] if u.kind in model.FLOWS else []
    facts += [f"lhead=cluster_{names[id(v)]}"] if v.kind in model.FLOWS else []
    facts += ["style=dashed"] if link.deciders else []
    attributes = f" [{', '.join(facts)}]" if facts else ""
    return f"{names[id(last[id(u)])]} -> {names[id(first[id(v)])]}{attributes};"


def _for_dot(text: str) -> str:
    """Return text as it stands in quotes; Graphviz reads entities and escapes there."""
    text = wording.legal(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return text.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n")


# -- plain text ------------------------------------------------------------------------------------------------------


def outline(root: model.Box) -> str:
    """Return a picture as an outline: a line for each box, nested ones further in."""
    lines = []
    for box, depth, ended in _walk(root):
        if ended:
            lines += _following(box, depth)
        else:
            lines.append("  " * depth + " · ".join(box.text))
    return "\n".join(lines)


def _following(box: model.Box, depth: int) -> list[str]:
    """Return the lines of the links of a graph flow."""
    if box.kind != model.GRAPH:
        return []
    return [
        f"{'  ' * (depth + 1)}{link.source.lines[0]} → {link.target.lines[0]}{f' ({link.label})' if link.label else ''}"
        for link in box.links
    ]

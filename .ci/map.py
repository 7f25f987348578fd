"""Draws the map of the code, `docs/house.svg`, from its imports: `make format` does so, `make check` compares.

Above, the layers of `pyproject.toml` with the modules and packages in each. Below, the files of `engines/`, each above
those that it imports. Imports that only type checkers see are not drawn.
"""

from __future__ import annotations

import ast
import html
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = ROOT / "taskflowx"
MAP = ROOT / "docs" / "house.svg"
LAYERS = ("serve", "engine", "record and call", "declare", "base")
WIDTH, LEFT, GAP = 1180, 150, 10
BOX, ROW, HIGH = 118, 84, 26


def layers() -> list[list[str]]:
    """Return the names in each layer, the uppermost first, of those that are there."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract.get("exhaustive"))
    named = [re.findall(r"\((\w+)\)", row) for row in rows]
    return [[name for name in row if (CODE / name).is_dir() or (CODE / f"{name}.py").exists()] for row in named]


def imports(package: str) -> dict[str, list[str]]:
    """Return the modules of a package, each with the others that it imports when it runs."""
    modules = sorted(path.stem for path in (CODE / package).glob("*.py") if path.stem != "__init__")
    found = {}
    for module in modules:
        tree = ast.parse((CODE / package / f"{module}.py").read_text(encoding="utf-8"))
        typed = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node not in typed:
                if node.module == f"taskflowx.{package}":
                    names.update(alias.name for alias in node.names)
                elif (node.module or "").startswith(f"taskflowx.{package}."):
                    names.add((node.module or "").split(".")[2])
        found[module] = sorted(names.intersection(modules) - {module})
    return found


def rows_of(edges: dict[str, list[str]]) -> list[list[str]]:
    """Return modules in rows, each above all that it imports, those with neighbours above each other."""
    depth: dict[str, int] = {}

    def level(module: str) -> int:
        if module not in depth:
            depth[module] = 0  # a circle ends here; there is none, which import-linter sees to
            depth[module] = max((level(inner) + 1 for inner in edges[module]), default=0)
        return depth[module]

    rows: list[list[str]] = [[] for _ in range(max(map(level, edges)) + 1)]
    for module in edges:
        rows[depth[module]].append(module)
    place = {module: x / len(row) for row in rows for x, module in enumerate(row)}
    for _ in range(8):
        for row in rows:
            for module in row:
                near = [place[other] for other in edges if module in edges[other]] + [place[m] for m in edges[module]]
                place[module] = sum(near) / len(near) if near else place[module]
            row.sort(key=lambda module: (place[module], module))
            place.update({module: (x + 0.5) / len(row) for x, module in enumerate(row)})
    return rows[::-1]


def text(x: float, y: float, words: str, kind: str) -> str:
    """Return a piece of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{html.escape(words)}</text>'


def box(x: float, y: float, name: str) -> str:
    """Return a box with a name."""
    frame = f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX}" height="{HIGH}" rx="4"/>'
    return frame + text(x + BOX / 2, y + 17, name, "name")


def draw() -> str:
    """Return the map as SVG."""
    parts, y = [], 20
    for title, names in zip(LAYERS, layers(), strict=True):
        per_row = (WIDTH - LEFT) // (BOX + GAP)
        parts.append(text(12, y + 17, title, "title"))
        for n, name in enumerate(names):
            x = LEFT + n % per_row * (BOX + GAP)
            package = "/" if (CODE / name).is_dir() else ".py"
            parts.append(box(x, y + n // per_row * (HIGH + GAP), name + package))
        y += (max(len(names) - 1, 0) // per_row + 1) * (HIGH + GAP) + 14
    y += 20
    parts.append(text(12, y + 20, "engines/", "title"))
    edges = imports("engines")
    at = {}
    for row in rows_of(edges):
        most = (WIDTH - LEFT) // (BOX + GAP)
        parts_of = -(-len(row) // most)
        for part in (row[n::parts_of] for n in range(parts_of)):
            step = (WIDTH - LEFT) / len(part)
            at.update({module: (LEFT + (n + 0.5) * step - BOX / 2, y) for n, module in enumerate(part)})
            y += HIGH + 2 * GAP
        y += ROW - HIGH - 2 * GAP
    for module, inner in edges.items():
        x, top = at[module]
        for other in inner:
            x2, y2 = at[other]
            parts.append(f'<path d="M{x + BOX / 2:.0f} {top + HIGH:.0f} L{x2 + BOX / 2:.0f} {y2:.0f}"/>')
    parts += [box(*at[module], module) for module in edges]
    style = (
        "text{font-family:sans-serif;text-anchor:middle;fill:#222}.title{text-anchor:start;font-size:14px;font-weight:bold}"
        ".name{font-size:12px}rect{fill:#eef3fa;stroke:#7a94b8}"
        "path{stroke:#9aa7b8;fill:none}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
        f'<style>{style}</style><rect x="0" y="0" width="{WIDTH}" height="{y}" style="fill:#fff;stroke:none"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    sys.exit(0 if MAP.write_text(draw(), encoding="utf-8") else 1)

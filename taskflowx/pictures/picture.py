"""A picture of a flow or a run, in each of its forms."""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

from taskflowx._util import arguments
from taskflowx.pictures import layout, reading, svg, texts

if TYPE_CHECKING:
    from taskflowx.pictures import model

#: the number of atoms beyond which flows are folded, unless another one is given
FOLD = 300
DOWN, RIGHT = "down", "right"


class Picture:
    """A flow or a run at one moment, as SVG, Mermaid, Graphviz or text; what changes later is not in it.

    A notebook shows it.

    :param root: what is drawn
    :param down: whether links go down, and not to the right
    """

    def __init__(self, root: model.Box, *, down: bool) -> None:
        self._root = root
        self._down = down
        self._svg = ""
        self._lock = threading.Lock()  # the layout changes the boxes, once

    @property
    def svg(self) -> str:
        """The picture as an SVG document that needs nothing else, for light and dark screens."""
        with self._lock:
            if not self._svg:
                layout.lay_out(self._root, down=self._down)
                self._svg = svg.draw(self._root)
        return self._svg

    @property
    def mermaid(self) -> str:
        """The picture as a flowchart of Mermaid, as Markdown pages show it."""
        return texts.mermaid(self._root, down=self._down)

    @property
    def dot(self) -> str:
        """The picture in the language of Graphviz."""
        return texts.dot(self._root, down=self._down)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, in the form that the end of its name says: .svg, .mmd or .dot.

        :raises ValueError: when it says another one
        """
        forms = {".svg": lambda: self.svg, ".mmd": lambda: self.mermaid, ".dot": lambda: self.dot}
        arguments.check_type("path", path, (str, os.PathLike), "the name of a file")
        target = pathlib.Path(path)
        form = forms.get(target.suffix.lower())
        if form is None:
            arguments.refuse("path", str(path), f"the name of a file that ends in {', '.join(forms)}", ValueError)
        target.write_text(form(), encoding="utf-8")

    def __str__(self) -> str:
        return texts.outline(self._root)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of '{self._root.lines[0]}'>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows."""
        return {"image/svg+xml": self.svg, "text/plain": str(self)}


def draw(
    root: Any, fold: int = FOLD, direction: str = DOWN, look: reading.Look = reading.unknown, state: str | None = None
) -> Picture:
    """Return a picture of a flow, or of a single task.

    :param fold: the number of atoms beyond which flows are folded
    :param direction: where links go: 'down' or 'right'
    :param look: returns what is known about an atom
    :param state: the state of the run, if it is known
    :raises DependencyFailure: when a flow contains itself
    """
    if type(fold) is not int or fold < 1:
        arguments.refuse("fold", fold, "a number of atoms, one or more", ValueError)
    arguments.check_choice("direction", direction, (DOWN, RIGHT))
    return Picture(reading.read(root, fold, look, state), down=direction == DOWN)

"""A graph flow that builds programs as `make` does: the order follows from what each step needs.

Nobody lists the steps in order. A task that requires a name runs after the task that provides it, and a targeted flow
runs only what one of its members needs.
"""

from __future__ import annotations

from taskflowx import Task, run
from taskflowx.patterns import graph_flow


class Compile(Task):
    """Make an object from one source file."""

    def execute(self, source: str) -> str:
        return f"compiled({source})"


class Link(Task):
    """Make a program from objects: all that is listed as `requires` arrives by name."""

    def execute(self, **objects: str) -> str:
        return f"linked({' + '.join(objects[name] for name in sorted(objects))})"


def project() -> tuple[graph_flow.TargetedFlow, dict[str, Link]]:
    """Return the flow, and the tasks in it that can be asked for."""
    programs = {
        "editor": Link("link editor", provides="editor", requires=["text.o", "window.o"]),
        "viewer": Link("link viewer", provides="viewer", requires=["image.o", "window.o"]),
    }
    flow = graph_flow.TargetedFlow("project").add(*programs.values())  # the last steps first: it does not matter
    for name in ("image", "text", "window"):
        flow.add(Compile(f"compile {name}", provides=f"{name}.o", inject={"source": f"{name}.c"}))
    return flow, programs


def main() -> None:
    flow, programs = project()
    built = run(flow, executor="threads")
    print("all:", ", ".join(sorted(built)))
    print("editor =", built["editor"])

    flow.set_target(programs["viewer"])
    built = run(flow, executor="threads")
    print("viewer alone:", ", ".join(sorted(built)))


if __name__ == "__main__":
    main()

# Output:
#   all: editor, image.o, text.o, viewer, window.o
#   editor = linked(compiled(text.c) + compiled(window.c))
#   viewer alone: image.o, viewer, window.o

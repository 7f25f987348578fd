"""The command line: `taskflowx` and `python -m taskflowx`.

`app` defines the commands, with Typer; each imports what it needs when it is called. So `--help` costs no more than
Typer itself: neither engines nor stores nor Rich are imported for it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDS = 'The command line of taskflowx needs {}\nInstall it with: pip install "taskflowx[cli]"'


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, one of `exits`.

    :param given: the arguments; None for those of the process
    """
    here = os.getcwd()  # noqa: PTH109 - a str for sys.path
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        import rich  # noqa: F401 - it is asked for here, so that no command ends half-way without it
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        print(_NEEDS.format(error.name), file=sys.stderr)
        return 2
    from taskflowx.cli import app

    if given is None:
        return app.run_command(sys.argv[1:])
    try:
        return app.run_command(list(given))
    finally:
        if (output := sys.modules.get("taskflowx.cli.output")) is not None:  # the process goes on
            output.release()

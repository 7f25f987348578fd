"""Programs that tests start."""

import os
import sys


def environment():
    """Return the environment of a program that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

"""The command line: `python -m taskflowx`."""

from __future__ import annotations

import sys

from taskflowx.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Costs that are the same on every machine: calls, and no time."""

import sys


def calls_of(function):
    """Count the calls that `function` makes, of Python and built-in functions: the same on every machine."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls

"""Runs unit tests that a service ships, and writes down each run of an engine in them and how each test ended.

`python units.py NAME…`, a name being that of a module or a package of tests.
"""

from __future__ import annotations

import collections
import importlib
import pkgutil
import sys
import unittest
import warnings
from typing import TYPE_CHECKING, Any

from transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator


class Result(unittest.TestResult):
    """Collects how tests ended; testtools hands over `details` where unittest hands over an error."""

    def __init__(self, transcript: Transcript) -> None:
        super().__init__()
        self.ended: collections.Counter[str] = collections.Counter()
        self._transcript = transcript

    def startTest(self, test: Any) -> None:  # noqa: N802 - unittest's name
        self._transcript.say("test", test.id())

    def _put(self, test: Any, how: str, error: Any = None, details: Any = None) -> None:
        self.ended[how] += 1
        self._transcript.say(how, test.id())
        if how in {"FAILED", "ERROR"}:
            said = (
                self._exc_info_to_string(error, test)
                if error
                else "".join(content.as_text() for content in (details or {}).values())
            )
            sys.stderr.write(f"--- {test.id()}\n{said}\n")

    def addSuccess(self, test: Any, details: Any = None) -> None:  # noqa: N802 - as above
        self._put(test, "PASSED")

    def addFailure(self, test: Any, err: Any = None, details: Any = None) -> None:  # noqa: N802 - as above
        self._put(test, "FAILED", err, details)

    def addError(self, test: Any, err: Any = None, details: Any = None) -> None:  # noqa: N802 - as above
        self._put(test, "ERROR", err, details)

    def addSkip(self, test: Any, reason: Any = None, details: Any = None) -> None:  # noqa: N802 - as above
        self._put(test, "SKIPPED")


def modules(name: str) -> Iterator[str]:
    """Return the names of the modules of tests in a package, or that of a module."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        yield name
        return
    for found in pkgutil.walk_packages(module.__path__, f"{name}."):
        if found.name.rpartition(".")[2].startswith("test_"):
            yield found.name


def main(names: list[str]) -> None:
    """Run the tests of these names."""
    output, sys.stdout = sys.stdout, sys.stderr  # where tests print to is none of the transcript
    transcript = Transcript(output.write)
    result = Result(transcript)
    found = [module for name in names for module in modules(name)]
    with transcript.every_run():
        unittest.TestLoader().loadTestsFromNames(found).run(result)
    transcript.say(dict(result.ended))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])

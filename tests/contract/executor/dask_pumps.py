"""The report of a pump comes at the very moment at which its status is read; `test_dask` runs this program."""

import queue
from types import SimpleNamespace

from taskflowx.executors.dask import executor


class Ended:
    """The future of a pump that reports when somebody asks for its status."""

    def __init__(self, run, status):
        self._run, self._status = run, status

    @property
    def status(self):
        self._run._take_in(0, executor.ledger.LEFT, b"pump/")
        return self._status


def main():
    for status in ("finished", "error", "cancelled", "pending"):
        run = executor._Run(SimpleNamespace(), lambda item: None, queue.SimpleQueue(), None, {})
        asked = []
        run._ask = lambda what, asked=asked, **message: asked.append((what, message))
        run._pumps["pump"] = Ended(run, status)
        run._look_at_pumps()
        assert (run._pumps, asked, run._failed_starts) == ({}, [], 0), status


if __name__ == "__main__":
    main()

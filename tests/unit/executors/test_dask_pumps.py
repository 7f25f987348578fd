"""What the engine's side of a Dask cluster knows of its pumps, without a cluster."""

import queue
from types import SimpleNamespace

import pytest

distributed = pytest.importorskip("distributed")

from taskflowx.executors.dask import executor  # noqa: E402 - as above


class Ended:
    """A future of a pump that reports at the very moment at which its status is read."""

    def __init__(self, run, status):
        self._run, self._status = run, status

    @property
    def status(self):
        self._run._take_in(0, executor.ledger.LEFT, b"pump/")
        return self._status


@pytest.mark.parametrize("status", ["finished", "error", "cancelled", "pending"])
def test_a_pump_whose_report_comes_as_it_is_looked_at_is_forgotten_once(status):
    run = executor._Run(SimpleNamespace(), lambda item: None, queue.SimpleQueue(), None, {})
    asked = []
    run._ask = lambda what, **message: asked.append((what, message))
    run._pumps["pump"] = Ended(run, status)
    run._look_at_pumps()
    assert (run._pumps, asked, run._failed_starts) == ({}, [], 0)

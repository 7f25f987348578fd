"""An executor of somebody else's: it runs calls one by one, each when the engine asks for what has been done."""

import collections
import queue

from taskflowx import task
from taskflowx.executors import base


class Turnstile(base.Executor):
    """Runs a call whenever the scheduler waits."""

    def __init__(self):
        self._calls = collections.deque()
        self._items = collections.deque()
        self._deliver = None

    def make_queue(self):
        """Return this, which is what the scheduler waits on, too."""
        return self

    def put(self, item):
        """Keep what was delivered."""
        self._items.append(item)

    def get(self, timeout=None):
        """Run a call if nothing has been delivered."""
        if not self._items and self._calls:
            self._run()
        return self.get_nowait()

    def get_nowait(self):
        """Return what was delivered first."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def _run(self):
        call = self._calls.popleft()
        kept = task.PROGRESS.set(lambda *told: self._deliver(told))
        try:
            outcome = base.perform(call.atom, call.verb, call.kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised by the run
            outcome = base.Interrupt(error)
        finally:
            task.PROGRESS.reset(kept)
        self._deliver((call, outcome))

    def start(self, deliver):
        """Remember where to deliver."""
        self._deliver = deliver

    def submit(self, calls):
        """Keep the calls."""
        self._calls.extend(calls)

    def recall(self):
        """Give back what has not been run."""
        left = list(self._calls)
        self._calls.clear()
        return left

    def stop(self):
        """Run what is left."""
        while self._calls:
            self._run()


def make(max_workers):
    """Return the executor for the name 'turnstile'."""
    return Turnstile()

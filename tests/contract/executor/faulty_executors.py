"""A small executor that keeps to the contract, and others that differ from it by one fault each."""

import collections
import threading

from taskflowx import task
from taskflowx.executors import base
from taskflowx.types.failure import Failure


class Sound(base.Executor):
    """Runs calls in two threads of its own."""

    def start(self, deliver):
        self.deliver, self.report = deliver, self.reporter(deliver)
        self.waiting, self.threads = collections.deque(), []

    def submit(self, calls):
        self.waiting.extend(calls)
        for _ in range(min(2, len(calls))):
            self.threads.append(threading.Thread(target=self.work, daemon=True))
            self.threads[-1].start()

    def work(self):
        task.PROGRESS.set(self.report)
        while True:
            try:
                call = self.waiting.popleft()
            except IndexError:
                return
            self.told(call, self.made(call))

    def made(self, call):
        try:
            return base.perform(call.atom, call.verb, call.kwargs)
        except BaseException as error:  # noqa: BLE001 - as an executor has to
            return base.Interrupt(error)

    def told(self, call, outcome):
        self.deliver((call, outcome))

    def recall(self):
        left = []
        try:
            while True:
                left.append(self.waiting.pop())
        except IndexError:
            return left

    def stop(self):
        while self.threads:
            self.threads.pop().join()


class DeliversTwice(Sound):
    def told(self, call, outcome):
        self.deliver((call, outcome))
        self.deliver((call, outcome))


class NeverDelivers(Sound):
    def told(self, call, outcome):
        pass


class DeliversJunk(Sound):
    def told(self, call, outcome):
        for junk in (None, "junk", (1, 2), (call.atom, "junk")):
            self.deliver(junk)
        self.deliver((call, outcome))


class DeliversUnknownCalls(Sound):
    def told(self, call, outcome):
        self.deliver((base.Call(99, call.atom, call.verb, {}), outcome))
        self.deliver((call, outcome))


class DeliversForAnother(Sound):
    def told(self, call, outcome):
        self.deliver((call, "what another one gave" if outcome is not None else None))


class RaisesInSubmit(Sound):
    def submit(self, calls):
        super().submit(calls)
        raise ValueError("no submit")


class RaisesInStart(Sound):
    def start(self, deliver):
        raise ValueError("no start")


class RaisesInStop(Sound):
    def stop(self):
        super().stop()
        raise ValueError("no stop")


class RaisesInRecall(Sound):
    def recall(self):
        raise ValueError("no recall")


class GivesBackWhatRuns(Sound):
    def recall(self):
        return list(self.waiting)


class LosesWhatItTakesBack(Sound):
    def recall(self):
        super().recall()
        return []


class StopsAtOnce(Sound):
    def stop(self):
        pass


class DeliversWhatItGaveUp(Sound):
    def abandon(self, call):
        return True


class SaysThatItGaveUp(Sound):
    def __init__(self):
        self.given_up = []

    def abandon(self, call):
        self.given_up.append(call)
        return True

    def told(self, call, outcome):
        if call not in self.given_up:
            super().told(call, outcome)


class RaisesInAbandon(Sound):
    def abandon(self, call):
        raise ValueError("no abandon")


class RaisesInInterrupt(Sound):
    def interrupt(self, call, error):
        raise ValueError("no interrupt")


class DeliversWhatItInterrupts(Sound):
    def interrupt(self, call, error):
        self.deliver((call, Failure.from_exception(error)))


class LosesWhatItInterrupts(Sound):
    def interrupt(self, call, error):
        if call in self.waiting:
            self.waiting.remove(call)


class DropsWhatHasBegun(Sound):
    def interrupt(self, call, error):
        self.deliver((call, base.NotBegun(Failure.from_exception(error))))


class LosesExits(Sound):
    def made(self, call):
        return base.perform(call.atom, call.verb, call.kwargs)


class LosesProgress(Sound):
    def work(self):
        self.report = lambda *_: None
        super().work()


class RunsTwice(Sound):
    def made(self, call):
        super().made(call)
        return super().made(call)


class MakesResultsOfFailures(Sound):
    def made(self, call):
        outcome = super().made(call)
        return None if isinstance(outcome, Failure) else outcome


FAULTS = [one for one in vars().values() if isinstance(one, type) and Sound in one.__bases__]

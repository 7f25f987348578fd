"""What a retry keeps of attempts that are over: what is said of a failure, and nothing that its frames held."""

import gc
import weakref

import pytest

from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import linear_flow
from taskflowx.types.failure import Failure


class Block:
    """What a task works on."""


class Busy(Exception):
    def __init__(self, host, *, retry_after):
        super().__init__(f"{host} is busy")
        self.retry_after = retry_after


class Polls(task.Task):
    def __init__(self, name, held, times):
        super().__init__(name)
        self.held, self.times = held, times

    def execute(self):
        block = Block()
        self.held.append(weakref.ref(block))
        if len(self.held) <= self.times:
            try:
                raise OSError("refused")
            except OSError as error:
                raise Busy("n1", retry_after=len(self.held)) from error


class PollsInLoop(Polls):
    async def execute(self):
        return super().execute()


class Watches(retry.Times):
    """Notes each failure when it is asked, and how many blocks were alive when it ran."""

    def __init__(self, held):
        super().__init__(100, "watches")
        self.held, self.asked, self.alive, self.waits = held, [], [], []

    def on_failure(self, history, **kwargs):
        self.asked.append(history[-1][1]["polls"].to_dict())
        return super().on_failure(history, **kwargs)

    def execute(self, history, **kwargs):
        gc.collect()  # noqa: TID251 - coroutines that have failed may be in circles
        self.alive.append(sum(ref() is not None for ref in self.held))
        if history:
            self.waits.append(history[-1][1]["polls"].exception.retry_after)
        return super().execute(history, **kwargs)


@pytest.mark.parametrize(("executor", "kind"), [("serial", Polls), ("threads", Polls), ("asyncio", PollsInLoop)])
def test_attempts_that_are_over_hold_nothing_that_they_worked_on(executor, kind):
    held = []
    watches = Watches(held)
    engine = engines.load(linear_flow.Flow("f", retry=watches).add(kind("polls", held, 5)), executor=executor)
    engine.run()
    assert max(watches.alive) <= 1  # that of the attempt that has just ended
    assert watches.waits == [1, 2, 3, 4, 5]
    history = engine.storage.get_retry_history("watches")
    assert [failures["polls"].to_dict() for _, failures in history if failures] == watches.asked
    assert "raise Busy(" in watches.asked[0]["traceback_str"]
    assert [str(cause) for cause in history[0][1]["polls"].causes] == ["Failure: OSError: refused"]


def raised(error):
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - it is what was given
        return Failure.from_exception(caught)


def deep(levels):
    if not levels:
        raise RecursionError("too deep")
    deep(levels - 1)


def of_many_frames():
    try:
        deep(50)
    except RecursionError as error:
        return Failure.from_exception(error)


def with_a_note():
    error = ValueError("a")
    error.add_note("seen at night")
    return raised(error)


class Odd(Exception):
    """Cannot be made again."""

    def __new__(cls, first=None, *, second=None):
        if second is None:
            raise TypeError("second is missing")
        return super().__new__(cls, first)

    def __init__(self, first, *, second):
        super().__init__(first)


@pytest.mark.parametrize(
    ("make", "keeps_exception"),
    [
        (lambda: raised(ValueError("a")), True),
        (lambda: raised(OSError(2, "no such file", "x")), True),
        (lambda: raised(Busy("n", retry_after=1)), True),
        (lambda: raised(exceptions.StorageFailure("s", raised(KeyError("k")).exception)), True),
        (lambda: raised(ConnectionError(raised(KeyError("k")).exception)), True),
        (lambda: raised(Odd("a", second=1)), False),
        (lambda: raised(ExceptionGroup("g", [raised(KeyError("k")).exception])), False),
        (lambda: raised(exceptions.WrappedFailure([raised(KeyError("k"))])), False),
        (with_a_note, True),
        (of_many_frames, True),
        (lambda: Failure(exception_str="a", exc_type_names=["ValueError", "Exception"], traceback_str=None), False),
    ],
)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_past_failure_says_what_the_failure_said(make, keeps_exception, asked_before):
    failure = make()
    if asked_before:
        failure.to_dict()
    past = failure._tfx_past()
    assert past.check(*list(failure)) == failure.check(*list(failure))
    assert past.to_dict() == failure.to_dict()
    assert past.matches(failure)
    assert list(past) == list(failure)
    assert str(past) == str(failure)
    assert (past.exception is not None) is keeps_exception
    if keeps_exception:
        assert type(past.exception) is type(failure.exception)
        assert past.exception.__traceback__ is None
        assert failure.exception.__traceback__ is not None  # the user's own is left as it is
    assert past._tfx_past().to_dict() == failure.to_dict()
    assert failure.copy()._tfx_past().copy().to_dict() == failure.to_dict()

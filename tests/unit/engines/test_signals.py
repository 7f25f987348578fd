"""suspend_on: a signal suspends the run, a second one does what it would have done."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of Unix")


class Raises(task.Task):
    """Sends signals to its own process."""

    def __init__(self, name, log, times=0, number=None):
        super().__init__(name)
        self.log, self.times, self.number = log, times, number

    def execute(self):
        self.log.append(self.name)
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)


def flow(log, times=1, number=None):
    number = signal.SIGUSR1 if number is None else number
    return linear_flow.Flow("f").add(Raises("a", log, times, number), Raises("b", log))


@pytest.fixture
def others():
    """Return the signals that came to the handler which was there before."""
    seen = []

    def handler(number, _):
        seen.append(number)

    kept = signal.signal(signal.SIGUSR1, handler)
    yield seen
    assert signal.getsignal(signal.SIGUSR1) is handler
    signal.signal(signal.SIGUSR1, kept)


def test_a_signal_that_is_named_twice_has_its_handler_back(others):
    engine = engines.load(flow([]))
    with engine.suspend_on(signal.SIGUSR1, int(signal.SIGUSR1)):
        pass
    os.kill(os.getpid(), signal.SIGUSR1)
    assert others == [signal.SIGUSR1]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_signal_suspends_the_run(executor, others, caplog):
    log = []
    engine = engines.load(flow(log), executor=executor)
    with engine.suspend_on(signal.SIGUSR1):
        engine.run()
    assert (log, engine.storage.get_flow_state(), others) == (["a"], "SUSPENDED", [])
    assert "SIGUSR1: the run is suspended as soon as the calls under way have ended" in caplog.text
    assert "a second SIGUSR1 goes to the handler that was there before" in caplog.text
    engine.run()
    assert log == ["a", "b"]


def test_a_second_one_does_what_it_did_before(others):
    log = []
    engine = engines.load(flow(log, times=2))
    with engine.suspend_on(signal.SIGUSR1):
        engine.run()
    assert (log, others) == (["a"], [signal.SIGUSR1])


def test_each_run_in_the_block_is_suspended(others):
    log = []
    engine = engines.load(
        linear_flow.Flow("f").add(*(Raises(n, log, 1, signal.SIGUSR1) for n in "ab"), Raises("c", log))
    )
    with engine.suspend_on(signal.SIGUSR1):
        engine.run()
        engine.run()
        assert (log, engine.storage.get_flow_state()) == (["a", "b"], "SUSPENDED")
        engine.run()
    assert (log, others) == (["a", "b", "c"], [])


def test_without_a_run_it_does_what_it_did_before(others):
    engine = engines.load(flow([]))
    with engine.suspend_on(signal.SIGUSR1):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert others == [signal.SIGUSR1]


def test_a_run_after_such_a_signal_is_suspended_all_the_same(others):
    log = []
    engine = engines.load(flow(log, times=2))
    with engine.suspend_on(signal.SIGUSR1):
        os.kill(os.getpid(), signal.SIGUSR1)
        engine.run()
    assert (log, engine.storage.get_flow_state(), others) == (["a"], "SUSPENDED", [signal.SIGUSR1] * 2)


@pytest.mark.parametrize(
    ("former", "says"),
    [
        (signal.default_int_handler, "is a KeyboardInterrupt"),
        (signal.SIG_DFL, "does not wait"),
        (signal.SIG_IGN, "is ignored"),
    ],
)
def test_it_is_said_what_a_second_one_does(former, says, caplog):
    kept = signal.signal(signal.SIGUSR2, former)
    engine = engines.load(flow([], number=signal.SIGUSR2))
    with engine.suspend_on(signal.SIGUSR2):
        engine.run()
    assert signal.signal(signal.SIGUSR2, kept) is former
    assert caplog.messages[0].endswith(f"; a second SIGUSR2 {says}")


def test_a_run_in_a_thread_is_suspended_too(others):
    log, suspended = [], threading.Event()

    class Suspended(logging.Handler):
        def emit(self, record):
            suspended.set()

    class Waits(Raises):
        def execute(self):
            super().execute()
            assert suspended.wait(30)

    engine = engines.load(linear_flow.Flow("f").add(Waits("a", log, 1, signal.SIGUSR1), Raises("b", log)))
    logger, handler = logging.getLogger("taskflowx.engines.signals"), Suspended()
    logger.addHandler(handler)
    with engine.suspend_on(signal.SIGUSR1):
        thread = threading.Thread(target=engine.run)
        thread.start()
        thread.join()
    logger.removeHandler(handler)
    assert (log, others, engine.storage.get_flow_state()) == (["a"], [], "SUSPENDED")


def test_the_second_ctrl_c_is_a_keyboard_interrupt():
    log = []
    engine = engines.load(flow(log, times=2, number=signal.SIGINT))
    with engine.suspend_on(signal.SIGINT, signal.SIGUSR1), pytest.raises(KeyboardInterrupt):
        engine.run()
    assert (log, engine.storage.get_flow_state()) == (["a"], "SUSPENDED")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_the_main_thread_may_set_handlers():
    said = []

    def enter():
        try:
            with engines.load(flow([])).suspend_on(signal.SIGUSR1):
                said.append("entered")
        except exceptions.InvalidState as error:
            said.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(said) == 1
    assert "the main thread" in said[0]


@pytest.mark.parametrize("given", [(), ("SIGTERM",), (10_000,), (signal.SIGKILL,), (signal.SIGUSR1, signal.SIGSTOP)])
def test_what_is_no_signal_is_refused(given):
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(ValueError, match="suspend_on"), engines.load(flow([])).suspend_on(*given):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before

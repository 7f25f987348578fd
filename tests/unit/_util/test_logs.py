"""What a handler raises costs a message, and not the run that it is about."""

import logging

import pytest

from taskflowx import engines, states, task
from taskflowx._util import logs
from taskflowx.patterns import linear_flow

LOG = logs.calm("taskflowx.tests.logs")


class Refusing(logging.Handler):
    def __init__(self):
        super().__init__()
        self.refused = []

    def emit(self, record):
        self.refused.append(record)
        raise ValueError("I/O operation on closed file")


@pytest.fixture
def refusing():
    """Give a handler that raises, of the loggers of this package."""
    handler = Refusing()
    logging.getLogger("taskflowx").addHandler(handler)
    yield handler
    logging.getLogger("taskflowx").removeHandler(handler)


class Named(task.Task):
    def execute(self):
        return self.name


def refuse(*_):
    raise ZeroDivisionError


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_run_goes_on_when_a_listener_raises_and_the_log_too(refusing, executor):
    engine = engines.load(linear_flow.Flow("f").add(Named("a"), Named("b")), executor=executor)
    engine.atom_notifier.register("*", refuse)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert len(refusing.refused) == 4


@pytest.mark.parametrize("log", [LOG.warning, LOG.exception])
def test_a_record_names_the_caller(refusing, log):
    log("%s is full", "it")
    (record,) = refusing.refused
    assert (record.getMessage(), record.funcName) == ("it is full", "test_a_record_names_the_caller")


def test_what_is_no_exception_comes_out(refusing):
    class Leave(logging.Filter):
        def filter(self, record):
            raise KeyboardInterrupt

    leave = Leave()
    LOG.logger.addFilter(leave)
    try:
        with pytest.raises(KeyboardInterrupt):
            LOG.warning("it")
    finally:
        LOG.logger.removeFilter(leave)

"""Loggers with a level below DEBUG, and the names of atoms in what they log."""

import contextlib
import logging as standard
import multiprocessing
from concurrent import futures

import pytest

from taskflowx import engines, logging, retry, task
from taskflowx.patterns import linear_flow


class Kept(standard.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """Give the records of the logger 'taskflowx.sample', all levels."""
    logger, handler = standard.getLogger("taskflowx.sample"), Kept()
    logger.setLevel(1)
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)
    logger.setLevel(standard.NOTSET)


def test_levels_are_those_of_the_standard_library_and_one_below_debug():
    names = ["CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "NOTSET", "WARN", "WARNING"]
    assert [getattr(logging, name) for name in names] == [getattr(standard, name) for name in names]
    assert logging.BLATHER == logging.TRACE == 5


def test_the_logger_is_named_after_the_package_by_default():
    assert logging.getLogger().logger is standard.getLogger("taskflowx")


@pytest.mark.parametrize("method", ["blather", "trace"])
def test_a_trace_is_a_record_below_debug_that_names_its_caller(kept, method):
    getattr(logging.getLogger("taskflowx.sample"), method)("turn %s of %s", 1, 2)
    (record,) = kept
    assert (record.levelno, record.getMessage()) == (5, "turn 1 of 2")
    assert (record.module, record.funcName) == (
        "test_logging",
        "test_a_trace_is_a_record_below_debug_that_names_its_caller",
    )


def test_a_helper_that_logs_for_its_caller_can_name_that_one(kept):
    def helper():
        logging.getLogger("taskflowx.sample").trace("x", stacklevel=2)

    helper()
    assert kept[0].funcName == "test_a_helper_that_logs_for_its_caller_can_name_that_one"


def test_a_trace_is_not_logged_at_debug(kept):
    standard.getLogger("taskflowx.sample").setLevel(standard.DEBUG)
    logging.getLogger("taskflowx.sample").trace("x")
    assert kept == []


def test_extra_of_the_adapter_is_on_each_record_over_that_of_the_call(kept):
    logger = logging.getLogger("taskflowx.sample", {"job": 1})
    logger.info("x", extra={"job": 2, "owner": 3})
    logger.trace("x")
    assert [(record.job, getattr(record, "owner", None)) for record in kept] == [(1, 3), (1, None)]


def test_extra_of_the_call_is_kept_when_the_adapter_has_none(kept):
    logging.getLogger("taskflowx.sample").info("x", extra={"owner": 3})
    assert kept[0].owner == 3


def test_a_traceback_can_be_logged(kept):
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("taskflowx.sample").trace("x", exc_info=True)
    assert kept[0].exc_info[0] is ValueError


# -- names of atoms --------------------------------------------------------------------------------


class Says(task.Task):
    def execute(self):
        standard.getLogger("tests.says").warning("does")
        raise ValueError("on purpose")

    def revert(self, **kwargs):
        standard.getLogger("tests.says").warning("undoes")


class Asks(retry.Times):
    def on_failure(self, *args, **kwargs):
        standard.getLogger("tests.says").warning("asks")
        return super().on_failure(*args, **kwargs)


@pytest.mark.parametrize("executor", ["serial", "threads", "processes", "asyncio", futures.ThreadPoolExecutor])
def test_records_have_the_names_of_what_logs_on_every_executor(executor):
    class Keep(standard.Handler):
        def emit(self, record):
            kept.append((record.getMessage(), record.atom_name, record.flow_name, record.run))

    kept, handler, logger = [], Keep(), standard.getLogger("tests.says")
    handler.addFilter(logging.AtomNames())
    logger.addHandler(handler)
    try:
        flow = linear_flow.Flow("f", Asks(1, name="asks")).add(Says("says"))
        with contextlib.ExitStack() as stack:
            place = executor if isinstance(executor, str) else stack.enter_context(executor(1))
            engine = engines.load(flow, executor=place)
            with pytest.raises(ValueError, match="on purpose"):
                engine.run()
        logger.warning("outside")
    finally:
        logger.removeHandler(handler)
    names = "f", engine.storage.flow_uuid
    assert kept == [
        ("does", "says", *names),
        ("asks", "asks", *names),
        ("undoes", "says", *names),
        ("outside", None, None, None),
    ]


def say_where(names):
    record = standard.LogRecord("n", standard.INFO, "", 0, "", (), None)
    assert logging.AtomNames().filter(record)
    return record.atom_name, record.flow_name, record.run


def test_names_are_known_in_a_process_of_somebody_elses_pool():
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        flow = linear_flow.Flow("f").add(task.FunctorTask(say_where, provides="said", inject={"names": None}))
        engine = engines.load(flow, executor=pool)
        engine.run()
    assert engine.storage.fetch("said") == (f"{__name__}.say_where", "f", engine.storage.flow_uuid)


def test_a_task_of_functions_is_named_too(caplog):
    caplog.handler.addFilter(logging.AtomNames())
    does = task.FunctorTask(lambda: standard.getLogger("tests.says").warning("does"), name="lambda")
    engines.run(linear_flow.Flow("f").add(does))
    assert [record.atom_name for record in caplog.records] == ["lambda"]

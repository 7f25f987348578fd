"""A worker as the engine sees it: wherever an interrupt comes, nothing of it stays behind."""

import array
import contextlib
import itertools
import multiprocessing
import os
import pathlib
import socket
import sys

import pytest

from taskflowx import states
from taskflowx.executors import base, processes
from taskflowx.executors.processes import handle, values, wire
from tests.support.frozen import freeze

FILES = (handle.__file__, wire.__file__, values.__file__)

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="nobody tells of open descriptors")


@pytest.fixture
def pool():
    """Give a pool whose fork server runs."""
    with processes.ProcessPool(1) as kept:
        end(kept.take())
        yield kept


def end(one):
    one.kill()
    one.close()


def opened():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - they are numbers


def await_children():
    for child in multiprocessing.active_children():
        child.join(30)


class Interrupt:
    """Raises at the n-th line, or the n-th instruction, of what closes a worker."""

    def __init__(self, at, event):
        self.left, self.event = at, event

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = self.event == "opcode"
        if event == self.event:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_a_worker_that_nobody_holds_ends_and_leaves_nothing(pool):
    before = opened()
    process = pool.take().process
    process.join(30)
    assert process.exitcode is not None
    process.close()
    assert opened() == before


@pytest.mark.parametrize("event", ["line", "opcode"])
def test_a_worker_whose_end_was_interrupted_leaves_nothing(pool, event):
    before = opened()
    for at in itertools.count(1):
        one = pool.take()
        process, interrupt = one.process, Interrupt(at, event)
        one.kill()
        kept = sys.gettrace()
        sys._getframe().f_trace_opcodes = event == "opcode"  # Python 3.12 tells of none unless a frame has asked before
        sys.settrace(interrupt)
        try:
            one.close()
        except KeyboardInterrupt:
            sys.settrace(kept)
        finally:
            sys.settrace(kept)
        del one
        with contextlib.suppress(ValueError):  # it was closed already
            process.join(30)
            process.close()
        if interrupt.left > 0:
            break
    assert at > 15
    assert opened() == before


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # sockets of no worker
def test_a_worker_whose_start_was_interrupted_leaves_nothing(pool):
    end(pool.take())
    before = opened()
    for at in itertools.count(1):
        interrupt, kept, one = Interrupt(at, "opcode"), sys.gettrace(), None
        sys._getframe().f_trace_opcodes = True
        sys.settrace(interrupt)
        try:
            one = pool.take()
        except KeyboardInterrupt:
            sys.settrace(kept)
        finally:
            sys.settrace(kept)
        if one is not None:
            end(one)
        one = None
        await_children()
        if interrupt.left > 0:
            break
    assert at > 100
    assert opened() == before


@pytest.mark.parametrize("event", ["line", "opcode"])
@pytest.mark.parametrize("act", ["allow", "take_back"])
def test_a_number_that_a_worker_can_take_is_not_cancelled_wherever_an_interrupt_comes(pool, act, event):
    one = pool.take()
    freeze(one.process.pid)  # this test takes the numbers in its place
    begun, cancelled = 0, 0
    for at in itertools.count(1):
        one.sent[7] = base.Call(0, None, states.EXECUTE, {}), None, 0.0
        interrupt, back = Interrupt(at, event), []
        if act == "take_back":
            one.allow(array.array("I", [7]))
        kept = sys.gettrace()
        sys._getframe().f_trace_opcodes = event == "opcode"
        sys.settrace(interrupt)
        try:
            back += one.allow(array.array("I", [7])) or [] if act == "allow" else one.take_back()
        except KeyboardInterrupt:
            sys.settrace(kept)
        finally:
            sys.settrace(kept)
        taken = b""
        with contextlib.suppress(BlockingIOError):
            taken = one.tokens[1].recv(4, socket.MSG_DONTWAIT)
        back += one.take_back()
        assert not (taken and back), f"{event} {at}"
        begun, cancelled = begun + bool(taken), cancelled + bool(back)
        one.sent.clear()
        if interrupt.left > 0:
            break
    assert begun
    assert at > 3
    end(one)

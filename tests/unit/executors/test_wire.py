"""The line between an engine and a worker: a frame goes out whole or not at all, whatever comes in between."""

import contextlib
import itertools
import logging
import os
import socket
import sys
import threading

import pytest

from taskflowx.executors.processes import output, values, wire, worker


class Ring(Exception):
    pass


@contextlib.contextmanager
def line():
    """Give both ends of a line."""
    ours, theirs = socket.socketpair()
    pipe, their_pipe = os.pipe()
    engine, worker = wire.EngineEnd(ours, pipe), wire.WorkerEnd(theirs, their_pipe)
    try:
        yield engine, worker
    finally:
        engine.close()
        worker.close()


def raise_at(number, send, files=(wire.__file__,)):
    """Call something, and raise at the N-th line of this module that is run for it; tells whether there are so many."""
    left = [number]

    def trace(frame, event, _):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise Ring
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        send()
    except Ring:
        return True
    finally:
        sys.settrace(before)
    return False


def received(engine):
    """Return the kind, the number and the value of each frame that has come."""
    while engine.receive():
        pass
    found = []
    while engine.frames:
        kind, number, _, body, descriptor = engine.frames.popleft()
        if descriptor == wire.AWAITED:
            descriptor = engine.receive_descriptor()
        found.append((kind, number, values.unpack(body, descriptor)))
    return found


@pytest.mark.leaves("descriptors of memory, where an alarm comes before the frame is queued")
@pytest.mark.parametrize("value", ["small", bytearray(3 * values.LARGE)], ids=["in the stream", "in memory"])
def test_a_frame_goes_out_whole_or_not_at_all_wherever_an_exception_comes(value):
    number, more, came = 0, True, set()
    while more:
        number += 1
        with line() as (engine, worker):
            body, descriptor = values.pack(value)
            more = raise_at(number, lambda: worker.send(wire.WROTE, 1, body, descriptor))  # noqa: B023 - called at once
            worker.send(wire.ENDED, 2, *values.pack("after"))
            frames = received(engine)
        came.add(len(frames))
        assert frames[-1] == (wire.ENDED, 2, "after")
        assert frames[:-1] in ([], [(wire.WROTE, 1, value)])
    assert came == {1, 2}
    assert number > 10


def test_a_frame_that_goes_out_in_parts_is_ended_before_the_next_one(monkeypatch):
    write, parts = os.write, iter([3, 5, 1])
    monkeypatch.setattr(os, "write", lambda pipe, data: write(pipe, bytes(data[: next(parts, len(data))])))
    with line() as (engine, worker):
        worker.send(wire.WROTE, 1, *values.pack("x" * 100))
        worker.send(wire.WROTE, 2, *values.pack("y"))
        assert received(engine) == [(wire.WROTE, 1, "x" * 100), (wire.WROTE, 2, "y")]
    assert next(parts, None) is None


def test_what_was_forked_from_a_worker_sends_nothing():
    with contextlib.ExitStack() as stack:
        engine, worker = stack.enter_context(line())
        copy = wire.WorkerEnd(socket.socket(fileno=os.dup(worker.socket.fileno())), os.dup(worker.pipe))
        copy.abandon()
        copy.send(wire.ENDED, 1, *values.pack("mine"))
        worker.send(wire.ENDED, 1, *values.pack("the worker's"))
        assert received(engine) == [(wire.ENDED, 1, "the worker's")]


@pytest.mark.parametrize("what", ["progress", "a log record"])
def test_no_lock_stays_taken_wherever_an_alarm_comes_while_a_trace_function_runs(what):
    free, record = [], logging.LogRecord("a.b", logging.WARNING, "f", 1, "a %s", ("message",), None)

    def may_send():
        free.append(one.sending.acquire(blocking=False) and records.lock.acquire(blocking=False))
        one.sending.release()
        records.lock.release()

    with line() as (engine, end):
        one = worker.Worker(end, None)
        records = output.Records(one)
        send = (
            (lambda: one.send(wire.PROGRESS, {"progress": 0.5}))
            if what == "progress"
            else lambda: records.handle(record)
        )
        for at in itertools.count(1):
            comes = raise_at(at, send, (wire.__file__, worker.__file__, output.__file__))
            other = threading.Thread(target=may_send)
            other.start()
            other.join()
            assert free.pop(), f"line {at}"
            assert len(received(engine)) <= 1
            if not comes:
                break
        assert at > 3

"""The line between an engine and a worker: a frame goes out whole or not at all, whatever comes in between."""

import contextlib
import contextvars
import dis
import errno
import functools
import itertools
import logging
import os
import pathlib
import resource
import select
import socket
import sys
import threading
import weakref
from typing import ClassVar

import pytest

from taskflowx import states, task
from taskflowx.executors.processes import output, values, wire, worker


class Ring(Exception):
    pass


class Refusing(socket.socket):
    """Carries no descriptor the first few times, as the system does where too many are on their way."""

    left = 0

    def sendmsg(self, *arguments):
        self.left -= 1
        if self.left >= 0:
            raise OSError(errno.ETOOMANYREFS, "too many references")
        return super().sendmsg(*arguments)


@contextlib.contextmanager
def line(refused=0):
    """Give both ends of a line.

    :param refused: how many descriptors it does not carry in each direction
    """
    ours, theirs = [Refusing(fileno=one.detach()) for one in socket.socketpair()]
    ours.left = theirs.left = refused
    pipe, their_pipe = map(values.Descriptor, os.pipe(), ("rb", "wb"))
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


@functools.cache
def handlers_run_at(code):
    """Return the offsets of instructions at which CPython calls signal handlers: after calls, and where loops turn."""
    steps = list(dis.get_instructions(code))
    after = {later.offset for one, later in itertools.pairwise(steps) if one.opname.startswith(("CALL", "RESUME"))}
    turns = [one for one in steps if "JUMP_BACKWARD" in one.opname]
    return after | {one.argval for one in turns} | {one.offset for one in turns}


def handle_at(number, send, handler, everywhere=False):
    """Call something, and a signal handler at the N-th place of this module where one may run; tells if it was called.

    :param everywhere: whether it is called before any instruction
    """
    left = [number]

    def trace(frame, event, _):
        if frame.f_code.co_filename != wire.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and (everywhere or frame.f_lasti in handlers_run_at(frame.f_code)):
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 reports none unless a frame has asked before
    sys.settrace(trace)
    try:
        send()
    except Ring:
        pass
    finally:
        sys.settrace(before)
    return left[0] <= 0


def ring():
    raise Ring


def opened():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - they are numbers


def raise_before(number, act, files=(wire.__file__, values.__file__)):
    """Call something, and raise before the N-th instruction of it in these modules; tells whether there are so many.

    Not where a worker receives: it ends with what is raised there, as it is between two calls.
    """
    left = [number]

    def trace(frame, event, _):
        receives = wire.WorkerEnd.receive.__code__ in (frame.f_code, frame.f_back.f_code)
        if receives or frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise Ring
        return trace

    def acts():
        yield act()

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 reports none unless a frame has asked before
    sys.settrace(trace)
    try:
        # A generator has handled exceptions of its own. One that is raised before the end of a handler is taken out of
        # turn, as no signal handler does it, and the exception that was handled would stay that of this thread.
        next(acts())
    except Ring:
        pass
    finally:
        sys.settrace(before)
    return left[0] <= 0


LARGE = bytearray(3 * 4096)


@pytest.fixture
def limit_of_4096(monkeypatch):
    """Have `LARGE` go through shared memory, and a pipe have room for it if it does not."""
    monkeypatch.setattr(values, "LARGE", 4096)


def from_the_engine(engine, worker):
    """A large argument, on its way to a worker."""
    engine.put(wire.CALL, 1, *values.pack(LARGE))
    while not engine.flush():
        worker.receive()
    while not worker.frames:
        worker.receive()
    *_, body, file = worker.frames.popleft()
    values.unpack(body, file)


def to_the_engine(engine, worker):
    """A large result, on its way to the engine."""
    worker.send(wire.ENDED, 1, *values.pack(LARGE))
    received(engine)


def to_an_engine_that_ends(engine, worker):
    """What has not been sent or taken is dropped."""
    engine.put(wire.CALL, 1, *values.pack(LARGE))
    engine.flush()
    engine.put(wire.CALL, 2, *values.pack(LARGE))
    worker.receive()
    engine.close()
    worker.close()
    engine.close()
    worker.close()


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="nobody tells of open descriptors")
@pytest.mark.usefixtures("limit_of_4096")
@pytest.mark.parametrize("refused", [0, 1])
@pytest.mark.parametrize("way", [from_the_engine, to_the_engine, to_an_engine_that_ends])
def test_no_descriptor_is_left_wherever_an_exception_comes(way, refused):
    with line() as ends:
        way(*ends)  # it opens what is kept for ever
    before = opened()
    for number in itertools.count(1):
        with line(refused) as ends:
            comes = raise_before(number, lambda: way(*ends))
        assert opened() <= before, f"instruction {number}"  # the spare one may be closed
        if not comes:
            break
    assert number > 100


def received(engine):
    """Return the kind, the number and the value of each frame that has come."""
    while engine.receive():
        pass
    found = []
    while engine.frames:
        kind, number, _, body, file = engine.frames.popleft()
        if file is wire.AWAITED:
            file = engine.receive_file()
        found.append((kind, number, values.unpack(body, file)))
    return found


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_where_too_many_descriptors_are_on_their_way_large_values_arrive_in_the_stream(refused):
    sent = [bytearray(b"1") * values.LARGE, [bytes(values.LARGE), bytearray(b"2") * values.LARGE], "small"]
    with line(refused) as (engine, worker):
        for number, value in enumerate(sent):
            engine.put(wire.CALL, number, *values.pack(value))
        while not engine.flush():
            worker.receive()
        while len(worker.frames) < len(sent):
            worker.receive()
        assert [values.unpack(body, file) for *_, body, file in worker.frames] == sent

        def send():
            for number, value in enumerate(sent):
                worker.send(wire.ENDED, number, *values.pack(value))

        sender, found = threading.Thread(target=send), []
        sender.start()
        while len(found) < len(sent):
            found += received(engine)
        sender.join()
        assert found == [(wire.ENDED, number, value) for number, value in enumerate(sent)]


@pytest.mark.usefixtures("limit_of_4096")
@pytest.mark.parametrize(
    ("value", "refused"),
    [("small", 0), (LARGE, 0), (LARGE, 1)],
    ids=["in the stream", "in memory", "refused"],
)
def test_a_frame_goes_out_whole_or_not_at_all_wherever_an_exception_comes(value, refused):
    number, more, came = 0, True, set()
    while more:
        number += 1
        with line(refused) as (engine, worker):
            body, file = values.pack(value)
            more = handle_at(number, lambda: worker.send(wire.WROTE, 1, body, file), ring)  # noqa: B023 - called at once
            worker.send(wire.ENDED, 2, *values.pack("after"))
            frames = received(engine)
        came.add(len(frames))
        assert frames[-1] == (wire.ENDED, 2, "after")
        assert frames[:-1] in ([], [(wire.WROTE, 1, value)])
    assert came == {1, 2}
    assert number > 6


def test_a_frame_that_goes_out_in_parts_is_ended_before_the_next_one(monkeypatch):
    write, parts = os.write, iter([3, 5, 1])
    monkeypatch.setattr(os, "write", lambda pipe, data: write(pipe, bytes(data[: next(parts, len(data))])))
    with line() as (engine, worker):
        worker.send(wire.WROTE, 1, *values.pack("x" * 100))
        worker.send(wire.WROTE, 2, *values.pack("y"))
        assert received(engine) == [(wire.WROTE, 1, "x" * 100), (wire.WROTE, 2, "y")]
    assert next(parts, None) is None


@pytest.mark.parametrize("sizes", [(5_000_000,), (10, 5_000_000, 10), (70_000, 3, 1_000_000, 65_536, 9)], ids=str)
def test_long_and_short_frames_arrive_as_they_are_and_in_their_order(sizes):
    bodies = [os.urandom(size) for size in sizes]
    expected = list(enumerate(bodies))
    with line() as (engine, worker):
        for number, body in expected:
            engine.put(wire.CALL, number, body)
        while not engine.flush():
            worker.receive()
        while len(worker.frames) < len(sizes):
            worker.receive()
        assert [(number, body) for _, number, _, body, _ in worker.frames] == expected
        assert {type(body) for *_, body, _ in worker.frames} == {bytes}

        def send():
            for number, body in expected:
                worker.send(wire.ENDED, number, body)

        sender = threading.Thread(target=send)
        sender.start()
        while len(engine.frames) < len(sizes):
            engine.receive()
        sender.join()
        assert [(number, body) for _, number, _, body, _ in engine.frames] == expected


@contextlib.contextmanager
def descriptors_left(count):
    """Have this process be able to open no more than so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        highest = max(int(one) for one in os.listdir("/proc/self/fd"))  # noqa: PTH208 - they are numbers
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
        used = []
        with contextlib.suppress(OSError):
            while True:
                used.append(stack.enter_context(open(os.devnull, "rb")))  # noqa: PTH123 - it is a device
        for one in used[len(used) - count :]:
            one.close()
        yield


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="nobody tells of open descriptors")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_is_sent_meanwhile_takes_no_descriptor_by_which_the_next_value_is_received(count):
    value, sent = bytearray(values.LARGE), []
    with line() as (engine, worker):
        for number in range(4):
            worker.send(wire.ENDED, number, *values.pack(value))
        with descriptors_left(count):
            engine.receive()
            while engine.frames:
                *_, body, file = engine.frames.popleft()
                assert file is wire.AWAITED
                assert values.unpack(body, engine.receive_file()) == value
                sent.append(values.pack(value))
    assert len(sent) == 4
    assert all(values.unpack(*one) == value for one in sent)


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="nobody tells of open descriptors")
def test_values_that_wait_to_be_sent_leave_most_descriptors_to_others():
    value, count = bytearray(values.LARGE), 60
    with line() as (engine, worker), descriptors_left(count):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8
        before = opened()
        for number in range(2 * count):
            engine.put(wire.CALL, number, *values.pack(value))
        assert opened() <= before + most
        for number in range(2 * count):
            while not worker.frames:
                engine.flush()
                worker.receive()
            _, call, _, body, file = worker.frames.popleft()
            assert (call, values.unpack(body, file)) == (number, value)


@pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="nobody tells of open descriptors")
def test_a_worker_that_cannot_receive_a_descriptor_takes_none_of_another_frame():
    with line() as (engine, worker):
        for number in range(2):
            engine.put(wire.CALL, number, *values.pack(bytearray(values.LARGE)))
        engine.flush()
        with descriptors_left(0), pytest.raises(OSError, match="none left"):
            worker.receive()
        assert not worker.frames


@pytest.fixture
def limited_files():
    """Have no file of this process grow beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("limited_files", "limit_of_4096")
@pytest.mark.parametrize("value", [LARGE, "x" * 20_000, [bytearray(5000), LARGE, 7]], ids=["buffer", "text", "buffers"])
def test_where_a_file_must_not_be_large_values_go_through_the_stream(value):
    body, file = values.pack(value)
    assert file is None
    assert values.unpack(body, None) == value


@pytest.mark.usefixtures("limit_of_4096")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM, errno.EPERM, errno.ENFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("function", ["memfd_create", "pwrite"])
def test_whatever_the_system_refuses_values_go_through_the_stream(monkeypatch, function, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, refuse)
    before = opened()
    for packed in (values.pack(LARGE), values.pack_plain("x" * 5000), values.pack_exit(SystemExit("x" * 5000))):
        assert packed[1] is None
        assert values.unpack(*packed) is not None
    assert opened() <= before


def test_what_was_forked_from_a_worker_sends_nothing():
    with contextlib.ExitStack() as stack:
        engine, worker = stack.enter_context(line())
        copy = wire.WorkerEnd(
            socket.socket(fileno=os.dup(worker.socket.fileno())), values.owned(os.dup, worker.pipe, mode="wb")
        )
        copy.abandon()
        copy.send(wire.ENDED, 1, *values.pack("mine"))
        worker.send(wire.ENDED, 1, *values.pack("the worker's"))
        assert received(engine) == [(wire.ENDED, 1, "the worker's")]


def test_what_was_forked_from_a_worker_closes_no_descriptor_of_others():
    with line() as (_, worker):
        copy = wire.WorkerEnd(
            socket.socket(fileno=os.dup(worker.socket.fileno())), values.owned(os.dup, worker.pipe, mode="wb")
        )
        numbers = {copy.socket.fileno(), copy.pipe}
        copy.abandon()
        others = [pathlib.Path(os.devnull).open("rb") for _ in numbers]  # they get these numbers  # noqa: SIM115
        assert {one.fileno() for one in others} == numbers
        del copy
        assert [one.read(1) for one in others] == [b"", b""]
        for one in others:
            one.close()


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


class Result:
    pass


class Makes(task.Task):
    made: ClassVar[list] = []

    def execute(self):
        result = Result()
        self.made.append(weakref.ref(result))
        return result


def test_a_worker_without_a_call_holds_no_result(monkeypatch):
    monkeypatch.setattr(task, "REPORTERS", [])
    ours, theirs = socket.socketpair()
    with line() as (engine, end), ours, theirs:
        one = worker.Worker(end, theirs)
        engine.put(wire.CALL, 1, *values.pack((1, Makes("a"), 0, states.EXECUTE, {}, False)))
        engine.flush()
        ours.send(worker.TOKEN.pack(1) + worker.TOKEN.pack(worker.STOP))
        contextvars.copy_context().run(one.run)
        ((kind, number, value),) = received(engine)
        assert (kind, number, type(value)) == (wire.ENDED, 1, Result)
        (made,) = Makes.made
        assert made() is None


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_signal_handler_that_sends_while_a_frame_is_sent(size):
    body = b"x" * size
    for number in itertools.count(1):
        with line() as (engine, worker):
            collected = []
            reader = threading.Thread(target=_collect, args=(engine, collected))
            reader.start()
            reached = handle_at(
                number,
                lambda: worker.send(wire.ENDED, 1, body),
                lambda: worker.send(wire.WROTE, 2, b"text"),
                everywhere=True,
            )
            worker.send(wire.ENDS, 3, b"")
            reader.join()
        found = sorted((kind, call, len(content)) for kind, call, content in collected)
        expected = [(wire.ENDED, 1, size)] + [(wire.WROTE, 2, 4)] * reached
        assert found == sorted(expected), number
        if not reached:
            break
    assert number > 20


def _collect(engine, collected):
    """Collect frames until the last one."""
    while True:
        while not engine.frames:
            select.select([engine.pipe], [], [])
            engine.receive()
        kind, call, _, body, _ = engine.frames.popleft()
        if kind == wire.ENDS:
            return
        collected.append((kind, call, body))


@pytest.mark.leaves("frames that are never sent")
def test_an_exception_wherever_a_handler_runs_lets_the_next_frame_through(monkeypatch):
    write, body = os.write, b"x" * 300
    monkeypatch.setattr(os, "write", lambda pipe, data: write(pipe, bytes(data[:100])))  # as one that is interrupted
    for number in itertools.count(1):
        with line() as (engine, worker):
            collected = []
            reader = threading.Thread(target=_collect, args=(engine, collected))
            reader.start()
            raised = handle_at(number, lambda: worker.send(wire.WROTE, 1, body), ring)
            worker.send(wire.ENDED, 2, b"after")
            worker.send(wire.ENDS, 3, b"")
            reader.join(20)
            assert not reader.is_alive(), f"after {number} places nothing is sent any more"
        assert collected[-1] == (wire.ENDED, 2, b"after")
        assert collected[:-1] in ([], [(wire.WROTE, 1, body)])
        if not raised:
            break
    assert number > 6

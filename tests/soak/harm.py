"""What tasks of somebody else's do that fails their calls, ends their process, or may hit the calls of others."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
from typing import Any

from tests.soak import alone, deeds

#: the call fails
FAILS: dict[str, deeds.Deed] = {}
#: what is no `Exception` comes out of the call: the run is left, and may go on
STOPS: dict[str, deeds.Deed] = {}
#: the process ends, and with it the call
DIES: dict[str, deeds.Deed] = {}
#: other calls of the same process may fail or be left, too
SPILLS: dict[str, deeds.Deed] = {}


def _noted(into: dict[str, deeds.Deed], *, own: bool = False) -> Any:
    def note(function: Any) -> Any:
        into[function.__name__] = deeds.Deed(function.__name__, function, own)
        return function

    return note


fails, stops = _noted(FAILS), _noted(STOPS)
dies, spills, spills_alone = _noted(DIES, own=True), _noted(SPILLS), _noted(SPILLS, own=True)


# -- odd exceptions --------------------------------------------------------------------------------


class Unsendable(Exception):
    """Has something in it that cannot be pickled."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()


class Particular(Exception):
    """Cannot be made again of its arguments."""

    def __init__(self, number, reason):
        super().__init__(f"{reason} {number}")


class BadReduce(Exception):
    """Raises when it is pickled."""

    def __reduce__(self):
        raise OSError("not me")


class BadReduceThatLeaves(Exception):
    """Raises what is no `Exception` when it is pickled."""

    def __reduce__(self):
        raise SystemExit("not me")


class Shy(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise RuntimeError("nobody looks at me")

    __repr__ = __str__


class Quarrelsome(Exception):
    """Cannot be compared."""

    def __eq__(self, other):
        raise RuntimeError("nobody is like me")

    __hash__ = None


class Elsewhere(Exception):
    """Can be pickled, and not be read in another process."""

    def __reduce__(self):
        return _refuse_elsewhere, (os.getpid(),)


class Masked(Exception):
    """Says that it is of another class."""

    __class__ = property(lambda self: int)


def _refuse_elsewhere(pid):
    if os.getpid() != pid:
        raise ValueError("not here")
    return Elsewhere()


@fails
def raise_something_odd(own, rng):
    class Local(Exception):
        pass

    kind = rng.choice([Unsendable, BadReduce, BadReduceThatLeaves, Shy, Quarrelsome, Elsewhere, Masked, Local])
    raise kind("\udc80", "x" * rng.choice([1, 100_000]))


@fails
def raise_something_particular(own, rng):
    raise Particular(1, "for a reason")


@fails
def raise_what_python_raises(own, rng):
    def fill():
        return bytearray(1 << 60)

    def dig():
        return dig()

    def text():
        return b"\xff".decode()

    rng.choice([fill, dig, text, lambda: next(iter(())), lambda: {}["\udc80"], lambda: os.chdir("/nowhere\udc80")])()
    raise AssertionError("it should have failed")


@fails
def raise_a_long_chain(own, rng):
    error: Exception | None = None
    for n in range(rng.choice([3, 200])):
        following = ValueError(n)
        following.__cause__ = error
        error = following
    if rng.random() < 0.3:
        turned: Any = error
        while turned.__cause__ is not None:
            turned = turned.__cause__
        turned.__cause__ = error
    raise error or ValueError


@fails
def raise_a_group(own, rng):
    raise ExceptionGroup("many", [Unsendable(1), ExceptionGroup("more", [ValueError(2), Shy(3)])])


@fails
def raise_with_notes(own, rng):
    error = ValueError("noted")
    error.__notes__ = rng.choice([["a note", 5], "no list", [deeds.Shy()]])
    raise error


# -- what is no Exception --------------------------------------------------------------------------


class Leave(BaseException):
    """Has something in it that cannot be pickled."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()


class BadLeave(BaseException):
    """Cannot be pickled, made again or shown."""

    def __init__(self, number, reason):
        super().__init__(number)

    def __reduce__(self):
        raise OSError("not me")

    def __str__(self):
        raise RuntimeError("nobody looks at me")

    __repr__ = __str__


@stops
def leave(own, rng):
    raise rng.choice([SystemExit(3), SystemExit("\udc80"), KeyboardInterrupt(), GeneratorExit(), Leave(1)])


@stops
def leave_as_cancelled(own, rng):
    raise asyncio.CancelledError


@stops
def leave_oddly(own, rng):
    raise BadLeave(1, "a reason")


@stops
def leave_in_a_group(own, rng):
    raise BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError()])


# -- the end of a process --------------------------------------------------------------------------


@dies
def exit_at_once(own, rng):
    os._exit(rng.choice([0, 1, 3, 255]))


@dies
def kill_itself(own, rng):
    number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    deeds.wait(10)


@dies
def crash(own, rng):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


@dies
def close_all_descriptors(own, rng):
    os.closerange(3, 512)


@dies
def exit_in_a_fork_and_die(own, rng):
    alone.fork_and_linger(own, rng)
    os.kill(os.getpid(), signal.SIGKILL)


@dies
def exit_from_a_thread(own, rng):
    threading.Thread(target=os._exit, args=(5,)).start()
    deeds.wait(10)


# -- what may hit others ---------------------------------------------------------------------------


@spills
def leave_an_alarm(own, rng):
    with contextlib.suppress(ValueError):  # not in this thread
        signal.signal(signal.SIGALRM, rng.choice([deeds.ring, _leave]))
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00005, 0.01))


@spills_alone
def leave_many_alarms(own, rng):
    signal.signal(signal.SIGALRM, rng.choice([deeds.ring, _leave]))
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.01), rng.uniform(0.0005, 0.01))


@spills_alone
def leave_a_tracer_that_raises(own, rng):
    left = [rng.randrange(2000)]

    def tracer(frame, event, arg):
        left[0] -= 1
        if left[0] <= 0 and not deeds.has_a_lock(frame):
            sys.settrace(None)
            raise deeds.Late
        return tracer

    sys.settrace(tracer)


@spills_alone
def leave_a_low_limit_of_recursion(own, rng):
    with contextlib.suppress(RecursionError):
        sys.setrecursionlimit(rng.choice([50, 80, 120]))


@spills_alone
def leave_few_descriptors(own, rng):
    resource.setrlimit(resource.RLIMIT_NOFILE, (rng.choice([0, 8, 16]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@spills_alone
def leave_no_room_in_files(own, rng):
    resource.setrlimit(resource.RLIMIT_FSIZE, (rng.choice([0, 4096]), resource.RLIM_INFINITY))


@spills_alone
def close_some_descriptors(own, rng):
    for number in rng.sample(range(3, 24), 4):
        with contextlib.suppress(OSError):
            os.close(number)


@spills_alone
def die_soon(own, rng):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.05))


@spills_alone
def exit_soon(own, rng):
    timer = threading.Timer(rng.uniform(0, 0.02), os._exit, (7,))
    timer.daemon = True
    timer.start()


@spills_alone
def lose_modules(own, rng):
    for name in list(sys.modules):
        if name.startswith(("taskflowx", "tests", "pickle", "json")) and rng.random() < 0.1:
            del sys.modules[name]


def _leave(number, frame):
    try:
        deeds.ring(number, frame)
    except deeds.Late:
        raise Leave("an alarm") from None

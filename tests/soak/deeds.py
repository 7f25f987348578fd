"""What tasks of somebody else's do: everything here leaves the calls of a run, its own one included, as they are.

A deed is a function that is found by its name, so that a task with it can be sent to another process. It gets the task
and a random number generator. What a deed starts and leaves behind ends by itself within `LEFT` seconds.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import decimal
import faulthandler
import functools
import gc
import locale
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

#: seconds after which nothing is left of what a deed has started
LEFT = 3.0
LOG = logging.getLogger("tests.soak.deeds")
_VARIABLE = contextvars.ContextVar("soak", default=0)


class Deed(NamedTuple):
    """One thing that a task does.

    :param own: whether only a process that is not the engine's, and may end, can have it done to it
    """

    name: str
    do: Callable[[Any, random.Random], Any]
    own: bool


#: those that have a signal handler called
ALARMS = ("run_into_a_time_limit", "leave_an_alarm_that_is_harmless")
#: by name: what leaves all calls as they are
QUIET: dict[str, Deed] = {}


def _noted(into: dict[str, Deed], *, own: bool) -> Callable[..., Any]:
    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        into[name] = Deed(name, function, own)
        return function

    return note


quiet = _noted(QUIET, own=False)
#: as `quiet`, in a process that is not the engine's
quiet_alone = _noted(QUIET, own=True)


def wait(seconds: float) -> None:
    """Do nothing for so many seconds."""
    time.sleep(seconds)


# -- output and logs -------------------------------------------------------------------------------


@quiet
def print_what_no_terminal_shows(own, rng):
    with contextlib.suppress(UnicodeError, AttributeError, ValueError, TypeError):
        print(rng.choice(["\udc80\udfff", "\0\0", "\x1b[2J\a", "größer ✓", "\r\r\r", "\u2028\x85\x1c", "a\r\nb"]))


@quiet
def print_bytes(own, rng):
    with contextlib.suppress(AttributeError, ValueError, TypeError):
        sys.stdout.buffer.write(bytes(rng.randrange(256) for _ in range(rng.randrange(2000))))
        if rng.random() < 0.5:
            sys.stdout.flush()


@quiet
def print_a_huge_line(own, rng):
    with contextlib.suppress(AttributeError, ValueError, TypeError):
        sys.stderr.write("x" * rng.randrange(300_000))


@quiet
def draw_a_bar(own, rng):
    with contextlib.suppress(AttributeError, ValueError, TypeError):
        for part in range(rng.randrange(200)):
            sys.stdout.write(f"\r{part}%")


@quiet
def log_with_fields(own, rng):
    LOG.warning("paid %d", 5, extra={"lock": threading.Lock(), "atom_name": "another", "request": object()})


@quiet
def log_what_does_not_fit(own, rng):
    LOG.warning("%d and %s", *["one"])
    LOG.error("%s", Shy())
    LOG.error(Shy())
    LOG.warning("\udc80 %s", b"\xff")


@quiet
def log_an_exception(own, rng):
    try:
        raise Nested from KeyError("\udc80")
    except Nested:
        LOG.exception("it went wrong", stack_info=True)


@quiet
def leave_a_handler_that_raises(own, rng):
    LOG.addHandler(Refusing())
    with contextlib.suppress(Exception):
        LOG.warning("refused")


@quiet
def leave_a_filter_that_raises(own, rng):
    LOG.addFilter(_refuse)
    with contextlib.suppress(Exception):
        LOG.warning("refused")


@quiet
def change_levels(own, rng):
    for name in (None, "tests.soak", "taskflowx", "taskflowx.executors.processes"):
        logging.getLogger(name).setLevel(rng.choice([logging.DEBUG, logging.INFO, logging.ERROR, 1, 100]))
    if rng.random() < 0.3:
        logging.disable(rng.choice([logging.CRITICAL, logging.NOTSET]))


class Refusing(logging.Handler):
    """A handler that raises where others print that something is wrong."""

    def emit(self, record):
        raise ConnectionResetError("the server of the logs")


def _refuse(record):
    raise ZeroDivisionError


class Shy:
    """Cannot be shown."""

    def __repr__(self):
        raise RuntimeError("nobody looks at me")


class Nested(Exception):
    """Has a text with what no terminal can show."""

    def __str__(self):
        return "\udcff\0" * 1000


# -- what is around it -----------------------------------------------------------------------------


@quiet
def change_variables(own, rng):
    os.environ["SOAK_\udc80" if rng.random() < 0.3 else "SOAK"] = "\udcff" * rng.randrange(1, 1000)
    os.environ.pop("HOME", None)
    os.environ["LANG"] = rng.choice(["C", "de_DE.UTF-8", "", "nonsense"])


@quiet
def change_folder(own, rng):
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)  # noqa: PTH106 - a path is of no use where there is no working directory


@quiet
def change_path(own, rng):
    sys.path.insert(0, rng.choice(["", "/nowhere", "\0", "\udc80"]))
    if rng.random() < 0.3:
        sys.path.append(None)


@quiet
def change_umask(own, rng):
    os.umask(rng.choice([0, 0o77, 0o777]))


@quiet
def change_locale(own, rng):
    for name in ("C", "C.UTF-8", "de_DE.UTF-8", "POSIX"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)


@quiet
def change_context(own, rng):
    _VARIABLE.set(_VARIABLE.get() + 1)
    decimal.getcontext().prec = 1


@quiet
def change_warnings(own, rng):
    warnings.simplefilter(rng.choice(["error", "ignore", "always"]))


@quiet
def change_the_collector(own, rng):
    rng.choice([gc.disable, gc.enable, gc.collect, functools.partial(gc.set_threshold, 1)])()


@quiet
def change_the_rhythm(own, rng):
    sys.setswitchinterval(rng.choice([1e-6, 1e-5, 0.005, 0.05]))


@quiet
def patch_print(own, rng):
    builtins.print = lambda *_, **__: 1 / 0


@quiet
def patch_names_of_builtins(own, rng):
    builtins._ = lambda text: 1 / 0  # as gettext does
    sys.displayhook = sys.excepthook = sys.unraisablehook = threading.excepthook = refuse_all


@quiet
def lose_streams(own, rng):
    way = rng.randrange(4)
    if way == 0:
        with contextlib.suppress(AttributeError):
            del sys.stdout
    elif way == 1:
        sys.stderr = sys.stdout = None
    elif way == 2:
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.close()
    else:
        sys.stdout = sys.stderr = Shy()


@quiet
def trace(own, rng):
    sys.settrace(_look_on)
    if rng.random() < 0.5:
        sys.setprofile(_look_on)
    threading.settrace(_look_on)
    threading.settrace(None)
    if rng.random() < 0.7:
        sys.settrace(None)
        sys.setprofile(None)


@quiet
def use_faulthandler(own, rng):
    if multiprocessing.parent_process() is None or rng.random() < 0.5:  # who looks for a hang needs it there
        faulthandler.enable(file=2)
    else:
        faulthandler.disable()
    faulthandler.dump_traceback_later(3600, file=2)
    faulthandler.cancel_dump_traceback_later()


@quiet
def replace_signal_handlers(own, rng):
    with contextlib.suppress(ValueError):  # not in this thread
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGWINCH, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, rng.choice([signal.SIG_DFL, _do_nothing]))


@quiet
def run_into_a_time_limit(own, rng):
    with contextlib.suppress(ValueError):
        kept = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.005))
            until = time.monotonic() + 1.0  # what is raised in a finalizer is lost
            while time.monotonic() < until:
                own.update_progress(rng.random())
                LOG.info("%s", "y" * rng.randrange(300))
        except Late:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, kept)


@quiet
def leave_an_alarm_that_is_harmless(own, rng):
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGALRM, _do_nothing)
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.01), 0.002)


class Late(Exception):
    """What a time limit raises."""


def ring(number, frame):
    """Raise; not where that leaves a lock of Python's locked, or its descriptors open, but a moment later."""
    if has_a_lock(frame):
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return
    raise Late


def has_a_lock(frame):
    """Tell whether a frame is called from modules of Python that may have a lock, or a descriptor, at any line."""
    while frame is not None:
        if frame.f_code.co_filename in _WITH_LOCKS:
            return True
        frame = frame.f_back
    return False


_WITH_LOCKS = frozenset((logging.__file__, threading.__file__, subprocess.__file__, asyncio.base_events.__file__))


def _do_nothing(*_):
    pass


def refuse_all(*_):
    raise RuntimeError("a hook")


def _look_on(frame, event, arg):
    return _look_on


# -- threads, programs and processes ---------------------------------------------------------------


@quiet
def leave_a_thread(own, rng):
    threading.Thread(target=wait, args=(rng.uniform(0, 0.3),), daemon=rng.random() < 0.5).start()


@quiet
def leave_a_thread_that_tells(own, rng):
    def tell():
        until = time.monotonic() + rng.uniform(0, 0.1)
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                own.update_progress(0.5)
                print("still here")
                LOG.warning("still here")

    threading.Thread(target=tell, daemon=rng.random() < 0.5).start()


@quiet
def let_a_thread_fail(own, rng):
    threading.excepthook = refuse_all if rng.random() < 0.5 else lambda *_: None
    one = threading.Thread(target=refuse_all)
    one.start()
    one.join()


@quiet
def report_from_threads(own, rng):
    ones = [threading.Thread(target=own.update_progress, args=(n / 10,)) for n in range(5)]
    for one in ones:
        one.start()
    for one in ones:
        one.join()


@quiet
def report_odd_progress(own, rng):
    for what in (threading.Lock(), Shy(), "\udc80", float("nan")):
        with contextlib.suppress(Exception):
            own.update_progress(rng.choice([-1, 2, 0.5, float("nan")]), what=what)


@quiet
def run_a_program(own, rng):
    with contextlib.suppress(OSError, ValueError):
        subprocess.run(["/bin/true"], check=False, timeout=20)


@quiet
def leave_a_program(own, rng):
    with contextlib.suppress(OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        seconds = f"{rng.uniform(0, 1):.2f}"
        subprocess.Popen(  # what it is given to write to stays open with it
            ["/bin/sh", "-c", f"sleep {seconds} & exit"], start_new_session=rng.random() < 0.5, close_fds=False
        ).wait(20)


@quiet
def fork_and_go(own, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


@quiet
def run_a_loop(own, rng):
    async def work():
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))

    one = threading.Thread(target=asyncio.run, args=(work(),))
    one.start()
    one.join()


@quiet
def run_an_engine(own, rng):
    from taskflowx import engines
    from taskflowx.patterns import linear_flow
    from tests.soak import tasks

    flow = linear_flow.Flow("inner").add(tasks.Plain("one", provides="a"), tasks.Plain("two", provides="b"))
    ran = engines.run(flow, executor=rng.choice(["serial", "threads"]))
    assert (ran["a"], ran["b"]) == ("one", "two"), ran


@quiet
def dig_deep(own, rng):
    def dig(left):
        return dig(left - 1) + 1 if left else 0

    with contextlib.suppress(RecursionError):
        dig(rng.choice([100, 500, 10**6]))

"""Tasks that do to their worker process what tasks do: at the top of a module, so that they reach it."""

import contextlib
import contextvars
import decimal
import logging
import multiprocessing
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from taskflowx import engines, task
from taskflowx.patterns import linear_flow


class Late(Exception):
    """What a time limit raises."""


def ring(*_):
    raise Late


class Takes(task.Task):
    """Closes a descriptor that is not its own, and has a socket with its number from then on; returns its number."""

    def __init__(self, name, number, **kwargs):
        super().__init__(name, **kwargs)
        self.number = number

    def execute(self):
        with contextlib.suppress(OSError):
            os.close(self.number)
            one, other = (end.detach() for end in socket.socketpair())
            if self.number not in (one, other):
                os.dup2(one, self.number)
        return self.number


class ClosesAll(task.Task):
    """Closes what has a low number, and some of the standard descriptors."""

    def __init__(self, name, standard, **kwargs):
        super().__init__(name, **kwargs)
        self.standard = standard

    def execute(self):
        os.closerange(3, 512)
        for number in self.standard:
            os.close(number)


class RunsInProcesses(task.Task):
    """Has an engine of its own in its worker, with a worker of that."""

    def execute(self):
        from tests.contract.executor import process_tasks

        flow = linear_flow.Flow("inner").add(process_tasks.Gives("a", "text_of_bytes", 3, provides="a"))
        return engines.run(flow, executor="processes", max_workers=1)["a"]


class Alarms(task.Task):
    """Puts so many time limits around what it does, and returns how many have not reached it."""

    def __init__(self, name, count, seed, **kwargs):
        super().__init__(name, **kwargs)
        self.count = count
        self.seed = seed

    def execute(self):
        rng, lost = random.Random(self.seed), 0
        kept = signal.signal(signal.SIGALRM, ring)
        for _ in range(self.count):
            with contextlib.suppress(Late):  # some versions of Python raise at a jump that the `try` does not cover
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.002))
                    until = time.monotonic() + 1.0
                    while time.monotonic() < until:
                        self.say(rng)
                    lost += 1
                except Late:
                    pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
        return lost

    def say(self, rng):
        what = rng.randrange(4)
        if what == 0:
            print("x" * rng.randrange(300))
        elif what == 1:
            logging.getLogger("tests.hostile").info("%s", "y" * rng.randrange(300))
        elif what == 2:
            self.update_progress(rng.random())
        else:
            sys.stderr.write("\r" + "z" * rng.randrange(20_000))


class LeavesAnAlarm(task.Task):
    """Returns while a timer runs that will go off in its worker between this task and the next one, or in that."""

    def __init__(self, name, seconds, **kwargs):
        super().__init__(name, **kwargs)
        self.seconds = seconds

    def execute(self):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self.name


class Unreadable:
    """Can be pickled, and not read back where the engine is."""

    def __reduce__(self):
        return refuse_elsewhere, (os.getpid(),)


def refuse_elsewhere(pid):
    if os.getpid() != pid:
        raise ValueError("not here")
    return Unreadable()


class Stop(BaseException):
    """Cannot be made again of its arguments."""

    def __init__(self, number, reason):
        super().__init__(f"{reason} {number}")


class Shy(BaseException):
    """Cannot be pickled, and not be shown."""

    def __reduce__(self):
        raise OSError("not me")

    def __str__(self):
        raise RuntimeError("nobody looks at me")

    __repr__ = __str__


class Leaver:
    """Raises what is no `Exception` when it is read elsewhere, or else when it is pickled."""

    def __init__(self, *, when_read):
        self.when_read = when_read

    def __reduce__(self):
        if self.when_read:
            return leave_elsewhere, (os.getpid(),)
        raise SystemExit("not me")


def leave_elsewhere(pid):
    if os.getpid() != pid:
        raise SystemExit("not here")


#: the engine carries it to workers
CARRIED = contextvars.ContextVar("CARRIED")


class Does(task.Task):
    """Calls a function of this module."""

    TASK_EVENTS = frozenset((*task.Task.TASK_EVENTS, "told"))

    def __init__(self, name, function, *args, **kwargs):
        super().__init__(name, **kwargs)
        self.function = function
        self.args = args

    def execute(self):
        return globals()[self.function](self, *self.args)

    def revert(self, **kwargs):
        pass


def progress_that_cannot_be_read(own):
    own.update_progress(0.5, what=Unreadable())
    return "done"


def result_that_cannot_be_read(own):
    return Unreadable()


def event_that_cannot_be_read(own):
    own.notifier.notify("told", {"what": Unreadable()})
    return "done"


def exit_that_cannot_be_made_again(own):
    raise Stop(2, "enough")


def exit_that_cannot_be_shown(own):
    raise Shy


def result_that_leaves_when_it_is_read(own):
    return Leaver(when_read=True)


def result_that_leaves_when_it_is_pickled(own):
    return Leaver(when_read=False)


def progress_that_cannot_be_pickled(own):
    try:
        own.update_progress(0.5, what=threading.Lock())
    except TypeError:
        own.update_progress(0.6)
    return "done"


def event_that_cannot_be_pickled(own):
    own.notifier.notify("told", {"what": threading.Lock()})
    own.notifier.notify("told", {"what": multiprocessing.Lock()})
    return "done"


#: threads that tasks leave behind, and what these wait for
LEFT, NEXT = [], threading.Event()


def leave_a_thread_that_tells(own):
    def work():
        NEXT.wait()
        own.notifier.notify("told", {"by": own.name})
        own.update_progress(0.5, by=own.name)

    LEFT.append(threading.Thread(target=work))
    LEFT[-1].start()


def await_the_thread_that_tells(own):
    NEXT.set()
    LEFT.pop().join()
    own.notifier.notify("told", {"by": own.name})
    return "done"


def log(own, *args, **kwargs):
    logging.getLogger("tests.hostile").warning(*args, **kwargs)


def log_extra(own):
    logging.getLogger("tests.hostile").warning("paid %d", 5, extra={"request": "r-17", "lock": threading.Lock()})


def log_odd_arguments(own):
    log(own, "the lock is %s", threading.Lock())
    log(own, "the lock is %s", multiprocessing.Lock())
    log(own, "%(what)s cannot be read", {"what": Unreadable()})
    log(own, Unreadable())


def log_odd_extra(own):
    extra = {"lock": multiprocessing.Lock(), "unread": Unreadable(), "sum": decimal.Decimal("1.5"), "ids": [[1], [2]]}
    log(own, "paid %(sum)s", {"sum": 5}, extra=extra)


def log_what_has_no_text(own):
    log(own, "no place for a lock", threading.Lock())
    return "done"


class Rings:
    """A signal handler raises in the midst of what is done with it for the first time."""

    def __init__(self):
        self.rung = False

    def ring(self):
        if not self.rung:
            self.rung = True
            signal.raise_signal(signal.SIGALRM)

    def __str__(self):
        self.ring()
        return "told"

    def __reduce__(self):
        self.ring()
        return Rings, ()


def alarm_in_a_message(own):
    kept = signal.signal(signal.SIGALRM, ring)
    reached = []
    for send in (
        lambda: log(own, "see %s", Rings()),
        lambda: log(own, "see", extra={"what": Rings()}),
        lambda: own.notifier.notify("told", {"what": Rings()}),
        lambda: own.update_progress(0.5, what=Rings()),
    ):
        try:
            send()
        except Late:
            reached.append("late")
    signal.signal(signal.SIGALRM, kept)
    return reached


def print_umlauts(own):
    print("größer")
    return "done"


def fork_and_return(own):
    return os.fork()


def fork_and_print(own):
    child = os.fork()
    if not child:
        print("in the child")
        own.update_progress(0.5)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def leave_a_thread(own):
    threading.Thread(target=threading.Event().wait).start()
    return "done"


def leave_a_thread_that_prints(own):
    def work():
        while True:
            print("still here " * 1000)

    threading.Thread(target=work).start()
    return "done"


def die_with_a_grandchild(own, seconds):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(seconds,)).start()  # noqa: TID251 - it outlives its parent
    os.kill(os.getpid(), signal.SIGKILL)


def surroundings(own):
    return {
        "variable": os.environ.get("HOSTILE"),
        "folder": str(pathlib.Path.cwd()),
        "path": sys.path[0],
        "level": logging.getLogger("tests.hostile.level").level,
    }


def change_surroundings(own):
    os.environ["HOSTILE"] = os.environ["PATH"] = "left"
    del os.environ["INITIALISED"]
    os.chdir("/")
    sys.path.insert(0, "/left")
    sys.path.remove("/initializer")
    logging.getLogger("tests.hostile.level").setLevel(logging.ERROR)
    CARRIED.get().append("left")


def all_surroundings(own):
    return surroundings(own) | {
        "initialised": os.environ.get("INITIALISED"),
        "commands": os.environ["PATH"],
        "found": [one for one in sys.path if one in ("/left", "/initializer")],
        "carried": CARRIED.get(),
    }


def initialise():
    os.environ["INITIALISED"] = "yes"
    sys.path.insert(0, "/initializer")


def stream_of(own):
    sys.stdout.reconfigure(write_through=True)
    sys.stdout.reconfigure(write_through=False)
    sys.stdout.buffer.write(b"bytes\n")
    return sys.stdout.errors, sys.stdout.mode, sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno()


def print_in_pieces(own):
    for byte in "größer €\n".encode():
        sys.stdout.buffer.write(bytes([byte]))
    sys.stdout.buffer.write("€".encode()[:2])
    sys.stdout.write("\x0c one \u2028 line\r\nand\ranother\n")
    sys.stderr.buffer.write(b"no end \xf0\x9f")


def print_and_wait(own, end, path):
    sys.stdout.write(f"begun{end}")
    if not end:
        sys.stdout.flush()
    wait_for(path)


def wait_for(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)  # noqa: TID251 - another process makes it


def interruptible(own):
    """Return whether a program that is started here can be interrupted."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

"""Tasks that do to their worker process what tasks do: at the top of a module, so that they reach it."""

import contextlib
import logging
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

from taskflowx import task


class Late(Exception):
    """What a time limit raises."""


def ring(*_):
    raise Late


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


class Does(task.Task):
    """Calls a function of this module."""

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


def log_what_cannot_be_read(own):
    logging.getLogger("tests.hostile").warning("see %s", Unreadable())
    return "done"


def log(own, *args, **kwargs):
    logging.getLogger("tests.hostile").warning(*args, **kwargs)


def log_extra(own):
    logging.getLogger("tests.hostile").warning("paid %d", 5, extra={"request": "r-17", "lock": threading.Lock()})


def log_odd_arguments(own):
    logging.getLogger("tests.hostile").warning("the lock is %s", threading.Lock())


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


def stream_of(own):
    sys.stdout.reconfigure(write_through=True)
    sys.stdout.reconfigure(write_through=False)
    sys.stdout.buffer.write(b"bytes\n")
    return sys.stdout.errors, sys.stdout.mode, sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno()


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

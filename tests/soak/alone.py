"""What tasks do that only a process of their own can stand; it leaves the calls of a run as they are, too."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings

from tests.soak import deeds


@deeds.quiet_alone
def lose_standard_descriptors(own, rng):
    for number in (0, 1, 2):
        if rng.random() < 0.5:
            with contextlib.suppress(OSError):
                os.close(number)


@deeds.quiet_alone
def replace_standard_descriptors(own, rng):
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


@deeds.quiet_alone
def ignore_the_deaths_of_children(own, rng):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@deeds.quiet_alone
def ignore_signals(own, rng):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


@deeds.quiet_alone
def fork_and_return(own, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.fork()


@deeds.quiet_alone
def fork_and_linger(own, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not os.fork():
            deeds.wait(rng.uniform(0, 1))
            os._exit(0)


@deeds.quiet_alone
def start_a_process(own, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = multiprocessing.get_context("fork").Process(target=deeds.wait, args=(rng.uniform(0, 0.5),))
        one.start()
    if rng.random() < 0.5:
        one.join()


@deeds.quiet_alone
def run_an_engine_in_processes(own, rng):
    from taskflowx import engines
    from taskflowx.patterns import unordered_flow
    from tests.soak import tasks

    if rng.random() < 0.8:  # it costs a second
        return
    flow = unordered_flow.Flow("inner").add(tasks.Plain("one", provides="a"), tasks.Plain("two", provides="b"))
    ran = engines.run(flow, executor="processes", max_workers=1)
    assert (ran["a"], ran["b"]) == ("one", "two"), ran


@deeds.quiet_alone
def pause(own, rng):
    # More than once: on a busy machine the first one may come before this process stops.
    again = f"for n in $(seq 25); do sleep 0.2; kill -CONT {os.getpid()} || exit; done"
    one = subprocess.Popen(["/bin/sh", "-c", again], start_new_session=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    one.kill()
    one.wait()


@deeds.quiet_alone
def lead_a_session(own, rng):
    with contextlib.suppress(OSError):
        os.setsid()


@deeds.quiet_alone
def refuse_to_end(own, rng):
    import atexit

    atexit.register(deeds.refuse_all)
    atexit.register(deeds.wait, 0.1)


@deeds.quiet_alone
def leave_a_handler_at_the_root(own, rng):
    logging.getLogger().addHandler(deeds.Refusing())


@deeds.quiet_alone
def lose_all_handlers(own, rng):
    logging.getLogger().handlers.clear()
    logging.basicConfig(force=True, stream=sys.stderr)

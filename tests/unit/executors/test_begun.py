"""A call that a worker thread has taken is never overlooked by who stops what has begun."""

import threading

from taskflowx import states
from taskflowx.executors import base, threads
from tests.support import flows


def test_a_call_that_a_worker_has_just_taken_has_begun():
    taken, goes_on, ends = threading.Event(), threading.Event(), threading.Event()
    call = base.Call(0, flows.Calls("a", ends.wait), states.EXECUTE, {})
    executor = threads.ThreadsExecutor(1)
    mailbox = executor.make_queue()

    def stop_between_two_lines(frame, event, _):
        if frame.f_code.co_name != "_work":
            return None
        if event == "line" and frame.f_locals.get("call") is call and not taken.is_set():
            taken.set()
            goes_on.wait()
        return stop_between_two_lines

    kept = threading.gettrace()
    threading.settrace(stop_between_two_lines)
    try:
        executor.start(mailbox.put)
        executor.submit([call])
        taken.wait()
        threading.Timer(0.002, goes_on.set).start()
        begun = executor.under_way()
    finally:
        threading.settrace(kept)
        goes_on.set()
        ends.set()
        executor.stop()
    assert begun == [call]

"""Transactions: the turn that they take at a database is given back whatever interrupts them."""

from __future__ import annotations

import contextlib
import sys
import time

from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql_transactions


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the n-th line of some functions."""

    def __init__(self, names, at):
        self.names, self.left, self.raised = names, at, False

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if code.co_filename != sql_transactions.__file__ or code.co_name not in self.names:
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                self.raised = True
                raise KeyboardInterrupt
        return self


def test_a_transaction_that_is_in_a_hurry_leaves_no_turn_behind_wherever_it_is_interrupted(tmp_path):
    with contextlib.closing(backends.fetch({"connection": f"sqlite:///{tmp_path}/runs.db"})) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            connection.upgrade()
        detail, book = models.FlowDetail("flow", "1"), models.LogBook("book")
        book.add(detail)
        with contextlib.closing(backend.get_connection()) as connection:
            connection.save_logbook(book)
        at, interrupted = 0, True
        while interrupted:
            at += 1
            interrupt, kept = Interrupt(("_once", "_in_turn"), at), sys.gettrace()
            with contextlib.closing(backend.get_connection()) as connection:
                connection.deadline = time.monotonic() + 0.5
                sys.settrace(interrupt)
                try:
                    with contextlib.suppress(KeyboardInterrupt):
                        connection.save_changes(detail, [], None)
                finally:
                    sys.settrace(kept)
            interrupted = interrupt.raised
            with contextlib.closing(backend.get_connection()) as connection:
                connection.deadline = time.monotonic() + 5
                stored = connection.get_flow_details("1")  # and its version, where nobody was told of it
                connection.save_changes(stored, [], None)
            detail = stored
        assert at > 5

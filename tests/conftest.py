"""Settings that hold for every test.

Hypothesis measures each example against a deadline by default. On a machine that is shared with other work
that fails good code, so the deadline is off; what must be fast is counted in function calls, or measured in
benchmarks/. With CI set, Hypothesis's own profile "ci" stays in force: no deadline, always the same examples.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from tests.services import addresses

if "CI" not in os.environ:
    settings.register_profile("desk", deadline=None, print_blob=True)
    settings.load_profile("desk")

# A shell starts what runs in the background with interrupts ignored; here they come as they do in the foreground.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish():
    addresses.CLEANUP.close()

"""Executors in a program that eventlet has patched; it needs eventlet."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.skipif(importlib.util.find_spec("eventlet") is None, reason="executor='greenthreads' needs eventlet"),
]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_monkey_patched_can_use_any_executor_in_threads(when):
    code = f"""
import warnings; warnings.simplefilter("ignore")
import eventlet
if {when == "before"}: eventlet.monkey_patch()
from taskflowx import engines, task
from taskflowx.patterns import unordered_flow
if {when == "after"}: eventlet.monkey_patch()
for executor in ("serial", "threads", "greenthreads"):
    flow = unordered_flow.Flow("f").add(
        *(task.FunctorTask(lambda n=n: eventlet.sleep(0) or n, name=str(n), provides=f"r{{n}}") for n in range(3))
    )
    print(executor, sorted(engines.run(flow, engine="parallel", executor=executor).items()))
"""
    code += """
try:
    engines.load(flow, executor="processes")
except RuntimeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    *got, refused = ran.stdout.splitlines()
    assert refused.startswith("Worker processes do not work in a process that eventlet has monkey-patched")
    want = [f"{name} [('r0', 0), ('r1', 1), ('r2', 2)]" for name in ("serial", "threads", "greenthreads")]
    assert (got, ran.stderr) == (want, "")

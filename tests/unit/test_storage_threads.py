"""Any thread may ask and change a storage: nothing is lost, and no commit meets another one."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading

import pytest

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models

THREADS = 4
NAMES = 300


class Step(task.Task):
    def execute(self):
        return self.name


@pytest.fixture(autouse=True)
def often():
    """Have the threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works):
    """Call each of these in a thread of its own, all beginning at once; raise what one of them raised."""
    begin, errors = threading.Barrier(len(works)), []

    def work(call):
        begin.wait(30)
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(call,), daemon=True) for call in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads)
    for error in errors:
        raise error


def test_values_are_found_by_all_threads_that_ask_first():
    for _ in range(5):
        flow = linear_flow.Flow("flow").add(*(Step(f"t{n}", provides=f"v{n}") for n in range(NAMES)))
        engine = engines.load(flow)
        engine.run()
        together(*[functools.partial(engine.storage.fetch, "v0")] * THREADS)
        assert engine.storage.fetch_all() == {f"v{n}": f"t{n}" for n in range(NAMES)}


def test_values_that_are_injected_at_once_are_all_there():
    engine = engines.load(linear_flow.Flow("flow").add(Step("a")))
    engine.compile()
    engine.prepare()
    storage = engine.storage

    def inject(thread):
        for n in range(NAMES):
            storage.inject({f"{thread}.{n}": n}, transient=n % 2 == 0)
            storage.inject_atom_args("a", {f"{thread}.{n}": n}, transient=n % 3 == 0)
            storage.update_atom_metadata("a", {f"{thread}.{n}": n})
            storage.update_flow_metadata({f"{thread}.{n}": n})

    together(*(lambda thread=thread: inject(thread) for thread in range(THREADS)))
    expected = {f"{thread}.{n}": n for thread in range(THREADS) for n in range(NAMES)}
    assert storage.fetch_all() == expected
    assert storage.fetch_mapped_args({name: name for name in expected}, "a") == expected
    assert {key: value for key, value in storage.record.detail("a").meta.items() if key != "injected"} == expected
    assert storage.flow_meta == expected


def test_notes_of_threads_and_commits_of_the_run_do_not_meet(tmp_path):
    """Threads annotate tasks while the engine commits each step: none takes the other for another owner."""
    with backends.backend(f"sqlite:///{tmp_path / 'runs.db'}") as backend:
        flow = linear_flow.Flow("flow").add(*(Step(f"t{n}", provides=f"v{n}") for n in range(40)))
        engine = engines.load(flow, book=models.LogBook("book"), backend=backend)
        engine.compile()
        engine.prepare()

        def note(thread):
            for n in range(40):
                engine.storage.update_atom_metadata(f"t{n}", {f"by {thread}": n})
                engine.storage.set_task_progress(f"t{n}", 0.5, {"by": thread})
                engine.storage.get_atoms_states([f"t{n}"])

        together(engine.run, *(lambda thread=thread: note(thread) for thread in range(THREADS)))
        with contextlib.closing(backend.get_connection()) as connection:
            record = connection.get_flow_details(engine.storage.flow_uuid)
    assert record.state == states.SUCCESS
    for n, detail in enumerate(record):
        assert (detail.state, detail.results) == (states.SUCCESS, f"t{n}")
        assert {f"by {thread}": n for thread in range(THREADS)}.items() <= detail.meta.items()


def test_the_lock_keeps_other_threads_out():
    engine = engines.load(linear_flow.Flow("flow").add(Step("a")))
    engine.compile()
    engine.prepare()
    seen = []
    with engine.storage.lock.write_lock():
        other = threading.Thread(target=lambda: seen.append(engine.storage.get_atom_state("a")), daemon=True)
        other.start()
        other.join(0.1)
        assert seen == []
    other.join(30)
    assert seen == [states.PENDING]

"""Crash tests: kill a run at every step of its record, resume it in a new process, and check that nothing is lost.

    from taskflowx.testing import crash

    def make_flow(folder):
        return linear_flow.Flow("transfer").add(Withdraw("withdraw"), Deposit("deposit"))

    def test_the_transfer_survives_any_death(tmp_path):
        report = crash.check(make_flow, tmp_path)
        assert report.tried > 20
        print(report)

The first run is not killed; its end is the expected result. The next run starts in a folder of its own, and is killed
with SIGKILL at the first of the places that `taskflowx` passes (before, in and after each commit, before and after
calls are dispatched, when they have ended), or that the flow itself passes with `point`; another process resumes it
from the record. Then the same with a kill at the second place, and so on, until the run ends before it is killed. In
some of the runs the resuming process is killed as well.

Each process is forked from this one, so it costs milliseconds, and the check should be called before threads are
started. Needs a system with `fork` (Linux, macOS).

The idea is fault injection at every point of a deterministic run, as in SQLite's crash tests.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from taskflowx import engines, exceptions, states
from taskflowx._util import failpoints
from taskflowx.persistence import backends, models
from taskflowx.testing import Recorder

if TYPE_CHECKING:
    from taskflowx.flow import Flow

#: seconds after which a process counts as stuck
LIMIT = 60
_MOST_DEATHS = 4
_ENDED = "ended.json"
#: the file in the folder of a run that lists, for `verify`, the names of the atoms that stand at its end
STANDING = "standing.json"


def point(name: str) -> None:
    """Mark a place in the code of a task where the process can be killed, such as between two effects."""
    if failpoints.on:
        failpoints.hit(name)


class Violation(AssertionError):
    """A run that was killed has not come to the expected end."""


@dataclass
class Report:
    """The number of runs that were killed, all with the expected end, and their deaths, by the name of the place."""

    tried: int = 0
    deaths: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Add the numbers of another report."""
        self.tried += other.tried
        self.deaths += other.deaths

    def __str__(self) -> str:
        places = ", ".join(f"{name} {count}" for name, count in sorted(self.deaths.items()))
        return f"{self.tried} runs killed, all held; deaths: {places}"


def check(
    make_flow: Callable[[Path], Flow],
    folder: Path | str,
    *,
    verify: Callable[[Path], None] | None = None,
    store: Mapping[str, Any] | None = None,
    connection: str | Callable[[Path], str] | None = None,
    same_results: bool = True,
    sample: int | None = None,
    seed: int = 0,
    answer: Callable[[Any, Path], None] | None = None,
    **options: Any,
) -> Report:
    """Kill the run of a flow at every place in turn, and check that each comes to its end; returns a report.

    Each must end in the state of the run that was not killed, with the same atoms standing and the same results; no
    atom may be executed again after its success is recorded, unless it was reverted or its retry started a new attempt.

    :param make_flow: is called with a folder that the processes of one run share with no other run
    :param folder: the parent of these folders
    :param verify: is called with such a folder at the end of a run, with the names of the standing atoms in its file
        `STANDING`; raises for a wrong state
    :param store: values for the arguments of atoms, by name
    :param connection: the store of the record, or a function that returns it for the folder of a run; SQLite by default
    :param same_results: whether a task returns the same each time
    :param sample: how many places are tried; by default all
    :param seed: decides which, and which runs are killed more than once
    :param answer: is called with the engine and the folder when the outcomes of calls are asked for
        (`engine.unknown()` names them), and resolves all of them; the run then goes on
    :param options: for `taskflowx.engines.load`
    :raises Violation: names the places of the kills, and the difference
    """
    driver = _Driver(make_flow, Path(folder), verify, dict(store or {}), connection, same_results, options, answer)
    expected = driver.run([])
    if expected is None:
        raise Violation("the run that was left alone has not ended")
    rng = random.Random(seed)
    places = list(range(1, expected["hits"] + 1))
    if sample is not None and sample < len(places):
        places = sorted(rng.sample(places, sample))
    report = Report()
    for place in places:
        deaths = [place]
        while len(deaths) < _MOST_DEATHS and rng.random() < 1 / 3:
            deaths.append(rng.randint(1, max(2, expected["hits"] // 2)))
        driver.run_killed(deaths, expected, report)
    while sample is None:  # with threads the run may pass more places than the first time
        place += 1
        if not driver.run_killed([place], expected, report):
            break
    return report


@dataclass
class _Driver:
    make_flow: Callable[[Path], Flow]
    folder: Path
    verify: Callable[[Path], None] | None
    store: dict[str, Any]
    connection: str | Callable[[Path], str] | None
    same_results: bool
    options: dict[str, Any]
    answer: Callable[[Any, Path], None] | None = None
    count: int = 0

    def run_killed(self, deaths: list[int], expected: dict[str, Any], report: Report) -> bool:
        """Run the flow through some kills and check its end; returns whether any of them took place."""
        ended = self.run(deaths)
        if ended is None:
            raise Violation(f"killed at {deaths}: the run does not come to its end")
        wrong = list(ended["wrong"])
        wrong += [
            f"{what}: {ended[what]} where {expected[what]} was expected"
            for what in ("state", "standing" if self.same_results else "names")
            if ended[what] != expected[what]
        ]
        if wrong:
            raise Violation("\n".join([f"killed at {ended['deaths']} (place numbers {deaths}):", *wrong]))
        if ended["deaths"]:
            report.add(Report(1, Counter(ended["deaths"])))
        return bool(ended["deaths"])

    def run(self, deaths: list[int]) -> dict[str, Any] | None:
        """Run the flow in one process after another until one ends; returns the findings of that one."""
        self.count += 1
        folder = self.folder / f"run-{self.count}"
        self._prepare(folder)
        run = str(uuid.uuid4())
        for at in [*deaths, 0]:
            self._fork(functools.partial(self._live, folder, run, at))
            if (folder / _ENDED).exists():
                break
        if not (folder / _ENDED).exists():
            return None
        ended: dict[str, Any] = json.loads((folder / _ENDED).read_text(encoding="utf-8"))
        died = folder / "deaths"
        ended["deaths"] = died.read_text(encoding="utf-8").split("\n")[:-1] if died.exists() else []
        if not ended["wrong"]:
            shutil.rmtree(folder)  # after an error the folder stays for inspection
        return ended

    def _address(self, folder: Path) -> str:
        if self.connection is None:
            return f"sqlite:///{folder / 'runs.db'}"
        return self.connection if isinstance(self.connection, str) else self.connection(folder)

    def _prepare(self, folder: Path) -> None:
        """Make the folder of a run, with an upgraded store if that is inside."""
        template = self.folder / "template"
        if not template.exists():
            template.mkdir(parents=True)
            backends.fetch(self._address(template)).close()  # imports the modules of the store once, in this process
            self._fork(lambda: self._upgrade(self._address(template)))
        shutil.copytree(template, folder)

    @staticmethod
    def _upgrade(address: str) -> None:
        with backends.backend(address):
            pass

    def _fork(self, work: Callable[[], None]) -> None:
        """Call a function in a process of its own, with its child processes, and wait for its end.

        :raises Violation: when it neither ends by itself nor is killed
        """
        pid = os.fork()
        if not pid:
            _in_child(work)
        timer = threading.Timer(LIMIT, _kill_group, [pid])
        timer.start()
        try:
            _, status = os.waitpid(pid, 0)
        finally:
            timer.cancel()
            timer.join()
            _kill_group(pid)  # its child processes die with it, as with their machine
        if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
            raise Violation(f"a process ended with {os.waitstatus_to_exitcode(status)}, its output is above")

    def _live(self, folder: Path, run: str, die_at: int) -> None:
        """Run or resume the flow in this process.

        :param run: the uuid of its record
        :param die_at: the number of the place at which the process kills itself, 0 for none
        """
        hits = _Hits(folder, die_at)
        failpoints.listen(hits)
        with contextlib.closing(backends.fetch(self._address(folder))) as backend:
            detail = _record(backend, run)
            done = {each.name for each in detail if each.state == states.SUCCESS}
            engine = engines.load(
                self.make_flow(folder), self.store or None, flow_detail=detail, backend=backend, **self.options
            )
            with Recorder(engine) as seen, contextlib.suppress(Exception):
                if detail.state != states.SUCCESS:  # otherwise nothing is left to do
                    engine.run()
                    while self.answer is not None and engine.unknown():
                        self.answer(engine, folder)
                        engine.run()
            failpoints.listen(None)
            state = engine.storage.get_flow_state()
            wrong = _run_again(done, seen)
            if state not in (states.SUCCESS, states.REVERTED, states.FAILURE):
                wrong.append(f"the run is left {state}")
            wrong += _differences(_record(backend, run), engine.storage)
        stand = [each for each in detail if each.state == states.SUCCESS]
        (folder / STANDING).write_text(json.dumps(sorted(each.name for each in stand)), encoding="utf-8")
        if self.verify is not None:
            try:
                self.verify(folder)
            except Exception:  # noqa: BLE001 - whatever a check raises
                wrong.append(traceback.format_exc())
        found = {
            "state": state,
            "names": sorted(each.name for each in stand),
            "standing": {each.name: each.last_results for each in stand},
            "hits": hits.count,
            "wrong": wrong,
        }
        unfinished = folder / "ending.json"
        unfinished.write_text(json.dumps(found, sort_keys=True), encoding="utf-8")
        unfinished.replace(folder / _ENDED)


@dataclass
class _Hits:
    """Counts the places that are passed, in all threads, and kills the process at one of them."""

    _folder: Path
    _die_at: int
    count: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def __call__(self, name: str) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._die_at:
                with (self._folder / "deaths").open("a", encoding="utf-8") as file:
                    file.write(f"{name}\n")
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def _in_child(work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - no exception may reach the code of the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _record(backend: Any, run: str) -> models.FlowDetail:
    """Return the stored record of a run; a new one is made if there is none."""
    with contextlib.closing(backend.get_connection()) as connection:
        try:
            return connection.get_flow_details(run)  # type: ignore[no-any-return]
        except exceptions.NotFound:
            detail = models.FlowDetail("run", run)
            book = models.LogBook("runs", f"book-{run}")
            book.add(detail)
            connection.save_logbook(book)
            return detail


def _run_again(done: set[str], seen: Recorder) -> list[str]:
    """Describe the atoms that were executed again although their success was recorded."""
    wrong = []
    for one in seen.transitions:
        if one.state in (states.PENDING, states.RETRYING):
            done.discard(one.name)
        elif one.state == states.RUNNING and one.kind != "flow" and one.name in done:
            wrong.append(f"{one.name} was run again after its success was on record")
    return wrong


def _differences(stored: models.FlowDetail, storage: Any) -> list[str]:
    """Describe the differences between the stored record at the end and that of the engine."""
    wrong = []
    if stored.state != storage.get_flow_state():
        wrong.append(f"the flow is stored as {stored.state}, it is {storage.get_flow_state()}")
    now = {each.name: storage.get_atom_state(each.name) for each in stored if each.name != storage.injector_name}
    return wrong + [
        f"{each.name} is stored as {each.state}, it is {now[each.name]}"
        for each in stored
        if each.name in now and each.state != now[each.name]
    ]

"""Runs a spec on the engine, watched at every step.

`Scripted` holds the calls that it is given, and `run_iter` lets the driver have some of them made, in a random order,
each time that the scheduler is about to wait. `Rules` listens to the
transitions of the atoms and writes down whatever must not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import engines, states, task, testing
from taskflowx.engines.walk import CLEAR, Walk
from tests.model import build, specs

if TYPE_CHECKING:
    import random

    from taskflowx.executors import base
    from taskflowx.persistence import models

IDLE = frozenset((states.PENDING, states.REVERTED, states.IGNORE))
INTERRUPTED = {
    states.RUNNING: (states.RUNNING, states.REVERTING),
    states.REVERTING: (states.REVERTING,),
    states.RETRYING: (states.RETRYING,),
}


#: what `run_iter` yields before the end
_STEPS = (states.RESUMING, states.SCHEDULING, states.WAITING, states.ANALYZING)


class Scripted(testing.ScriptedExecutor):
    """Checks what it is given, and may say of calls that they have begun when they are recalled."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, hold=True)
        self.wrong: list[str] = []

    def submit(self, calls):
        if not calls:
            self.wrong.append("submit of nothing")
        ranks = [-c.atom.priority for c in calls if c.verb == states.EXECUTE and isinstance(c.atom, task.Task)]
        if ranks != sorted(ranks):
            self.wrong.append(f"not started by priority: {[(c.atom.name, c.atom.priority) for c in calls]}")
        super().submit(calls)

    def recall(self):
        """Give some of the calls back, as if the others had begun."""
        self._random.shuffle(self.held)
        begun = self._random.randint(0, len(self.held))
        left, self.held = self.held[begun:], self.held[:begun]
        return left


class Rules:
    """What must be true of each transition of an atom."""

    def __init__(self, shape: specs.Shape, engine: Any, details: dict[str, Any]) -> None:
        self._shape = shape
        self._engine = engine
        self._go_on = shape.spec.go_on
        self._details = details
        self.state = {name: details[name].state if name in details else states.PENDING for name in shape.atoms}
        self.interrupted = {name for name, state in self.state.items() if state in INTERRUPTED}
        self.ran = {name for name, state in self.state.items() if state not in IDLE}
        self.failed = {
            name
            for name, atom in shape.atoms.items()
            if isinstance(atom, specs.Job) and name in details and details[name].failure is not None
        }
        self.just_failed: set[str] = set()
        self.wrong: list[str] = []
        self.events = 0
        engine.atom_notifier.register("*", self._note)

    def again(self) -> None:
        """Note that the run has been interrupted, and goes on: calls that had not begun have been taken back."""
        detail = self._engine.storage.record.detail
        self.state = {name: detail(name).state for name in self.state}
        self.interrupted = {name for name, state in self.state.items() if state in INTERRUPTED}

    def _note(self, event, details):
        name = details.get("task_name") or details["retry_name"]
        if event == "update_progress":
            return
        self.events += 1
        old, atom = self.state[name], self._shape.atoms[name]
        interrupted = details.get("interrupted")
        if interrupted is not None and (name not in self.interrupted or event not in INTERRUPTED[interrupted]):
            self.wrong.append(f"{name} was not interrupted in {interrupted}, the event {event} says so")
        if (interrupted or details["old_state"]) != old:
            self.wrong.append(f"{name} is {old}, the event says {details}")
        self.interrupted.discard(name)
        check = states.check_retry_transition if isinstance(atom, specs.Again) else states.check_task_transition
        if not check(details["old_state"], event):
            self.wrong.append(f"{name} went from {details['old_state']} to {event}")
        found = getattr(self, f"_{event.lower()}", None)
        if found is not None:
            found(name, atom)
        self.state[name] = event

    def _running(self, name, atom):
        self.ran.add(name)
        self.failed.discard(name)
        for earlier in self._shape.before[name]:
            if self.state[earlier] not in (states.SUCCESS, states.IGNORE):
                self.wrong.append(f"{name} runs before {earlier}, which is {self.state[earlier]}")
        if self._engine.storage.get_atom_intention(name) != states.EXECUTE:
            self.wrong.append(f"{name} runs, though it is to be undone")
        if self._shape.spec.never_resolve:
            return
        for other in self.failed - self.just_failed:
            if name in self._shape.smallest_region(other):
                self.wrong.append(f"{name} runs, though {other} has failed and turns it round")

    def _reverting(self, name, atom):
        if name not in self.ran:
            self.wrong.append(f"{name} is reverted and has not run")
        self._check_nothing_after(name, "reverted")

    def _retrying(self, name, atom):
        self._check_nothing_after(name, "retried")
        for other in self._shape.region(name) - {name}:
            if not self._settled(self.state[other]):
                self.wrong.append(f"{name} is retried, though {other} is {self.state[other]}")

    def _check_nothing_after(self, name, what):
        for later in self._shape.after[name]:
            if not self._settled(self.state[later]):
                self.wrong.append(f"{name} is {what} before {later}, which is {self.state[later]}")

    def _settled(self, state):
        return state in IDLE or (self._go_on and state == states.REVERT_FAILURE)

    def _failure(self, name, atom):
        self.just_failed.add(name)
        self.failed.add(name)

    def _success(self, name, atom):
        if isinstance(atom, specs.Again):
            attempts = len(self._engine.storage.get_retry_history(name))
            if attempts > atom.limit:
                self.wrong.append(f"{name} is at attempt {attempts} of {atom.limit}")

    def _pending(self, name, atom):
        self.ran.discard(name)
        self.failed.discard(name)


def rebuilt_differs(scheduler: Any, held: list[base.Call]) -> list[str]:
    """Return in what a Walk that is made from the details differs from the live one."""
    shared = scheduler.shared
    live, details, plan = shared.walk, shared.details, shared.plan
    go_on = live._go_on
    stuck = {i for i, d in enumerate(details) if d is not None and d.state == states.REVERT_FAILURE}
    if stuck and go_on:
        return []  # the run has gone past them; one that is opened again comes back to them
    fresh = Walk(plan, details, go_on=go_on)
    fresh.open()
    atoms = [i for i, atom in enumerate(plan.atoms) if atom is not None]
    executing = {call.index for call in held if call.verb == states.EXECUTE}
    reverting = {call.index for call in held if call.verb == states.REVERT}
    turned = {i for i in executing if details[i].intention != states.EXECUTE}

    def covered(walk: Walk) -> set[int]:
        return {i for lo, hi in walk.rolling_back for i in range(lo, hi)}.intersection(atoms)

    pairs = {
        "unmet": (live.unmet, fresh.unmet),
        "standing": (live.standing, fresh.standing),
        "plain": (live.plain, fresh.plain),
        "rolling back": (covered(live), covered(fresh)),
        "ready": (sorted([*live.ready, *(k for k in live.held if k >= 0), *(executing - turned)]), sorted(fresh.ready)),
        "undo": (
            sorted(
                {
                    *live.undo,
                    *(~k for k in live.held if k < 0),
                    *reverting,
                    *(i for i in turned if not live.standing[i]),
                    *stuck,
                }
            ),
            sorted(fresh.undo),
        ),
        "failed": ([], fresh.failed if not scheduler._rollback.never_resolve else []),
    }
    assert CLEAR == -1
    return [
        f"{what}: live {was}, rebuilt {now} (atoms {[a and a.name for a in plan.atoms]})"
        for what, (was, now) in pairs.items()
        if was != now
    ]


class Driver:
    """Runs one spec to its end, on any executor.

    :param executor: what the engine is given; None stands for a `Scripted` one
    :param suspend: how likely it is, at each step, that the run is suspended
    :param crash: how likely it is, at each step, that the run is left as if its process had died, and goes on from
        the record
    :param trip: the transition, counted over atoms and flow, at which a listener raises KeyboardInterrupt; 0 for none
    :param watch: whether somebody listens to the atoms
    :param make_worker: see `build.make_flow`
    :param awaited: whether hooks, deciders and retries are coroutine functions, for an executor that awaits them
    """

    def __init__(
        self,
        shape: specs.Shape,
        rng: random.Random,
        executor: Any = None,
        *,
        suspend: float = 0.0,
        crash: float = 0.0,
        trip: int = 0,
        watch: bool = True,
        make_worker: Any = None,
        awaited: bool = False,
        **options: Any,
    ) -> None:
        self.shape = shape
        self.rng = rng
        self.world = build.World(go_on=shape.spec.go_on, awaited=awaited)
        self.executor = executor
        self.suspend = suspend
        self.crash = crash
        self.trip = trip
        self.watch = watch
        self.make_worker = make_worker
        self.options = options
        self.legs = 0
        self.wrong: list[str] = []
        self.error: BaseException | None = None
        self.engine: Any = None
        self._load(None)

    def _load(self, record: models.FlowDetail | None) -> None:
        spec = self.shape.spec
        scripted = self.executor is None
        self.held = self.scripted() if scripted else None
        self.engine = engines.load(
            build.make_flow(self.shape, self.world, self.make_worker),
            store=build.make_store(self.shape) if record is None else None,
            executor=self.held if scripted else self.executor,
            defer_reverts=spec.defer_reverts,
            never_resolve=spec.never_resolve,
            on_revert_failure="continue" if spec.go_on else "halt",
            **{"flow_detail": record, **self.options},
        )
        details = {} if record is None else {detail.name: detail for detail in record}
        self.rules = Rules(self.shape, self.engine, details) if self.watch else None
        if self.trip:
            self.engine.atom_notifier.register("*", self._trip_over)
            self.engine.notifier.register("*", self._trip_over)

    def scripted(self) -> Scripted:
        """Return an executor that holds its calls."""
        return Scripted(self.rng)

    def _trip_over(self, event, details):
        self.trip -= 1
        if not self.trip:
            self.world.crashed = True  # as far as can be seen from the record
            raise KeyboardInterrupt("a listener")

    def run(self) -> str:
        """Run to the end, going on whenever the run stops before; returns the state of the flow."""
        stuck = sum(atom.stuck for atom in self.shape.atoms.values())
        reruns = 0
        while True:
            self.legs += 1
            assert self.legs < 400, "the run does not come to an end"
            self.error = None
            crashed = False
            try:
                if self.held is None and not self.suspend:
                    self.engine.run()
                else:
                    crashed = self._leg()
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - looked at by the tests
                self.error = error
            self._gather()
            state = self.engine.storage.get_flow_state()
            if crashed or (isinstance(self.error, KeyboardInterrupt) and state in (states.RUNNING, states.SUSPENDING)):
                if self.rules is not None:
                    self.rules.again()
                continue
            if state == states.FAILURE and reruns < stuck and not self.shape.spec.never_resolve:
                reruns += 1
            elif state != states.SUSPENDED:
                return state
            if self.rules is not None:
                self.rules.again()

    def _gather(self) -> None:
        for part in (self.rules, self.held, self.world):
            if part is not None:
                self.wrong += part.wrong
                part.wrong.clear()

    def _leg(self) -> bool:
        """One run, which may be cut short; tells whether it was by a crash."""
        iterator = self.engine.run_iter()
        rng = self.rng
        steps = 0
        step = next(iterator)
        while True:
            steps += 1
            assert steps < 100 * (len(self.shape.atoms) + 1), "the run does not come to an end"
            if step in (states.SCHEDULING, states.WAITING):  # in between, what has been delivered is not recorded yet
                self._look()
            if self.crash and step in _STEPS and rng.random() < self.crash:
                self.world.crashed = True
                record = testing.reloaded(self.engine.storage.record.flow_detail)
                iterator.close()
                self._gather()
                self._load(record)
                self.engine.compile()
                self.engine.prepare()
                return True
            if step == states.WAITING and self.held is not None:
                self.held.release(rng.choice((1, 1, 1, 2, 3, 100)))
            stop = bool(self.suspend) and rng.random() < self.suspend
            try:
                if stop and rng.random() < 0.3:
                    self.engine.suspend()
                    stop = False
                elif stop and step in _STEPS and rng.random() < 0.3:
                    iterator.close()
                    return False
                step = iterator.send(stop)
            except StopIteration:
                return False
            if self.rules is not None and step == states.SCHEDULING:
                self.rules.just_failed.clear()

    def _look(self) -> None:
        scheduler = self.engine._scheduler
        if self.held is None or scheduler is None:
            return
        differs = rebuilt_differs(scheduler, self.held.held)
        self.wrong += [difference for difference in differs if difference not in self.wrong]
        if scheduler.shared.in_flight != len(self.held.held):
            self.wrong.append(f"{scheduler.shared.in_flight} are in flight, {len(self.held.held)} are held")

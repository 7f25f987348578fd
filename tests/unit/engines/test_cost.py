"""What an atom costs, in Python function calls: exact, the same on every machine, and not growing with the flow.

Only calls of Python functions are counted, by `sys.setprofile`; the calls of the task itself (hooks and method, three
each way) are among them.
"""

import sys

import pytest

from taskflowx import engines, retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends

SMALL, LARGE = 1_000, 10_000
WIDTH = 50


class Nothing(task.Task):
    def execute(self):
        return None

    def revert(self, result, flow_failures):
        pass


class Three(task.Task):
    def execute(self, a, b, c):
        return None

    def revert(self, result, flow_failures):
        pass


class Fails(task.Task):
    def execute(self):
        raise ValueError("on purpose")


def linear(count):
    return linear_flow.Flow("linear").add(*(Nothing(f"t{i}") for i in range(count)))


def unordered(count):
    return unordered_flow.Flow("unordered").add(*(Nothing(f"t{i}") for i in range(count)))


def layers(count):
    made = graph_flow.Flow("layers")
    for i in range(count):
        above, place = divmod(i, WIDTH)
        if above:
            inputs = [f"v{(above - 1) * WIDTH + (place + k) % WIDTH}" for k in range(3)]
            made.add(Three(f"t{i}", provides=f"v{i}", rebind=inputs))
        else:
            made.add(Nothing(f"t{i}", provides=f"v{i}"))
    return made


def nested(count):
    """Ten levels, with an unordered flow of linear flows at each."""
    per_level = count // 10
    inner = None
    for level in range(10):
        rows = [
            linear_flow.Flow("row").add(*(Nothing(f"t{level}.{start + i}") for i in range(10)))
            for start in range(0, per_level, 10)
        ]
        flow = unordered_flow.Flow("level").add(*rows)
        if inner is not None:
            flow.add(inner)
        inner = linear_flow.Flow("around", retry=retry.AlwaysRevertAll(f"r{level}")).add(flow)
    return inner


SHAPES = {"linear": linear, "unordered": unordered, "layers": layers, "nested": nested}


def calls_of(function, of=("",)):
    """Return how many Python functions are called by a function.

    :param of: words of which the name of a file has one
    """
    count = 0

    def profile(frame, event, _arg):
        nonlocal count
        if event == "call" and any(word in frame.f_code.co_filename for word in of):
            count += 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def prepared(flow, **options):
    engine = engines.load(flow, **options)
    engine.compile()
    engine.prepare()
    engine.validate()
    return engine


def calls_forward(shape, count):
    return calls_of(prepared(SHAPES[shape](count)).run) / count


def calls_backward(shape, count):
    """Return the calls of a run that fails at its end, less those of the same run that does not."""
    flow = linear_flow.Flow("all").add(SHAPES[shape](count), Fails("fails"))
    engine = prepared(flow)

    def run():
        with pytest.raises(ValueError, match="on purpose"):
            engine.run()

    return calls_of(run) / count - calls_forward(shape, count)


def calls_before(shape, count):
    flow = SHAPES[shape](count)
    return calls_of(lambda: prepared(flow)) / count


@pytest.mark.parametrize(
    ("measure", "shape", "bound"),
    [
        (calls_forward, "linear", 3.1),
        (calls_forward, "unordered", 3.1),
        (calls_forward, "layers", 4.1),  # one more passes the arguments on, which would cost more without it
        (calls_forward, "nested", 3.1),
        (calls_backward, "linear", 3.2),
        (calls_backward, "unordered", 3.2),
        (calls_backward, "layers", 3.2),
        (calls_backward, "nested", 3.4),
        (calls_before, "linear", 1.1),
        (calls_before, "unordered", 1.1),
        (calls_before, "layers", 3.1),
        (calls_before, "nested", 3.2),
    ],
)
def test_calls_an_atom_are_few_and_do_not_grow_with_the_flow(measure, shape, bound):
    small, large = measure(shape, SMALL), measure(shape, LARGE)
    assert large <= bound
    assert large <= small * 1.03  # the first of the layers, which has no inputs, weighs more in the small one


@pytest.mark.parametrize(("history", "bound"), [(False, 38), (True, 56)])
def test_calls_of_a_stored_step_are_few_and_do_not_grow_with_the_flow(history, bound, tmp_path):
    def measure(count):
        with backends.backend(f"sqlite:///{tmp_path}/{count}.db") as backend:
            return calls_of(prepared(linear(count), backend=backend, history=history).run) / count

    small, large = measure(SMALL), measure(3 * SMALL)
    assert large <= bound
    assert large <= small * 1.03


class Awaited(task.Task):
    async def execute(self):
        pass


def test_a_coroutine_costs_few_calls_besides_those_of_asyncio():
    """Its hooks and its method are three of them."""

    def measure(count):
        flow = unordered_flow.Flow("unordered").add(*(Awaited(f"t{i}") for i in range(count)))
        return calls_of(prepared(flow, executor="asyncio").run, of=("taskflowx/", "test_cost")) / count

    small, large = measure(SMALL), measure(LARGE)
    assert large <= 10.1
    assert large <= small * 1.03


class Once(task.Task):
    """Fails the first time."""

    def __init__(self, name):
        super().__init__(name)
        self.failed = False

    def execute(self):
        if not self.failed:
            self.failed = True
            raise ValueError("once")


def storm(count):
    """All atoms fail once, each under a retry of its own."""
    return unordered_flow.Flow("storm").add(
        *(linear_flow.Flow("part", retry=retry.Times(2, f"r{i}")).add(Once(f"t{i}")) for i in range(count // 2))
    )


def steps_of(function):
    """Return how many instructions of Python are executed: those of a loop in one expression are among them."""
    count = 0

    def trace(frame, event, _arg):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of instructions only if some frame asks before it begins
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_regions_that_turn_round_at_once_cost_each_its_own_atoms_and_not_those_of_all():
    small, large = (steps_of(prepared(storm(count)).run) / count for count in (100, 800))
    assert 0 < large <= small * 1.1


def test_a_failure_costs_one_sweep_of_its_region_not_one_sweep_a_failure():
    def run_with(failures):
        flow = unordered_flow.Flow("wide", retry=retry.AlwaysRevert("r"))
        flow.add(*(Fails(f"f{i}") for i in range(failures)), *(Nothing(f"t{i}") for i in range(1_000 - failures)))
        engine = prepared(flow)

        def run():
            with pytest.raises(Exception, match=r"on purpose|WrappedFailure"):
                engine.run()

        return calls_of(run)

    one, many = run_with(1), run_with(200)
    assert many - one <= 200 * 84  # what each failure costs by itself, and to say where it was, whatever the width


@pytest.mark.parametrize(("shape", "bound"), [("linear", 1.1), ("unordered", 1.1), ("layers", 3.1), ("nested", 3.2)])
def test_tasks_without_settings_cost_the_same_where_others_have_some(shape, bound):
    limited = Nothing("limited", timeout=60, retry=retry.Times(2))
    prepared(linear_flow.Flow("f").add(limited)).run()
    assert calls_before(shape, LARGE) <= bound

"""A run with an id keeps the shape of its flow, and is held against it when it is taken up with a changed flow."""

import random

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, task
from taskflowx.engines import shape
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends, models, run_records


class Step(task.Task):
    """Notes its calls; leaves the program where it is to."""

    def __init__(self, name, calls=None, leaves=False, **more):
        super().__init__(name, **more)
        self.calls = [] if calls is None else calls
        self.leaves = leaves

    def execute(self, **_):
        self.calls.append(f"+{self.name}")
        if self.leaves:
            raise SystemExit
        return self.name

    def revert(self, **_):
        self.calls.append(f"-{self.name}")


@pytest.fixture
def store():
    made = backends.fetch("memory")
    yield made
    made.close()


def begin(flow, store, run_id="r"):
    with pytest.raises(SystemExit):
        taskflowx.run(flow, run_id=run_id, backend=store)


def linear(*members, **more):
    return linear_flow.Flow("f", **more).add(*members)


def refusal(flow, store):
    with pytest.raises(exceptions.IncompatibleVersion) as caught:
        taskflowx.run(flow, run_id="r", backend=store)
    return str(caught.value)


def shape_on_record(store):
    return store.get_connection().get_flow_details(run_records.flow_uuid("r")).meta["run"]["flow"]


def test_the_record_has_what_atoms_provide_and_require_their_links_and_their_retries(store):
    flow = linear(Step("a", provides="x"), Step("b", requires=["x"], leaves=True), retry=retry.Times(2, name="r1"))
    begin(flow, store)
    assert shape_on_record(store) == {
        "atoms": ["r1", "a", "b"],
        "links": [[1], [2], []],
        "flows": [],
        "provides": {"x": [["a", None]]},
        "facts": {
            "r1": {"provides": [], "requires": []},
            "a": {"provides": ["x"], "requires": [], "retry": "r1"},
            "b": {"provides": [], "requires": ["x"], "retry": "r1"},
        },
    }


def test_links_lead_through_barriers_and_a_large_flow_is_kept_as_a_digest(store):
    def two_layers(*names):
        return linear(*(unordered_flow.Flow(f"layer {layer}").add(*map(Step, layer)) for layer in names))

    begin(linear(two_layers("abc", "xyz"), Step("end", leaves=True)), store)
    around = [flow for flow in shape_on_record(store)["flows"] if flow[0].startswith("layer")]
    assert around == [["layer abc", 0, 3], ["layer xyz", 3, 7]]
    assert "'x' follows 'a', 'b', and did 'a', 'b', 'c'" in refusal(linear(two_layers("ab", "xyz"), Step("end")), store)
    engine = engines.load(linear(*(Step(f"t{n}") for n in range(shape.LARGEST + 1))))
    engine.compile()
    kept = shape.shape_of(engine.preparation.plan)
    assert (kept["count"], sorted(kept)) == (shape.LARGEST + 1, ["count", "digest"])


def test_what_a_run_provides_is_known_after_its_flow_has_changed(store):
    begin(linear(Step("a", provides="x"), Step("b", leaves=True)), store)
    taskflowx.run(linear(Step("a", provides="x"), Step("b"), Step("c", provides="y")), run_id="r", backend=store)
    with taskflowx.runs.open(store) as runs:
        assert dict(runs.get("r").result()) == {"x": "a", "y": "c"}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (lambda: linear(Step("b"), Step("c")), "task 'a' (SUCCESS) is not in the flow any more"),
        (lambda: linear(Step("b"), Step("a"), Step("c")), "'a' follows 'b', and did nothing"),
        (lambda: linear(Step("a", provides="y"), Step("b"), Step("c")), "'a' provides 'y', and did nothing"),
        (lambda: linear(Step("a", requires=["q"]), Step("b"), Step("c")), "'a' requires 'q', and did"),
        (lambda: linear(Step("a"), Step("b"), Step("c"), retry=retry.Times(2, name="r1")), "'a' is repeated by 'r1'"),
        (lambda: linear(Step("a"), Step("new"), Step("b"), Step("c")), "'b' follows 'new', and did 'a'"),
    ],
    ids=["gone", "order", "provides", "requires", "retry", "before what has begun"],
)
def test_a_change_of_what_has_begun_is_refused_and_shown(store, changed, line):
    begin(linear(Step("a"), Step("b", leaves=True), Step("c")), store)
    flow = changed()
    assert line in refusal(flow, store)
    assert [member.calls for member in flow if isinstance(member, Step)] == [[]] * len(flow)


def test_what_has_not_begun_may_change(store):
    calls = []
    begin(linear(Step("a"), Step("b", leaves=True), Step("c"), Step("d")), store)
    flow = linear(Step("a", calls), Step("b", calls), Step("e", calls), Step("d", calls, provides="x"))
    assert taskflowx.run(flow, run_id="r", backend=store).state == "SUCCESS"
    assert calls == ["+b", "+e", "+d"]
    assert shape_on_record(store)["atoms"] == ["a", "b", "e", "d"]


def test_a_change_may_be_accepted_with_a_warning_or_without_one(store, caplog):
    begin(linear(Step("a"), Step("b", leaves=True)), store)
    with pytest.raises(SystemExit):
        taskflowx.run(linear(Step("b", leaves=True)), run_id="r", backend=store, on_mismatch="warn")
    assert "task 'a' (SUCCESS) is not in the flow any more" in caplog.text
    caplog.clear()
    taskflowx.run(linear(Step("b")), run_id="r", backend=store, on_mismatch="ignore")
    assert caplog.text == ""


def test_a_large_flow_that_has_changed_is_refused_by_its_digest(store, monkeypatch):
    monkeypatch.setattr(shape, "LARGEST", 1)
    begin(linear(Step("a"), Step("b", leaves=True)), store)
    assert "have changed" in refusal(linear(Step("a", provides="y"), Step("b")), store)


def test_a_finished_run_that_is_begun_again_may_be_of_another_flow(store):
    calls = []
    taskflowx.run(linear(Step("a")), run_id="r", backend=store)
    flow = linear(Step("b", calls))
    assert taskflowx.run(flow, run_id="r", backend=store, if_finished="again").state == "SUCCESS"
    assert calls == ["+b"]


def test_many_differences_are_shown_in_part(store):
    begin(linear(*(Step(f"t{n}") for n in range(40)), Step("end", leaves=True)), store)
    said = refusal(linear(Step("end")), store)
    assert "and 21 more" in said
    assert said.count("\n  ") == 21


# -- records of other versions ---------------------------------------------------------------------


class Two(Step):
    """The second version of a step: its result is a dict."""

    version = (2, 0)

    def migrate_record(self, record):
        self.calls.append(f"migrates {record.version} {record.state} {record.result}")
        record.result = {"name": record.result}


@pytest.mark.parametrize("place", ["memory", "sqlite"])
def test_a_task_takes_over_what_its_older_version_has_left(place, tmp_path):
    address = "memory" if place == "memory" else f"sqlite:///{tmp_path}/runs.db"
    with backends.backend(address) as store:
        begin(linear(Step("a", provides="x"), Step("b", requires=["x"], leaves=True)), store)
        calls, one = [], Two("a", provides="x")
        one.calls = calls
        with pytest.raises(SystemExit):
            taskflowx.run(linear(one, Step("b", requires=["x"], leaves=True)), run_id="r", backend=store)
        assert calls == ["migrates 1.0 SUCCESS a"]
        again = Two("a", calls, provides="x")
        assert taskflowx.run(linear(again, Step("b", requires=["x"])), run_id="r", backend=store)["x"] == {"name": "a"}
        assert calls == ["migrates 1.0 SUCCESS a"]


def test_another_major_version_that_takes_nothing_over_is_refused_with_the_way_out(store):
    class Other(Step):
        version = (2, 0)

    begin(linear(Step("a"), Step("b", leaves=True)), store)
    assert "migrate_record()" in refusal(linear(Other("a"), Step("b")), store)
    assert "'a' has version 2.0, and had 1.0" in refusal(linear(Other("a", provides="x"), Step("b")), store)
    detail = models.FlowDetail("f", "uuid")
    engines.run(linear(Step("a")), flow_detail=detail)
    with pytest.raises(exceptions.IncompatibleVersion, match=r"migrate_record\(\)"):
        engines.run(linear(Other("a")), flow_detail=detail)


def test_another_minor_version_is_accepted(store):
    class Other(Step):
        version = (1, 7)

    begin(linear(Step("a"), Step("b", leaves=True)), store)
    assert taskflowx.run(linear(Other("a"), Step("b")), run_id="r", backend=store).state == "SUCCESS"


def test_a_migration_that_fails_changes_nothing(store):
    class Wrong(Two):
        def migrate_record(self, record):
            record.result = {}
            raise LookupError("no such customer")

    begin(linear(Step("a", provides="x"), Step("b", leaves=True)), store)
    said = refusal(linear(Wrong("a", provides="x"), Step("b")), store)
    assert "Task 'a' of version 2.0 cannot take over the record of its version 1.0" in said
    assert "no such customer" in said
    assert taskflowx.run(linear(Step("a", provides="x"), Step("b")), run_id="r", backend=store)["x"] == "a"


def test_nothing_is_migrated_of_a_task_that_has_not_begun(store):
    begin(linear(Step("a", leaves=True), Step("b")), store)
    calls = []
    taskflowx.run(linear(Step("a"), Two("b", calls)), run_id="r", backend=store)
    assert calls == ["+b"]


# -- random pairs of versions ----------------------------------------------------------------------


class Shaped:
    """A random flow of a few tasks with links, and ways to change it."""

    def __init__(self, rng):
        self.rng = rng
        self.names = [f"t{n}" for n in range(rng.randint(2, 7))]
        self.links = {(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :] if rng.random() < 0.35}
        self.versions = dict.fromkeys(self.names, (1, 0))
        self.gives = {}

    def change(self):
        rng = self.rng
        for _ in range(rng.randint(1, 2)):
            one = rng.choice(self.names)
            what = rng.randrange(6)
            if what == 0 and len(self.names) > 1:
                self.names.remove(one)
                self.links = {link for link in self.links if one not in link}
            elif what == 1:
                self.names.insert(rng.randrange(len(self.names) + 1), f"n{rng.randrange(100)}")
            elif what == 2:
                self.versions[one] = rng.choice([(1, 1), (2, 0)])
            elif what == 3:
                self.gives[one] = f"of {one}"
            elif what == 4 and self.links:
                self.links.discard(rng.choice(sorted(self.links)))
            else:
                i, j = sorted(rng.sample(range(len(self.names)), 2)) if len(self.names) > 1 else (0, 0)
                if i != j:
                    self.links.add((self.names[i], self.names[j]))
        self.names = list(dict.fromkeys(self.names))

    def flow(self, calls, leaves=None, fails=None):
        made, steps = graph_flow.Flow("f"), {}
        for name in self.names:
            kind = type("Step", (Fails if name == fails else Step,), {"version": self.versions.get(name, (1, 0))})
            steps[name] = kind(name, calls, name == leaves, provides=self.gives.get(name))
        made.add(*steps.values(), resolve_existing=False)
        for a, b in sorted(self.links):
            made.link(steps[a], steps[b])
        return made


class Fails(Step):
    def execute(self, **_):
        super().execute()
        raise LookupError(self.name)


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_random_pairs_of_versions_end_right_or_are_refused_with_the_difference(first, store):
    refused = went_on = 0
    for seed in range(first, first + 100):
        rng = random.Random(seed)
        shaped, run_id = Shaped(rng), f"run {seed}"
        leaves = rng.choice(shaped.names)
        before, after = [], []
        begin(shaped.flow(before, leaves), store, run_id)
        done = {call[1:] for call in before} - {leaves}
        shaped.change()
        fails = rng.choice(shaped.names) if rng.random() < 0.3 else None
        try:
            result = taskflowx.run(shaped.flow(after, fails=fails), run_id=run_id, backend=store, raises=False)
        except exceptions.IncompatibleVersion as error:
            said = str(error)
        else:
            said = None
        if said is not None:
            of_another_version = [name for name, version in shaped.versions.items() if version == (2, 0)]
            assert any(f"'{name}'" in said for name in (*done, leaves, *of_another_version)), seed
            assert after == [], seed
            refused += 1
            continue
        went_on += 1
        runs = [call[1:] for call in after if call.startswith("+")]
        if result.state == "SUCCESS":
            assert sorted(runs) == sorted(set(shaped.names) - done), seed
            place = {name: n for n, name in enumerate(runs)}
            assert all(place.get(a, -1) < place[b] for a, b in shaped.links if b in place), seed
        else:
            assert result.state == "REVERTED", seed
            undone = [call[1:] for call in after if call.startswith("-")]
            assert sorted(undone) == sorted({*runs, *done}), seed
    assert refused > 10
    assert went_on > 10

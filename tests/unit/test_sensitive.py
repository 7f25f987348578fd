"""Sensitive values: nowhere shown, and stored through a transform or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import io
import logging
import pathlib
import tempfile
import uuid
from pathlib import Path

import attrs
import pydantic
import pytest
from hypothesis import given, settings, strategies as st

import taskflowx
from taskflowx import as_task, engines, exceptions, formatters, linear, retry, runs, states, task
from taskflowx._util import masking
from taskflowx.listeners import logging as logging_listeners, printing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.record import secrets

MARKER = "open-sesame-17"


def turned(document):
    """Return a document of which no text can be read."""
    return bytes(byte ^ 0x55 for byte in document)


TRANSFORM = turned, turned


class Odd(Exception):
    """Shows what is not among its arguments, and lets nobody change it."""

    __slots__ = ("_said",)

    def __init__(self, said):
        super().__init__()
        object.__setattr__(self, "_said", said)

    def __str__(self):
        return f"odd: {self._said}"


class Custom(Exception):
    def __init__(self, said):
        super().__init__("no argument of mine")
        self.said = said

    def __str__(self):
        return f"custom: {self.said}"


def chained(secret):
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise OSError("the cause says it") from error


def grouped(secret):
    raise ExceptionGroup("group", [ValueError(secret), Custom(secret)])


def noted(secret):
    error = ValueError("see the note")
    error.add_note(f"it was {secret}")
    raise error


def raises(make):
    def fail(secret):
        raise make(secret)

    return fail


WAYS = {
    "no failure": lambda secret: None,
    "text": raises(lambda secret: ValueError(f"wrong: {secret}!")),
    "arguments": raises(lambda secret: ValueError("wrong", {"password": [secret]}, secret.encode())),
    "key": raises(KeyError),
    "decode": lambda secret: secret.encode("utf-16").decode("utf-8") and (secret + "\udcff").encode(),
    "odd": raises(Odd),
    "custom": raises(Custom),
    "chained": chained,
    "grouped": grouped,
    "noted": noted,
}


class Step(task.Task):
    """Takes a secret, reports it, passes it on, and fails in one of the ways; its revert may fail as well."""

    def __init__(self, name, way, *, reverts, provides, sensitive):
        super().__init__(name, provides=provides, requires=["secret"], sensitive=sensitive)
        self.way, self.reverts = way, reverts

    def execute(self, secret, **_):
        self.update_progress(0.5, said=[secret], nested={secret: 1})
        WAYS[self.way](secret)
        return {"made": secret}

    def revert(self, secret, **_):
        if self.reverts:
            raise ValueError(f"cannot undo {secret}")
        return f"undone {secret}" if self.reverts is None else None


STEPS = st.lists(st.tuples(st.sampled_from(sorted(WAYS)), st.sampled_from([False, None, True])), min_size=1, max_size=4)


def everything_of(engine, run):
    """Run an engine with each listener there is; returns all that was logged, published and printed."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(1)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    seen = []
    engine.notifier.register("*", lambda *facts: seen.append(facts))
    engine.atom_notifier.register("*", lambda *facts: seen.append(facts))
    try:
        with (
            contextlib.redirect_stdout(stream),
            logging_listeners.DynamicLoggingListener(engine, level=1),
            logging_listeners.LoggingListener(engine, level=1),
            printing.PrintingListener(engine),
        ):
            try:
                run()
            except Exception as error:
                logging.getLogger("test").exception("the run")
                seen.append((repr(error), str(error)))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return stream.getvalue() + repr(seen)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    kind=st.sampled_from([linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow]),
    executor=st.sampled_from(["serial", "threads"]),
    store=st.sampled_from(["memory", "sqlite", "dir", "sqlite in memory alone"]),
    again=st.booleans(),
)
def test_a_secret_occurs_nowhere(steps, kind, executor, store, again):
    with tempfile.TemporaryDirectory() as folder:
        address = {"memory": "memory", "dir": f"dir://{folder}/runs"}.get(store, f"sqlite:///{folder}/runs.db")
        in_memory = store == "sqlite in memory alone"
        how = "memory" if in_memory else True
        with backends.backend(address, transform=None if in_memory else TRANSFORM) as backend:
            flow = kind("flow", retry.Times(2) if again else None)
            for number, (way, reverts) in enumerate(steps):
                flow.add(Step(f"s{number}", way, reverts=reverts, provides=f"made{number}", sensitive=how))
            engine = engines.load(
                flow, {"secret": MARKER}, backend=backend, executor=executor, sensitive={"secret": how}
            )
            shown = everything_of(engine, engine.run)
            shown += repr(engine) + repr(engine.storage) + repr(engine.statistics)
            failures = [*engine.storage.get_failures().values(), *engine.storage.get_revert_failures().values()]
            formatter = formatters.FailureFormatter(engine)
            for failure in failures:
                shown += failure.pformat(traceback=True) + repr(failure.to_dict()) + repr(failure) + str(failure)
                for number in range(len(steps)):
                    shown += formatter.format(failure, formatters.AtomNamed(f"s{number}"))[1]
            with contextlib.closing(backend.get_connection()) as connection:
                record = connection.get_flow_details(engine.storage.flow_uuid)
            shown += "".join(atom.pformat() for atom in record if atom.name.startswith("s"))
            assert MARKER not in shown, shown[max(0, shown.index(MARKER) - 300) : shown.index(MARKER) + 100]
        files = {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        assert [path for path, content in files.items() if MARKER.encode() in content] == []


def test_tasks_get_the_value_itself_and_callers_too():
    got = []

    @as_task(provides="token", sensitive=True)
    def login(password):
        return f"token of {password}"

    @as_task
    def use(token):
        got.append(token)

    found = taskflowx.run(linear("f", login, use), {"password": MARKER}, sensitive={"password"})
    assert got == [f"token of {MARKER}"]
    assert found["token"] == got[0]


def test_a_part_of_a_result_is_masked_alone():
    @as_task(provides=("user", "token"), sensitive={"token"})
    def login():
        return "ann", MARKER

    engine = engines.load(linear("f", login))
    seen = []
    engine.atom_notifier.register(states.SUCCESS, lambda _, facts: seen.append(facts["result"]))
    engine.run()
    assert seen == [("ann", "***")]
    assert engine.storage.fetch("token") == MARKER


def test_the_failure_is_of_the_same_class_where_that_can_be():
    @as_task
    def check(password):
        raise PermissionError(13, f"{password} is wrong")

    with pytest.raises(PermissionError, match=r"\*\*\* is wrong") as caught:
        taskflowx.run(check, {"password": MARKER}, sensitive={"password"})
    assert caught.value.args[0] == 13


def test_a_store_without_a_transform_is_refused(tmp_path):
    @as_task(provides="token", sensitive=True)
    def login():
        raise AssertionError

    for address in (f"sqlite:///{tmp_path}/runs.db", f"dir://{tmp_path}/runs"):
        with pytest.raises(exceptions.Unstorable, match=r"'password': it is sensitive.*\n.*transform="):
            taskflowx.run(linear("f", login), {"password": 1}, backend=address, sensitive={"password"})
        with pytest.raises(exceptions.Unstorable, match="'token': it is sensitive"):
            taskflowx.run(linear("f", login), backend=address)


def test_a_value_in_memory_alone_is_asked_for_after_a_crash(tmp_path):
    """The record says that it is not there; who goes on gives it, or is told that nobody has it."""
    address = f"sqlite:///{tmp_path}/runs.db"

    class Login(task.Task):
        def execute(self):
            engine.suspend()
            return MARKER

    @as_task(provides="length")
    def use(token):
        return len(token)

    def make():
        return linear("f", Login("login", provides="token", sensitive="memory"), use)

    with backends.backend(address) as backend:
        engine = engines.load(make(), backend=backend)
        engine.run()
        uuid = engine.storage.flow_uuid
        assert engine.storage.fetch("token") == MARKER
        read = backend.get_connection().get_flow_details(uuid)
        engine = engines.load(make(), flow_detail=read, backend=backend)
        engine.compile()
        engine.prepare()
        with pytest.raises(exceptions.NotFound) as asked:
            engine.storage.get("login")
        with pytest.raises(exceptions.NotFound, match="token") as caught:
            engine.run()
        for error in (caught.value, asked.value):
            assert "sensitive, and was kept in memory only" in error.pformat()
            assert "give its values again" in error.pformat()
            assert "keep_results" not in error.pformat()
    with backends.backend(f"sqlite:///{tmp_path}/again.db") as backend:
        engine = engines.load(make(), backend=backend)
        engine.run()
        read = backend.get_connection().get_flow_details(engine.storage.flow_uuid)
        again = engines.load(
            make(), {"token": MARKER}, flow_detail=read, backend=backend, sensitive={"token": "memory"}
        )
        again.run()
        assert again.storage.fetch("length") == len(MARKER)


def test_a_value_in_memory_alone_need_not_be_storable(tmp_path):
    @as_task(provides="lock", sensitive="memory")
    def make():
        return object()

    @as_task
    def use(lock):
        assert type(lock) is object

    taskflowx.run(linear("f", make, use), backend=f"sqlite:///{tmp_path}/runs.db")


def greet():
    @as_task(provides="greeting")
    def hello(password):
        return len(password)

    return linear("f", hello)


def test_a_run_with_an_id_is_refused_by_a_store_without_a_transform(tmp_path):
    address = f"sqlite:///{tmp_path}/runs.db"
    with pytest.raises(exceptions.Unstorable, match="'password': it is sensitive"):
        taskflowx.run(greet(), {"password": MARKER}, backend=address, run_id="one", sensitive={"password"})
    assert not any(MARKER.encode() in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("how", [True, "memory"])
def test_a_run_with_an_id_is_taken_up_and_its_differences_show_no_secret(tmp_path, how):
    options = {"run_id": "one", "sensitive": {"password": how}}
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", transform=TRANSFORM) as backend:
        for _ in range(2):
            result = taskflowx.run(greet(), {"password": MARKER}, backend=backend, **options)
            assert result["greeting"] == len(MARKER)
        if how == "memory":
            return
        with pytest.raises(exceptions.RunMismatch) as caught:
            taskflowx.run(greet(), {"password": "another-secret"}, backend=backend, **options)
    assert "password: *** on record, *** given" in str(caught.value)
    assert MARKER not in str(caught.value)
    assert "another-secret" not in str(caught.value)


@pytest.mark.parametrize("how", [True, "memory"])
def test_who_resumes_a_run_needs_not_say_what_is_sensitive(tmp_path, how):
    class Login(task.Task):
        def execute(self, password):
            engine.suspend()
            return password[::-1]

    @as_task
    def use(password, token):
        raise ValueError(f"neither {password} nor {token} is right")

    flow = linear("f", Login("login", provides="token"), use)
    transform = None if how == "memory" else TRANSFORM
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", transform=transform) as backend:
        given = {"password": MARKER}
        engine = engines.load(flow, given, backend=backend, sensitive=dict.fromkeys(("password", "token"), how))
        engine.run()
        read = backend.get_connection().get_flow_details(engine.storage.flow_uuid)
        again = {**given, "token": MARKER[::-1]} if how == "memory" else None
        resumed = engines.load(flow, again, backend=backend, flow_detail=read)
        with pytest.raises(ValueError, match=r"neither \*\*\* nor \*\*\* is right"):
            resumed.run()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [text for text in (MARKER, MARKER[::-1]) if text.encode() in stored]


def test_a_fork_hides_what_its_origin_hid(tmp_path):
    @as_task(provides="token")
    def login(password):
        return password[::-1]

    @as_task
    def use(token):
        raise ValueError(f"{token} is not right")

    options = {"run_id": "one", "sensitive": {"password", "token"}, "raises": False}
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", transform=TRANSFORM) as backend:
        taskflowx.run(linear("f", login, use), {"password": MARKER}, backend=backend, **options)
        with runs.open(backend) as kept:
            kept.fork("one", from_task="login", run_id="two")
        result = taskflowx.run(linear("f", login, use), backend=backend, run_id="two", raises=False)
    assert "*** is not right" in str(result.failures)
    assert MARKER[::-1] not in str(result.failures)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_fork_stores_no_value_that_is_for_memory_alone(tmp_path, replaced):
    @as_task(provides="size")
    def measure():
        return 1

    @as_task
    def use(password, size):
        raise ValueError(f"{password} is not right")

    flow, other = linear("f", measure, use), MARKER[::-1]
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        options = {"backend": backend, "raises": False}
        taskflowx.run(flow, {"password": MARKER}, run_id="one", sensitive={"password": "memory"}, **options)
        with runs.open(backend) as kept:
            if replaced:
                with pytest.raises(exceptions.Unstorable, match=r"\['password'\]: they are to be kept in memory alone"):
                    kept.fork("one", from_task="use", store={"password": other})
            kept.fork("one", from_task="use", run_id="two")
        result = taskflowx.run(flow, {"password": other}, run_id="two", **options)
        assert str(result.failures["use"]).endswith("*** is not right")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [text for text in (MARKER, other) if text.encode() in stored]


def test_a_fork_stores_no_sensitive_value_openly(tmp_path):
    address = f"sqlite:///{tmp_path}/runs.db"
    with backends.backend(address, transform=TRANSFORM) as backend:
        taskflowx.run(greet(), {"password": MARKER}, backend=backend, run_id="one", sensitive={"password"})
        with runs.open(backend) as kept:
            kept.fork("one", store={"password": MARKER[::-1]}, run_id="two")
            assert kept.get("two").store == {"password": MARKER[::-1]}
    with runs.open(address) as kept, pytest.raises(exceptions.StorageFailure, match="through a transform"):
        kept.fork("one", store={"password": MARKER[::-1]})
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert MARKER[::-1].encode() not in stored


def test_a_retry_keeps_nothing_in_memory_alone():
    flow = linear_flow.Flow("f", retry.ForEach(["one"], provides="value"))
    with pytest.raises(ValueError, match="has a history"):
        engines.load(flow, sensitive={"value": "memory"}).run()


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: Step("s", "text", reverts=False, provides="a", sensitive={"b"}), r"names \['b'\]; it provides"),
        (lambda: Step("s", "text", reverts=False, provides=None, sensitive=True), "add provides="),
        (lambda: Step("s", "text", reverts=False, provides="a", sensitive="a"), "names that the task provides"),
        (lambda: Step("s", "text", reverts=False, provides="a", sensitive=5), "names that the task provides"),
        (lambda: engines.load(linear("f"), sensitive="password"), "sensitive must be names of values"),
        (lambda: engines.load(linear("f"), sensitive={"a": "disk"}), "True or 'memory'"),
        (lambda: engines.load(linear("f"), sensitive={5}), "the name of a value"),
    ],
)
def test_bad_settings_are_refused(make, wrong):
    with pytest.raises((TypeError, ValueError), match=wrong):
        make()


def test_who_has_no_secrets_imports_nothing_of_them():
    assert secrets.to_names("s", ["a"]) == {"a": secrets.STORED}
    engine = engines.load(linear("f"))
    engine.run()
    assert engine.storage.writes.secrets is None


# -- values of many types -----------------------------------------------------------------------------------------


@attrs.define
class Attrs:
    user: str
    password: str


@dataclasses.dataclass(slots=True)
class Slots:
    user: str
    password: str


class MoreSlots(Slots):
    pass


class Private:
    __slots__ = ("__password", "unset")

    def __init__(self, password):
        self.__password = password

    def __str__(self):
        return self.__password


class Model(pydantic.BaseModel):
    password: pydantic.SecretStr


class Extra(pydantic.BaseModel, extra="allow"):
    _own: str = pydantic.PrivateAttr(default=MARKER)


class Text(str):  # noqa: SLOT000 - that is the case
    """Has a dict of its own, as its class has no slots."""


class Number(decimal.Decimal):
    pass


class Bag(list):
    pass


class Word(enum.StrEnum):
    ONE = MARKER


class Odder:
    """Cannot be shown, and has a secret."""

    def __init__(self, password):
        self.password = password
        self.myself = self

    def __repr__(self):
        raise RuntimeError


def bag(password):
    made = Bag()
    made.password = password
    return made


KEY = uuid.UUID("12345678-1234-5678-1234-567812345678")
SEEN = [
    (KEY, str),
    (KEY, lambda key: key.hex),
    (KEY, lambda key: f"{key.int}"),
    (decimal.Decimal("98765.43"), str),
    (Number("98765.43"), str),
    (dt.date(1980, 2, 3), str),
    (dt.datetime(1980, 2, 3, 4, 5, tzinfo=dt.UTC), str),
    (pathlib.Path("/secret/path"), str),
    ([pathlib.PureWindowsPath("c:/secret/path")], lambda paths: str(paths[0])),
    (Attrs("bob", MARKER), lambda pair: pair.password),
    (Slots("bob", MARKER), lambda pair: pair.password),
    (MoreSlots("bob", MARKER), lambda pair: pair.password),
    (Private(MARKER), str),
    (pydantic.SecretStr(MARKER), lambda secret: secret.get_secret_value()),
    (Model(password=MARKER), lambda model: model.password.get_secret_value()),
    (Extra(), lambda model: model._own),
    (Extra(more=[MARKER]), lambda model: model.more[0]),
    (memoryview(MARKER.encode()), lambda view: bytes(view).decode()),
    (Text(MARKER), str),
    (Word.ONE, str),
    (Odder(MARKER), lambda odd: odd.password),
    (bag(MARKER), lambda it: it.password),
    ({"a": ({MARKER},)}, lambda it: next(iter(it["a"][0]))),
]


@pytest.mark.parametrize(("value", "show"), SEEN, ids=lambda each: type(each).__name__)
def test_the_text_of_a_value_of_any_type_is_masked(value, show):
    shown = show(value)

    @as_task
    def use(token):
        raise PermissionError(f"refused: {shown}!")

    result = taskflowx.run(use, {"token": value}, sensitive={"token"}, raises=False)
    said = str(result.failures["use"])
    assert shown not in said
    assert said.endswith("refused: ***!")


def test_what_a_class_says_of_its_values_is_no_secret():
    @as_task
    def use(token):
        raise PermissionError("wrong password: unknown path of class Word")

    for value in (Model(password=MARKER), KEY, Word.ONE, pathlib.Path("/a/path/of/mine")):
        result = taskflowx.run(use, {"token": value}, sensitive={"token"}, raises=False)
        assert str(result.failures["use"]).endswith("wrong password: unknown path of class Word")


# -- other ways to a record ------------------------------------------------------------------------------------------


class Pay(task.Task):
    """Is interrupted in its call, and says the secret when it is asked how that has ended."""

    def execute(self, password):
        raise exceptions.WorkerLost(f"lost with {password}")


class PayAndLook(Pay):
    def find_outcome(self, idempotency_key, password):
        raise OSError(f"the bank refuses {password}")


def all_of(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", [Pay, PayAndLook])
def test_what_is_not_known_of_a_call_shows_no_secret(tmp_path, caplog, kind):
    caplog.set_level(1)
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        flow = linear("f", kind("pay", on_unknown="ask"))
        options = {"backend": backend, "run_id": "one", "sensitive": {"password": "memory"}}
        taskflowx.run(flow, {"password": MARKER}, raises=False, **options)
        with runs.open(backend) as kept:
            assert kept.get("one").atom("pay").unknown.count("***") == 1
        with taskflowx.load(flow, {"password": MARKER}, **options) as engine:
            engine.resolve_failed("pay", ConnectionError(f"refused {MARKER}"), reason=f"asked with {MARKER}")
            assert engine.by_hand()[0].reason == "asked with ***"
        with runs.open(backend) as kept:
            assert str(kept.get("one").failures["pay"]).endswith("refused ***")
    assert MARKER.encode() not in all_of(tmp_path)
    assert MARKER not in caplog.text


def test_reasons_show_no_secret(tmp_path):
    @as_task(revert=lambda password, **_: None)
    def one(password):
        if password == MARKER:
            engine.cancel(f"cancelled with {password}")

    @as_task
    def two(password):
        return 1

    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        engine = engines.load(
            linear("f", one, two), {"password": MARKER}, backend=backend, sensitive={"password": "memory"}
        )
        with pytest.raises(exceptions.Cancelled):
            engine.run()
        engine.reset()
        engine.skip("one", reason=f"skip {MARKER}", by=f"me {MARKER}")
        engine.run()
        engine.rollback(reason=f"undo {MARKER}")
        assert [entry.reason for entry in engine.by_hand()] == ["skip ***", "undo ***"]
        assert engine.by_hand()[0].who == "me ***"
    assert MARKER.encode() not in all_of(tmp_path)


@pytest.mark.parametrize("transient", [True, False])
def test_a_secret_of_one_task_alone_is_masked_and_not_stored(tmp_path, transient):
    class Use(task.Task):
        def execute(self, password):
            raise ValueError(f"{password} is not right")

    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        engine = engines.load(
            linear("f", Use("use", inject={"password": MARKER})),
            backend=backend,
            inject_transient=transient,
            sensitive={"password": "memory"},
        )
        with pytest.raises(ValueError, match=r"\*\*\* is not right"):
            engine.run()
        other = engines.load(
            linear("f", Use("use", inject={"password": MARKER})),
            backend=backend,
            inject_transient=transient,
            sensitive={"password"},
        )
        with pytest.raises(ValueError if transient else exceptions.Unstorable):
            other.run()
    assert MARKER.encode() not in all_of(tmp_path)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_secret_that_is_gone_from_the_record_stays_one(tmp_path, keeps):
    """One of the attempt before, and one that was let go of, are still texts that tasks know."""
    made = []

    class Login(task.Task):
        default_provides = "token"

        def execute(self):
            made.append(f"{MARKER}-{len(made)}!")
            return made[-1]

    class Use(task.Task):
        def execute(self, token):
            pass

    class Say(task.Task):
        def execute(self, tried):
            raise OSError(f"refused: {made}")

    flow = linear_flow.Flow("f", retry.Times(2, provides="tried", name="r"))
    flow.add(Login("login"), Use("use"), Say("say"))
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        engine = engines.load(flow, backend=backend, sensitive={"token": "memory"}, keep_results=keeps)
        with pytest.raises(OSError, match=r"^refused: \[\*\*\*, \*\*\*\]"):
            engine.run()
    assert MARKER.encode() not in all_of(tmp_path)


def test_a_secret_that_was_replaced_stays_one():
    @as_task
    def use(password):
        raise ValueError(f"neither {password} nor {MARKER}")

    engine = engines.load(linear("f", use), {"password": MARKER}, sensitive={"password"})
    engine.storage.inject({"password": "another-secret"})
    with pytest.raises(ValueError, match=r"neither \*\*\* nor \*\*\*"):
        engine.run()


def test_what_a_revert_returns_of_a_value_in_memory_alone_is_not_stored(tmp_path):
    class Login(task.Task):
        default_provides = "token"

        def execute(self):
            return MARKER

        def revert(self, result, **_):
            return {"logged out": result[::-1], "lock": object()}

    @as_task
    def fail(token):
        raise ValueError("not that")

    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        engine = engines.load(linear("f", Login("login", sensitive="memory"), fail), backend=backend)
        with pytest.raises(ValueError, match="not that"):
            engine.run()
        assert engine.storage.get_atom_state("login") == states.REVERTED
    stored = all_of(tmp_path)
    assert not [text for text in (MARKER, MARKER[::-1]) if text.encode() in stored]


def test_what_a_revert_returns_and_cannot_be_stored_shows_no_secret(tmp_path, caplog):
    class Use(task.Task):
        def execute(self, password):
            raise ValueError("not that")

        def revert(self, password, **_):
            return {password: object()}

    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        engine = engines.load(
            linear("f", Use("use")), {"password": MARKER}, backend=backend, sensitive={"password": "memory"}
        )
        with pytest.raises(ValueError, match="not that"):
            engine.run()
    assert "revert result of atom 'use': the value at [***] is of type object" in caplog.text
    assert MARKER not in caplog.text


def test_a_refused_value_shows_no_secret(tmp_path):
    @as_task
    def use(settings):
        raise AssertionError

    for address in (f"sqlite:///{tmp_path}/runs.db", f"dir://{tmp_path}/runs"):
        with backends.backend(address, transform=TRANSFORM) as backend:
            for more in ({}, {"run_id": "one"}):
                with pytest.raises(exceptions.Unstorable, match=r"at \['settings'\]\[\*\*\*\] is of type") as caught:
                    taskflowx.run(
                        linear("f", use),
                        {"settings": {MARKER: object()}},
                        backend=backend,
                        sensitive={"settings"},
                        **more,
                    )
                assert MARKER not in repr(caught.value.__cause__)


@pytest.mark.parametrize("way", ["skip", "resolve", "save"])
def test_a_large_value_in_memory_alone_is_no_file_either(tmp_path, way):
    class Login(task.Task):
        default_provides = "token"

        def execute(self):
            raise exceptions.WorkerLost("it is not known")

    large = MARKER * 50_000
    with backends.backend(f"sqlite:///{tmp_path}/runs.db", blobs=f"dir://{tmp_path}/blobs") as backend:
        flow = linear("f", Login("login", on_unknown="ask"))
        engine = engines.load(flow, backend=backend, sensitive={"token": "memory"})
        if way == "resolve":
            engine.run()
            engine.resolve("login", large)
        else:
            engine.compile()
            engine.prepare()
            _ = engine.skip("login", large) if way == "skip" else engine.storage.save("login", large)
        assert engine.storage.fetch("token") == large
    assert MARKER.encode() not in all_of(tmp_path)


def test_a_value_that_shows_itself_in_one_way_alone_is_masked_in_that():
    class Token:
        __slots__ = ()

        def __repr__(self):
            return "tok-in-repr"

        def __str__(self):
            raise ValueError("no text")

    class Text(str):
        __slots__ = ()

        def __repr__(self):
            raise ValueError("no text")

    assert "tok-in-repr" in masking.texts_of([Token()])
    assert "hunter22" in masking.texts_of([Text("hunter22")])


def test_what_a_controller_has_raised_is_masked():
    class Asks(retry.Retry):
        def execute(self, token, **_):
            pass

        def on_failure(self, token, **_):
            raise RuntimeError(f"asked with {token}")

    flow = linear_flow.Flow("f", Asks("asks")).add(task.FunctorTask(lambda: 1 / 0, name="fails"))
    engine = engines.load(flow, {"token": "open-sesame-7"}, sensitive={"token"})
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert "open-sesame-7" not in str(caught.value)
    assert "asked with ***" in str(engine.storage.get_execute_failures()["asks"])


LONG_SECRET = "-".join(f"{number:02}" for number in range(30))


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize(
    ("provides", "result"),
    [
        (("user", "token"), ("eve", LONG_SECRET, "more")),
        (("user", "token"), LONG_SECRET),
        ({"user", "token"}, {"token": [LONG_SECRET]}),
    ],
)
def test_a_result_of_another_shape_is_not_shown_not_even_in_part(provides, result, executor):
    made = as_task(lambda: result, name="login", provides=provides, sensitive={"token"})
    found = taskflowx.run(made, executor=executor, raises=False)
    assert "has returned *** (" in str(found.failures["login"])
    assert LONG_SECRET[:8] not in found.failures["login"].pformat(traceback=True)


def test_a_result_of_another_shape_that_somebody_gives_is_not_shown():
    engine = taskflowx.load(as_task(lambda: None, name="login", provides=("user", "token"), sensitive={"token"}))
    with pytest.raises(exceptions.ResultMismatch) as caught:
        engine.skip("login", ("eve", LONG_SECRET, "more"))
    assert LONG_SECRET[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"pasword"}, "sensitive= names 'pasword', and {} has no such value: did you mean 'password'?"),
        ({"zz", "password"}, "sensitive= names 'zz', and {} has no such value"),
        ({"password", "token", "extra", "given"}, None),
    ],
)
def test_a_sensitive_name_that_nothing_has_is_warned_of(names, said, caplog):
    def login(password, extra="", *, given):
        return "t"

    flow = linear("f", as_task(login, provides="token", inject={"given": 1}))
    taskflowx.run(flow, {"password": MARKER, "given": 2}, sensitive=names)
    assert [record.getMessage() for record in caplog.records] == ([] if said is None else [said.format(flow)])

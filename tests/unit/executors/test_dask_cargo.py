"""Calls as bytes on their way to a cluster, and what can be said of one without Dask; there is none here."""

import sys
import threading

import pytest

from taskflowx import engines, executors, states, task
from taskflowx.executors import base, pickling
from taskflowx.executors.dask import cargo
from taskflowx.executors.dask.ledger import Ledger

BIG = 10 * cargo.LARGE


class Take(task.Task):
    def execute(self, value, more=None):
        return value


class Heavy(Take):
    """Has a large value of its own."""

    def __init__(self, name, weight, **kwargs):
        super().__init__(name, **kwargs)
        self.weight = weight


def call(atom, **kwargs):
    return base.Call(0, atom, states.EXECUTE, kwargs)


def unpacked(packer, packed):
    body, digests = packed
    assert all(digest in packer.fresh for digest in digests)
    return cargo.unpack(body, packer.fresh.__getitem__)


def test_a_small_call_is_one_pickle():
    packer = cargo.Packer()
    body, digests = packer.pack(1, call(Take("t"), value=[1]))
    assert digests == ()
    assert len(body) < 1000
    atom, verb, kwargs, listened = cargo.unpack(body, {}.__getitem__)
    assert (atom.name, verb, kwargs, listened) == ("t", states.EXECUTE, {"value": [1]}, False)


def test_it_is_told_whether_somebody_listens():
    atom = Take("t")
    atom.notifier.register("update_progress", print)
    packer = cargo.Packer()
    assert unpacked(packer, packer.pack(1, call(atom, value=1)))[3] is True


@pytest.mark.parametrize("value", [b"x" * BIG, "x" * BIG, list(range(BIG)), {"a": [b"x" * BIG]}], ids=type)
def test_a_large_argument_is_sent_once(value):
    packer = cargo.Packer()
    packer.begin()
    for number in range(5):
        body, _ = packed = packer.pack(number, call(Take("t"), value=value, more=1))
        assert len(body) < 1000
        assert unpacked(packer, packed)[2] == {"value": value, "more": 1}
    assert len(packer.fresh) == 1
    packer.begin()  # another row of calls, and an equal value: what is in it decides
    packer.pack(9, call(Take("t"), value=type(value)(value)))
    assert len(packer.fresh) == 1


def test_an_array_is_sent_once():
    numpy = pytest.importorskip("numpy")
    packer = cargo.Packer()
    array = numpy.ones(BIG)
    for number in range(2):
        packer.begin()
        found = unpacked(packer, packer.pack(number, call(Take("t"), value=array)))[2]["value"]
        assert (found == array).all()
    assert len(packer.fresh) == 1


def test_a_large_atom_is_sent_once_and_its_revert_takes_it_from_there():
    packer = cargo.Packer()
    atom = Heavy("heavy", "x" * BIG)
    for verb in (states.EXECUTE, states.REVERT):
        body, digests = packer.pack(1, base.Call(0, atom, verb, {"value": 1}))
        assert len(body) < 1000
        assert len(digests) == 1
        assert unpacked(packer, (body, digests))[0].weight == atom.weight
    assert len(packer.fresh) == 1


def test_a_value_that_was_changed_is_another_one():
    packer = cargo.Packer()
    value = bytearray(BIG)
    packer.begin()
    packer.pack(1, call(Take("t"), value=value))
    value[0] = 1
    packer.begin()
    assert unpacked(packer, packer.pack(2, call(Take("t"), value=value)))[2]["value"][0] == 1
    assert len(packer.fresh) == 2


def test_what_no_call_needs_is_forgotten_when_it_becomes_too_much(monkeypatch):
    monkeypatch.setattr(cargo, "KEPT", 3 * BIG)
    packer = cargo.Packer()
    for number in range(5):
        packer.pack(number, call(Take("t"), value=bytes([number]) * BIG))
    kept = list(packer.fresh)
    packer.fresh.clear()  # they have been sent
    assert packer.surplus() == []  # the calls need them
    for number in (1, 0, 2):
        packer.ended(number)
    assert packer.surplus() == [kept[1], kept[0], kept[2]]
    assert packer.surplus() == []


def test_what_cannot_be_pickled_is_named():
    packer = cargo.Packer()
    bad = call(Take("t"), value=[1, threading.Lock()])
    with pytest.raises(TypeError) as caught:
        packer.pack(1, bad)
    assert "argument 'value'[1] is a _thread.lock" in str(pickling.unsendable(bad, caught.value, pickling.dumps_afar))


def test_a_worker_keeps_as_many_blobs_as_it_has_room_for():
    fetched = []

    def fetch(digest):
        fetched.append(digest)
        return digest * 10

    blobs = cargo.Blobs(room=25)
    assert blobs.get([b"a", b"b"], fetch) == {b"a": b"a" * 10, b"b": b"b" * 10}
    blobs.get([b"a"], fetch)
    blobs.get([b"c"], fetch)  # b is forgotten: it was used before a
    blobs.get([b"a", b"b"], fetch)
    assert fetched == [b"a", b"b", b"c", b"b"]


def test_a_blob_goes_piece_by_piece(monkeypatch):
    monkeypatch.setattr(cargo, "PIECE", 4)
    one = Ledger()
    for _ in range(2):  # the answers may have been lost
        cargo.upload(b"key", b"0123456789", lambda key, **piece: (one.put(key, **piece), one.put(key, **piece)))
    assert one.blobs == {b"key": b"0123456789"}

    def get(key, at):
        return (bytes(one.blobs[key][at : at + 4]), len(one.blobs[key])) if key in one.blobs else None

    assert cargo.download(b"key", get) == b"0123456789"
    with pytest.raises(KeyError):
        cargo.download(b"other", get)


@pytest.mark.parametrize("executor", ["dask", "Dask", "dask://127.0.0.1:8786"])
def test_without_dask_it_is_said_what_to_install(monkeypatch, executor):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "taskflowx.executors.dask.places", raising=False)
    with pytest.raises(RuntimeError, match="pip install distributed"):
        engines.load(Take("t", inject={"value": 1}), engine="parallel", executor=executor)
    with pytest.raises(TypeError, match="expected an instance"):
        executors.fetch(object())


def test_pure_is_said_of_a_task_or_of_a_class():
    class Pure(Take):
        default_pure = True

    assert "_tfx_pure" not in vars(Take("t"))  # what is not said costs nothing
    made = [Take("a"), Take("b", pure=True), Pure("c"), Pure("d", pure=False)]
    made += [
        task.FunctorTask(lambda: 1, name="e", pure=True),
        task.MapFunctorTask(lambda x: x, ["x"], name="f", pure=True),
    ]
    made.append(task.ReduceFunctorTask(lambda x, y: x, ["x", "y"], name="g", pure=True))
    assert [one.name for one in made if cargo.is_pure(one)] == ["b", "c", "e", "f", "g"]
    with pytest.raises(TypeError, match="pure must be True, False or None"):
        Take("t", pure="yes")

"""Documents that are changed on their way to a store: all that has values in it, on each store."""

from __future__ import annotations

import contextlib
import zlib

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, codec, models
from tests.contract.store.stores import STORES

MARKER = "open-sesame"
LASTING = [store for store in STORES if store.is_shared and not store.name.startswith("memory")]


def fernet(key=None):
    module = pytest.importorskip("cryptography.fernet", reason="cryptography is not installed")
    cipher = module.Fernet(key or module.Fernet.generate_key())
    return cipher.encrypt, cipher.decrypt


class Zip:
    """A transform that is an object."""

    def encode(self, document):
        return zlib.compress(document)

    def decode(self, stored):
        return zlib.decompress(stored)


@pytest.fixture(params=LASTING, ids=lambda store: store.name)
def settings(request, tmp_path):
    if lacks := request.param.lacks():
        pytest.skip(lacks)
    return request.param.settings(tmp_path)


class Say(task.Task):
    """Says what is secret in its result, its metadata and, more than once, in its failure."""

    def __init__(self, fails):
        super().__init__("say", provides="said")
        self.fails = fails

    def execute(self, word):
        self.update_progress(0.5, word=word)
        if self.fails:
            raise ValueError(f"{word} is wrong")
        return {"word": word}


def run(settings, transform, *, fails=False, times=3):
    """Run a flow in a store, and return the uuid of its record."""
    with backends.backend(settings, transform=transform) as backend:
        flow = linear_flow.Flow("f", retry.Times(times)).add(Say(fails))
        engine = engines.load(flow, {"word": MARKER}, backend=backend)
        with contextlib.suppress(ValueError):
            engine.run()
        engine.storage.update_flow_metadata({"note": MARKER})
        return engine.storage.flow_uuid


def read(settings, transform, uuid):
    with contextlib.closing(backends.fetch(settings, transform=transform)) as backend:
        return backend.get_connection().get_flow_details(uuid)


@pytest.mark.parametrize("make", [fernet, Zip], ids=["fernet", "zip"])
@pytest.mark.parametrize("fails", [False, True])
def test_records_come_back(settings, make, fails):
    transform = make()
    uuid = run(settings, transform, fails=fails, times=100)  # a history that is written in parts
    found = read(settings, transform, uuid)
    atoms = {atom.name: atom for atom in found}
    assert found.meta["note"] == MARKER
    assert atoms["_TaskFlow_INJECTOR"].results == {"word": MARKER}
    if not fails:
        assert atoms["say"].results == {"word": MARKER}
        assert atoms["say"].meta["progress"] == 1.0
    assert found.state == (states.REVERTED if fails else states.SUCCESS)


def test_only_who_has_the_transform_reads_them(settings):
    transform = fernet()
    uuid = run(settings, transform)
    with pytest.raises(codec.Unreadable, match="make the store with the same one"):
        read(settings, None, uuid)
    with pytest.raises(codec.Unreadable, match="with another one, or key"):
        read(settings, fernet(), uuid)


def test_records_of_before_are_read_and_written_on(settings):
    uuid = run(settings, None)
    transform = fernet()
    found = read(settings, transform, uuid)
    assert next(atom for atom in found if atom.name == "say").results == {"word": MARKER}
    with backends.backend(settings, transform=transform) as backend:
        found.meta["more"] = 1
        backend.get_connection().update_flow_details(found)
    assert read(settings, transform, uuid).meta["more"] == 1


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_is_in_the_files(tmp_path, fails):
    for scheme, path in (("dir", tmp_path / "runs"), ("sqlite", tmp_path / "runs.db")):
        run(f"{scheme}:///{path}", fernet(), fails=fails)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("wrong", ["zlib", 5, (zlib.compress,), object()])
def test_what_is_no_transform_is_refused(wrong):
    with pytest.raises(TypeError, match="transform must be an object with encode"):
        backends.fetch("dir:///none", transform=wrong)


@pytest.mark.parametrize("wrong", ["open-sesame", b"open-sesame", ("open-sesame", b"open-sesame")])
def test_a_key_that_is_given_in_place_of_a_transform_is_not_shown(wrong):
    with pytest.raises(TypeError, match="an instance of ") as caught:
        backends.fetch("dir:///none", transform=wrong)
    assert "sesame" not in str(caught.value)


def test_a_book_without_metadata_costs_no_transform():
    calls = []
    with backends.backend("sqlite://", transform=(lambda text: calls.append(text) or text, bytes)) as backend:
        backend.get_connection().save_logbook(models.LogBook("book"))
    assert calls == []

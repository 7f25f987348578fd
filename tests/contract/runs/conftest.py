"""One store of each kind for a module of tests; each test names runs of its own."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from taskflowx import runs
from taskflowx.persistence import backends
from tests.contract.store.stores import STORES

_numbers = itertools.count(1)


@pytest.fixture(
    scope="module", params=[one for one in STORES if one.name != "memory-shallow"], ids=lambda one: one.name
)
def store(request):
    """Return the store itself, as `STORES` has it."""
    lacks = request.param.lacks()
    if lacks:
        pytest.skip(lacks)
    return request.param


@pytest.fixture(scope="module")
def settings(store, tmp_path_factory):
    return store.settings(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def backend(settings):
    with backends.backend(settings) as made:
        yield made


@pytest.fixture
def known(backend):
    """Return the runs of the store."""
    with runs.open(backend) as opened:
        yield opened


@pytest.fixture
def empty(backend):
    """Return the runs of the store, of which there are none."""
    with contextlib.closing(backend.get_connection()) as connection:
        connection.clear_all()
    with runs.open(backend) as opened:
        yield opened


@pytest.fixture
def run_id():
    """Return an id that no other test has."""
    return f"run/{next(_numbers)} é"

"""Records that are made for callers, with or without a book and a store."""

from __future__ import annotations

import contextlib
import uuid

import pytest

from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.utils import persistence_utils


@pytest.fixture
def backend():
    with backends.backend("memory") as made:
        yield made


def stored(backend):
    """Give what a store has, by names."""
    with contextlib.closing(backend.get_connection()) as connection:
        return [(book.name, [(flow.name, flow.meta) for flow in book]) for book in connection.get_logbooks()]


def test_the_record_of_a_flow_has_its_name():
    made = persistence_utils.create_flow_detail(linear_flow.Flow("f"))
    assert (made.name, made.meta, made.state, len(made)) == ("f", {}, None, 0)
    assert str(uuid.UUID(made.uuid)) == made.uuid


@pytest.mark.parametrize("flow", [object(), None, "flow"])
def test_the_record_of_what_has_no_name_is_called_after_its_identity(flow):
    made = persistence_utils.create_flow_detail(flow)
    assert made.name == made.uuid


def test_metadata_are_copied():
    meta = {"a": 1}
    made = persistence_utils.create_flow_detail(linear_flow.Flow("f"), meta=meta)
    assert made.meta == meta
    assert made.meta is not meta


def test_the_record_is_put_into_the_book():
    book = models.LogBook("b")
    made = persistence_utils.create_flow_detail(linear_flow.Flow("f"), book=book)
    assert book.find(made.uuid) is made


def test_book_and_record_are_saved(backend):
    book = models.LogBook("b")
    made = [persistence_utils.create_flow_detail(linear_flow.Flow(name), book, backend) for name in "fg"]
    assert list(book) == made
    assert stored(backend) == [("b", [("f", {}), ("g", {})])]


def test_a_store_without_a_book_gets_one(backend):
    made = persistence_utils.create_flow_detail(linear_flow.Flow("f"), backend=backend, meta={"a": 1})
    assert stored(backend) == [("tmp", [("f", {"a": 1})])]
    assert backend.get_connection().get_flow_details(made.uuid).name == "f"


def test_a_temporary_book_is_saved_where_there_is_a_store(backend):
    assert persistence_utils.temporary_log_book().name == "tmp"
    assert stored(backend) == []
    made = persistence_utils.temporary_log_book(backend)
    assert (made.name, len(made)) == ("tmp", 0)
    assert stored(backend) == [("tmp", [])]


def test_a_temporary_record_has_a_book_of_its_own(backend):
    book, made = persistence_utils.temporary_flow_detail()
    assert (book.name, list(book), made.name, made.meta) == ("tmp", [made], "tmp-flow-detail", {})
    book, made = persistence_utils.temporary_flow_detail(backend, {"a": 1})
    assert (book.name, list(book), made.name, made.meta) == ("tmp", [made], "tmp-flow-detail", {"a": 1})
    assert stored(backend) == [("tmp", [("tmp-flow-detail", {"a": 1})])]

"""Makes new records in their books, also for runs that are never resumed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from taskflowx.persistence import models

if TYPE_CHECKING:
    from taskflowx.persistence.base import Backend

_TEMPORARY = "tmp"


def temporary_log_book(backend: Backend | None = None) -> models.LogBook:
    """Make a book for temporary records.

    :param backend: the store that it is saved in
    """
    book = models.LogBook(_TEMPORARY)
    if backend is not None:
        with contextlib.closing(backend.get_connection()) as connection:
            connection.save_logbook(book)
    return book


def temporary_flow_detail(
    backend: Backend | None = None, meta: dict[str, Any] | None = None
) -> tuple[models.LogBook, models.FlowDetail]:
    """Make a temporary record of a flow, in a book of its own.

    :param backend: the store that both are saved in
    :param meta: metadata of the record
    """
    book = temporary_log_book(backend)
    return book, _add(book, "tmp-flow-detail", backend, meta)


def create_flow_detail(
    flow: Any, book: models.LogBook | None = None, backend: Backend | None = None, meta: dict[str, Any] | None = None
) -> models.FlowDetail:
    """Make the record of a flow that has not run yet.

    :param flow: the flow; the record has its name
    :param book: the book of the record; if there is a store and no book, one is made
    :param backend: the store that book and record are saved in
    :param meta: metadata of the record
    """
    if book is None and backend is not None:
        book = temporary_log_book(backend)
    return _add(book, getattr(flow, "name", None), backend, meta)


def _add(
    book: models.LogBook | None, name: str | None, backend: Backend | None, meta: dict[str, Any] | None
) -> models.FlowDetail:
    uuid = models.make_uuid()
    detail = models.FlowDetail(name or uuid, uuid)
    if meta:
        detail.meta.update(meta)
    if book is not None:
        book.add(detail)
        if backend is not None:
            with contextlib.closing(backend.get_connection()) as connection:
                connection.add_flow_details(book, detail)
    return detail

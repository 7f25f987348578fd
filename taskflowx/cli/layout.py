"""`taskflowx db`: the layout of a store, and whether what it keeps can be read."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.cli import exits, output, stores
from taskflowx.persistence import codec

if TYPE_CHECKING:
    from collections.abc import Iterator


def upgrade(address: str | None, *, as_sql: bool, as_json: bool) -> int:
    """Upgrade the layout of a store, or print the statements that would do it.

    :param address: the store
    :param as_sql: whether to print SQL, and to change nothing
    """
    if as_sql and stores.is_missing(stores.address_of(address)):
        address = "sqlite://"  # in memory, which is as empty
    with stores.opened(address, make=True) as backend, contextlib.closing(backend.get_connection()) as connection:
        if as_sql:
            statements = _statements(connection)
            if as_json:
                output.print_json({"statements": statements})
            elif statements:
                print("\n\n".join(f"{one};" for one in statements), flush=True)
            else:
                output.note("The layout is that of this version: there is nothing to do")
            return exits.DONE
        connection.upgrade()
        if as_json:
            output.print_json({"upgraded": True})
        output.note("The layout is that of this version")
    return exits.DONE


def _statements(connection: Any) -> list[str]:
    statements = getattr(connection, "upgrade_statements", None)
    if statements is None:
        raise exits.Refused("--sql is for SQL stores; this one has no statements, and `db upgrade` makes its layout")
    found: list[str] = statements()
    return found


def verify(address: str | None, *, as_json: bool) -> int:
    """Check the layout of a store, and read all of its runs; return the exit code."""
    faults: list[str] = []
    runs = 0
    with stores.opened(address) as backend, contextlib.closing(backend.get_connection()) as connection:
        try:
            connection.validate()
        except exceptions.StorageFailure as error:
            if error.cause is not None:  # it cannot be reached
                raise
            faults.append(f"{error.args[0]}".replace("Connection.upgrade()", "taskflowx db upgrade"))
        else:
            with _unreadable(faults), codec.tolerant():
                for book in connection.get_logbooks(lazy=True):
                    for record in connection.get_flows_for_book(book.uuid, lazy=True):
                        runs += 1
                        try:
                            connection.get_flow_details(record.uuid)
                        except exceptions.StorageFailure as error:
                            faults.append(str(error))
    if as_json:
        output.print_json({"runs": runs, "faults": faults})
    else:
        print(f"{runs:,} run{'' if runs == 1 else 's'} read", flush=True)
        for fault in faults:
            output.note(f"fault: {fault}")
        output.note("no fault was found" if not faults else f"{len(faults):,} fault{'' if len(faults) == 1 else 's'}")
    return exits.FAILED if faults else exits.DONE


@contextlib.contextmanager
def _unreadable(faults: list[str]) -> Iterator[None]:
    """Collect what stores log of records that they skip."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            faults.append(record.getMessage())

    handler = Handler(logging.ERROR)
    logger = logging.getLogger("taskflowx.persistence")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)

"""The names and objects that a user may pass as a Dask cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import distributed
from distributed import cfexecutor

from taskflowx.executors.dask.executor import DaskExecutor

#: the scheme of a scheduler's address
SCHEME = "dask://"
#: the connection timeout in seconds
_CONNECT = 10.0
#: the timeout in seconds for closing a client
_CLOSE = 2.0
_distributed: Any = distributed  # its functions have no type annotations


def named(name: str, max_workers: int | None = None) -> DaskExecutor:
    """Return an executor for 'dask' or for 'dask://host:port'.

    :param max_workers: the maximum number of concurrent calls; for a cluster that is made for a run, also its number of
        processes
    """
    if name.lower().startswith(SCHEME):
        address = "tcp://" + name[len(SCHEME) :]
        return DaskExecutor(lambda: _at(address), max_workers)
    # A nanny does not replace a worker that dies before it has fully started: a cluster of ours may lose all of them.
    return DaskExecutor(lambda: _current_or_own(max_workers), max_workers, grows=_current() is not None)


def given(thing: Any, max_workers: int | None = None) -> DaskExecutor | None:
    """Return an executor for a Dask client, or for the executor of such a client; None when it is neither.

    :raises TypeError: when the client is asynchronous
    """
    client, options = thing, {}
    if isinstance(thing, cfexecutor.ClientExecutor):
        client = thing._client
        options = {name: value for name, value in thing._kwargs.items() if name in _PASSED_ON}
    if not isinstance(client, distributed.Client):
        return None
    if client.asynchronous:
        raise TypeError(f"{client!r} is asynchronous: pass a client that was made without asynchronous=True")
    return DaskExecutor(lambda: contextlib.nullcontext(client), max_workers, options, client=client)


#: the options of a client's executor that select where its tasks run
_PASSED_ON = frozenset(("workers", "resources", "allow_other_workers"))


@contextlib.contextmanager
def _at(address: str) -> Iterator[Any]:
    client = _distributed.Client(address, timeout=_CONNECT, set_as_default=False)
    try:
        yield client
    finally:
        client.close(timeout=_CLOSE)  # its scheduler may be dead


def _current() -> Any:
    try:
        return distributed.get_client()
    except ValueError:
        return None


@contextlib.contextmanager
def _current_or_own(max_workers: int | None) -> Iterator[Any]:
    """Give the current client, or one of a local cluster that ends with the run."""
    current = _current()
    if current is not None:
        yield current
        return
    workers = max_workers or os.cpu_count() or 1
    with (
        _distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        _distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client

"""The store that a command works on."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import urllib.parse
from typing import TYPE_CHECKING

from taskflowx.cli.exits import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskflowx.persistence.base import Backend


#: the environment variable that stands for `--backend`
VARIABLE = "TASKFLOWX_BACKEND"
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*@")
_SECRET = re.compile(r"([?&][^=&]*(?:passw|secret|auth_data|scram)[^=&]*)=[^&]*", re.IGNORECASE)


def shown(address: str) -> str:
    """Return an address without its password, wherever it has one."""
    return _SECRET.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", address))


def command(given: str | None, *words: str, options: Sequence[str] = ()) -> str:
    """Return a command on a store, to be copied.

    :param given: the address that the command before was given
    :param words: its name and its arguments, some of which may look like options
    """
    options = [*options, *(["--backend", shown(given)] if given and given != os.environ.get(VARIABLE) else ())]
    if any(word.startswith("-") for word in words):
        return shlex.join(["taskflowx", words[0], *options, "--", *words[1:]])
    return shlex.join(["taskflowx", *words, *options])


def address_of(given: str | None) -> str:
    """Return the address of a store.

    :param given: an address, or a path that ends in '.db', a file of SQLite
    :raises Refused: when none was given, or a path that may be of any store
    """
    if not given:
        raise Refused(f"Which store? Give --backend, such as --backend runs.db, or set {VARIABLE}")
    from taskflowx.runs import stores

    try:
        address = stores.to_settings(given)
    except ValueError as error:
        raise Refused(f"--{error}") from None
    assert isinstance(address, str), "a str stays one"
    return address


def is_missing(address: str) -> bool:
    """Tell whether an address names a file or folder that there is not: opening it would make it."""
    scheme, _, rest = address.partition(":")
    before = {"sqlite": "///", "dir": "//", "file": "//"}.get(scheme.partition("+")[0])
    rest, _, settings = rest.partition("?")
    if before is None or "mode=memory" in settings:
        return False
    path = urllib.parse.unquote(rest.removeprefix(before))
    if not path or path == ":memory:" or path.startswith(("file:", "localhost/")):
        return False
    return not os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111 - a Path raises if there is no such user


@contextlib.contextmanager
def opened(given: str | None, *, make: bool = False) -> Iterator[Backend]:
    """Open a store as it is, and close it at the end of the block.

    :param make: whether a file or folder that there is not may be made
    :raises Refused: when it is no address of a store, or there is none
    """
    from taskflowx.persistence import backends

    address = address_of(given)
    if not make and is_missing(address):
        raise Refused(f"There is no store '{given}'; taskflowx run and taskflowx db upgrade make one")
    try:
        made = backends.fetch(address)
    except (ValueError, TypeError) as error:
        raise Refused(f"--backend: {error}") from None
    with contextlib.closing(made):
        yield made

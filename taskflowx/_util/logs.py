"""Messages about a run that cannot end it.

Handlers, filters and the streams behind them are the user's. Python's own handlers raise where `sys.stderr` is closed,
or is no stream, when they are to say that something is wrong with a message.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def calmly(log: Callable[..., None], message: str, *args: object, **options: Any) -> None:
    """Log a message; what is raised meanwhile costs the message, and nothing else.

    :param log: a method of a logger, such as `LOG.warning`, which gets the other arguments
    """
    with contextlib.suppress(Exception):
        log(message, *args, stacklevel=2, **options)

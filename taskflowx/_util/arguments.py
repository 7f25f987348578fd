"""Looks at what callers pass, and refuses it in words: which argument it is, what it was, what is accepted."""

from __future__ import annotations

import inspect
from typing import Any

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def is_async(function: Any) -> bool:
    """Tell whether a call of it gives a coroutine or an asynchronous generator, of which nothing has run yet."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _ASYNC)
    parts = (function, getattr(type(function), "__call__", None))  # noqa: B004 - what a call of an object runs
    return any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in parts)

"""What is outside of a service: each call to it is written down, and each kind of call is made to fail in turn.

The service's own tasks run, with its own database layer. What stands at its border (a database, a driver, a store, a
queue of messages) is watched, and replaced where there is none.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any
from unittest import mock

from transcript import Transcript, plain, raised, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Refused(Exception):
    """What a call to the outside fails with."""


class Outside:
    """The outside of a service for one run.

    :param failing: the kind of call that fails, as `db.volume_update`
    :param after: so many of these calls succeed before
    :param for_good: all that follow fail too, not this one alone
    """

    def __init__(
        self, transcript: Transcript, failing: str | None = None, after: int = 0, *, for_good: bool = False
    ) -> None:
        self.called: list[str] = []
        self._transcript = transcript
        self._failing = failing
        self._after = after
        self._for_good = for_good

    def call(self, kind: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call to the outside, or let it fail."""
        self.called.append(kind)
        number = self.called.count(kind) - 1
        fails = kind == self._failing and (number == self._after or (self._for_good and number > self._after))
        self._transcript.note("outside", kind, plain(args), plain(kwargs), *(["fails"] if fails else []))
        if fails:
            raise Refused(f"{kind} is refused")
        return function(*args, **kwargs)

    def watch(self, name: str, inner: Any) -> Any:
        """Return a stand-in for an object: its methods are those of the object, each call of them is one to the outside."""
        return _Watched(self, name, inner)

    @contextlib.contextmanager
    def patch(self, name: str, owner: Any, attribute: str, instead: Callable[..., Any] | None = None) -> Iterator[None]:
        """Make a function a call to the outside, meanwhile.

        :param instead: what is called then, if not the function itself
        """
        function = instead or getattr(owner, attribute)

        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.call(name, function, *args, **kwargs)

        with mock.patch.object(owner, attribute, watched):
            yield


class _Watched:
    def __init__(self, outside: Outside, name: str, inner: Any) -> None:
        self._outside = outside
        self._name = name
        self._inner = inner

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._inner, attribute)
        if not callable(value) or isinstance(value, type):
            return value
        return lambda *args, **kwargs: self._outside.call(f"{self._name}.{attribute}", value, *args, **kwargs)


class _Log(logging.Handler):
    """Takes what a logger says into the transcript, each message by its first line."""

    def __init__(self, transcript: Transcript) -> None:
        super().__init__()
        self._transcript = transcript

    def emit(self, record: logging.LogRecord) -> None:
        traceback = ["with traceback"] if record.exc_info else []
        self._transcript.note("log", record.levelname, text(record.getMessage()).partition("\n")[0], *traceback)


def explore_outside(
    transcript: Transcript, title: str, act: Callable[[Outside], None], *, loggers: list[str] | None = None
) -> None:
    """Do something with all going well, and then again with each kind of call to the outside failing.

    :param act: sets the stage, does it and says what came of it
    :param loggers: those to which the service's listeners write
    """
    transcript.say("service", title)
    log = _Log(transcript)
    for name in loggers or ():
        logging.getLogger(name).addHandler(log)
        logging.getLogger(name).setLevel(logging.DEBUG)

    def run(how: str, outside: Outside) -> None:
        transcript.say("  ", how)
        try:
            act(outside)
        except Exception as error:  # noqa: BLE001 - whatever it is, both packages must raise it
            transcript.say("   left with", raised(error))

    try:
        with transcript.every_run():
            well = Outside(transcript)
            run("all goes well", well)
            for kind in dict.fromkeys(well.called):
                last = well.called.count(kind) - 1
                run(f"the first {kind} fails", Outside(transcript, kind))
                run(f"{kind} fails from the last on", Outside(transcript, kind, last, for_good=True))
    finally:
        for name in loggers or ():
            logging.getLogger(name).removeHandler(log)

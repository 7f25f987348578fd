"""The history of a retry as JSON text, of which each attempt is encoded once.

A history is written several times an attempt, as a whole: to encode it anew each time would cost the square of the
attempts. What must stay true: an attempt does not change any more once another one has begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.persistence import codec

if TYPE_CHECKING:
    from taskflowx.persistence.models import RetryDetail

_FEW = 8  # attempts, below which there is nothing to gain
_MOST = 30  # retries whose past is remembered


class Histories:
    """Encodes histories, and remembers the text of what is past."""

    def __init__(self) -> None:
        # uuid of the detail -> its list of attempts, how many of them are in the text, the last of these, the text
        self._past: dict[str, tuple[list[Any], int, Any, str]] = {}

    def text(self, detail: RetryDetail, what: str) -> str:
        """Return the history of a retry as JSON text.

        :param what: names it in errors
        :raises Unstorable: when a value in it cannot be stored
        """
        attempts = detail.results
        if len(attempts) < _FEW:
            return codec.dumps(detail.to_dict()["results"], what)
        known, count, last, text = self._past.get(detail.uuid, ((), 0, None, ""))
        if known is not attempts or count >= len(attempts) or attempts[count - 1] is not last:
            count, text = 0, ""
        try:
            new = [_encode(attempt) for attempt in attempts[count:]]
        except exceptions.StorageFailure:
            codec.dumps(detail.to_dict()["results"], what)  # raises again, and tells where in the whole it is
            raise
        text += "".join(f"{one}," for one in new[:-1])
        if len(self._past) >= _MOST and detail.uuid not in self._past:
            self._past.clear()
        self._past[detail.uuid] = attempts, len(attempts) - 1, attempts[-2], text
        return f"[{text}{new[-1]}]"


def _encode(attempt: Any) -> str:
    value, failures = attempt
    return codec.dumps([value, {name: failure.to_dict() for name, failure in failures.items()}], "history of a retry")

"""The second seam of what is stored, behind the codec: bytes to bytes, to compress or to encrypt.

A document is sealed when a store writes it, and opened when it is read. A sealed document is JSON, as some stores take
nothing else: a tagged value of the kind `sealed`, with the transformed bytes in base64. So a reader tells it from a
document that was written without a transform, and reads both.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol

from taskflowx.persistence import tags

_BEGIN, _END = f'{{"{tags.TAG}":["sealed","', '"]}'
_MARK = _BEGIN.encode()


class Transform(Protocol):
    """What changes the bytes of documents: `decode` gives back what `encode` took."""

    def encode(self, document: bytes, /) -> bytes:
        """Return what is stored in place of a document."""

    def decode(self, stored: bytes, /) -> bytes:
        """Return the document again; raises for what this transform has not made."""


class Seal:
    """Seals and opens documents.

    :param transform: an object with `encode` and `decode`, or a pair of two functions
    :raises TypeError: when it is neither
    """

    def __init__(self, transform: Any) -> None:
        pair = transform if isinstance(transform, tuple) else None
        if pair is None:
            pair = getattr(transform, "encode", None), getattr(transform, "decode", None)
        if not all(map(callable, pair)) or len(pair) != len(("encode", "decode")) or isinstance(transform, str):
            wanted = "an object with encode(bytes) and decode(bytes), or a pair of such functions"
            raise TypeError(f"transform must be {wanted}, not {_shown(transform)}")
        #: the two functions of the transform
        self.encode: Callable[[bytes], bytes] = pair[0]
        self.decode: Callable[[bytes], bytes] = pair[1]

    def close(self, text: str) -> str:
        """Return a document sealed."""
        return _BEGIN + base64.b64encode(self.encode(text.encode())).decode() + _END

    def open(self, text: Any) -> Any:
        """Return a document as it was before it was sealed; another one, or what is no text, as it is.

        :raises Unreadable: when the transform does not decode it, as with another key
        """
        if not is_sealed(text):
            return text
        if isinstance(text, bytes):
            text = text.decode()
        try:
            stored = base64.b64decode(text[text.index('"sealed"') + 8 :].strip(' ,"]}'), validate=True)
            return self.decode(stored).decode()
        except Exception as error:
            msg = "Cannot open what is stored: transform= does not decode it; it was written with another one, or key"
            raise tags.Unreadable(msg, error) from error


def _shown(given: Any) -> str:
    """Return what kind of object is given, which may be a key: its value is not shown."""
    return f"({', '.join(map(_shown, given))})" if type(given) is tuple else f"an instance of {type(given).__name__}"


def is_sealed(text: Any) -> bool:
    """Tell whether a text is a sealed document; a database may have put spaces into it."""
    if isinstance(text, str):
        return text.startswith(_BEGIN) or ('"sealed"' in text[:24] and text[:24].replace(" ", "").startswith(_BEGIN))
    return isinstance(text, bytes) and text.startswith(_MARK)

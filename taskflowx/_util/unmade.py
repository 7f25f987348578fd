"""What stands in a class for an attribute that its constructor sets.

What must stay true: it is no data descriptor, so an object that has the attribute pays nothing for it.
"""

from __future__ import annotations

from typing import Any, NoReturn


class Unmade:
    """Says what to write in a subclass whose constructor does not call that of its base class."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else _refuse(owner)


def _refuse(cls: type) -> NoReturn:
    """Raise the error for an object that was made without the constructor of its base class."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    if "__dataclass_fields__" in vars(cls) and not hasattr(cls, "__post_init__"):
        msg = f"{name} is a dataclass, so its __init__ does not call that of its base class"
        raise TypeError(f"{msg}: add to it\n    def __post_init__(self):\n        super().__init__()")
    msg = f"{name} has an __init__ that does not call that of its base class: add super().__init__() there"
    raise TypeError(f"{msg}, with the name and the like")

"""Classes with abstract methods that are no instances of `abc.ABCMeta`.

Atoms and flows have no metaclass of their own, so that classes of users may have any; what a user marks by
`abc.abstractmethod` in a subclass is refused all the same.

What must stay true: a class that has `ABCMeta` decides by itself, after this.
"""

from __future__ import annotations


def settle(cls: type) -> None:
    """Have Python refuse instances of a new class while a method of it is abstract, as `abc.ABCMeta` does."""
    own = [name for name, value in vars(cls).items() if _is_abstract(value)]
    inherited = [
        name
        for base in cls.__bases__
        for name in getattr(base, "__abstractmethods__", ())
        if _is_abstract(getattr(cls, name, None))
    ]
    if own or inherited:
        cls.__abstractmethods__ = frozenset((*own, *inherited))  # type: ignore[attr-defined]  # Python looks at it


def _is_abstract(value: object) -> bool:
    return bool(getattr(value, "__isabstractmethod__", False))

"""Classes with abstract methods that are no instances of `abc.ABCMeta`.

Atoms and flows have no metaclass of their own, so that classes of users may have any; what a user marks by
`abc.abstractmethod` in a subclass is refused all the same.

What must stay true: a class that has `ABCMeta` decides by itself, after this.

CPython 3.14 specializes a call of a class that has run before, and does not look then whether that is abstract: such a
call may make an instance, whose abstract methods return None.
"""

from __future__ import annotations


def settle(cls: type) -> None:
    """Have Python refuse instances of a new class while a method of it is abstract, as `abc.ABCMeta` does.

    A class that has implemented all of them says so: cloudpickle makes a class before it adds the methods.
    """
    names = {name for name, value in vars(cls).items() if _is_abstract(value)}
    above = [base.__abstractmethods__ for base in cls.__bases__ if hasattr(base, "__abstractmethods__")]
    if names or above:
        names.update(name for known in above for name in known if _is_abstract(getattr(cls, name, None)))
        cls.__abstractmethods__ = frozenset(names)  # type: ignore[attr-defined]  # Python looks at it


def _is_abstract(value: object) -> bool:
    return getattr(value, "__isabstractmethod__", False) is True  # some objects have a value for any name

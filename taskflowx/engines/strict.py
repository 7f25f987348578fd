"""The checks of results='strict': a result has all parts that its task provides, and no name is given twice.

TaskFlow is lenient in both: it warns of a missing part, and takes an injected value before that of a provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions

if TYPE_CHECKING:
    from collections.abc import Collection

    from taskflowx.engines.plan import Plan


def mismatch(atom: Any, result: Any, *, hidden: bool = False) -> exceptions.ResultMismatch | None:
    """Return the error for a result that is not of the shape that a task provides; None when it is.

    :param atom: a task that provides names
    :param result: what its `execute` has returned
    :param hidden: whether the error does not show it, not even a part of it, as a mask finds whole secrets alone
    """
    outputs, may_lack = atom._tfx_signature.outputs, atom._tfx_may_lack
    keys = [key for _, key in outputs]
    if not keys:
        return None  # nobody takes a part of it
    by_position = keys == [*range(len(keys))]  # other numbers pick parts of a result of any length
    if isinstance(result, (str, bytes, bytearray)) and all(type(key) is int for key in keys):
        missing = [name for name, _ in outputs]  # its characters are no values
    else:
        missing = [name for name, key in outputs if key is not None and name not in may_lack and not _has(result, key)]
    if missing:
        lack = f"lacks {_quoted(missing)}"
    elif by_position and isinstance(result, (tuple, list)) and len(result) > len(keys):
        lack = f"has {len(result)} values and not {len(keys)}"
    else:
        return None
    import reprlib  # only an error needs these

    from taskflowx._util import masking

    names = [name for name, _ in outputs]
    needed = [repr(key) for name, key in outputs if key is not None and name not in may_lack]
    if by_position:
        wanted = f"a tuple of {len(names)}"
    elif all(type(key) is int for key in keys):
        wanted = f"a list or tuple with the items {', '.join(needed)}"
    else:
        wanted = f"a dict with the keys {', '.join(needed)}"
    if getattr(atom, "_tfx_record", None) is not None:  # one that is made of a function
        wanted = f"an object of {atom._tfx_record.__qualname__}, as it is annotated"
    shown = masking.MASK if hidden else reprlib.repr(result)
    return exceptions.ResultMismatch(
        f"The result of task '{atom.name}' {lack}: it provides {_quoted(names)}, so it must return {wanted}, and has "
        f"returned {shown} ({type(result).__name__}); correct its return value or its provides="
    )


def _has(result: Any, key: Any) -> bool:
    try:
        result[key]
    except Exception:
        return False
    return True


def clashes(plan: Plan, providers: dict[str, int | list[int]], given: Collection[str]) -> list[str]:
    """Return a sentence for each name that has more than one source.

    :param providers: name -> index of the only provider, or the list of several
    :param given: the names of the values that were given to the flow
    """
    found = []
    for name, those in providers.items():
        if not isinstance(those, int):
            found.append(
                f"'{name}' is provided by {_quoted([plan.atoms[i].name for i in those])}: have all but one of them "
                "provide another name, by provides="
            )
        if name in given:
            first = those if isinstance(those, int) else those[0]
            found.append(
                f"'{name}' is given in store= and provided by '{plan.atoms[first].name}', and the value in store= is "
                "taken: give it under another name, or leave it away"
            )
    return found


def refusal(plan: Plan, found: list[str]) -> exceptions.AmbiguousDependency:
    """Return the error for names that are given twice."""
    return exceptions.AmbiguousDependency(
        f"{plan.flow} has names with more than one value, which results='strict' refuses:\n" + "\n".join(found[:_SHOWN])
    )


_SHOWN = 10


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)

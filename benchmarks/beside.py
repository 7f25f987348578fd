"""What rows that run another engine beside ours have in common: there may be no such engine here, and it may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness import Figure, compared, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Sizes
    from benchmarks.peers import Peer


def lacks(peer: Peer, sizes: Sizes) -> str | None:
    """Say why another engine cannot be measured, or return None; it is installed first, but not by a quick run."""
    if sizes.quick and not peer.installed:
        return f"{peer.name} {peer.version} is not installed here; a full run installs it"
    return peer.install()


def figure(
    peer: Peer,
    sizes: Sizes,
    label: str,
    sides: tuple[Callable[[], float], Callable[[], float]],
    *,
    atoms: int,
    at_least: float,
    **facts: Any,
) -> Figure:
    """Compare another engine, which comes first, with ours; the bound is for full sizes.

    One turn is enough to tell: the others take many times as long, and up to half a minute.
    """
    bound = None if sizes.quick else at_least
    reason = lacks(peer, sizes)
    if reason is None:
        try:
            measured = in_turn(1, *sides, warm_up=False)
            return compared(label, measured, atoms=atoms, at_least=bound, **facts)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
    return Figure(label, at_least=bound, skipped=reason)

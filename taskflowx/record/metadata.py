"""The keys in the metadata of an atom's detail, and the facts that are kept there."""

from __future__ import annotations

from typing import Any

from taskflowx.persistence import models

INJECTED = "injected"
PROGRESS = "progress"
PROGRESS_DETAILS = "progress_details"
#: of an atom that asks for them: which attempt its call is, within which round of the retries around it
ATTEMPT = "attempt"
REVERT_ATTEMPT = "revert_attempt"
ROUND = "round"
#: of an atom whose execute was never called, as when an argument could not be had: nothing is to be undone
NOT_CALLED = "not_called"


def progress_facts(progress: float, details: dict[str, Any] | None) -> dict[str, Any]:
    """Return the metadata of an atom that has reported progress.

    :param progress: from 0.0 to 1.0
    :param details: facts about it; None leaves the ones there as they are
    """
    facts: dict[str, Any] = {PROGRESS: progress}
    if details is not None:
        facts[PROGRESS_DETAILS] = {"at_progress": progress, "details": details} if details else None
    return facts


def is_let_go(detail: Any) -> bool:
    """Tell whether an atom has a result that was not kept."""
    return models.META_LET_GO in (getattr(detail, "own_meta", None) or ())

"""The linear flow: members run one after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from taskflowx import flow
from taskflowx._util import joins


class Flow(flow.Flow):
    """A flow whose members run in the order in which they were added, and are reverted in the opposite order."""

    def iter_links(self) -> Iterator[flow.Link]:
        """Iterate over (member, the next one, attributes)."""
        return ((u, v, {flow.LINK_INVARIANT: True}) for u, v in itertools.pairwise(self._tfx_members))

    def _tfx_join(self, members: list[tuple[Any, flow.Names]]) -> tuple[set[str], set[str]]:
        unmet: set[str] = set()
        given: set[str] = set()
        for _, names in members:
            unmet = joins.merged(unmet, joins.without(names.requires, given))
            given = joins.merged(given, names.provides)
        return unmet, given


Flow._tfx_pattern = Flow

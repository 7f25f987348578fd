"""The unordered flow: members do not depend on each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskflowx import flow
from taskflowx._util import joins


class Flow(flow.Flow):
    """A flow whose members may run in any order and concurrently; no member sees the results of another."""

    def iter_links(self) -> Iterator[flow.Link]:
        """Iterate over nothing: an unordered flow has no links."""
        return iter(())

    def _tfx_join(self, members: list[tuple[Any, flow.Names]]) -> tuple[set[str], set[str]]:
        return joins.union(names.requires for _, names in members), joins.union(names.provides for _, names in members)


Flow._tfx_pattern = Flow

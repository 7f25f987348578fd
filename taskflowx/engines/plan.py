"""A compiled flow: the data that a run goes by. `engines.compile` makes it, and nothing changes it afterwards.

What must stay true:

- Index order is a topological order.
- The atoms of a flow, nested ones included, have consecutive indices: a flow, and so the region that a retry controls,
  is a range. A retry is the first atom of its range.
- The successors of a node are in ascending order.
- A barrier is a no-op node (its atom is None) that stands where many nodes precede many others, so that W x W edges
  are 2W, and where much ends in flows that are nested deeply. It has at least two predecessors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import controls
from taskflowx._util import reprs

if TYPE_CHECKING:
    from taskflowx import deciders, flow
    from taskflowx.controls import Controls
    from taskflowx.engines.limit_names import Limited
    from taskflowx.engines.policies import Policy
    from taskflowx.signature import Signature

    Nodes = tuple[int, ...]

LINEAR, UNORDERED, GRAPH = "linear", "unordered", "graph"


class Vote(NamedTuple):
    """One decider that is asked before an atom runs.

    `source` is the index of the atom whose result it is shown, or -1 for a flow, which contributes nothing.
    """

    source: int
    decider: Callable[..., Any]
    depth: deciders.Depth


class FlowRange:
    """The range of indices `lo <= i < hi` that one flow takes, and how its members are ordered.

    `controller` is the index of the nearest retry that controls the members, -1 if there is none; `retry` is that of
    the flow's own one. Graph flows keep where each member begins (`starts`) and which members each one directly
    follows (`before`), by the position of the member. `jump` is a flow around this one, some `depth` further out: by
    these and the parents each flow around is reached in a number of steps that is logarithmic in the depth.
    """

    __slots__ = ("before", "controller", "depth", "flow", "hi", "jump", "kind", "lo", "parent", "retry", "starts")

    def __init__(self, spanned: flow.Flow, kind: str, parent: int, lo: int, controller: int) -> None:
        self.flow = spanned
        self.kind = kind
        self.parent = parent
        self.lo = lo
        self.hi = lo
        self.retry = -1
        self.controller = controller
        self.depth = 0
        self.jump = -1
        self.starts: list[int] = []
        self.before: list[tuple[int, ...]] = []

    def follows(self, later: int, earlier: int) -> bool:
        """Tell whether, in a graph flow, the member at index `later` comes after the one at index `earlier`."""
        wanted = bisect_right(self.starts, earlier) - 1
        last = bisect_right(self.starts, later) - 1
        seen = {last}
        stack = [last]
        while stack:
            before = self.before[stack.pop()]
            if wanted in before:
                return True
            further = [m for m in before if m > wanted and m not in seen]
            seen.update(further)
            stack.extend(further)
        return False


class Plan:
    """What must happen: the atoms of a flow in a topological order, and the edges between them.

    All lists are indexed by node. `plain[i]` is 1 for a task that has no decider before it and whose result is stored
    whole or not at all, which is what the scheduler's short path takes; `votes` has an entry only where deciders are.
    `rank` orders the nodes by priority and then by index; it is None when no atom has a priority. `controls` has an
    entry only for tasks with settings beside a controller (only those with limits alone are plain), `limited` what
    limits they have, and `timeouts` one for each flow with a time limit: (lo, hi, seconds, range), an outer flow after
    those in it. `around` has, for each flow that stands for a task with a controller of its own, and that no user has
    made, the index of the task. `controlled` tells whether to look for such tasks at all.
    """

    def __init__(self, root: Any) -> None:
        self.flow = root
        self.atoms: list[Any] = []
        self.pred: list[Nodes] = []
        self.succ: list[list[int] | Nodes] = []
        self.flow_of: list[int] = []
        self.ranges: list[FlowRange] = []
        self.votes: dict[int, tuple[Vote, ...]] = {}
        self.names: dict[str, int] = {}
        self.signature: Signature | None = None  # that of all atoms, if they share one and no node is a barrier
        self.limited: Limited | None = None
        self.barriers = 0  # how many of the nodes are barriers
        self.awaits = False  # whether it is to run where coroutines are awaited
        self.awaits_before: set[int] = set()  # atoms before which a decider is one
        self.awaits_after: set[int] = set()  # retries of which `on_failure` is one
        self.whens: set[int] = set()  # atoms before which a decider takes values of further ones
        self.looked_at: set[type] = set()  # classes of tasks whose methods have been checked
        self.looked_at_retries: set[type] = set()
        self.degree: list[int] = []  # how many predecessors each node has
        self.fan_out: list[int] = []  # how many successors
        self.plain: list[int] = []
        self.sources: list[int] = []  # nodes without predecessors
        self.rank: list[tuple[int, int]] | None = None
        self.controls: dict[int, Controls] = {}
        self.timeouts: list[tuple[int, int, float, FlowRange]] = []
        self.times_calls = False  # whether a call has a time limit
        self.around: dict[int, int] = {}  # index of a range -> that of the task
        self.controlled = controls.Use.ever
        self.unknown: dict[int, Policy] = {}  # what is done about calls whose outcome nobody knows

    def __len__(self) -> int:
        return len(self.atoms)

    @reprs.one_line
    def __repr__(self) -> str:
        atoms = reprs.number_of(len(self.atoms) - self.barriers, "atom")
        return f"Plan of {self.flow.name!r}: {atoms}, {reprs.number_of(len(self.ranges), 'flow')}"

    def home(self, i: int) -> int:
        """Return the index of the flow that a user has put atom `i` into."""
        home = self.flow_of[i]
        return self.ranges[home].parent if home in self.around else home

    def controller(self, i: int) -> int:
        """Return the index of the retry that is asked when node `i` fails, or -1."""
        span = self.ranges[self.flow_of[i]]
        if span.retry != i:
            return span.controller
        return self.ranges[span.parent].controller if span.parent >= 0 else -1

    def region(self, r: int) -> tuple[int, int]:
        """Return the range (lo, hi) that the retry at index `r` controls; itself is its first node."""
        span = self.ranges[self.flow_of[r]]
        return r, span.hi

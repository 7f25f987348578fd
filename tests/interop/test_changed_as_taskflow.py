"""A run goes on in a changed flow: by the rules of `judge`, and to the end of TaskFlow where that keeps these.

TASKFLOWX_CHANGED_FLOWS=10000 (with --timeout=0) looks at so many random flows, from the seed TASKFLOWX_CHANGED_SEED on.
"""

from __future__ import annotations

import os

import pytest

from tests.interop import changed, sides

COUNT = int(os.environ.get("TASKFLOWX_CHANGED_FLOWS", "20"))
FIRST = int(os.environ.get("TASKFLOWX_CHANGED_SEED", "0"))


@pytest.mark.timeout(300)  # TaskFlow takes its time on a machine that is busy
@pytest.mark.parametrize("kind", sides.FILES)
def test_a_changed_flow_ends_as_on_taskflow(kind, peers, folder):
    stores = sides.Stores(kind, folder, *peers)
    count = COUNT if kind == "dir" else COUNT // 5  # TaskFlow takes long on SQLite
    seeds = range(FIRST, FIRST + count) if kind == "dir" else range(FIRST + COUNT, FIRST + COUNT + count)
    cases = [case for seed in seeds if (case := changed.run_case(seed, stores, *peers)) is not None]
    assert [str(case) for case in cases if case.wrong["taskflowx"] or case.differs] == []
    assert len(cases) > count // 2

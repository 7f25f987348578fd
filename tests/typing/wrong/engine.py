"""What an engine does not have."""

from __future__ import annotations

import taskflowx

engine = taskflowx.load(taskflowx.linear("f"))
engine.start()  # wrong
engine.run(timeout="10")  # wrong
engine.reset(force=None)  # wrong
state: int = next(engine.run_iter())  # wrong
engine.storage.fetch(3)  # wrong
engine.resolve_failed("a", "no money")  # wrong
engine.rollback(to=3)  # wrong
engine.skip("a", by=3)  # wrong
names: list[int] = engine.not_undone()  # wrong

"""The calls that the engine lets an executor start by itself, as the next ones of a chain."""

from taskflowx.executors import base


def chained_calls(monkeypatch):
    """Return a list that gets the index of each call that is made as the next of a chain."""
    made = []
    init = base.Call.__init__

    def note(self, index, atom, verb, kwargs, awaited=None):
        init(self, index, atom, verb, kwargs, awaited)
        if awaited is not None:
            made.append(index)

    monkeypatch.setattr(base.Call, "__init__", note)
    return made

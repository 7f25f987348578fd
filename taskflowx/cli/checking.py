"""`taskflowx check`: whether a flow compiles, what it needs, and whether its values are of the types that are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, flow as flows
from taskflowx.cli import exits, given, output, stores, targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskflowx.runs import takeover


def check(target: str, inputs: given.Inputs, executor: str | None, against: str | None, *, as_json: bool) -> int:
    """Check a flow, print what was found, and return the exit code.

    :param target: 'module:flow'
    :param inputs: values for its inputs, whose types are checked too
    :param executor: the executor that it is to run on
    :param against: the store whose unfinished runs it is held against; None for none
    """
    with output.reserved(for_json=as_json):
        flow = targets.load(target)
        found = _look_at(flow, inputs.read(lambda: given.taken_as_text(flow)), executor)
        verdicts = [] if against is None else _verdicts(flow, against, executor)
        if against is not None:
            found["runs"] = [dict(zip(verdict._fields, verdict, strict=True)) for verdict in verdicts]
    if as_json:
        output.print_json(found)
    else:
        lines = [
            f"{found['flow']}: {_counted(found['tasks'], 'task')}, {_counted(found['retries'], 'retry controller')}"
        ]
        for what in ("needs", "provides"):
            lines += [f"{what} {', '.join(found[what])}"] if found[what] else []
        print("\n".join(lines), flush=True)
        for verdict in verdicts:
            print(f"{verdict.run_id}  {verdict.state}  {_said_of(verdict)}", flush=True)
        for fault in found["faults"]:
            output.note(f"fault: {fault}")
        output.note("no fault was found" if not found["faults"] else _counted(len(found["faults"]), "fault"))
    return exits.FAILED if found["faults"] or any(verdict.refused for verdict in verdicts) else exits.DONE


def _verdicts(flow: Any, against: str, executor: str | None) -> list[takeover.Verdict]:
    from taskflowx.runs import takeover

    with stores.opened(against) as backend:
        return takeover.verify(flow, backend, executor=executor)


def _said_of(verdict: takeover.Verdict) -> str:
    if verdict.refused is not None:
        return f"is refused: {verdict.refused}"
    said = {
        "keeps": verdict.keeps,
        "undoes": verdict.undoes,
        "repeats": verdict.repeats,
        "runs": verdict.runs,
        "waits for answers about": verdict.asks,
    }
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in said.items() if names) or "nothing is left to do"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _look_at(flow: Any, store: Mapping[str, Any], executor: str | None) -> dict[str, Any]:
    from taskflowx import engines, retry
    from taskflowx.engines import binding, wiring

    needs, faults = sorted(set(flow.requires) - set(store) - set(binding.CALL_FACTS)), []
    atoms = list(flows.atoms_of(flow)) if isinstance(flow, flows.Flow) else [flow]
    retries = sum(isinstance(one, retry.Retry) for one in atoms)
    try:
        # What the flow needs is given later: something stands for it here, whose type says nothing.
        values = {**dict.fromkeys(needs), **store}
        engine = engines.load(flow, values, executor=executor, results="strict")
        with engine:
            engine.compile()
            engine.prepare()
            engine.validate()
            plan, binder = engine.preparation.plan, engine.preparation.binder
            assert plan is not None
            assert binder is not None, "it is prepared"
            unsaid = tuple(f"store= gives '{name}' as " for name in needs)
            faults = [one for one in wiring.mismatches(plan, binder) if not one.startswith(unsaid)]
    except (exceptions.TaskFlowException, TypeError, ValueError) as error:
        faults = [str(error)]
    return {
        "flow": str(flow.name),
        "tasks": len(atoms) - retries,
        "retries": retries,
        "needs": needs,
        "provides": sorted(flow.provides),
        "faults": faults,
    }

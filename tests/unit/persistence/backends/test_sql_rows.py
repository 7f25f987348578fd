"""Rows of plain tasks are read by a path of their own, to the same details as all others."""

import pytest
from hypothesis import given, settings, strategies as st

from taskflowx import exceptions, states
from taskflowx.persistence import models
from taskflowx.persistence.backends import sql_rows
from taskflowx.types.failure import Failure
from tests.support import values

ROWS = sql_rows.Rows("sqlite")
KIND, VERSION, STATE, INTENTION, META, RESULTS, FAILURE = range(5, 12)


def row_of(**facts):
    detail = models.TaskDetail("t", "u", states.SUCCESS, "1.0")
    for name, value in facts.items():
        setattr(detail, name, value)
    return list(ROWS.of_atom(detail, "f"))


def all_of(detail):
    slots = {slot for cls in type(detail).__mro__ for slot in getattr(cls, "__slots__", ())}
    return {"class": type(detail), **{slot: getattr(detail, slot) for slot in slots if slot != "own_meta"}}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(states.ATOM_STATES),
    st.sampled_from(states.INTENTIONS),
    values.VALUES | st.none(),
    st.sampled_from(["1.0", None]),
)
def test_a_plain_task_is_read_as_any_other_row(state, intention, results, version):
    row = row_of(state=state, intention=intention, results=results, version=version)
    plain, usual = sql_rows.plain_task(row), sql_rows.atom(row)
    if plain is None:
        assert version is None or row[META] != "{}" or "taskflowx" in row[RESULTS] or "$" in row[RESULTS]
        return
    plain_results, usual_results = all_of(plain).pop("results"), all_of(usual).pop("results")
    assert values.same(plain_results, usual_results)
    assert {**all_of(plain), "results": 0} == {**all_of(usual), "results": 0}
    assert plain.meta == usual.meta == {}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[(KIND, "RETRY_DETAIL"), (KIND, "OTHER"), (VERSION, None), (VERSION, b"1.0"), (STATE, None), (STATE, "DONE")],
        *[(INTENTION, "REPEAT"), (INTENTION, None), (META, "{"), (META, '{"a": 1}'), (META, None), (RESULTS, "{")],
        *[(RESULTS, b"1"), (FAILURE, "{}"), (FAILURE + 1, "1"), (FAILURE + 2, "{}"), (0, b"u"), (1, None)],
    ],
)
def test_each_other_row_is_left_to_the_usual_way(column, value):
    row = row_of(results=1)
    assert sql_rows.plain_task(row) is not None
    row[column] = value
    assert sql_rows.plain_task(row) is None


def test_a_task_that_has_failed_or_has_metadata_is_left_to_the_usual_way():
    assert sql_rows.plain_task(row_of(failure=Failure.from_exception(ValueError("no")))) is None
    assert sql_rows.plain_task(row_of(own_meta={"progress": 0.5})) is None
    with pytest.raises(exceptions.StorageFailure, match="'t'"):
        sql_rows.atom([*row_of()[:RESULTS], "{", None, None, None])

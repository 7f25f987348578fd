"""What is on the page of a report. How it looks and behaves in a browser: acceptance/test_report_in_browser.py."""

import re

import pytest

from taskflowx import exceptions, states
from taskflowx.reports import facts, page
from taskflowx.types.failure import Failure
from tests.support.reports import START, called, facts_of, history, history_of_calls


def failure_of(error):
    try:
        raise error
    except type(error):
        return Failure()


def text_of(made, section=None):
    """Return the text of a page, or of one of its sections, with single spaces; None when it is not there."""
    if section is not None:
        found = re.search(rf'<section id="{section}".*?</section>', made, re.DOTALL)
        if found is None:
            return None
        made = found[0]
    return " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", made, flags=re.DOTALL).split())


def rows_of(made, section):
    """Return the rows of the table in a section, the headings first."""
    part = re.search(rf'<section id="{section}".*?</section>', made, re.DOTALL)[0]
    table = re.search(r"<table.*?</table>", part, re.DOTALL)[0]
    return [
        [re.sub("<[^>]*>", "", cell).strip() for cell in re.split(r"<t[hd](?: [^>]*)?>", row)[1:]]
        for row in table.split("<tr>")[1:]
    ]


def atom(name, state=states.SUCCESS, **kwargs):
    return facts.Atom(name, "task", "flow", state, **kwargs)


def outcome(**kwargs):
    return re.search(r'<p class="outcome">(.*?)\n<dl>', page.page(facts_of(**kwargs)), re.DOTALL)[1]


def test_the_outcome_of_a_success():
    assert outcome() == "All 3 atoms succeeded."
    atoms = [atom("a"), atom("b", states.IGNORE)]
    assert outcome(atoms=atoms) == "1 of 2 atoms succeeded; a decider skipped the other."
    assert outcome(atoms=[atom("a")]) == "Its only atom succeeded."


def test_the_outcome_of_a_failure_says_why_and_what_stands():
    bad = atom("b", states.REVERTED, failure=failure_of(ValueError("no <parcel>")))
    said = outcome(state=states.REVERTED, atoms=[bad])
    assert said == '<bdi class="n">b</bdi> failed: <b>ValueError</b>: no &lt;parcel&gt;. All that had run was undone.'
    said = outcome(state=states.REVERTED, atoms=[bad], not_undone=["a"])
    assert said.endswith("It was undone, but for 1 atom, named below.")
    said = outcome(state=states.FAILURE, atoms=[bad], not_undone=["a", "c"])
    assert said.endswith("It is not fully undone: 2 atoms still stand.")
    stuck = atom("a", states.REVERT_FAILURE, failure=failure_of(OSError("still open")))
    said = outcome(state=states.FAILURE, atoms=[stuck, bad], not_undone=["a"])
    assert re.sub("<.*?>", "", said) == (
        "b failed: ValueError: no &lt;parcel&gt;. The revert of a failed: OSError: still open. "
        "It is not fully undone: 1 atom still stands."
    )


def test_the_outcome_of_what_is_not_over():
    atoms = [atom("a"), atom("b", states.RUNNING, note="waits until tomorrow"), atom("c", states.PENDING)]
    said = outcome(state=states.SUSPENDED, atoms=atoms)
    assert said.startswith("It is suspended, and can be run on: 1 of 3 atoms have succeeded, 1 have not run.")
    assert said.endswith('<bdi class="n">b</bdi> waits until tomorrow.')
    said = outcome(state=states.RUNNING, atoms=atoms, owner="host:1")
    assert "It had not ended when this was written" in said
    assert "host:1 runs it." in said


def test_a_cancelled_run_says_so():
    said = outcome(state=states.REVERTED, cancelled="the <b>shop</b> has closed")
    assert said == "It was cancelled: the &lt;b&gt;shop&lt;/b&gt; has closed. All that had run was undone."


def test_what_is_not_undone_is_named_when_it_should_have_been():
    made = page.page(facts_of(state=states.FAILURE, not_undone=["a", "b"]))
    assert text_of(made, "not-undone") == "Not undone These have run, and were not reverted: a b"
    for state in (states.SUCCESS, states.SUSPENDED, states.RUNNING):
        assert text_of(page.page(facts_of(state=state, not_undone=["a", "b"])), "not-undone") is None
    many = [f"t{i}" for i in range(300)]
    assert text_of(page.page(facts_of(state=states.FAILURE, not_undone=many)), "not-undone").endswith("And 100 more.")


def test_a_failure_has_its_causes_its_traceback_and_what_ran_before():
    try:
        raise ValueError("outer") from KeyError("inner")
    except ValueError:
        failed = Failure()
    atoms = [atom("a"), atom("b"), atom("c", states.FAILURE, failure=failed)]
    entries = history_of_calls(called("a", 0, 0, 1), called("b", 1, 1, 3), called("c", 3, 3, 4, failure="ValueError"))
    said = text_of(page.page(facts_of(entries, atoms=atoms, state=states.FAILURE)), "failures")
    assert "ValueError : outer caused by KeyError : &#x27;inner&#x27;" in said
    assert "Traceback File" in said
    assert said.index("b ✓ SUCCESS , 2 s") < said.index("a ✓ SUCCESS , 1 s")


def test_what_ran_before_a_failure_is_bounded():
    names = [f"t{i}" for i in range(100)]
    atoms = [*(atom(name) for name in names[:-1]), atom("t99", states.FAILURE, failure=failure_of(OSError("x")))]
    said = text_of(page.page(facts_of(names=names, atoms=atoms)), "failures")
    assert "t98" in said
    assert "t50" not in said
    assert "Those further back are not shown." in said


def test_many_failures_are_counted():
    atoms = [atom(f"t{i}", states.FAILURE, failure=failure_of(OSError(f"error {i}"))) for i in range(60)]
    said = text_of(page.page(facts_of(names=[one.name for one in atoms], atoms=atoms)), "failures")
    assert "error 49" in said
    assert "error 50" not in said
    assert "10 more have failed" in said


def test_attempts_that_failed_are_told():
    earlier = [(1, "b", failure_of(OSError("first"))), (2, "b", failure_of(OSError("second")))]
    atoms = [facts.Atom("again", "retry", "flow", states.SUCCESS, earlier=earlier)]
    said = text_of(page.page(facts_of(atoms=atoms)), "failures")
    assert "attempt 1: b : OSError : first attempt 2: b : OSError : second" in said
    entries = history_of_calls(
        called("b", 0, 0, 1, failure="OSError"), called("b", 2, 2, 4, failure="ValueError", attempt=2)
    )
    said = text_of(page.page(facts_of(entries)), "failures")
    assert said.endswith("b , attempt 1, after 1 s: OSError b , attempt 2, after 4 s: ValueError")


def test_a_run_without_failures_has_no_part_on_them():
    made = page.page(facts_of(history_of_calls(called("a", 0, 0, 1))))
    assert text_of(made, "failures") is None
    assert 'href="#failures"' not in made


def test_the_table_has_the_times_and_only_columns_that_say_something():
    entries = history_of_calls(called("a", 0, 0.5, 1, "taskflowx-worker-1"), called("b", 1, 1, 3, "process 7"))
    made = page.page(facts_of(entries))
    assert rows_of(made, "atoms-table") == [
        ["name", "state", "began, s", "waited, s", "ran, s", "worker"],
        ["a", "SUCCESS", "0.5", "0.5", "0.5", "worker-1"],
        ["b", "SUCCESS", "1", "0", "2", "process 7"],
        ["c", "SUCCESS", "", "", "", ""],
    ]
    atoms = [atom("a", seconds=1.5, result="int", attempts=2), atom("b", note="waits for an answer")]
    assert rows_of(page.page(facts_of(atoms=atoms)), "atoms-table") == [
        ["name", "state", "attempts", "ran, s", "result", "note"],
        ["a", "SUCCESS", "2", "1.5", "int", ""],
        ["b", "SUCCESS", "", "", "", "waits for an answer"],
    ]


def test_an_atom_has_the_times_of_its_last_execute_and_the_sum_of_all_calls():
    entries = history_of_calls(
        called("a", 0, 0, 1, "w1", failure="OSError"),
        called("a", 2, 3, 5, "w2", attempt=2),
        called("a", 6, 6, 7, "w3", reverts=True, attempt=2),
    )
    [heads, row, *_] = rows_of(page.page(facts_of(entries)), "atoms-table")
    assert dict(zip(heads, row, strict=True)) == {
        "name": "a",
        "state": "SUCCESS",
        "attempts": "2",
        "began, s": "3",
        "waited, s": "1",
        "ran, s": "4",
        "worker": "w2",
    }


def test_the_rollback_is_in_its_order():
    entries = history_of_calls(
        called("c", 3, 3, 4, reverts=True),
        called("a", 9, 9, 10, reverts=True, failure="OSError"),
        called("b", 4, 5, 9, reverts=True),
    )
    rows = rows_of(page.page(facts_of(entries, state=states.FAILURE)), "rollback")
    assert rows[0] == ["order", "atom", "outcome", "failure", "began, s", "waited, s", "ran, s"]
    assert [row[1:4] for row in rows[1:]] == [
        ["c", "↶ REVERTED", ""],
        ["b", "↶ REVERTED", ""],
        ["a", "⚠ REVERT_FAILURE", "OSError"],
    ]


def test_without_a_history_the_page_says_so():
    atoms = [atom("a", states.REVERTED), atom("b", states.PENDING)]
    made = page.page(facts_of(atoms=atoms, state=states.REVERTED))
    assert "No history of this run was kept" in text_of(made, "timeline")
    assert text_of(made, "rollback") == "Rollback The order is not on record. These were reverted: a"
    assert text_of(made, "critical-path") is None
    assert text_of(made, "raw-history") is None


def test_without_links_there_is_no_critical_path():
    made = page.page(facts_of(history_of_calls(called("a", 0, 0, 1)), links=None))
    assert "it is not known what waited for what" in text_of(made, "critical-path")
    assert "A report of its engine has the graph." in text_of(made, "graph")


def test_a_long_critical_path_shows_its_longest_steps_in_their_order():
    names = [f"t{i}" for i in range(300)]
    at, calls = 0, []
    for i, name in enumerate(names):
        calls.append(called(name, at, at, at + (5 if i % 3 == 0 else 1)))
        at += 5 if i % 3 == 0 else 1
    made = page.page(facts_of(history_of_calls(*calls), names=names))
    assert "It has 300 steps; the longest 100 are shown." in text_of(made, "critical-path")
    assert [row[0] for row in rows_of(made, "critical-path")[1:]] == names[::3]


def test_what_was_done_by_hand_is_listed():
    deeds = [
        facts.Deed("skip", "a", "ann@host:7", START, "<done>"),
        facts.Deed("rollback", None, "bob", float("nan"), None),
    ]
    assert rows_of(page.page(facts_of(by_hand=deeds)), "by-hand") == [
        ["when", "what", "atom", "who", "reason"],
        ["2023-11-14 22:13:20 UTC", "skip", "a", "ann@host:7", "&lt;done&gt;"],
        ["", "rollback", "", "bob", ""],
    ]


def test_lanes_are_by_worker_and_say_how_busy_it_was():
    entries = history_of_calls(called("a", 0, 0, 5, "w1"), called("b", 0, 5, 10, "w1"), called("c", 0, 0, 1, "w2"))
    made = page.page(facts_of(entries))
    said = text_of(made, "timeline")
    assert "w1 2 calls · 100% busy · 5 s waited" in said
    assert "w2 1 call · 10% busy" in said
    lanes = re.findall(r'<svg viewBox="0 0 2000 (\d+)".*?</svg>', made, re.DOTALL)
    assert len(lanes) == 2
    assert made.count('<path class="wait" d="M0 19h1000v6h-1000z"/>') == 1  # below the bars, not among them


def test_calls_of_one_worker_at_the_same_time_are_above_each_other():
    entries = history_of_calls(called("a", 0, 0, 5, "loop"), called("b", 0, 1, 10, "loop"))
    made = page.page(facts_of(entries))
    bars = re.findall(r'<rect class="ok" x="(\d+)" y="(\d+)" width="(\d+)"', made)
    assert bars == [("0", "0", "998"), ("200", "16", "1798")]
    assert "2 calls · 100% busy" in text_of(made, "timeline")


def test_many_workers_and_many_calls_are_drawn_in_part():
    workers = [called(f"t{i}", i, i, i + 1, f"w{i}") for i in range(60)]
    made = page.page(facts_of(history_of_calls(*workers), names=[f"t{i}" for i in range(60)]))
    assert made.count('<div class="lane">') == 48
    assert "The 12 workers with the fewest calls are not drawn." in made
    many = [called(f"t{i}", i, i, i + 0.5, "w") for i in range(20_000)]
    made = page.page(facts_of(history_of_calls(*many), names=()))
    lane = re.search('<div class="lane">.*?</svg>', made, re.DOTALL)[0]
    assert "<rect" not in lane
    assert len(lane) < 30_000


def test_an_empty_run_has_a_page():
    made = page.page(facts_of(names=(), atoms=[], state=states.PENDING))
    assert "0 of 0 atoms have succeeded" in text_of(made)
    made = page.page(facts_of(history((0, None, None, "RUNNING"))))
    assert text_of(made, "timeline") == "Timeline No atom has been called."


def test_states_of_records_that_are_not_known_are_shown():
    made = page.page(facts_of(atoms=[atom("a", "<ODD>")], state="<STRANGE>"))
    assert "<ODD>" not in made
    assert "<STRANGE>" not in made
    assert "&lt;ODD&gt;" in made


def test_a_run_is_called_by_its_id():
    made = page.page(facts_of(run_id="invoice-17"))
    assert "<title>invoice-17: SUCCESS</title>" in made
    assert '<h1>invoice-17</h1><p>A run of the flow <bdi class="n">flow</bdi>.' in made


@pytest.mark.parametrize("error", [exceptions.TaskFlowException("x"), ValueError(), OSError(2, "No such file")])
def test_any_exception_is_told(error):
    made = page.page(facts_of(atoms=[atom("a", states.FAILURE, failure=failure_of(error))], state=states.FAILURE))
    assert type(error).__name__ in text_of(made, "failures")


def test_ten_thousand_calls_that_waited_for_four_workers_fit_into_2_mb():
    names = [f"resize image {i}" for i in range(10_000)]
    rows = [
        called(name, i * 0.25 / 4, (i + 3.017) / 4, (i + 4.123457) / 4, f"taskflowx-worker-{i % 4}")
        for i, name in enumerate(names)
    ]
    atoms = [atom(name, result="dict, 1 item") for name in names]
    made = page.page(facts_of(history_of_calls(*rows), names=names, atoms=atoms))
    assert len(made.encode()) <= 2_000_000

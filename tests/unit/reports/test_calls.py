"""Calls, as they are read from a history."""

import itertools
import random

from taskflowx import states
from taskflowx.persistence.figures import Links
from taskflowx.reports import calls
from tests.support.reports import START, called, history, history_of_calls


def made(*rows):
    return calls.calls_of(history_of_calls(*rows))


def names(path):
    return [("-" if call.reverts else "") + call.atom for call in path]


def test_a_call_waits_and_then_runs():
    [call] = made(called("a", 1, 3, 7, "w1"))
    assert (call.atom, call.worker, call.outcome, call.reverts) == ("a", "w1", states.SUCCESS, False)
    assert (call.waited, call.ran) == (2, 4)


def test_a_call_whose_begin_is_not_known_has_not_waited():
    [call] = calls.calls_of(history((1, "a", "PENDING", "RUNNING"), (4, "a", "RUNNING", "SUCCESS")))
    assert (call.waited, call.ran, call.worker) == (0, 3, "")


def test_clocks_of_other_machines_make_no_time_negative():
    early, late = made(called("a", 1, -50, 2), called("b", 3, 99, 4))
    assert (early.waited, early.ran) == (0, 1)
    assert (late.waited, late.ran) == (1, 0)
    [back] = made([*reversed(called("a", 5, None, 5))][::-1])
    assert back.ran == 0


def test_a_call_that_is_made_again_was_interrupted():
    again = history(
        (1, "a", "PENDING", "RUNNING"),
        (5, "a", "RUNNING", "RUNNING", {"attempt": 2}),
        (6, "a", "RUNNING", "SUCCESS", {"attempt": 2}),
    )
    first, second = calls.calls_of(again)
    assert (first.outcome, first.ran) == (calls.INTERRUPTED, 0)
    assert (second.outcome, second.attempt, second.ran) == (states.SUCCESS, 2, 1)


def test_a_call_under_way_is_open_until_the_last_entry():
    rows = history((1, "a", "PENDING", "RUNNING"), (2, "b", "PENDING", "IGNORE"))
    [call] = calls.calls_of(rows)
    assert (call.outcome, call.ran, call.failed) == (calls.OPEN, 1, False)


def test_a_call_in_a_worker_of_ours_ends_before_the_next_one_begins():
    rows = [called("a", 0, 0, 9, "taskflowx-worker-0"), called("b", 0, 4, 9, "taskflowx-worker-0")]
    assert [(call.began - START, call.ran) for call in made(*rows)] == [(0, 4), (4, 5)]
    rows = [called("a", 0, 0, 9, "process 7"), called("b", 0, 4, 9, "process 8")]
    assert [call.ran for call in made(*rows)] == [9, 5]
    rows = [called("a", 0, 0, 9, "MainThread"), called("b", 0, 4, 9, "MainThread")]  # coroutines
    assert [call.ran for call in made(*rows)] == [9, 5]


def test_the_flow_and_skipped_atoms_make_no_calls():
    assert calls.calls_of(history((0, None, None, "RUNNING"), (1, "a", "PENDING", "IGNORE"))) == []


def test_the_span_begins_with_the_first_moment():
    assert calls.span_of(history((2, None, None, "RUNNING"), (9, None, "RUNNING", "SUCCESS"))) == (START + 2, START + 9)


def test_intervals_are_joined():
    assert list(calls.union([(5, 6), (0, 1), (0.5, 2), (2, 3)])) == [(0, 3), (5, 6)]
    assert list(calls.union([(0, 1), (2, 3)], apart=1)) == [(0, 3)]
    assert list(calls.union([])) == []


def test_no_two_in_a_row_overlap_and_no_row_is_spare():
    chance = random.Random(5)
    for _ in range(50):
        given = sorted((begin, begin + chance.randint(0, 9)) for begin in (chance.randint(0, 30) for _ in range(25)))
        rows = calls.rows_of(given)
        for (one, row), (other, its_row) in itertools.combinations(zip(given, rows, strict=True), 2):
            assert row != its_row or one[1] <= other[0] or other[1] <= one[0]
        busiest = max(sum(begin <= at < end for begin, end in given) for at in range(40))
        assert max(rows) + 1 <= busiest + sum(begin == end for begin, end in given)


def test_the_critical_path_goes_by_the_link_that_ended_last():
    links = Links.of_pairs("abcd", [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    path = calls.critical_path(
        made(called("a", 0, 0, 1), called("b", 1, 1, 2), called("c", 1, 2, 5), called("d", 5, 6, 7)), links
    )
    assert names(path) == ["a", "c", "d"]


def test_the_critical_path_goes_through_what_is_no_atom():
    links = Links(["a", "b", None, "c"], [(), (), (0, 1), (2,)])
    path = calls.critical_path(made(called("a", 0, 0, 4), called("b", 0, 0, 3), called("c", 4, 4, 5)), links)
    assert names(path) == ["a", "c"]
    assert sorted(links.after("a")) == ["c"]


def test_a_rollback_follows_the_failure_and_goes_backwards():
    links = Links.of_pairs("abc", [("a", "b"), ("b", "c")])
    path = calls.critical_path(
        made(
            called("a", 0, 0, 1),
            called("b", 1, 1, 2),
            called("c", 2, 2, 3, failure="ValueError"),
            called("c", 3, 3, 4, reverts=True),
            called("b", 4, 4, 5, reverts=True),
            called("a", 5, 5, 6, reverts=True),
        ),
        links,
    )
    assert names(path) == ["a", "b", "c", "-c", "-b", "-a"]


def test_a_further_attempt_follows_the_rollback_before_it():
    links = Links.of_pairs("ra", [("r", "a")])
    path = calls.critical_path(
        made(
            called("r", 0, 0, 1),
            called("a", 1, 1, 2, failure="OSError"),
            called("a", 2, 2, 3, reverts=True),
            called("r", 3, 3, 4, attempt=2),
            called("a", 4, 4, 5, attempt=2),
        ),
        links,
    )
    assert names(path) == ["r", "a", "-a", "r", "a"]


def test_calls_of_one_moment_have_a_path_with_an_end():
    rows = [called(f"t{i}", 0, 0, 0) for i in range(200)]
    links = Links.of_pairs([f"t{i}" for i in range(200)], [(f"t{i}", f"t{i + 1}") for i in range(199)])
    assert len(calls.critical_path(made(*rows), links)) <= 200


def test_no_calls_have_no_path():
    assert calls.critical_path([], Links([], [])) == []


def test_links_to_what_is_not_there_count_for_nothing():
    links = Links.of_pairs("ab", [("a", "b"), ("gone", "b"), ("a", "gone")])
    assert list(links.before("b")) == ["a"]
    assert list(links.before("unknown")) == []

"""One move of the Walk at a time, without a scheduler and without threads."""

from __future__ import annotations

import copy

import pytest

from taskflowx import retry, states
from taskflowx.engines import walk as walks
from taskflowx.engines.compile import compile_flow
from taskflowx.persistence import models
from tests.support.flows import Plain as Work, graph, linear, plain, unordered

CLEAR = walks.CLEAR


COUNTERS = ("unmet", "standing", "ready", "undo", "rolling_back", "failed", "interrupted", "plain")


class Board:
    """A plan, the details of its atoms and a Walk over them, spoken to by name."""

    def __init__(self, flow, *, go_on=False, **given):
        self.plan = compile_flow(flow)
        self.go_on = go_on
        self.details = []
        for atom in self.plan.atoms:
            detail = None
            if atom is not None:
                kind = models.RetryDetail if isinstance(atom, retry.Retry) else models.TaskDetail
                detail = kind(atom.name)
                detail.state = states.PENDING
            self.details.append(detail)
        for name, facts in given.items():
            self.put(name, *facts.split())
        self.walk = walks.Walk(self.plan, self.details, go_on=go_on)
        self.walk.open()
        if not given:  # nothing has happened yet
            fresh = walks.Walk(self.plan, self.details, go_on=go_on)
            fresh.open_new()
            assert [getattr(fresh, name) for name in COUNTERS] == [getattr(self.walk, name) for name in COUNTERS]

    def at(self, name):
        return self.plan.names[name]

    def put(self, name, state, intention=states.EXECUTE):
        detail = self.details[self.at(name)]
        detail.state, detail.intention = state, intention

    def names(self, indices):
        return sorted(self.plan.atoms[i].name for i in indices)

    @property
    def ready(self):
        return self.names(self.walk.ready)

    @property
    def undo(self):
        return self.names(self.walk.undo)

    def of(self, counters):
        return {name: counters[i] for name, i in self.plan.names.items()}

    def ran(self, *names):
        for name in names:
            self.walk.ready.remove(self.at(name))
            self.put(name, states.SUCCESS)
            self.walk.ran(self.at(name))

    def reverted(self, *names):
        for name in names:
            self.walk.undo.remove(self.at(name))
            self.put(name, states.REVERTED, states.REVERT)
            self.walk.cleared(self.at(name))

    def failed(self, name):
        self.walk.ready.remove(self.at(name))
        self.put(name, states.FAILURE)

    def start(self, name):
        self.walk.ready.remove(self.at(name))
        self.put(name, states.RUNNING)

    def turn_all(self):
        self.walk.roll_back(0, len(self.plan))

    def same_as_rebuilt(self):
        """What a new Walk over the same details has must be what this one has come to, if nothing is under way."""
        again = walks.Walk(self.plan, copy.deepcopy(self.details), go_on=self.go_on)
        again.open()
        assert again.unmet == self.walk.unmet
        assert again.standing == self.walk.standing
        assert sorted(again.ready) == sorted(self.walk.ready)
        assert sorted(again.undo) == sorted(self.walk.undo)
        assert again.plain == self.walk.plain


# -- forward ---------------------------------------------------------------------------------------


def test_at_first_what_nothing_precedes_is_ready_and_nothing_turns_round():
    board = Board(graph("g", *(m := plain("a", "b", "c")), links=[(m[0], m[2])]))
    assert board.ready == ["a", "b"]
    assert (board.undo, board.walk.rolling_back, board.walk.failed) == ([], [], [])
    assert set(board.walk.standing) == {CLEAR}


def test_ran_releases_what_waited_for_it_alone():
    a, b, c, d = plain("a", "b", "c", "d")
    board = Board(graph("g", a, b, c, d, links=[(a, c), (a, d), (b, d)]))
    board.ran("a")
    assert board.ready == ["b", "c"]
    assert board.of(board.walk.unmet) == {"a": 0, "b": 0, "c": 0, "d": 1}
    board.ran("b")
    assert board.ready == ["c", "d"]
    board.same_as_rebuilt()


def test_a_gate_is_passed_when_all_before_it_have_run():
    board = Board(linear("f", unordered("u", *plain("a", "b")), unordered("v", *plain("c", "d"))))
    board.ran("a")
    assert board.ready == ["b"]
    board.ran("b")
    assert board.ready == ["c", "d"]
    board.same_as_rebuilt()


def test_gates_after_each_other_are_passed_in_one_move():
    wide = [unordered(f"u{k}", *plain(f"{k}a", f"{k}b")) for k in range(2)]
    nested = unordered("outer", unordered("inner", *plain("c", "d")), *plain("e"))
    board = Board(linear("f", *wide, nested))
    board.ran("0a", "0b", "1a", "1b")
    assert board.ready == ["c", "d", "e"]


def test_reached_takes_in_an_atom_and_passes_an_ignored_one():
    board = Board(linear("f", *plain("a", "b", "c")))
    board.put("b", states.IGNORE, states.IGNORE)
    board.walk.plain[board.at("b")] = 0
    board.ran("a")
    assert board.ready == ["c"]
    assert board.walk.plain[board.at("b")] == 0


def test_ignore_passes_the_first_at_once_and_the_others_when_they_are_reached():
    a, b, c, d = plain("a", "b", "c", "d")
    board = Board(graph("g", a, b, c, d, links=[(a, b), (b, c), (d, c)]))
    board.ran("a")
    board.walk.ready.remove(board.at("b"))
    for name in ("b", "c"):
        board.put(name, states.IGNORE, states.IGNORE)
    board.walk.ignore(board.at("b"), [board.at("b"), board.at("c")])
    assert board.ready == ["d"]
    board.same_as_rebuilt()
    board.ran("d")
    assert board.ready == []
    assert board.walk.unmet == [0, 0, 0, 0]
    board.same_as_rebuilt()


# -- backward --------------------------------------------------------------------------------------


def test_turn_makes_ready_to_undo_what_nothing_that_stands_follows():
    a, b, c, d = plain("a", "b", "c", "d")
    board = Board(graph("g", a, b, c, d, links=[(a, b), (a, c), (b, d)]))
    board.ran("a", "b")
    board.failed("c")
    board.turn_all()
    assert board.undo == ["b", "c"]
    assert board.ready == []
    assert board.of(board.walk.standing) == {"a": 2, "b": 0, "c": 0, "d": CLEAR}
    assert {detail.intention for detail in board.details} == {states.REVERT}
    assert board.walk.rolling_back == [(0, 4)]
    board.same_as_rebuilt()


def test_what_never_ran_is_cleared_and_never_undone():
    board = Board(linear("f", *plain("a", "b", "c", "d")))
    board.ran("a")
    board.failed("b")
    board.turn_all()
    assert board.undo == ["b"]
    board.reverted("b")
    assert board.undo == ["a"]
    board.reverted("a")
    assert (board.undo, board.ready) == ([], [])
    assert set(board.walk.standing) == {CLEAR}
    board.same_as_rebuilt()


def test_cleared_releases_a_predecessor_only_when_all_after_it_are_cleared():
    a, b, c = plain("a", "b", "c")
    board = Board(graph("g", a, b, c, links=[(a, b), (a, c)]))
    board.ran("a", "b", "c")
    board.turn_all()
    board.reverted("c")
    assert board.undo == ["b"]
    board.same_as_rebuilt()
    board.reverted("b")
    assert board.undo == ["a"]


def test_cleared_passes_gates_and_what_is_ignored():
    one, two = unordered("u", *plain("a", "b")), unordered("v", *plain("c", "d"))
    board = Board(linear("f", one, two), a="SUCCESS", b="IGNORE IGNORE", c="SUCCESS", d="FAILURE")
    board.turn_all()
    assert board.undo == ["c", "d"]
    board.reverted("c", "d")
    assert board.undo == ["a"]
    board.same_as_rebuilt()


def test_what_is_running_holds_its_predecessors_until_it_has_finished_and_is_undone():
    board = Board(linear("f", *plain("a"), unordered("u", *plain("b", "c"))))
    board.ran("a")
    board.start("b")
    board.failed("c")
    board.turn_all()
    assert board.undo == ["c"]
    assert board.of(board.walk.standing) == {"a": 2, "b": 0, "c": 0}
    board.put("b", states.SUCCESS, states.REVERT)
    board.walk.finished(board.at("b"))
    assert board.undo == ["b", "c"]
    board.same_as_rebuilt()


def test_what_finishes_while_something_after_it_stands_waits():
    board = Board(linear("f", *plain("a", "b")), a="RUNNING", b="SUCCESS")
    board.walk.ready = []
    board.turn_all()
    board.put("a", states.SUCCESS, states.REVERT)
    board.walk.finished(board.at("a"))
    assert board.undo == ["b"]


def test_a_failed_revert_holds_what_precedes_it_and_nothing_else():
    a, b, c, d = plain("a", "b", "c", "d")
    board = Board(graph("g", a, b, c, d, links=[(a, b), (c, d)]))
    board.ran("a", "b", "c", "d")
    board.turn_all()
    board.walk.undo.remove(board.at("b"))
    board.put("b", states.REVERT_FAILURE, states.REVERT)
    board.reverted("d")
    assert board.undo == ["c"]
    board.reverted("c")
    assert board.undo == []
    assert board.walk.standing[board.at("a")] == 1


def inner_revert_failed(*, go_on):
    """An inner region has turned round and the revert of b in it has failed, when all of the flow turns round."""
    inner = unordered("inner", *plain("b", "x"), controller=retry.Times(1, "r"))
    board = Board(unordered("u", linear("f", *plain("a"), inner), *plain("y")), go_on=go_on)
    board.ran("a", "r", "b")
    board.failed("x")
    board.walk.roll_back(*board.plan.region(board.at("r")))
    board.walk.undo.remove(board.at("b"))
    board.put("b", states.REVERT_FAILURE, states.REVERT)
    if go_on:
        board.walk.cleared(board.at("b"))
    board.failed("y")
    board.turn_all()
    return board


def test_a_run_that_goes_on_passes_a_revert_that_failed_before_the_turn():
    board = inner_revert_failed(go_on=True)
    assert board.undo == ["x", "y"]
    board.reverted("x")
    assert board.undo == ["r", "y"]


def test_a_run_that_halts_waits_for_a_revert_that_failed_before_the_turn():
    board = inner_revert_failed(go_on=False)
    assert board.undo == ["x", "y"]
    board.reverted("x", "y")
    assert board.undo == []
    assert board.of(board.walk.standing) == {"a": 1, "r": 1, "b": 0, "x": CLEAR, "y": CLEAR}


# -- regions ---------------------------------------------------------------------------------------


def region(board, name):
    return board.plan.region(board.at(name))


def test_a_region_turns_round_alone_and_what_it_had_released_is_taken_back():
    inner = unordered("inner", *plain("b", "c"), controller=retry.Times(2, "r"))
    d = Work("d")
    a, e = plain("a", "e")
    board = Board(graph("g", a, inner, d, e, links=[(inner, d), (inner, e), (a, e)]))
    board.ran("a", "r", "b")
    before = board.of(board.walk.unmet)
    board.failed("c")
    lo, hi = region(board, "r")
    board.walk.roll_back(lo, hi, restart=lo)
    assert before["e"] == board.of(board.walk.unmet)["e"]
    assert board.undo == ["b", "c"]
    assert board.details[board.at("r")].intention == states.RETRY
    assert board.details[board.at("a")].intention == states.EXECUTE
    assert board.walk.rolling_back_around(0, len(board.plan)) is None
    assert board.walk.rolling_back_around(lo, hi) == (lo, hi)
    board.same_as_rebuilt()
    board.reverted("b", "c")
    assert board.undo == ["r"]
    board.same_as_rebuilt()


def test_successors_outside_are_held_again_when_one_exit_of_the_region_had_run():
    inner = unordered("inner", *plain("b", "c"), controller=retry.Times(2, "r"))
    board = Board(linear("f", inner, Work("d")))
    board.ran("r", "b")
    assert board.walk.unmet[board.at("d")] == 1
    board.failed("c")
    board.walk.roll_back(*region(board, "r"), restart=board.at("r"))
    assert board.walk.unmet[board.at("d")] == 2
    assert board.ready == []
    board.same_as_rebuilt()


def test_restart_brings_the_region_back_to_its_beginning():
    inner = unordered("inner", *plain("b", "c"), controller=retry.Times(2, "r"))
    board = Board(linear("f", *plain("a"), inner, *plain("d")))
    fresh = list(board.walk.unmet)
    board.ran("a", "r", "b")
    board.failed("c")
    lo, hi = region(board, "r")
    board.walk.roll_back(lo, hi, restart=lo)
    board.reverted("b", "c")
    board.walk.undo.remove(lo)
    assert board.names(board.walk.restart(lo)) == ["b", "c"]
    assert board.walk.rolling_back == []
    assert set(board.walk.standing) == {CLEAR}
    assert board.walk.unmet[lo:] == [0, *fresh[lo + 1 :]]
    for name in ("b", "c"):
        board.put(name, states.PENDING)
    board.put("r", states.SUCCESS)
    board.walk.ran(lo)
    assert board.ready == ["b", "c"]
    board.same_as_rebuilt()


def test_an_atom_that_was_ignored_can_be_plain_again_after_a_restart():
    inner = linear("inner", *plain("b", "c"), controller=retry.Times(2, "r"))
    board = Board(linear("f", inner), r="SUCCESS", b="IGNORE IGNORE", c="FAILURE")
    assert board.walk.plain[board.at("b")] == 0
    lo, hi = region(board, "r")
    board.walk.roll_back(lo, hi, restart=lo)
    board.reverted("c")
    board.walk.restart(lo)
    assert board.walk.plain[board.at("b")] == 1


def test_a_wider_region_takes_up_a_narrower_one_as_it_stands():
    inner = unordered("inner", *plain("b", "c"), controller=retry.Times(2, "r"))
    board = Board(linear("f", *plain("a"), inner))
    board.ran("a", "r", "b")
    board.failed("c")
    board.walk.roll_back(*region(board, "r"), restart=board.at("r"))
    board.reverted("b")
    board.turn_all()
    assert board.walk.rolling_back == [(0, len(board.plan))]
    assert board.undo == ["c"]
    assert board.details[board.at("r")].intention == states.REVERT
    board.reverted("c")
    assert board.undo == ["r"]
    board.same_as_rebuilt()


def test_a_region_in_a_wider_one_that_turns_round_counts_as_turned():
    inner = linear("inner", *plain("b"), controller=retry.Times(2, "r"))
    board = Board(linear("f", *plain("a"), inner))
    board.ran("a", "r")
    board.failed("b")
    board.turn_all()
    assert board.walk.rolling_back_around(*region(board, "r")) == (0, len(board.plan))


def test_two_regions_that_turn_round_stay_apart():
    flows = [linear(f"f{k}", *plain(f"t{k}"), controller=retry.Times(2, f"r{k}")) for k in range(2)]
    board = Board(unordered("u", *flows))
    board.ran("r0", "r1")
    for k in range(2):
        board.failed(f"t{k}")
        board.walk.roll_back(*region(board, f"r{k}"), restart=board.at(f"r{k}"))
    assert board.walk.rolling_back == [(0, 2), (2, 4)]
    board.same_as_rebuilt()
    again = walks.Walk(board.plan, board.details)
    again.open()
    assert again.rolling_back == [(0, 2), (2, 4)]


# -- opening over a record -------------------------------------------------------------------------


def test_open_goes_on_after_what_has_run():
    board = Board(linear("f", *plain("a", "b", "c")), a="SUCCESS")
    assert board.ready == ["b"]


def test_open_takes_what_was_running_as_to_be_done_again():
    board = Board(linear("f", *plain("a", "b")), a="RUNNING")
    assert board.ready == ["a"]


@pytest.mark.parametrize("closed", [True, False])
def test_what_was_under_way_and_is_not_taken_again_before_it_is_rolled_back_is_undone(closed):
    board = Board(unordered("f", *plain("a", "b"), controller=retry.Times(2, "r")), r="SUCCESS", a="RUNNING")
    board.walk.closed = closed
    assert board.ready == ["a", "b"]
    board.failed("b")
    board.walk.roll_back(*region(board, "r"), cause=board.at("b"))
    assert (board.ready, board.undo) == ([], ["a", "b"])
    board.same_as_rebuilt()


def test_open_lists_a_failure_that_nothing_has_resolved_and_runs_nothing_after_it():
    board = Board(linear("f", *plain("a", "b", "c")), a="SUCCESS", b="FAILURE")
    assert (board.ready, board.undo) == ([], [])
    assert board.names(board.walk.failed) == ["b"]


@pytest.mark.parametrize("state", ["REVERTING", "REVERT_FAILURE", "RUNNING", "FAILURE", "SUCCESS"])
def test_open_takes_what_was_to_be_undone_as_to_be_undone_again(state):
    board = Board(linear("f", *plain("a", "b")), a="SUCCESS REVERT", b=f"{state} REVERT")
    assert board.undo == ["b"]


@pytest.mark.parametrize("state", ["PENDING", "REVERTED", "IGNORE"])
def test_open_does_not_undo_what_has_nothing_to_undo(state):
    board = Board(linear("f", *plain("a", "b")), a="SUCCESS REVERT", b=f"{state} REVERT")
    assert board.undo == ["a"]


@pytest.mark.parametrize("state", ["SUCCESS", "RETRYING"])
def test_open_runs_a_retry_again_that_was_to_run_again(state):
    inner = linear("inner", *plain("b"), controller=retry.Times(2, "r"))
    board = Board(linear("f", *plain("a"), inner), a="SUCCESS", r=f"{state} RETRY", b="REVERTED REVERT")
    assert (board.ready, board.undo) == ([], ["r"])
    assert board.walk.rolling_back == [region(board, "r")]


def test_open_twice_gives_the_same():
    board = Board(linear("f", unordered("u", *plain("a", "b")), unordered("v", *plain("c", "d"))), a="SUCCESS")
    kept = copy.deepcopy((board.walk.unmet, board.walk.standing, board.walk.ready, board.walk.undo))
    board.walk.open()
    assert (board.walk.unmet, board.walk.standing, board.walk.ready, board.walk.undo) == kept


def test_open_of_a_flow_that_has_run_has_nothing_to_do():
    board = Board(linear("f", *plain("a", "b")), a="SUCCESS", b="IGNORE IGNORE")
    assert (board.ready, board.undo, board.walk.failed, board.walk.unmet) == ([], [], [], [0, 0])


class Fragile(models.TaskDetail):
    """A detail of which the intention can be set only so often, all of them together."""

    left = 0

    def __setattr__(self, name, value):
        if name == "intention":
            if not Fragile.left:
                raise KeyboardInterrupt
            Fragile.left -= 1
        super().__setattr__(name, value)


@pytest.mark.parametrize("turned_before", [False, True])
def test_the_cause_of_a_turn_that_was_interrupted_is_found_again(turned_before):
    complete = False
    count = 0
    while not complete:
        inner = unordered("inner", *plain("b", "c", "d"), controller=retry.Times(2, "r"))
        board = Board(
            linear("all", *plain("a"), inner), a="SUCCESS", r="SUCCESS", b="SUCCESS", c="FAILURE", d="SUCCESS"
        )
        if turned_before:
            board.walk.roll_back(*board.plan.region(board.at("r")))
        Fragile.left = 100
        for i, detail in enumerate(board.details):
            board.details[i] = fragile = Fragile(detail.name)
            fragile.state, fragile.intention = detail.state, detail.intention
        Fragile.left = count
        try:
            board.walk.roll_back(0, len(board.plan), cause=board.at("c"))
            complete = True
        except KeyboardInterrupt:
            Fragile.left = 100
        again = walks.Walk(board.plan, board.details)
        again.open()
        rolling_back = {detail.intention for detail in board.details} == {states.REVERT}
        begun = bool(count) or not turned_before
        assert rolling_back == complete
        assert board.names(again.failed) == ([] if complete or not begun else ["c"])
        count += 1
    assert count > len(board.details)

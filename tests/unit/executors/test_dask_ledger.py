"""The fence of a run on a cluster: state before, one move, state after. There is no Dask here."""

import random

import pytest

from taskflowx.executors.dask import ledger
from taskflowx.executors.dask.ledger import BACK, ENDED, LEFT, LOST, PROGRESS, Ledger

SHORT = 10  # microseconds


def call(number, *, pure=False, kind=0):
    return number, kind, pure, b"call", ()


def told(one):
    return [(number, what) for _, number, what, _ in one.told if what != LEFT]


def made(*numbers, most=None, **facts):
    one = Ledger(most)
    one.add([call(number, **facts) for number in numbers])
    return one


def take(one, pump, worker="w"):
    one.meet(pump, worker)
    return [number for number, *_ in one.hand_out(pump)]


def end(one, pump, *numbers, microseconds=SHORT):
    return one.settle(pump, [(number, ENDED, b"", microseconds) for number in numbers])


def test_a_call_is_handed_out_once():
    one = made(1, 2)
    assert (take(one, "a"), take(one, "b"), take(one, "c")) == ([1], [2], [])


def test_a_call_that_is_sent_again_is_not_handed_out_again():
    one = made(1)
    assert take(one, "a") == [1]
    end(one, "a", 1)
    one.confirm(1)
    assert one.add([call(1)]) == 0
    assert take(one, "a") == []


@pytest.mark.parametrize("pure", [False, True])
def test_a_call_that_is_given_up_is_over_whatever_comes_of_it(pure):
    one = made(1, 2, most=1, pure=pure)
    assert (take(one, "a"), take(one, "b")) == ([1], [])
    assert one.give_up(1) == "a"
    assert one.give_up(1) is None
    assert take(one, "b") == [2]
    end(one, "a", 1)
    one.leave("a")
    assert (told(one), one.calls.keys(), list(one.waiting)) == ([], {2}, [])


def test_a_call_that_waits_for_another_pump_is_given_up_and_one_that_has_ended_is_not():
    one = made(1, 2, pure=True)
    assert (take(one, "a"), take(one, "b")) == ([1], [2])
    end(one, "b", 2)
    one.leave("a")
    assert (one.give_up(1), one.give_up(2), take(one, "b")) == ("", None, [])


def test_calls_that_are_known_to_be_short_are_handed_out_together():
    one = made(*range(1, 22))
    assert take(one, "a") == [1]
    end(one, "a", 1)
    assert take(one, "a") == list(range(2, 12))  # a half, as another pump may come


def test_calls_that_last_are_handed_out_alone():
    one = made(*range(1, 22))
    take(one, "a")
    end(one, "a", 1, microseconds=ledger.AT_ONCE * 1e6)
    assert take(one, "a") == [2]


def test_what_a_pump_held_is_lost_with_its_worker_and_what_waited_is_not():
    one = made(1, 2, 3)
    assert take(one, "a", "w1") == [1]
    assert take(one, "b", "w2") == [2]
    for pump in one.pumps_of("w1"):
        one.leave(pump)
    assert told(one) == [(1, LOST)]
    end(one, "b", 2)
    assert take(one, "b", "w2") == [3]


def test_a_worker_that_was_given_up_says_nothing_more():
    one = made(1)
    take(one, "a")
    one.leave("a")
    end(one, "a", 1)
    assert told(one) == [(1, LOST)]


def test_another_pump_says_nothing_of_a_call():
    one = made(1)
    take(one, "a")
    one.meet("b", "w")
    end(one, "b", 1)
    assert told(one) == []


def test_a_pure_call_waits_again_but_not_for_ever():
    one = made(1, pure=True)
    for attempt in range(ledger.REPEATS + 1):
        assert take(one, f"p{attempt}") == [1]
        one.leave(f"p{attempt}")
    assert told(one) == [(1, LOST)]
    assert take(one, "q") == []


def test_what_is_given_back_waits_in_front():
    one = made(*range(1, 30))
    take(one, "a")
    end(one, "a", 1)
    taken = take(one, "a")
    end(one, "a", taken[0])
    assert one.settle("a", [(number, BACK, b"", 0) for number in taken[2:]]) == len(taken) - 2
    assert take(one, "b") == [taken[2]]  # alone: one of its kind has lasted
    one.leave("a")
    assert (taken[1], LOST) in told(one)


def test_what_was_recalled_never_begins_whenever_it_comes():
    one = made(1, 2)
    assert take(one, "a") == [1]
    assert one.recall([1, 2, 3]) == [2, 3]
    assert one.add([call(3), call(4)]) == 1
    assert take(one, "b") == [4]


def test_what_has_ended_is_not_given_back_before_the_client_knows_of_it():
    one = made(1)
    take(one, "a")
    end(one, "a", 1)
    assert one.recall([1]) == []


def test_what_is_recalled_twice_is_given_back_twice():
    one = made(1, 2)
    assert one.recall([1, 2]) == [1, 2]
    assert one.recall([1, 2]) == [1, 2]


def test_no_more_are_under_way_than_may_be():
    one = made(1, 2, 3, most=2)
    assert (take(one, "a"), take(one, "b"), take(one, "c")) == ([1], [2], [])
    end(one, "a", 1)
    assert take(one, "c") == [3]


def test_what_is_told_stays_until_it_is_confirmed():
    one = made(1)
    take(one, "a")
    one.settle("a", [(1, PROGRESS, b"half", 0), (1, ENDED, b"", SHORT)])
    assert [place for place, *_ in one.told] == [1, 2]
    one.confirm(1)
    assert [place for place, *_ in one.told] == [2]


@pytest.mark.parametrize("seed", range(30))
def test_each_call_begins_once_and_is_told_or_given_back_once(seed):  # noqa: C901 - each move is a branch
    """Random moves: workers die, requests are repeated, batches are given back, the client recalls."""
    chance = random.Random(seed)
    one, most = Ledger(chance.choice((None, 1, 3))), 200
    number, began, ended, back, pumps = 0, {}, {}, set(), {}
    pure = {n for n in range(1, most + 1) if chance.random() < 0.2}

    def hear():
        if one.told:
            for _, n, what, _ in one.told:
                if what in (ENDED, LOST):
                    ended[n] = ended.get(n, 0) + 1
            one.confirm(one.told[-1][0])

    while number < most or one.calls:
        move = chance.random()
        if move < 0.2 and number < most:
            new = [call(n, pure=n in pure, kind=n % 3) for n in range(number + 1, min(number + 20, most) + 1)]
            number = new[-1][0]
            one.add(new)
            one.add(new)
        elif move < 0.6:
            pump = chance.choice("abcd")
            if not pumps.get(pump):
                one.meet(pump, pump)
                pumps[pump] = [n for n, *_ in one.hand_out(pump)]
        elif move < 0.9:
            pump = chance.choice("abcd")
            if pumps.get(pump):
                n = pumps[pump].pop(0)
                began[n] = began.get(n, 0) + 1
                if chance.random() < 0.1:
                    one.settle(pump, [(other, BACK, b"", 0) for other in pumps[pump]])
                    pumps[pump] = []
                end(one, pump, n, microseconds=chance.choice((1, 5000)))
        elif move < 0.93:
            pump = chance.choice("abcd")
            for n in pumps.pop(pump, [])[:1]:
                began[n] = began.get(n, 0) + 1  # it died while it was at that one
            one.leave(pump)
        elif move < 0.94:
            asked = [n for n in range(1, number + 1) if n not in ended and n not in back]
            given = one.recall(asked)
            assert not set(given) & set(began) - pure
            back |= set(given)
        hear()
    hear()
    assert set(ended) | back == set(range(1, most + 1))
    assert not set(ended) & back
    assert set(ended.values()) <= {1}
    assert [n for n, times in began.items() if times > 1 and n not in pure] == []

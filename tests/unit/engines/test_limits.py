"""Gates, buckets and who passes, without an engine: a clock by hand, and random moves beside a model."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies

from taskflowx.engines.limits import Bucket, Gate, Group, Limits


class Clock:
    """Tells what it is told."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def rank(key):
    return key


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return Limits(clock, {})


# -- buckets ---------------------------------------------------------------------------------------


def test_a_bucket_is_full_at_first_and_refills_evenly():
    bucket = Bucket(10, 1.0)
    assert bucket.due(10) <= 100.0
    bucket.take(10, 100.0)
    assert [bucket.due(1), bucket.due(5), bucket.due(10)] == [100.1, 100.5, 101.0]


def test_a_bucket_never_has_more_than_its_size():
    bucket = Bucket(3, 1.0)
    assert bucket.due(4) == math.inf
    bucket.take(1, 1000.0)
    assert bucket.due(3) > 1000.0


def test_a_bucket_that_was_full_for_long_starts_anew():
    bucket = Bucket(2, 1.0)
    bucket.take(2, 0.0)
    bucket.take(2, 50.0)
    assert bucket.due(1) == 50.5


def test_tokens_that_are_put_back_are_there_again_and_no_more_than_these():
    bucket = Bucket(2, 1.0)
    bucket.take(2, 0.0)
    bucket.put_back(1)
    assert bucket.due(1) == 0.0
    bucket.put_back(5)
    assert (bucket.due(2), bucket.due(3)) == (0.0, math.inf)


def test_a_bucket_does_not_drift_over_a_long_time():
    bucket, now = Bucket(3, 0.7), 1_000_000.0
    begin = now
    for _ in range(100_000):
        now = max(now, bucket.due(1))
        bucket.take(1, now)
    exact = begin + float(Fraction(100_000 - 3) * Fraction(7, 10) / 3)
    assert now == pytest.approx(exact, abs=1e-8)


@given(
    tokens=strategies.integers(1, 50),
    seconds=strategies.floats(0.001, 1000),
    steps=strategies.lists(strategies.tuples(strategies.integers(1, 50), strategies.floats(0, 500)), max_size=60),
)
@settings(deadline=None, derandomize=True, database=None)
def test_in_no_time_span_does_a_bucket_give_more_than_it_had_and_got(tokens, seconds, steps):
    bucket, now, taken = Bucket(tokens, seconds), 0.0, []
    for amount, later in steps:
        now += later
        if bucket.due(amount) <= now:
            bucket.take(amount, now)
            taken.append((now, amount))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for at, amount in taken[first:]:
            total += amount
            assert total <= tokens + (at - begin) * tokens / seconds + 1e-6


# -- who passes ------------------------------------------------------------------------------------


def test_what_has_room_passes_and_the_rest_waits_in_order(limits):
    group = Group(((Gate("db", 2), 1),))
    assert limits.admit({group: [3, 1, 2]}, rank) == [1, 2]
    assert limits.admit({}, rank) == []
    limits.release([2])
    assert limits.stirs
    assert limits.admit({}, rank) == [3]


def test_all_pass_at_once_where_there_is_room_for_all(limits):
    gate = Gate("db", 3)
    group = Group(((gate, 1),))
    assert limits.pass_all({group: 3})
    limits.note([1, 2, 3], group)
    assert not limits.pass_all({group: 1})
    limits.release([1, 2])
    assert gate.free == 2


def test_a_key_is_released_once(limits):
    gate = Gate("db", 2)
    group = Group(((gate, 2),))
    assert limits.admit({group: [1]}, rank) == [1]
    limits.release([1, 1])
    limits.release([1, 7])
    assert gate.free == 2


def test_a_small_one_does_not_pass_a_large_one_at_the_same_gate(limits):
    gate = Gate("db", 4)
    small, large = Group(((gate, 1),)), Group(((gate, 3),))
    assert limits.admit({small: [1, 2]}, rank) == [1, 2]
    assert limits.admit({large: [3]}, rank) == []
    assert limits.admit({small: [4]}, rank) == []
    limits.release([1])
    assert limits.admit({}, rank) == [3]
    limits.release([2, 3])
    assert limits.admit({}, rank) == [4]


def test_one_of_a_higher_rank_that_comes_later_goes_first(limits):
    group = Group(((Gate("db", 1), 1),))
    assert limits.admit({group: [5, 6]}, rank) == [5]
    assert limits.admit({group: [2]}, rank) == []
    limits.release([5])
    assert limits.admit({}, rank) == [2]


def test_who_waits_at_one_gate_is_passed_at_another(limits):
    db, host = Gate("db", 1), Gate("host", 1)
    both, alone = Group(((db, 1), (host, 1))), Group(((host, 1),))
    assert limits.admit({Group(((db, 1),)): [1], both: [2], alone: [3]}, rank) == [1, 3]
    limits.release([1])
    assert limits.admit({}, rank) == []
    limits.release([3])
    assert limits.admit({}, rank) == [2]


def test_whom_the_first_in_line_held_up_goes_on_when_that_one_is_taken_out():
    held = {}
    limits = Limits(Clock(), held)
    gate = Gate("db", 4)
    assert limits.admit({Group(((gate, 3),)): [1, 2], Group(((gate, 1),)): [3]}, rank) == [1]
    del held[2]
    assert limits.stirs
    assert limits.admit({}, rank) == [3]


def test_one_that_was_taken_out_and_comes_again_passes_once():
    held = {}
    limits = Limits(Clock(), held)
    group = Group(((Gate("db", 1), 1),))
    assert limits.admit({group: [1, 2]}, rank) == [1]
    del held[2]
    assert limits.admit({group: [2]}, rank) == []
    limits.release([1])
    assert limits.admit({}, rank) == [2]
    limits.release([2])
    assert limits.admit({}, rank) == []


def test_a_bucket_says_when_it_has_refilled(limits, clock):
    group = Group(((Gate("api", bucket=Bucket(2, 1.0)), 1),))
    assert limits.due() == math.inf
    assert limits.admit({group: [1, 2, 3, 4]}, rank) == [1, 2]
    assert limits.due() == 0.5
    clock.now = 0.4
    assert limits.admit({}, rank) == []
    clock.now = 0.5
    assert limits.admit({}, rank) == [3]
    assert limits.due() == 1.0
    clock.now = 60.0
    assert limits.admit({}, rank) == [4]
    assert limits.due() == math.inf


def test_what_is_put_back_takes_no_token(limits):
    group = Group(((Gate("api", 3, Bucket(3, 1.0)), 1),))
    assert limits.admit({group: [1, 2, 3]}, rank) == [1, 2, 3]
    limits.put_back([2, 3])
    assert limits.admit({group: [2, 3]}, rank) == [2, 3]


def test_what_is_under_way_elsewhere_takes_room(limits):
    limits = Limits(Clock(), {}, at_once=3)
    group = Group(((limits.room, 1),))
    assert limits.admit({group: [1, 2, 3]}, rank, under_way=2) == [1]
    assert limits.admit({}, rank, under_way=3) == []
    assert limits.admit({}, rank, under_way=1) == [2, 3]
    assert limits.pass_all({group: 3})
    assert not limits.pass_all({group: 3}, under_way=1)


def test_ten_thousand_that_wait_cost_no_more_a_turn_than_ten():
    def looks(count):
        held, seen = Counting(), []
        limits = Limits(Clock(), held)
        group = Group(((Gate("db", 4), 1),))
        limits.admit({group: list(range(count))}, rank)
        for key in range(5):
            held.looks = 0
            limits.release([key])
            limits.admit({}, rank)
            seen.append(held.looks)
        return seen

    assert looks(10_000) == looks(10)


class Counting(dict):
    """Counts how often it is looked into."""

    looks = 0

    def get(self, *of):
        self.looks += 1
        return super().get(*of)


class World:
    """Moves of `Limits` at random, beside a list of all that waits and all that holds something."""

    def __init__(self, rng, *, single, rated):
        self.rng, self.clock, self.held = rng, Clock(), {}
        self.limits = Limits(self.clock, self.held)
        self.gates = [
            Gate(f"g{n}", rng.randint(1, 4), Bucket(4, 2.0) if rated and rng.random() < 0.5 else None)
            for n in range(1 if single else rng.randint(1, 4))
        ]
        self.groups = []
        for _ in range(rng.randint(1, 5)):
            chosen = rng.sample(self.gates, rng.randint(1, min(3, len(self.gates))))
            self.groups.append(Group(tuple((gate, rng.randint(1, gate.most)) for gate in chosen)))
        self.group_of, self.waiting, self.holding = {}, set(), set()
        self.used = set()

    def look(self):
        """Check what holds after each move."""
        assert set(self.held) == self.waiting
        for gate in self.gates:
            taken = sum(a for key in self.holding for g, a in self.group_of[key].needs if g is gate)
            assert gate.free == gate.capacity - taken >= 0
        if self.waiting:
            first = min(self.waiting)
            assert not self.has_room(first), "the first of all waits for nothing"
        for key in self.waiting:
            if self.has_room(key):
                mine = {gate for gate, _ in self.group_of[key].needs}
                before = [k for k in self.waiting if k < key]
                assert any(mine & {gate for gate, _ in self.group_of[k].needs} for k in before)

    def has_room(self, key):
        return all(gate.has_room(amount, self.clock.now) for gate, amount in self.group_of[key].needs)

    def admit(self, new):
        for group, keys in new.items():
            self.group_of.update(dict.fromkeys(keys, group))
            self.waiting.update(keys)
        counts = {group: len(keys) for group, keys in new.items()}
        if self.limits.pass_all(counts):
            for group, keys in new.items():
                self.limits.note(keys, group)
            passing = [key for keys in new.values() for key in keys]
        else:
            passing = self.limits.admit(new, rank)
        for key in passing:
            assert key in self.waiting
            self.waiting.discard(key)
            self.holding.add(key)
        self.look()
        return passing

    def move(self):
        rng = self.rng
        what = rng.random()
        if what < 0.45:
            new = {}
            for _ in range(rng.randint(1, 6)):
                key = rng.randrange(1000)
                if key not in self.waiting | self.holding and not any(key in keys for keys in new.values()):
                    new.setdefault(rng.choice(self.groups), []).append(key)
            self.admit(new)
        elif what < 0.75 and self.holding:
            ended = rng.sample(sorted(self.holding), rng.randint(1, len(self.holding)))
            self.holding.difference_update(ended)
            self.limits.release(ended)
            self.admit({})
        elif what < 0.85 and self.waiting:
            for key in rng.sample(sorted(self.waiting), rng.randint(1, len(self.waiting))):
                self.waiting.discard(key)
                del self.held[key]
            assert self.limits.stirs
            self.admit({})
        else:
            due = self.limits.due()
            self.clock.now = due if due < math.inf and rng.random() < 0.5 else self.clock.now + rng.random()
            self.admit({})

    def drain(self):
        """Have all end, as it comes."""
        order = []
        while self.waiting or self.holding:
            if self.holding:
                ended = [min(self.holding)]
                self.holding.difference_update(ended)
                self.limits.release(ended)
            else:
                due = self.limits.due()
                assert self.clock.now < due < math.inf, "nothing is held, and nothing is due"
                self.clock.now = due
            order += self.admit({})
        return order


seeds = strategies.integers(0, 2**32)
often = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@given(seed=seeds, rated=strategies.booleans())
@often
def test_capacities_are_never_exceeded_and_all_come_to_pass(seed, rated):
    world = World(random.Random(seed), single=False, rated=rated)
    for _ in range(40):
        world.move()
    world.drain()
    assert all(gate.free == gate.capacity for gate in world.gates)


@given(seed=seeds, rated=strategies.booleans())
@often
def test_at_one_gate_all_pass_in_the_order_of_their_ranks(seed, rated):
    world = World(random.Random(seed), single=True, rated=rated)
    for _ in range(40):
        world.move()
    order = world.drain()
    assert order == sorted(order)

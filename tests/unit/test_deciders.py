"""Depths of deciders: their names, and which reaches furthest."""

from __future__ import annotations

import itertools

import pytest

from taskflowx import deciders
from taskflowx.deciders import Depth

WIDEST_FIRST = [Depth.ALL, Depth.FLOW, Depth.NEIGHBORS, Depth.ATOM]


def test_depths_are_texts_from_the_widest_to_the_narrowest():
    assert list(Depth) == WIDEST_FIRST == ["ALL", "FLOW", "NEIGHBORS", "ATOM"]


@pytest.mark.parametrize("depth", WIDEST_FIRST)
def test_a_depth_is_found_by_its_name_in_any_case(depth):
    for name in (depth, depth.value, depth.value.lower(), depth.value.title()):
        assert Depth.translate(name) is depth


@pytest.mark.parametrize("name", ["XX", "", " ALL", "Depth.ALL"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="^Unexpected decider depth value, one of .*'NEIGHBORS'.* and not '" + name):
        Depth.translate(name)


@pytest.mark.parametrize("wrong", [None, 3, b"ALL", ["ALL"]])
def test_what_is_no_text_is_refused_with_the_known_names(wrong):
    with pytest.raises(TypeError, match=r"^Unexpected desired depth type, string type expected, not <class ") as raised:
        Depth.translate(wrong)
    assert "NEIGHBORS" in str(raised.value)


@pytest.mark.parametrize("pair", list(itertools.permutations(WIDEST_FIRST, 2)))
def test_of_two_depths_the_one_further_up_is_the_widest(pair):
    assert deciders.pick_widest(pair) is min(pair, key=WIDEST_FIRST.index)


def test_the_widest_of_names_is_a_depth():
    assert deciders.pick_widest(["atom", "FLOW"]) is Depth.FLOW
    with pytest.raises(ValueError, match="Unexpected decider depth value"):
        deciders.pick_widest(["widest"])


def test_the_widest_of_any_number():
    assert deciders.pick_widest(iter(reversed(WIDEST_FIRST))) is Depth.ALL
    assert deciders.pick_widest({Depth.ATOM}) is Depth.ATOM
    with pytest.raises(ValueError, match="empty"):
        deciders.pick_widest([])

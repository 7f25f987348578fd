"""--sensitive: a value that a command shows nowhere and stores nowhere; who goes on with the run gives it again."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.timeout(300)  # each command is a process

STORE = ("--backend", "runs.db")
CARD = ("--store", "card=4000-1234")
ORDER = ("run", "shop:order", "--store", "item=kettle", *CARD, "--run-id", "a", *STORE)


@pytest.fixture
def killed(shop):
    """A folder with a run that was killed in the task that takes the card."""
    shop.write("die")
    assert shop(*ORDER, "--sensitive", "card").code == -signal.SIGKILL
    (shop.path / "die").unlink()
    return shop


def is_stored(shop, text):
    return any(text.encode() in file.read_bytes() for file in shop.path.glob("runs.db*"))


def test_a_sensitive_value_is_neither_shown_nor_stored(shop):
    ended = shop(*ORDER, "--sensitive", "card", "--json")
    assert ended.json["results"] == {
        "item": "kettle",
        "card": "***",
        "reserve": "one kettle",
        "charge": 5,
        "send": "one kettle for 5",
    }
    assert is_stored(shop, "kettle")
    assert not is_stored(shop, "4000-1234")
    assert "4000-1234" not in shop("show", "a", *STORE, "--json").out


def test_a_run_whose_value_is_not_stored_goes_on_when_it_is_given_again(killed):
    refused = killed("resume", "a", "shop:order", *STORE)
    assert refused.code == 2
    assert "nobody provides 'card' for task 'charge'" in refused.err
    assert "--store NAME=VALUE" in refused.err
    ended = killed("resume", "a", "shop:order", *CARD, *STORE)
    assert ended.code == 0
    assert "charge 4000-1234" in ended.out  # what the task prints is its own
    assert not is_stored(killed, "4000-1234")


def test_the_same_command_goes_on_as_well(killed):
    assert killed(*ORDER, "--sensitive", "card").code == 0
    assert not is_stored(killed, "4000-1234")


def test_a_rollback_gets_the_values_that_are_not_stored(killed):
    ended = killed("rollback", "a", "shop:order", *CARD, *STORE)
    assert (ended.code, ended.out) == (0, "give back one kettle\n")
    assert not is_stored(killed, "4000-1234")


def test_a_value_that_the_run_has_is_not_replaced(killed):
    refused = killed("resume", "a", "shop:order", *CARD, "--store", "item=pot", *STORE)
    assert refused.code == 2
    assert "The run has a value for 'item'" in refused.err
    assert "taskflowx fork" in refused.err
    assert not is_stored(killed, "4000-1234")


def test_a_name_that_is_misspelt_is_refused_before_anything_runs(shop):
    refused = shop(*ORDER, "--sensitive", "crad")
    assert (refused.code, refused.out) == (2, "")
    assert "--sensitive crad names no value that is given, taken or provided" in refused.err
    assert not is_stored(shop, "4000-1234")


def test_a_fork_does_not_store_it_either(killed):
    refused = killed("fork", "a", "--from", "charge", *CARD, *STORE)
    assert refused.code == 2
    assert "['card']: they are to be kept in memory alone" in refused.err
    assert "taskflowx resume --store" in refused.err
    made = killed("fork", "a", "--from", "charge", "--run-id", "b", *STORE)
    assert made.code == 0, made.err
    ended = killed("resume", "b", "shop:order", *CARD, *STORE)
    assert ended.code == 0, ended.err
    assert not is_stored(killed, "4000-1234")

"""taskflowx check: flows are found, and looked at without being run."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("target", ["shop:order", "shop:make_order"])
def test_a_flow_without_a_fault(inside, target):
    ended = inside("check", target)
    assert (ended.code, ended.err) == (0, "no fault was found\n")
    assert ended.out == "order: 3 tasks, 0 retry controllers\nneeds card, item\nprovides charge, reserve, send\n"


def test_a_task_is_a_flow(inside):
    found = inside("check", "shop:thank", "--json").json
    assert (found["flow"], found["tasks"], found["needs"], found["provides"]) == ("thank", 1, ["receipt"], ["thank"])


def test_faults_end_with_1(inside):
    inside.write(
        "wrong.py",
        "from taskflowx import as_task, linear\n"
        "@as_task\n"
        "def size() -> str: return 'x'\n"
        "@as_task\n"
        "def double(size: int) -> int: return 2 * size\n"
        "types = linear('types', size, double)\n"
        "@as_task\n"
        "async def later(): pass\n",
    )
    ended = inside("check", "wrong:types")
    assert ended.code == 1
    assert "fault: 'size' provides 'size' as str, and 'double' takes it as int" in ended.err
    assert "coroutine" in inside("check", "wrong:later", "--json").json["faults"][0]
    assert inside("check", "wrong:later", "--executor", "asyncio").code == 0


def test_types_of_inputs_are_checked_where_they_are_given(inside):
    inside.write("given.json", '{"item": 3}')
    ended = inside("check", "shop:order", "--store-file", "given.json", "--json")
    assert ended.code == 1
    assert ended.json["needs"] == ["card"]
    assert "store= gives 'item' as int" in ended.json["faults"][0]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("shop", "is not of the form module:flow, such as shop:flow"),
        ("shop.py:order", "such as shop:order"),
        ("shp:order", "There is no module 'shp'"),
        ("shop:oder", "'shop' has no 'oder', but 'order'"),
        ("shop:three", "is 3, which is no flow"),
        ("shop:needs_arguments", "missing a required argument: 'one'"),
        ("shop:makes_nothing", "has returned None, which is no flow"),
        ("shop:order.name.title", "has returned 'Order'"),
    ],
)
def test_what_is_no_flow_is_refused(inside, target, says):
    ended = inside("check", target)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_what_has_no_text_is_refused_all_the_same(inside):
    inside.write("big.py", "number = 10**5000\n\ndef make(): return number\n")
    for target, says in (
        ("big:number", "is a value whose repr raised"),
        ("big:make", "has returned a value whose repr"),
    ):
        ended = inside("check", target)
        assert ended.code == 2
        assert says in ended.err


def test_a_file_of_values_that_is_too_deep_is_refused(inside):
    inside.write("deep.json", "[" * 100_000)
    ended = inside("check", "shop:order", "--store-file", "deep.json")
    assert ended.code == 2
    assert "--store-file deep.json is not JSON: " in ended.err


def test_a_module_that_fails_gives_its_own_traceback_alone(inside):
    inside.write("helper.py", "def half(n):\n    return 1 / n\n")
    inside.write("broken.py", "import helper\n\nflow = helper.half(0)\n")
    ended = inside("check", "broken:flow")
    assert ended.code == 2
    assert 'broken.py", line 3, in <module>' in ended.err
    assert 'helper.py", line 2, in half' in ended.err
    assert "ZeroDivisionError: division by zero" in ended.err
    assert "importlib" not in ended.err
    assert "cli" not in ended.err
    assert "not shown" in ended.err


def test_a_module_with_a_mistake_of_syntax_names_the_line(inside):
    inside.write("broken.py", "x = 1\nflow = (\n")
    ended = inside("check", "broken:flow")
    assert ended.code == 2
    assert 'broken.py", line 2' in ended.err
    assert "SyntaxError" in ended.err


def test_a_module_that_lacks_another_one_says_which(inside):
    inside.write("broken.py", "import nothing_of_that_name\n")
    ended = inside("check", "broken:flow")
    assert ended.code == 2
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in ended.err
    assert 'broken.py", line 1' in ended.err


def test_a_function_that_fails_gives_its_own_traceback(inside):
    ended = inside("check", "shop:fails")
    assert ended.code == 2
    assert "in fails" in ended.err
    assert "LookupError: no plan for today" in ended.err


def test_a_module_that_ends_the_program_is_explained(inside):
    inside.write("script.py", "import sys\nsys.exit(7)\n")
    ended = inside("check", "script:flow")
    assert ended.code == 2
    assert "__main__" in ended.err


def test_what_a_module_prints_is_not_in_the_json(inside):
    inside.write("noisy.py", "import os\nprint('one')\nos.system('echo two')\nfrom shop import order\n")
    ended = inside("check", "noisy:order", "--json")
    assert ended.json["flow"] == "order"
    assert ended.err == "one\ntwo\n"


def test_inputs_from_files(inside):
    inside.write("given.json", '{"item": "kettle", "card": 3}')
    assert inside("check", "shop:order", "--store-file", "given.json", "--json").json["needs"] == []
    ended = inside("check", "shop:order", "--store-file", "given.json", "--store", "card=4000-12")
    assert ended.code == 0
    assert inside("check", "shop:order", "--store-file", "-", "--json", stdin='{"item": "x"}').json["needs"] == ["card"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--store", "item"], "--store item is not of the form name=value"),
        (["--store-file", "none.json"], "--store-file none.json cannot be read: No such file"),
        (["--store-file", "shop.py"], "--store-file shop.py is not JSON"),
        (["--store-file", "-"], "--store-file - has no JSON object, but list"),
    ],
)
def test_inputs_that_are_none_are_refused(inside, given, says):
    ended = inside("check", "shop:order", *given, stdin="[1]")
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


def test_a_flow_is_held_against_the_unfinished_runs_of_a_store(shop):
    begin = ("run", "shop:order", "--store", "item=kettle", "--store", "card=4000", "--backend", "runs.db", "--run-id")
    assert shop(*begin, "done").code == 0
    shop.write("die")
    shop(*begin, "left")
    before = shop("show", "left", "--backend", "runs.db", "--json").json
    fits = shop("check", "shop:order", "--against", "runs.db")
    assert (fits.code, fits.out.splitlines()[-1]) == (0, "left  RUNNING  keeps reserve; repeats charge; runs send")
    shop.write("new.py", "from shop import charge, linear, send\norder = linear('order', charge, send)\n")
    refused = shop("check", "new:order", "--against", "runs.db")
    assert refused.code == 1
    assert "left  RUNNING  is refused: " in refused.out
    assert "task 'reserve' (SUCCESS) is not in the flow any more" in refused.out
    [verdict] = shop("check", "shop:order", "--against", "runs.db", "--json").json["runs"]
    assert verdict == {
        "run_id": "left",
        "state": "RUNNING",
        "refused": None,
        "keeps": ["reserve"],
        "repeats": ["charge"],
        "runs": ["send"],
        "undoes": [],
        "asks": [],
    }
    assert shop("show", "left", "--backend", "runs.db", "--json").json == before


def test_a_store_that_there_is_not_is_named(shop):
    ended = shop("check", "shop:order", "--against", "nowhere.db")
    assert (ended.code, "There is no store 'nowhere.db'" in ended.err) == (2, True)

"""Runs in a store, by the command line: killed, suspended, taken up, looked at, changed by hand; each is a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import textwrap

import pytest

import taskflowx
from taskflowx.patterns import linear_flow
from tests.services import addresses
from tests.support import commands

pytestmark = pytest.mark.timeout(300)  # a test is up to ten processes

STORE = ("--backend", "runs.db")
ORDER = ("run", "shop:order", "--store", "item=kettle", "--store", "card=4000", "--run-id", "a", *STORE)
DECLINED = ("run", "shop:order", "--store", "item=kettle", "--store", "card=bad", "--run-id", "a", *STORE)

NESTED = """
from taskflowx import Task, linear, retry, unordered


class Step(Task):
    def execute(self):
        pass


air = linear("air", Step("seat"), Step("ticket", retry=retry.Times(2)))
trip = linear("trip", Step("start"), unordered("book", Step("hotel"), air), Step("end"))
"""


def killed(shop, *given):
    """Run a command that kills itself, as `kill -9` does, and remove the reason for that."""
    shop.write("die")
    ended = shop(*given)
    assert ended.code == -signal.SIGKILL
    (shop.path / "die").unlink()
    return ended


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with a run that is done."""
    shop = commands.Folder(tmp_path_factory.mktemp("done"))
    assert shop(*ORDER).code == 0
    return shop


# -- a run that survives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_run_that_was_killed_goes_on(shop, executor):
    assert killed(shop, *ORDER, "--executor", executor).out == "reserve kettle\ncharge 4000\n"
    shown = shop("show", "a", *STORE)
    assert (shown.code, re.sub(r"  [\d.]+ (s|ms|µs)|  taskflowx-\S+", "", shown.out)) == (
        0,
        "a  order  ▶ RUNNING\n├── ✓ reserve  SUCCESS\n├── ▶ charge  RUNNING\n└── ○ send  PENDING\n",
    )
    assert "Nobody runs it" in shown.err
    ended = shop("resume", "a", "shop:order", *STORE, "--executor", executor)
    assert ended.code == 0
    assert ended.out.startswith("charge 4000\nsend one kettle\n")  # what was done is not done again
    assert "run a is done (SUCCESS)" in ended.err


def test_the_same_command_goes_on_too(shop):
    killed(shop, *ORDER)
    assert shop(*ORDER).out.startswith("charge 4000\n")
    again = shop(*ORDER, "--json")  # it is finished: the recorded outcome is printed
    assert (again.code, again.json["results"]["send"]) == (0, "one kettle for 5")
    assert again.err.startswith("This run has ended before: nothing was run\n")


@pytest.mark.parametrize(
    "service", [addresses.POSTGRESQL, addresses.MARIADB, addresses.ZOOKEEPER], ids=lambda one: one.name
)
def test_on_servers(shop, service):
    if reason := service.lacks():
        pytest.skip(reason)
    address = addresses.new_path() if service is addresses.ZOOKEEPER else addresses.new_database(service)
    in_environment = {"TASKFLOWX_BACKEND": address}
    shop.write("die")
    ended = shop(*ORDER[:-2], **in_environment)
    assert ended.code == -signal.SIGKILL
    (shop.path / "die").unlink()
    assert [one["run"] for one in shop("runs", "--state", "running", "--json", **in_environment).json] == ["a"]
    assert shop("resume", "a", "shop:order", **in_environment).code == 0
    assert shop("show", "a", "--json", **in_environment).json["state"] == "SUCCESS"
    assert shop("prune", "--older-than", "0", "--json", **in_environment).json == {"removed": 1}


def test_what_a_run_has_come_to_is_printed_though_its_flow_has_changed(inside):
    inside(*ORDER)
    inside.write("shop.py", commands.SHOP.replace("reserve, charge, send)", "charge)"))
    assert inside("check", "shop:order").out.startswith("order: 1 task,")
    for command in (ORDER, ("resume", "a", "shop:order", *STORE)):
        ended = inside(*command)
        assert (ended.code, ended.out.splitlines()[0]) == (0, "reserve: 'one kettle'")
        assert "This run has ended before: nothing was run" in ended.err


def test_a_run_without_a_name_is_given_one(shop):
    ended = shop(*ORDER[:6], *STORE, "--json")
    name = re.match(r"run (order-\d{8}-\d{6}-[0-9a-f]{10})\n", ended.err)[1]
    assert ended.json["run"] == name
    assert shop("show", name, *STORE, "--json").json["run"] == name


def test_a_run_of_a_program_without_an_id_is_found_by_its_uuid(shop):
    shop.write("die")
    program = (
        "from shop import order; from taskflowx import run\n"
        "run(order, {'item': 'kettle', 'card': '1'}, backend='runs.db')\n"
    )
    subprocess.run(
        [*shop.command()[:1], "-c", program], cwd=shop.path, env=shop.env(), check=False, capture_output=True
    )
    (shop.path / "die").unlink()
    (found,) = shop("runs", *STORE, "--json").json
    assert re.fullmatch(r"[0-9a-f-]{36}", found["run"])
    ended = shop("resume", found["run"], "shop:order", *STORE)
    assert (ended.code, ended.out.splitlines()[0]) == (0, "charge 1")


# -- exit codes --------------------------------------------------------------------------------------------------------


def test_0_done(shop):
    assert shop(*ORDER).code == shop("resume", "a", "shop:order", *STORE).code == 0


def test_1_failed_and_undone(inside):
    assert inside(*DECLINED).code == 1
    again = inside("resume", "a", "shop:order", *STORE, "--json")
    assert (again.code, again.json["failures"][0]["type"]) == (1, "PermissionError")
    assert "give back" not in again.err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["show", "b", *STORE], "There is no run 'b'"),
        (["resume", "b", "shop:order", *STORE], "There is no run 'b'"),
        (["rollback", "b", "shop:order", *STORE], "There is no run 'b'"),
        (["show", "a", "--backend", "none.db"], "There is no store 'none.db'"),
        (["show", "a", "--backend", "runs"], "Could not find backend runs"),
        (["show", "a", "--backend", "./runs"], "--backend='./runs' is a path that does not end in '.db'"),
        (["runs"], "TASKFLOWX_BACKEND"),
        (["runs", *STORE, "--state", "broken"], "there is no such state; there are PENDING, RUNNING"),
        (["runs", *STORE, "--since", "yesterday"], "'yesterday' is no span of time; write seconds, or 15m"),
        (["skip", "a", "shop:order", "nothing", *STORE], "nothing"),
        (["skip", "a", "shop:order", "send", *STORE], "Can not skip atom 'send', which is SUCCESS"),
        (["resolve", "a", "shop:order", "send", *STORE], "Say how the call has ended"),
        (["resolve", "a", "shop:order", *STORE, "--result", "1"], "Of which task?"),
        (["rollback", "a", "shop:order", *STORE, "--to", "nothing"], "nothing"),
        (["run", "shop:order", *STORE, "--run-id", "a", "--store", "item=pot"], "'kettle' on record, 'pot' given"),
        (["run", "shop:payment", *STORE, "--run-id", "a"], "order"),
        (["run", "shop:order", *STORE, "--run-id", ""], "run_id must not be empty"),
    ],
)
def test_2_usage(done, monkeypatch, capfd, given, says):
    ended = commands.Inside(done.path, monkeypatch, capfd)(*given)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert not (done.path / "none.db").exists()


def test_3_not_fully_undone_and_how_to_go_on(inside):
    inside.write("no-way-back")
    ended = inside(*DECLINED)
    assert ended.code == 3
    assert "run a has failed, and is not fully undone (FAILURE)" in ended.err
    assert "not undone: reserve" in ended.err
    assert ended.err.endswith("Go on with the rollback: taskflowx retry-failed a shop:order --backend runs.db\n")
    shown = inside("show", "a", *STORE)
    assert "not undone: reserve" in shown.out
    assert "    └── led to by ConnectionError: the bank is closed" in shown.out
    assert inside("retry-failed", "a", "shop:order", *STORE).code == 3
    (inside.path / "no-way-back").unlink()
    ended = inside("retry-failed", "a", "shop:order", *STORE)
    assert (ended.code, ended.out) == (1, "give back one kettle\n")


def test_4_suspended_and_how_to_go_on(shop):
    shop.write("signal", "SIGINT")
    ended = shop(*ORDER)
    assert ended.code == 4
    assert ended.err.endswith(
        "run a is suspended (SUSPENDED)\nGo on:  taskflowx resume a shop:order --backend runs.db\n"
    )
    (shop.path / "signal").unlink()
    assert shop("resume", "a", "shop:order", *STORE).out.splitlines()[0] == "send one kettle"


@pytest.mark.parametrize(
    ("password", "setting", "shown"),
    [
        (":secret%2F1", "", "'postgresql://root:***@"),
        (":secret/1", "", "'postgresql://root:***@"),
        ("", "?connect_timeout=9&password=secret%2F1", "?connect_timeout=9&password=***'"),
    ],
)
def test_a_password_is_in_no_command_that_is_printed(inside, password, setting, shown):
    if reason := addresses.POSTGRESQL.lacks():
        pytest.skip(reason)
    address = addresses.new_database(addresses.POSTGRESQL).replace("root@", f"root{password}@", 1) + setting
    inside.write("signal", "SIGTERM")
    ended = inside(*ORDER[:-2], "--backend", address)
    assert (ended.code, "secret" in ended.out + ended.err) == (4, False)
    assert "--backend 'postgresql://root" in ended.err
    assert shown in ended.err
    (inside.path / "signal").unlink()
    ended = inside("rollback", "a", "shop:order", "--to", "reserve", TASKFLOWX_BACKEND=address)
    assert ended.err.endswith("Go on:  taskflowx resume a shop:order\n")


def test_5_outcome_unknown_and_how_to_answer(shop):
    pay = ("run", "shop:payment", "--store", "amount=5", "--run-id", "p", *STORE)
    killed(shop, *pay)
    ended = shop(*pay, "--json")
    assert ended.code == 5
    (call,) = ended.json["open_calls"]
    assert (call["task"], call["arguments"], call["attempt"]) == ("pay", {"amount": 5}, 1)
    assert "taskflowx resolve p shop:payment pay --result VALUE --backend runs.db" in ended.err
    listed = shop("resolve", "p", "shop:payment", *STORE)
    assert listed.out == f"pay(amount=5), attempt 1, key {call['idempotency_key']}: a run has ended in this call\n"
    assert shop("resolve", "p", "shop:payment", *STORE, "--json").json == {"run": "p", "open_calls": [call]}
    assert "nobody knows whether it has had its effect" in shop("show", "p", *STORE).out
    assert shop("resume", "p", "shop:payment", *STORE).code == 5
    ended = shop("resolve", "p", "shop:payment", "pay", "--result", "by phone", "--by", "ann", *STORE)
    assert (ended.code, ended.out) == (0, "")
    assert shop("resume", "p", "shop:payment", *STORE, "--json").json["results"]["thank"] == "thanks, with a by phone"
    assert "by hand: resolve pay by ann" in shop("show", "p", *STORE).out


def test_5_a_call_may_be_answered_as_failed(shop):
    pay = ("run", "shop:payment", "--store", "amount=5", "--run-id", "p", *STORE)
    killed(shop, *pay)
    assert shop("resolve", "p", "shop:payment", "pay", "--failed", "it never came", *STORE).code == 0
    ended = shop("resume", "p", "shop:payment", *STORE, "--json")
    assert (ended.code, ended.json["failures"][0]["message"]) == (1, "it never came")


def test_75_another_process_runs_it(shop):
    shop.write(
        "slow.py",
        "import sys\nfrom taskflowx import as_task, linear\n"
        "@as_task\ndef wait():\n    print('here', flush=True)\n    sys.stdin.read()\n"
        "flow = linear('slow', wait)\n",
    )
    command = shop.command("run", "slow:flow", "--run-id", "s", *STORE)
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=shop.path, env=shop.env(), **piped) as process:
        assert process.stdout.readline() == b"here\n"
        for given in (
            ["run", "slow:flow", "--run-id", "s"],
            ["resume", "s", "slow:flow"],
            ["rollback", "s", "slow:flow"],
        ):
            ended = shop(*given, *STORE)
            assert (ended.code, ended.out) == (75, "")
            assert f"process {process.pid} of" in ended.err
        shown = shop("show", "s", *STORE)
        assert f"▶ RUNNING  run by process {process.pid} of" in shown.out
        assert shown.err == ""
        assert shop("prune", "--older-than", "0", "--state", "running", *STORE).code != 70
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert shop("show", "s", *STORE, "--json").json["state"] == "SUCCESS"


def test_75_the_store_cannot_be_reached(inside):
    away = ("--backend", "postgresql://nobody@127.0.0.1:1/none")
    for given in (ORDER[:-2], ["resume", "a", "shop:order"], ["runs"], ["show", "a"]):
        ended = inside(*given, *away)
        assert (ended.code, ended.out) == (75, ""), given
        assert "127.0.0.1" in ended.err


# -- what people do to a run -------------------------------------------------------------------------------------------


def test_a_rollback_that_succeeds_ends_with_0(inside):
    inside(*ORDER)
    ended = inside("rollback", "a", "shop:order", *STORE, "--by", "ann", "--reason", "the wrong address")
    assert (ended.code, ended.out) == (0, "give back one kettle\n")
    assert ended.err == "run a is undone (REVERTED)\n"
    shown = inside("show", "a", *STORE)
    assert re.search(r"by hand: rollback +by ann \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(the wrong address\)\n", shown.out)
    assert inside("rollback", "a", "shop:order", *STORE).out == ""
    entries = inside("history", "a", *STORE, "--json").json  # it goes on with what a command does by hand
    assert [one["atom"] for one in entries if one["new"] == "REVERTED"][:3] == ["send", "charge", "reserve"]


def test_a_rollback_that_does_not_ends_with_3(inside):
    inside(*ORDER)
    inside.write("no-way-back")
    ended = inside("rollback", "a", "shop:order", *STORE, "--json")
    assert (ended.code, ended.json["exit_code"], ended.json["not_undone"]) == (3, 3, ["reserve"])


def test_a_part_is_undone_and_made_again(inside):
    inside(*ORDER)
    ended = inside("rollback", "a", "shop:order", *STORE, "--to", "reserve", "--json")
    assert (ended.code, ended.json["state"], ended.json["exit_code"]) == (0, "SUSPENDED", 0)
    ended = inside("skip", "a", "shop:order", "charge", "--result", "7", *STORE)
    assert ended.code == 0
    assert "taskflowx resume a shop:order --backend runs.db" in ended.err
    ended = inside("resume", "a", "shop:order", *STORE, "--json")
    assert (ended.code, ended.json["results"]["send"]) == (0, "one kettle for 7")
    done = inside("show", "a", *STORE, "--json").json["by_hand"]
    assert [(one["what"], one["name"]) for one in done] == [("rollback", "reserve"), ("skip", "charge")]


# -- lists and drawings ------------------------------------------------------------------------------------------------


def test_lists(inside):
    for n in range(3):
        inside("run", "shop:order", "-s", "item=a", "-s", f"card={'bad' if n == 1 else n}", "--run-id", f"r{n}", *STORE)
    listed = inside("runs", *STORE)
    assert listed.code == 0
    lines = listed.out.splitlines()
    assert lines[0].split() == ["RUN", "FLOW", "STATE", "CREATED", "UPDATED"]
    assert [line.split()[0] for line in lines[1:]] == ["r2", "r1", "r0"]
    assert all(line == line.rstrip() for line in lines)
    found = inside("runs", *STORE, "--json").json
    assert set(found[0]) == {"run", "flow", "state", "created_at", "updated_at"}

    def names(*given):
        return [one["run"] for one in inside("runs", *STORE, "--json", *given).json]

    assert names("--state", "reverted") == ["r1"]
    assert names("--state", "reverted,success", "--limit", "2") == ["r2", "r1"]
    assert names("--flow", "other") == []
    assert names("--since", "1h") == ["r2", "r1", "r0"]
    assert names("--since", "0") == []
    assert inside("runs", *STORE, "--limit", "2").err == "the newest 2; --limit shows more\n"
    assert inside("runs", *STORE, "--flow", "other").err == "no run was found\n"


def test_the_shape_of_show(inside):
    inside(*DECLINED)
    found = inside("show", "a", *STORE, "--json").json
    assert set(found) == {
        *("run", "flow", "state", "created_at", "updated_at", "owner", "atoms", "failures", "not_undone", "by_hand")
    }
    assert [(one["name"], one["state"]) for one in found["atoms"]] == [
        ("reserve", "REVERTED"),
        ("charge", "REVERTED"),
        ("send", "PENDING"),
    ]
    assert set(found["atoms"][0]) == {
        *("name", "kind", "state", "intention", "attempts", "worker", "result_size", "progress", "queued", "started"),
        *("ended", "seconds", "wake", "unknown", "flows"),
    }
    assert found["failures"][0]["led_to_by"] == [{"type": "ConnectionError", "message": "the bank is closed"}]


def test_flows_within_the_flow_are_branches(inside):
    inside.write("nested.py", NESTED)
    assert inside("run", "nested:trip", "--run-id", "a", *STORE).code == 0
    shown = re.sub(r"  [\d.]+ (s|ms|µs)", "", inside("show", "a", *STORE).out)
    assert shown.splitlines()[1:] == [
        "├── ✓ start  SUCCESS",
        "├── book",
        "│   ├── ✓ hotel  SUCCESS",
        "│   └── air",
        "│       ├── ✓ seat  SUCCESS",
        "│       ├── ✓ ticket_retry  SUCCESS",
        "│       └── ✓ ticket  SUCCESS",
        "└── ✓ end  SUCCESS",
    ]
    found = inside("show", "a", *STORE, "--json").json
    assert {one["name"]: one["flows"] for one in found["atoms"]}["seat"] == ["book", "air"]


def test_flows_of_one_name_are_branches_of_their_own_in_their_order(inside):
    text = """
    from taskflowx import Task, linear

    class Step(Task):
        def execute(self):
            pass

    same = [linear("same", *map(Step, names)) for names in (["a"], ["b"], ["d", "e"])]
    outer = linear("outer", same[0], same[1], Step("c"), linear("same", same[2], Step("f")))
    """
    inside.write("names.py", textwrap.dedent(text))
    assert inside("run", "names:outer", "--run-id", "a", *STORE).code == 0
    shown = re.sub(r"  SUCCESS.*", "", inside("show", "a", *STORE).out)
    assert shown.splitlines()[1:] == [
        "├── same",
        "│   └── ✓ a",
        "├── same",
        "│   └── ✓ b",
        "├── ✓ c",
        "└── same",
        "    ├── same",
        "    │   ├── ✓ d",
        "    │   └── ✓ e",
        "    └── ✓ f",
    ]
    found = inside("show", "a", *STORE, "--json").json
    assert {one["name"]: one["flows"] for one in found["atoms"]}["e"] == ["same", "same"]


def test_history_and_timeline(inside):
    inside(*DECLINED)
    entries = inside("history", "a", *STORE, "--json").json
    assert [one["number"] for one in entries] == list(range(1, len(entries) + 1))
    assert [one["new"] for one in entries if one["atom"] == "charge"] == ["RUNNING", "FAILURE", "REVERTING", "REVERTED"]
    assert set(entries[0]) == {*("number", "at", "atom", "attempt", "old", "new", "began", "worker", "failure")}
    (failed,) = [one for one in entries if one["failure"]]
    assert (failed["failure"], failed["worker"]) == ("PermissionError", "MainThread")
    printed = inside("history", "a", *STORE).out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", printed[0])
    assert len(printed) == 1 + len(entries)
    assert printed[-1].endswith("(the flow)  RUNNING → ↶ REVERTED")
    drawn = inside("show", "a", *STORE, "--timeline").out.split("\n\n")[1].splitlines()
    assert [line.split("█")[0].strip(" ·") for line in drawn] == ["reserve", "charge", "↶ charge", "↶ reserve"]
    assert all(line.endswith("s") for line in drawn)


def test_a_run_without_a_history_has_no_timeline(inside):
    taskflowx.run(
        linear_flow.Flow("f").add(taskflowx.task.FunctorTask(dict, name="t")), backend=f"dir://{inside.path}/d"
    )
    store = ("--backend", f"dir://{inside.path}/d")
    (run,) = inside("runs", *store, "--json").json
    assert "no history" in inside("show", run["run"], *store, "--timeline").err
    ended = inside("history", run["run"], *store)
    assert (ended.code, ended.out) == (0, "")
    assert "has no history" in ended.err
    assert inside("history", run["run"], *store, "--json").json == []


def test_a_retry_that_is_undone_is_shown(inside):
    inside.write(
        "tries.py",
        "from taskflowx import as_task, linear, retry\n@as_task\ndef t(): raise OSError('no')\n"
        "flow = linear('tries', t | retry.Times(2))\n",
    )
    inside("run", "tries:flow", "--run-id", "t", *STORE)
    found = inside("show", "t", *STORE, "--json").json
    assert [(one["kind"], one["state"]) for one in found["atoms"]] == [("retry", "REVERTED"), ("task", "REVERTED")]


def test_watch_ends_with_the_run_and_its_code(inside):
    inside(*DECLINED)
    ended = inside("show", "a", *STORE, "--watch", "--json")
    assert (ended.code, [json.loads(line)["state"] for line in ended.out.splitlines()]) == (1, ["REVERTED"])


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_4_watch_ends_with_a_run_that_its_process_has_left(shop, json_too):
    killed(shop, *ORDER)
    ended = shop("show", "a", *STORE, "--watch", *json_too)
    assert (ended.code, "RUNNING" in ended.out) == (4, True)
    assert (
        ended.err
        == "Nobody runs it: its process has ended. Go on with: taskflowx resume a MODULE:FLOW --backend runs.db\n"
    )
    assert shop("show", "a", *STORE).err == ended.err
    assert shop("show", "a", TASKFLOWX_BACKEND="runs.db").err.endswith("taskflowx resume a MODULE:FLOW\n")


def test_watch_follows_a_run_to_its_end(shop):
    shop.write(
        "slow.py",
        "import sys\nfrom taskflowx import as_task, linear\n"
        "@as_task\ndef wait():\n    print('here', flush=True)\n    sys.stdin.read()\n"
        "@as_task\ndef then(wait): pass\n"
        "flow = linear('slow', wait, then)\n",
    )
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    where = {"cwd": shop.path, "env": shop.env()}
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(shop.command("run", "slow:flow", "--run-id", "s", *STORE), **where, **piped) as runs:
            assert runs.stdout.readline() == b"here\n"
            look = shop.command("show", "s", *STORE, "--watch")
            with (
                subprocess.Popen([*look, "--json"], **where, **piped) as watches,
                subprocess.Popen(look, **where, stdin=subprocess.DEVNULL, stdout=theirs) as draws,
            ):
                seen = [json.loads(watches.stdout.readline())]
                drawn = b""
                while b"RUNNING" not in drawn:  # it has drawn the first look before the run goes on
                    drawn += os.read(ours, 100_000)
                runs.communicate(timeout=120)
                seen += map(json.loads, watches.stdout)
                assert (watches.wait(120), draws.wait(120)) == (0, 0)
                while "✓ SUCCESS".encode() not in drawn:
                    drawn += os.read(ours, 100_000)
    finally:
        os.close(ours)
        os.close(theirs)
    text = drawn.decode()
    assert (seen[0]["state"], seen[-1]["state"]) == ("RUNNING", "SUCCESS")
    assert [one["state"] for one in seen[-1]["atoms"]] == ["SUCCESS", "SUCCESS"]
    assert "▶ RUNNING" in text
    assert "\x1b[2K" in text  # the lines of the look before are removed


def test_names_of_any_script_in_a_narrow_terminal(inside):
    store = f"sqlite:///{inside.path}/runs.db"
    names = ("größe", "長い名前のタスクがここにあります", "مرحبا", "a\x1b[31mred\nline", "👩‍🚀 launch")
    flow = linear_flow.Flow("été 寸").add(*(taskflowx.task.FunctorTask(dict, name=name) for name in names))
    taskflowx.run(flow, backend=store, run_id="🚀")
    ended = inside("show", "🚀", *STORE)
    assert ended.out.splitlines()[1].startswith("├── ✓ größe  SUCCESS")
    assert "\x1b" not in ended.out
    narrow = inside("show", "🚀", *STORE, COLUMNS="40")
    assert narrow.code == 0
    from rich.cells import cell_len

    assert max(map(cell_len, narrow.out.splitlines())) <= 40
    assert "launch" in narrow.out
    listed = inside("runs", *STORE, COLUMNS="40").out.splitlines()
    assert max(map(cell_len, listed)) <= 40
    assert listed[1].split()[0] == "🚀"
    assert "SUCCESS" in listed[1]
    drawn = inside("show", "🚀", *STORE, "--timeline", COLUMNS="40").out.splitlines()
    assert max(map(cell_len, drawn)) <= 40
    assert sum("█" in line for line in drawn) == len(names)


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals(shop, env, coloured):
    pty = pytest.importorskip("pty")
    shop(*ORDER)
    assert "\x1b[" not in shop("show", "a", *STORE).out
    ours, theirs = pty.openpty()
    try:
        command = shop.command("show", "a", *STORE)
        with subprocess.Popen(
            command, cwd=shop.path, env=shop.env(**env), stdout=theirs, stdin=subprocess.DEVNULL
        ) as process:
            assert process.wait(60) == 0
        text = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "reserve" in text
    assert ("\x1b[32m" in text) == coloured


def test_runs_are_removed(shop):
    shop(*ORDER)
    killed(shop, *ORDER[:-4], "--run-id", "b", *STORE)
    assert shop("prune", "--older-than", "1h", *STORE, "--json").json == {"removed": 0}
    ended = shop("prune", "--older-than", "0s", *STORE)
    assert (ended.code, ended.out) == (0, "1 run removed\n")
    assert [one["run"] for one in shop("runs", *STORE, "--json").json] == ["b"]
    assert shop("db", "verify", *STORE).out == "1 run read\n"


def test_a_damaged_run_is_found(inside):
    import sqlite3

    inside(*ORDER)
    with contextlib.closing(sqlite3.connect(inside.path / "runs.db")) as database, database:
        database.execute("UPDATE atomdetails SET results = '{' WHERE name = 'charge'")
    ended = inside("db", "verify", *STORE, "--json")
    assert (ended.code, ended.json["runs"]) == (1, 1)
    assert "charge" in ended.json["faults"][0]


OF_CLASSES = """
import dataclasses, enum
from taskflowx import as_task, linear

Colour = enum.Enum("Colour", {"RED": "red"})


@dataclasses.dataclass(frozen=True)
class Invoice:
    number: int
    colour: Colour = Colour.RED


@as_task(provides="invoice")
def make(number: int):
    return Invoice(number)


@as_task
def ask(invoice):
    raise KeyboardInterrupt


flow = linear("classes", make, ask)
other = linear("classes", as_task(lambda invoice: 1, name="make"))
"""


def test_what_only_reads_needs_none_of_the_classes_of_a_run(inside):
    inside.write("bills.py", OF_CLASSES)
    assert inside("run", "bills:flow", "--store", "number=3", "--run-id", "a", *STORE).code == 4
    for command in (
        ("show", "a"),
        ("show", "a", "--watch"),
        ("history", "a"),
        ("report", "a", "-o", "a.html"),
        ("report", "a", "-o", "values.html", "--values"),
        ("fork", "a", "--from", "ask"),
        ("runs",),
    ):
        ended = inside(*command, *STORE)
        assert (ended.code, "bills" in ended.err) == (4 if "--watch" in command else 0, False), command
    ended = inside("db", "verify", *STORE)
    assert (ended.code, ended.out, ended.err) == (0, "2 runs read\n", "no fault was found\n")
    assert "dataclass bills:Invoice" in (inside.path / "a.html").read_text(encoding="utf-8")
    assert "<dataclass bills:Invoice:" not in (inside.path / "a.html").read_text(encoding="utf-8")


def test_2_a_run_is_gone_on_with_by_what_has_its_classes_alone(inside):
    inside.write("bills.py", OF_CLASSES)
    assert inside("run", "bills:flow", "--store", "number=3", "--run-id", "a", *STORE).code == 4
    ended = inside("resume", "a", "shop:order", *STORE)
    assert ended.code == 2
    assert "this program has not imported 'bills'" in ended.err
    assert inside("resume", "a", "bills:flow", *STORE).code == 4


def test_2_what_is_no_folder_stays_none(inside):
    inside.write("text.txt", "no folder")
    for command in (("runs",), ("show", "a"), ("run", "shop:order", "--store", "item=x", "--store", "card=y")):
        assert inside(*command, "--backend", f"dir:///{inside.path}/text.txt").code == 2


@pytest.mark.parametrize("run", ["", "x" * 1001, "a\udcff"])
@pytest.mark.parametrize(
    "command", ["show", "show --watch", "history", "report", "fork --from a", "resume", "rollback", "retry-failed"]
)
def test_what_can_be_no_id_of_a_run_is_refused(inside, command, run):
    inside("db", "upgrade", *STORE)
    verb, *more = command.split()
    ended = inside(
        verb, run, *more, *(["shop:order"] if verb in ("resume", "rollback", "retry-failed") else []), *STORE
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("taskflowx: run_id ")


def test_a_fork_keeps_what_was_before_a_task(inside):
    inside(*DECLINED)
    ended = inside("fork", "a", "--from", "charge", "--run-id", "b", "--store", "card=4000", *STORE)
    assert (ended.code, ended.out) == (0, "b\n")
    assert "taskflowx resume b MODULE:FLOW --backend runs.db" in ended.err
    for run, way in (
        ("b c", "resume 'b c' MODULE:FLOW --backend runs.db"),
        ("-b", "resume --backend runs.db -- -b MODULE:FLOW"),
    ):
        assert f"taskflowx {way}\n" in inside("fork", "a", "--from", "charge", "--run-id", run, *STORE).err
    assert inside("show", *STORE, "--", "-b").code == 0
    assert inside("fork", "a", "--from", "charge", "--run-id", "b", *STORE).err == (
        "taskflowx: There is a run 'b' already; give another --run-id\n"
    )
    assert inside("fork", "a", "--from", "nothing", *STORE).code == 2
    ended = inside("fork", "a", "--from", "charge", *STORE, "--json")
    assert ended.json["run"] in [one["run"] for one in inside("runs", *STORE, "--json").json]


def test_a_fork_of_a_run_that_is_done_runs_only_the_rest(inside):
    inside(*ORDER)
    inside("fork", "a", "--from", "charge", "--run-id", "b", "--store", "card=77", *STORE)
    ended = inside("resume", "b", "shop:order", *STORE)
    assert (ended.code, ended.out.splitlines()[:2]) == (0, ["charge 77", "send one kettle"])


def test_reports(inside):
    inside(*DECLINED)
    ended = inside("report", "a", *STORE)
    assert (ended.code, ended.out) == (0, "a.html\n")
    assert "the card is declined" in (inside.path / "a.html").read_text(encoding="utf-8")
    ended = inside("report", "a", *STORE, "--output", "b.html", "--trace", "--json")
    if ended.code == 2:
        assert "perfetto" in ended.err  # it is not installed
    else:
        assert ended.json == {"files": ["b.html", "b.perfetto-trace"]}
        assert (inside.path / "b.perfetto-trace").stat().st_size
    ended = inside("report", "a", *STORE, "--output", "none/b.html")
    assert (ended.code, ended.out) == (2, "")
    assert "none/b.html cannot be written: No such file or directory" in ended.err
    for at in (("-o", "."), ("-o", "b.perfetto-trace", "--trace")):
        assert inside("report", "a", *STORE, *at).code == 2


@pytest.mark.parametrize(
    ("name", "typed"),
    [("my flow/2", "my-flow-2"), ("-- x", "x"), ("\x1b[31m\n", "31m"), ("", "run"), ("ü" * 999, "ü" * 60)],
)
def test_a_run_without_an_id_is_given_one_that_can_be_typed(inside, name, typed):
    inside.write("odd.py", f"from taskflowx import linear\nflow = linear({name!r})\n")
    found = inside("run", "odd:flow", *STORE, "--json").json["run"]
    assert re.fullmatch(rf"{typed}-\d{{8}}-\d{{6}}-[0-9a-f]{{10}}", found)

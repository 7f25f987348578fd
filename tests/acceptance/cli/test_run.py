"""taskflowx run: a flow is run in memory; what is printed where, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.timeout(300)  # each command is a process

GIVEN = ("run", "shop:order", "--store", "item=kettle", "--store")


def test_a_run_that_is_done_ends_with_0(shop):
    ended = shop(*GIVEN, "card=4000")  # text, as `charge` says
    assert ended.code == 0
    assert ended.out == (
        "reserve kettle\ncharge 4000\nsend one kettle\n"
        "reserve: 'one kettle'\ncharge: 5\nsend: 'one kettle for 5'\n"
    )  # fmt: skip
    assert ended.err == "order is done (SUCCESS)\n"


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_with_json_the_standard_output_has_nothing_else(shop, executor):
    ended = shop(*GIVEN, "card=x", "--json", "--executor", executor, "--max-workers", "2")
    values = {"item": "kettle", "card": "x", "reserve": "one kettle", "charge": 5, "send": "one kettle for 5"}
    assert (ended.code, ended.json) == (
        0,
        {
            "run": None,
            "flow": "order",
            "state": "SUCCESS",
            "exit_code": 0,
            "results": values,
            "failures": [],
            "not_undone": [],
            "open_calls": [],
        },
    )
    assert "send one kettle" in ended.err  # what the tasks print


NOISY = """
import atexit, os, subprocess, sys, threading
from taskflowx import as_task, linear


def at_the_end():
    threading.main_thread().join()
    print("of a thread", flush=True)
    os.write(1, b"of a descriptor\\n")
    subprocess.run([sys.executable, "-c", "print('of a program')"])


threading.Thread(target=at_the_end).start()
atexit.register(print, "of atexit", flush=True)
sys.__stdout__.write("of the stream\\n")
flow = linear("noisy", as_task(lambda: 1, name="a"))
"""


@pytest.mark.parametrize("command", [("run", "noisy:flow"), ("check", "noisy:flow")])
def test_with_json_nothing_else_is_printed_up_to_the_end_of_the_process(shop, command):
    shop.write("noisy.py", NOISY)
    ended = shop(*command, "--json")
    assert (ended.code, ended.json["flow"]) == (0, "noisy")
    for what in ("a thread", "a descriptor", "a program", "atexit", "the stream"):
        assert f"of {what}" in ended.err
    plain = shop(*command)
    for what in ("a thread", "a descriptor", "a program", "atexit", "the stream"):
        assert f"of {what}" in plain.out


def test_a_program_that_goes_on_after_a_command_has_its_standard_output(inside, capfd):
    assert inside(*GIVEN, "card=x", "--json").json["state"] == "SUCCESS"
    subprocess.run(["echo", "after"], check=True)
    sys.stdout.write("all\n")
    assert capfd.readouterr().out == "after\nall\n"


def test_json_goes_to_the_standard_output_that_python_has(shop):
    program = (
        "import contextlib, io, json, sys; from taskflowx import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    code = cli.main(['run', 'shop:order', '-s', 'item=x', '-s', 'card=y', '--json'])\n"
        "print(code, json.loads(out.getvalue())['state'])\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=shop.path, env=shop.env(), capture_output=True, text=True, check=True)
    assert done.stdout == "0 SUCCESS\n"


def test_a_command_without_a_standard_output_ends_as_the_run_does(shop):
    command = " ".join(["exec", *shop.command(*GIVEN, "card=x", "--json"), ">&-"])
    assert subprocess.run(["sh", "-c", command], cwd=shop.path, env=shop.env(), check=False).returncode == 0


def test_a_run_that_is_undone_ends_with_1(shop):
    ended = shop(*GIVEN, "card=bad")
    assert (ended.code, ended.out) == (1, "reserve kettle\ncharge bad\ngive back one kettle\n")
    assert 'shop.py"' in ended.err
    assert "in charge" in ended.err
    assert "taskflowx/engines" not in ended.err
    assert ended.err.endswith(
        "order has failed, and is undone (REVERTED)\n"
        "  charge: PermissionError: the card is declined\n"
        "    led to by ConnectionError: the bank is closed\n"
    )
    assert shop(*GIVEN, "card=bad", "--json").json["failures"] == [
        {
            "atom": "charge",
            "type": "PermissionError",
            "message": "the card is declined",
            "led_to_by": [{"type": "ConnectionError", "message": "the bank is closed"}],
        }
    ]


def test_a_run_that_is_not_fully_undone_ends_with_3(shop):
    shop.write("no-way-back")
    ended = shop(*GIVEN, "card=bad", "--json")
    assert (ended.code, ended.json["state"], ended.json["not_undone"]) == (3, "FAILURE", ["reserve"])
    assert {one["atom"] for one in ended.json["failures"]} == {"charge", "reserve"}
    assert "not undone: reserve" in ended.err


LEAVES = """
import sys
from taskflowx import as_task, linear


class Leave(BaseException):
    pass


def left_by(error):
    @as_task(name="b")
    def leave():
        raise error
    return linear("f", as_task(lambda: 1, name="a"), leave)


text, zero, none = map(left_by, (SystemExit("no licence"), SystemExit(0), SystemExit))
closed, odd = map(left_by, (GeneratorExit("no licence"), Leave("no licence")))


def ends():
    sys.exit("no licence")


def ends_well():
    sys.exit(0)


def ends_oddly():
    raise Leave("no licence")


def __getattr__(name):
    raise {"lazy": RuntimeError, "gone": AttributeError}.get(name, SystemExit)("no licence")
"""


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("flow", ["text", "zero", "none", "closed", "odd"])
def test_a_task_that_ends_the_program_leaves_the_run_with_4(inside, flow, executor):
    inside.write("leaves.py", LEAVES)
    ended = inside("run", f"leaves:{flow}", "--executor", executor)
    assert (ended.code, ended.out) == (4, "")
    assert "f is suspended (SUSPENDED)" in ended.err
    assert ("no licence" in ended.err) is (flow in ("text", "closed", "odd"))
    assert inside("run", f"leaves:{flow}", "--executor", executor, "--json").json["exit_code"] == 4


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("target", ["ends", "ends_well", "ends_oddly", "lazy", "left", "gone"])
def test_a_target_that_ends_the_program_or_raises_ends_with_2(inside, command, target):
    inside.write("leaves.py", LEAVES)
    ended = inside(command, f"leaves:{target}")
    assert (ended.code, ended.out) == (2, "")
    assert f"leaves:{target}" in ended.err
    assert "taskflowx/cli" not in ended.err
    assert ("no licence" in ended.err) is (target not in ("ends_well", "gone"))


@pytest.mark.parametrize("code", ["0", "None", "'no licence'"])
def test_a_flow_that_ends_the_program_while_it_is_looked_at_does_not_end_with_0(inside, code):
    text = f"""
    from taskflowx import linear

    class Flow(type(linear("f"))):
        @property
        def requires(self):
            raise SystemExit({code})

    flow = Flow("f")
    """
    inside.write("odd.py", textwrap.dedent(text))
    ended = inside("check", "odd:flow")
    assert (ended.code, ended.out) == (2, "")
    assert "The code of the flow ends the program" in ended.err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_suspends_and_ends_with_4(shop, name):
    shop.write("signal", name)
    ended = shop(*GIVEN, "card=x")
    assert (ended.code, ended.out) == (4, "reserve kettle\ncharge x\n")
    assert "order is suspended (SUSPENDED)" in ended.err
    assert "Its record was in memory" in ended.err


def test_a_second_interrupt_does_not_wait(shop):
    shop.write(
        "stuck.py",
        "import os, signal, sys\n"
        "from taskflowx import as_task, linear\n"
        "@as_task\n"
        "def wait():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('the first', file=sys.stderr)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    raise AssertionError('the second has not come')\n"
        "flow = linear('stuck', wait)\n",
    )
    ended = shop("run", "stuck:flow")
    assert ended.code == 4
    assert "the second has not come" not in ended.err


def test_missing_inputs_end_with_2_and_name_the_way_out(shop):
    ended = shop("run", "shop:order", "--store", "item=kettle")
    assert (ended.code, ended.out) == (2, "")
    assert "nobody provides 'card' for task 'charge'" in ended.err
    assert "--store NAME=VALUE" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--executor", "nope"], "nope"),
        (["--run-id", "a"], "--run-id needs a store"),
        (["--backend", "nope://x"], "Could not find backend nope"),
        (["--max-workers", "0"], "--max-workers"),
    ],
)
def test_options_that_are_wrong_end_with_2(shop, more, says):
    ended = shop(*GIVEN, "card=x", *more)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_values_that_no_store_keeps_are_shown_as_their_text(shop):
    shop.write(
        "odd.py",
        "import datetime\n"
        "from taskflowx import Task\n"
        "class Odd(Task):\n"
        "    default_provides = ('day', 'thing', 'escape')\n"
        "    def execute(self): return datetime.date(2026, 1, 2), object, '\\x1b[31mred'\n"
        "odd = Odd('odd')\n",
    )
    results = shop("run", "odd:odd", "--json").json["results"]
    assert results["thing"] == "<class 'object'>"
    assert "2026-01-02" in str(results["day"])
    assert "\x1b" not in shop("run", "odd:odd").out


def test_values_without_a_text_are_no_fault(inside):
    inside.write(
        "values.py",
        "from taskflowx import Task\n"
        "class Unshown:\n"
        "    def __repr__(self): raise OSError\n"
        "class Make(Task):\n"
        "    default_provides = ('number', 'thing')\n"
        "    def execute(self): return 10**5000, Unshown()\n"  # more digits than Python shows
        "flow = Make('make')\n",
    )
    ended = inside("run", "values:flow")
    no_number, no_thing = (f"a value whose repr raised {error}" for error in ("ValueError", "OSError"))
    assert (ended.code, ended.out) == (0, f"number: {no_number}\nthing: {no_thing}\n")
    results = inside("run", "values:flow", "--json").json["results"]
    assert results == {"number": {"$tfx": ["int", hex(10**5000)]}, "thing": no_thing}


def test_a_progress_bar_is_on_the_standard_error(shop):
    ended = shop(*GIVEN, "card=x", "--progress")
    assert "100%" in ended.err
    assert "100%" not in ended.out


@pytest.mark.parametrize(
    ("verb", "around", "code", "says"),
    [
        ("check", ">/dev/full", 75, "No space left on device"),
        ("run", "--json >/dev/full", 75, "No space left on device"),
        ("run", "--store-file - <&-", 2, "--store-file - needs a standard input"),
    ],
)
def test_what_the_shell_has_not_given_is_no_fault(shop, verb, around, code, says):
    command = " ".join(shop.command(verb, "shop:order", "-s", "item=a", "-s", "card=b"))
    done = subprocess.run(  # noqa: S602 - it is the shell that makes the streams
        f"{command} {around}",
        shell=True,
        executable="/bin/bash",
        cwd=shop.path,
        env=shop.env(),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_a_reader_that_has_gone_is_no_fault(shop):
    command = " ".join(shop.command("run", "shop:order", "-s", "item=a", "-s", "card=b", "--json"))
    done = subprocess.run(  # noqa: S602 - it is the shell that makes the pipe
        f"{command} | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=shop.path,
        env=shop.env(),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() in ("0", "141")
    assert "Traceback" not in done.stderr


def test_unicode_goes_through_where_the_terminal_has_none(shop):
    shop.write(
        "wide.py",
        "from taskflowx import as_task, linear\n"
        "@as_task(name='größe 寸', provides='größe')\n"
        "def size(): return '✓ 寸'\n"
        "flow = linear('été', size)\n",
    )
    ended = shop("run", "wide:flow")
    assert (ended.code, ended.out) == (0, "größe: '✓ 寸'\n")
    ended = shop("run", "wide:flow", PYTHONIOENCODING="ascii")
    assert (ended.code, ended.out) == (0, "gr\\xf6\\xdfe: '\\u2713 \\u5bf8'\n")


def test_an_interrupt_while_nothing_runs_ends_with_130(shop):
    shop.write("slow.py", "import sys\nprint('here', flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen(
        shop.command("check", "slow:flow"),
        cwd=shop.path,
        env=shop.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"here\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b"Interrupted\n"


def test_sensitive_values_are_not_shown(inside):
    inside.write(
        "login.py",
        "from taskflowx import as_task, linear\n"
        "@as_task(provides='token', sensitive=True)\n"
        "def login(user): return f'token-of-{user}'\n"
        "@as_task\n"
        "def fetch(token): return len(token)\n"
        "@as_task\n"
        "def fails(token): raise PermissionError(f'{token} is refused')\n"
        "flow = linear('login', login, fetch)\n"
        "refused = linear('login', login, fails)\n",
    )
    ended = inside("run", "login:flow", "--store", "user=ann")
    assert (ended.code, ended.out) == (0, "token: '***'\nfetch: 12\n")
    ended = inside("run", "login:flow", "--store", "user=ann", "--json")
    assert ended.json["results"] == {"user": "ann", "token": "***", "fetch": 12}
    ended = inside("run", "login:refused", "--store", "user=ann", "--json")
    assert (ended.code, ended.json["failures"][0]["message"]) == (1, "*** is refused")
    assert "token-of-ann" not in ended.out + ended.err

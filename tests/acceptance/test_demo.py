"""The demo program: what it prints, that its checks can fail, and that its volume flow leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskflowx import engines

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
STEPS = [
    "check the request",
    "reserve quota",
    "create the database row",
    "commit the quota",
    "build the volume from the image",
    "hand over to the scheduler",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Run the program once, with output to a pipe; gives the finished process and its temporary folder."""
    folder = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, EXAMPLES / "demo.py", "--files", "60"]
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=50, check=False)
    return done, folder


@pytest.fixture
def demo(monkeypatch):
    """The program as a module, with an image that is small."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import demo

    monkeypatch.setattr(demo, "IMAGE_SIZE", 8 << 20)
    return demo


@pytest.fixture
def service(demo, tmp_path):
    service = demo.CloudService.founded(tmp_path / "cloud", demo.QUOTA)
    service.add_image("debian", demo.IMAGE_SIZE)
    return service


def names_marked(mark, output):
    return re.findall(rf"^  {mark} +(\S+(?: \S+)*)  ", output, re.MULTILINE)


def test_program_ends_well_and_says_so(program):
    done, _ = program
    assert (done.returncode, done.stderr) == (0, "")
    assert "All checks passed." in done.stdout
    assert "WRONG" not in done.stdout


def test_program_shows_steps_in_order_then_rollback_in_reverse(program):
    done, _ = program
    _, first, second, _ = re.split(r"^[123]\. .*$", done.stdout, flags=re.MULTILINE)
    assert names_marked("done", first) == STEPS
    assert names_marked("undone", first) == []
    assert names_marked("done", second) == STEPS[:-1]
    assert names_marked("FAILED", second) == STEPS[-1:]
    assert names_marked("undone", second) == STEPS[::-1]


def test_program_shows_that_all_is_as_before(program):
    done, _ = program
    assert "  ok      quota, rows and files had changed, and are as before\n" in done.stdout
    _, before, failed, after = re.search(r"^  fingerprint .*$", done.stdout, re.MULTILINE)[0].split()
    assert before == after != failed


def test_program_gives_same_hash_with_each_executor(program):
    done, _ = program
    found = re.findall(r"^  (serial|threads|processes) .* ([0-9a-f]{12})$", done.stdout, re.MULTILINE)
    assert [name for name, _ in found] == ["serial", "threads", "processes"]
    assert len({digest for _, digest in found}) == 1


def test_output_to_a_pipe_is_plain_lines_of_at_most_80_columns(program):
    done, _ = program
    assert not set("\r\033") & set(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_program_removes_its_folder(program):
    _, folder = program
    assert list(folder.iterdir()) == []


def test_exit_code_is_1_when_rollback_leaves_something(demo, monkeypatch, capsys):
    import demo_volume

    monkeypatch.setattr(sys, "argv", ["demo.py"])
    monkeypatch.setattr(demo, "show_build", lambda report, folder, files: None)
    monkeypatch.setattr(demo_volume.CommitQuota, "revert", lambda self, service, size, result: None)
    assert demo.main() == 1
    assert "  WRONG   quota, rows and files had changed, and are as before\n" in capsys.readouterr().out


def test_executor_that_makes_other_files_is_found_out(demo, monkeypatch, tmp_path, capsys):
    import demo_build

    def different_in_threads(self, source, target, path):
        return target.name if target.name == "threads" else "same"

    monkeypatch.setattr(demo_build.CompressFile, "execute", different_in_threads)
    report = demo.Report()
    demo.show_build(report, tmp_path, files=3)
    assert not report.passed
    assert "  WRONG   all three made the same files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "what_fails"),
    [
        ("reserve quota", "demo_service.CloudService.reserve"),
        ("create the database row", "demo_service.CloudService.add_row"),
        ("commit the quota", "demo_service.CloudService.commit"),
        ("build the volume from the image", "os.fsync"),
        ("hand over to the scheduler", "demo_service.CloudService.order"),
    ],
)
def test_service_is_as_before_whichever_step_fails(demo, service, monkeypatch, step, what_fails):
    def fail(*args):
        raise OSError(step)

    monkeypatch.setattr(what_fails, fail)
    before = service.state()
    request = {"name": "disk", "image": "debian"}
    flow = demo.volume_flow(lambda event, details: None)
    engine = engines.load(flow, store={"service": service, "request": request})
    with pytest.raises(OSError, match=step):
        engine.run()
    assert service.state() == before
    assert engine.not_undone() == []


@pytest.mark.parametrize("request_", [{"image": "debian"}, {"name": "disk"}, {"name": "disk", "image": "../x"}])
def test_request_that_cannot_be_met_is_refused(demo, service, request_):
    from demo_volume import InvalidRequestError

    flow = demo.volume_flow(lambda event, details: None)
    with pytest.raises(InvalidRequestError):
        engines.run(flow, store={"service": service, "request": request_})


def test_volume_beyond_quota_is_refused(demo, service):
    from demo_service import QuotaExceededError

    service.reserve(demo.QUOTA - demo.IMAGE_SIZE + 1)
    flow = demo.volume_flow(lambda event, details: None)
    with pytest.raises(QuotaExceededError):
        engines.run(flow, store={"service": service, "request": {"name": "disk", "image": "debian"}})


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_gets_a_bar_that_is_drawn_over(demo, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    report = demo.Report()
    progress = demo.CopyProgress(report)
    for fraction in (0.5, 1.0):
        progress.on_progress("update_progress", {"progress": fraction})
    report.line("done")
    *bars, last = terminal.getvalue().split("\r\033[K")[1:]
    assert [bar.count("#") for bar in bars] == [15, 30]
    assert last == "done\n"


def test_pipe_gets_one_line_for_each_quarter(demo, capsys):
    progress = demo.CopyProgress(demo.Report())
    for percent in range(101):
        progress.on_progress("update_progress", {"progress": percent / 100})
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["25%", "50%", "75%", "100%"]

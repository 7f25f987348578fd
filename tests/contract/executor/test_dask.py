"""What must be true of runs on a cluster of Dask whose processes are real, and die."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

FOLDER = pathlib.Path(__file__).parent
SCENARIOS = FOLDER / "dask_scenarios.py"
DASK = pathlib.Path(sys.executable).with_name("dask")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(FOLDER.parents[2])}

pytestmark = pytest.mark.skipif(not DASK.exists(), reason="dask is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a scheduler with two workers, which are started again when they end."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    scheduler = [str(DASK), "scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard"]
    worker = [str(DASK), "worker", "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    with (folder / "log").open("w", encoding="utf-8") as log:
        started = [
            subprocess.Popen(
                [*command, "--scheduler-file", str(file)], cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log
            )
            for command in (scheduler, worker)
        ]
        try:
            end = time.monotonic() + 20
            while '"address"' not in (text := file.read_text(encoding="utf-8") if file.exists() else ""):
                assert time.monotonic() < end, (folder / "log").read_text(encoding="utf-8")
                time.sleep(0.02)  # noqa: TID251 - another process writes it
            yield text.partition('"address": "')[2].partition('"')[0]
        finally:
            for process in reversed(started):
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def assert_scenario_holds(scenario, address, folder):
    ran = subprocess.run(
        [sys.executable, str(SCENARIOS), scenario, address],
        capture_output=True, text=True, timeout=50, check=False, cwd=folder,
        env={**ENVIRONMENT, "SCENARIO_FOLDER": str(folder)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]


@pytest.mark.parametrize("how", ["client", "executor", "dask", "address"])
def test_a_worker_that_is_killed_costs_the_call_it_held(address, tmp_path, how):
    assert_scenario_holds(f"worker_dies_{how}", address, tmp_path)


@pytest.mark.parametrize(
    "scenario",
    [
        "a_short_call_that_lasts_is_lost_alone",
        "pure_calls_are_repeated",
        "a_retry_counts_its_attempts",
        "client_is_closed",
        "engine_is_killed",
        "nothing_begins_after_the_end",
        "interrupts_repeat_nothing",
        "max_workers_bounds_what_is_in_flight",
        "progress_is_live",
        "what_is_given_up_is_not_waited_for_and_not_repeated",
        "what_cannot_travel_is_refused",
        "runs_keep_apart",
        "large_values_are_sent_once",
        "variables_and_names_go_along",
    ],
)
def test_on_a_cluster(address, tmp_path, scenario):
    assert_scenario_holds(scenario, address, tmp_path)


@pytest.mark.parametrize("program", ["dask_faults.py", "dask_pumps.py"])
def test_requests_that_are_lost_and_reports_that_come_at_a_bad_moment_change_nothing(program, tmp_path):
    ran = subprocess.run(
        [sys.executable, str(FOLDER / program)],
        capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]


def test_the_program_of_the_page_runs(address, tmp_path):
    page = (FOLDER.parents[2] / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    first, further = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    kept = first.partition("if __name__")[0] + further
    for program in (first, kept, kept):  # the last has nothing left to do
        (tmp_path / "report.py").write_text(program, encoding="utf-8")
        command = [sys.executable, "report.py", address.replace("tcp:", "dask:")]
        subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, timeout=30, check=True)
    assert not (tmp_path / "report.txt").exists()  # it is written where the worker is


@pytest.mark.parametrize(
    "scenario", ["scheduler_is_killed", "scheduler_hangs", "a_worker_that_was_given_up_goes_on", "a_cluster_of_its_own"]
)
def test_with_a_cluster_of_its_own(tmp_path, scenario):
    assert_scenario_holds(scenario, "", tmp_path)

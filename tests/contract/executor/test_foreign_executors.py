"""The contract on executors of other packages, each in a program of its own: real processes, and a real cluster."""

import pathlib
import shutil
import subprocess
import sys

import pytest

#: in which a program has ended, on a busy machine too; most of them take twenty
SECONDS = 200
pytestmark = pytest.mark.timeout(SECONDS + 40)

LOKY = """
import unittest

import loky

from taskflowx.testing import executor_contract

TestLoky = executor_contract.case(lambda: loky.ProcessPoolExecutor(2))

if __name__ == "__main__":
    unittest.main()
"""

DASK = """
import unittest

import distributed

from taskflowx.executors.dask import places
from taskflowx.testing import executor_contract

TestExecutor = executor_contract.case(lambda: distributed.default_client().get_executor())
TestClient = executor_contract.case(lambda: places.given(distributed.default_client()))
TestAddress = executor_contract.case(lambda: distributed.default_client().scheduler.address.replace("tcp:", "dask:"))

if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster):
        unittest.main(exit=False)
"""

MPI = """
import unittest

from mpi4py.futures import MPIPoolExecutor

from taskflowx.testing import executor_contract

TestMpi = executor_contract.case(lambda: MPIPoolExecutor(2))

if __name__ == "__main__":
    unittest.main()
"""


def assert_contract_holds(tmp_path, program, *launcher, cases=1):
    script = tmp_path / "script.py"
    script.write_text(program, encoding="utf-8")
    ran = subprocess.run(
        [*launcher, str(script)], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=tmp_path
    )
    assert f"Ran {21 * cases} tests" in ran.stderr, ran.stderr
    assert "\nOK" in ran.stderr, ran.stderr


def test_loky(tmp_path):
    pytest.importorskip("loky")
    assert_contract_holds(tmp_path, LOKY, sys.executable)


def test_dask(tmp_path):
    if shutil.which("dask", path=pathlib.Path(sys.executable).parent) is None:
        pytest.skip("dask is not installed")  # imported in the program alone: it changes how exceptions are pickled
    assert_contract_holds(tmp_path, DASK, sys.executable, cases=3)


def test_mpi(tmp_path):
    mpiexec = shutil.which("mpiexec", path=pathlib.Path(sys.executable).parent)
    if mpiexec is None:
        pytest.skip("mpi4py and mpich are not installed")
    assert_contract_holds(tmp_path, MPI, mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures")

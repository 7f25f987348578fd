"""Identities of records: no two processes make the same."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_forked_process_makes_other_identities():
    program = (
        "import os\n"
        "from taskflowx.persistence import models\n"
        "models.TaskDetail('first').uuid  # a series has begun\n"
        "child = os.fork()\n"
        "os.write(1, models.TaskDetail('x').uuid.encode() + b'\\n')\n"
        "child and os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first[:24] != second[:24]

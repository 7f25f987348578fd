"""What is pickled for another process arrives as it was, and cloudpickle is imported for nothing else."""

import pickle
import subprocess
import sys

import pytest

from taskflowx.executors import pickling
from taskflowx.executors.processes import values
from tests.support.programs import environment


class Buffer:
    """Holds bytes that pickle hands out as a buffer, as arrays do."""

    def __init__(self, content):
        self.content = content

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.content),)


@pytest.mark.parametrize("place", range(5))
def test_large_buffers_around_a_closure_arrive_each_in_its_place(place):
    sent = [Buffer(bytes([letter]) * values.LARGE) for letter in b"abcd"]
    received = values.unpack(*values.pack([*sent[:place], lambda: place, *sent[place:]]))
    assert received.pop(place)() == place
    assert [bytes(buffer.content) for buffer in received] == [buffer.content for buffer in sent]


@pytest.mark.parametrize("value", [{"progress": 0.5}, [b"bytes"], ValueError("reason"), pickling.dumps])
def test_a_program_without_a_file_pickles_importable_values_without_cloudpickle(value):
    program = "pickle.loads(pickling.dumps(pickle.loads(bytes.fromhex(sys.argv[1]))))\n"
    assert printed(program + "print('cloudpickle' in sys.modules)", pickle.dumps(value).hex()) == "False\n"


def test_a_program_without_a_file_sends_its_definitions_in_whatever_holds_them():
    program = "class Own: value = 7\n"
    sent = printed(program + "print(pickling.dumps({'made': [Own()]}).hex())")
    assert pickle.loads(bytes.fromhex(sent))["made"][0].value == 7


def test_an_alarm_during_the_import_of_cloudpickle_reaches_the_task_as_it_is():
    program = """

import builtins

class Late(Exception):
    pass

class Rings:
    def __set_name__(self, owner, name):
        raise Late  # as the handler of an alarm does while a class is made

def interrupted(name, *rest):
    if name == "cloudpickle":
        builtins.__import__ = imported
        type("Body", (), {"attribute": Rings()})
    return imported(name, *rest)

imported, builtins.__import__ = builtins.__import__, interrupted
try:
    pickling.dumps(lambda: None)
except Late:
    print("late")
print(pickle.loads(pickling.dumps(lambda: 3))())
"""
    assert printed(program) == "late\n3\n"


def printed(program, *arguments):
    """Run a program that has no file; returns what it has printed."""
    program = "import pickle, sys\nfrom taskflowx.executors import pickling\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        timeout=50,
    )
    return done.stdout

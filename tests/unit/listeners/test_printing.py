"""The listener that prints."""

from taskflowx import task
from taskflowx.listeners import printing
from tests.unit.listeners import sample


def test_each_transition_is_printed_and_each_failure_with_its_traceback(capsys):
    engine = sample.load(sample.row(sample.Give("a"), sample.Break("b")))
    with printing.PrintingListener(engine):
        sample.run(engine)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("<SerialActionEngine 'flow' RUNNING: 2 PENDING; serial> has moved flow 'flow' (")
    assert lines[0].endswith(") into state 'RUNNING' from state 'PENDING'")
    assert sum("has moved" in line for line in lines) == 10
    at = lines.index("Traceback (most recent call last):")
    assert lines[at - 1].endswith("with result 'Failure: ValueError: on purpose' (failure=True)")
    assert "ValueError: on purpose" in lines[at:]


def test_it_can_go_to_the_error_stream(capsys):
    engine = sample.load(sample.row(sample.Break("b")))
    with printing.PrintingListener(engine, stderr=True):
        sample.run(engine)
    out, err = capsys.readouterr()
    assert out == ""
    assert "has moved task 'b'" in err
    assert "Traceback (most recent call last):" in err


def test_a_result_without_a_text_is_printed(capsys):
    engine = sample.load(sample.row(task.FunctorTask(lambda: 10**5000, name="a")))  # more digits than Python shows
    with printing.PrintingListener(engine):
        sample.run(engine)
    assert "with result 'a value whose str raised ValueError'" in capsys.readouterr().out

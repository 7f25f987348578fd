"""The listener that draws a progress bar."""

import io
import itertools
import re
import sys
import threading

import pytest
from rich.console import Console

from taskflowx import engines, retry, states
from taskflowx.listeners import progress
from taskflowx.patterns import unordered_flow
from taskflowx.persistence import models
from tests.unit.listeners import sample

TIME = re.compile(r"\d+\.\d s")


def console(terminal=True, width=100, file=None, **kwargs):
    made = Console(file=io.StringIO() if file is None else file, force_terminal=terminal, width=width, **kwargs)
    assert made.is_terminal == terminal
    return made


def lines(drawn):
    """Return what was printed: without bars, colours and figures of time."""
    text = drawn if isinstance(drawn, str) else drawn.file.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[━╸╺]", "", text)
    return [" ".join(TIME.sub("T", line).split()) for line in text.splitlines() if line.strip()]


def standing(*found, **options):
    """Return an engine in whose record a run is under way, with tasks in these states."""
    engine = sample.load(sample.row(*(sample.Give(f"t{number}") for number in range(len(found)))), **options)
    engine.compile()
    engine.prepare()
    engine.storage.set_flow_state(states.RUNNING)
    for number, state in enumerate(found):
        engine.storage.record.detail(f"t{number}").state = state
    return engine


def drawn_of(engine, **options):
    """Draw a run as it is now, and return the lines: a bar that is taken away leaves what it has drawn last."""
    drawn = console(width=200)
    with progress.ProgressBarListener(engine, drawn, **options):
        pass
    return lines(drawn)


def line_of(**by_state):
    """Draw a run with as many tasks in each state as are told."""
    [line] = drawn_of(standing(*(state for state, times in by_state.items() for _ in range(times))))
    return line


class Draw(sample.Give):
    """Draws the run when it is executed and when it is reverted."""

    def __init__(self, name, drawn, **kwargs):
        super().__init__(name, **kwargs)
        self._drawn = drawn

    def draw(self):
        self._drawn["lines"] += drawn_of(self._drawn["engine"])

    def execute(self):
        self.draw()

    def revert(self, **given):
        self.draw()


def drawn_in(make_flow):
    """Run a flow of tasks that draw the run, and return what they drew."""
    drawn = {"lines": []}
    drawn["engine"] = sample.load(make_flow(drawn))
    sample.run(drawn["engine"])
    return drawn["lines"]


# -- looking ---------------------------------------------------------------------------------------


def test_atoms_are_counted_by_what_has_become_of_them():
    line = line_of(PENDING=3, RUNNING=2, SUCCESS=4, IGNORE=1, FAILURE=1)
    assert line == "flow 54% 6/11 T 2 under way 1 failed"


def test_what_was_undone_is_not_done_and_what_was_left_out_does_not_stand():
    line = line_of(SUCCESS=3, REVERTING=2, REVERTED=4, REVERT_FAILURE=1, IGNORE=1, PENDING=2)
    assert line == "flow 46% REVERTING 6/13 T 2 under way 1 failed 4 reverted"


def test_a_retry_that_begins_again_is_under_way():
    assert line_of(RETRYING=1, PENDING=2) == "flow 0% 0/3 T 1 under way"


def test_a_record_without_a_state_is_waiting():
    assert drawn_of(standing(None)) == ["flow 0% 0/1 T"]


def test_running_tasks_that_report_progress_are_named_up_to_a_number():
    engine = standing(states.SUCCESS, *[states.RUNNING] * 5)
    engine.storage.set_task_progress("t0", 1.0)
    engine.storage.update_atom_metadata("t2", {"duration": 1.0})
    for name in ("t3", "t4", "t5"):
        engine.storage.set_task_progress(name, 0.5)
    assert drawn_of(engine, details=2)[1:] == ["50% t3", "50% t4"]
    assert len(drawn_of(engine, details=9)[1:]) == 3
    assert drawn_of(engine, details=0)[1:] == []


def test_looking_changes_no_record():
    engine = standing(states.RUNNING)
    drawn_of(engine)
    assert engine.storage.record.detail("t0").own_meta is None


# -- drawing ---------------------------------------------------------------------------------------


def test_a_bar_tells_how_far_the_run_has_come():
    assert drawn_in(lambda drawn: sample.row(*(Draw(name, drawn) for name in "abc"))) == [
        "flow 0% 0/3 T 1 under way",
        "flow 33% 1/3 T 1 under way",
        "flow 66% 2/3 T 1 under way",
    ]


def test_a_bar_goes_back_when_something_is_undone():
    def make_flow(drawn):
        return sample.row(*(Draw(name, drawn) for name in "abc"), sample.Break("d"))

    assert drawn_in(make_flow)[3:] == [
        "flow 75% REVERTING 3/4 T 1 under way 1 reverted",
        "flow 50% REVERTING 2/4 T 1 under way 2 reverted",
        "flow 25% REVERTING 1/4 T 1 under way 3 reverted",
    ]


def test_failures_that_turn_nothing_round_are_told():
    engine = sample.load(unordered_flow.Flow("flow").add(sample.Break("a"), sample.Give("b")), never_resolve=True)
    assert ended(engine) == (states.FAILURE, ["flow 100% FAILURE 2/2 T 1 failed"])


def test_a_retry_sends_the_bar_back_and_forth():
    def make_flow(drawn):
        return sample.row(Draw("a", drawn), sample.Break("b", times=1), control=retry.Times(2, "r"))

    assert drawn_in(make_flow) == [
        "flow 33% 1/3 T 1 under way",
        "flow 66% REVERTING 2/3 T 1 under way 1 reverted",
        "flow 33% 1/3 T 1 under way",
    ]


def test_tasks_that_report_progress_have_bars_of_their_own():
    class Report(Draw):
        def execute(self):
            self.update_progress(0.25)
            self.draw()

    drawn = drawn_in(lambda drawn: sample.row(sample.Give("a"), Report("b", drawn)))
    assert drawn == ["flow 50% 1/2 T 1 under way", "25% b"]


def test_a_suspension_is_told_before_it_is_done(display):
    engine = standing(states.PENDING, states.RUNNING)
    with progress.ProgressBarListener(engine, console()):
        engine.notifier.notify(states.SUSPENDING, {"engine": engine})
        [line] = lines(display.drawn())
    assert line == "flow 0% SUSPENDING 0/2 T 1 under way"


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_a_line_fits_on_the_terminal(width, at_once):
    class Report(Await):
        def execute(self):
            self.update_progress(0.5)
            super().execute()

    screen = Screen("50%" if width >= 40 else "\n")
    shown = console(file=screen, width=width, color_system=None)
    engine = sample.load(sample.row(Report("another long name" * 5, screen.shows), name="a long name" * 5))
    for _ in range(2):  # displayed as it runs, and too short for that
        with progress.ProgressBarListener(engine, shown, refresh_per_second=100):
            engine.run()
        engine.reset()
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).splitlines()
    assert drawn[-1].startswith("a lo")  # and not wrapped
    assert all(len(line) <= width for line in drawn)


def test_in_a_log_nothing_is_cut_off():
    _, [line] = ended(sample.load(sample.row(sample.Give("a"), sample.Break("b"))), terminal=False, width=30)
    assert line == "flow 0% REVERTED 0/2 T 2 reverted"


def test_names_are_shown_as_they_are():
    assert ended(sample.load(sample.row(sample.Give("a"), name="[red]x[/]"))) == (
        states.SUCCESS,
        ["[red]x[/] 100% SUCCESS 1/1 T"],
    )


def test_a_terminal_acts_on_no_name():
    class Report(Draw):
        def execute(self):
            self.update_progress(0.25)
            self.draw()

    shown = drawn_in(lambda drawn: sample.row(Report("b\n\x1b[2J\u202e", drawn), name="f\x1b]0;title\x07\nx"))
    assert shown == ["f\ufffd]0;title\ufffd x 0% 0/1 T 1 under way", "25% b \ufffd[2J\ufffd"]


class Clock:
    """Stands for the clocks: stays where it is put, but for the time that a look takes."""

    def __init__(self, monkeypatch):
        self.now, self.worked = 100.0, 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(progress.time, "thread_time", lambda: self.worked)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Display:
    """Stands for Rich's display of a run: it draws when the test says so, and not in a thread of its own."""

    def __init__(self, monkeypatch):
        self._starts = threading.Event()
        monkeypatch.setattr("rich.live.Live", self.live)

    @property
    def live(self):
        starts, display = self._starts, self

        class Live:
            def __init__(self, get_renderable, **kwargs):
                display.draw = get_renderable

            def start(self, refresh):
                starts.set()

            def stop(self):
                pass

            def refresh(self):
                pass

        return Live

    def drawn(self):
        """Return what is drawn now, without colours."""
        assert self._starts.wait(20)
        return str(self.draw())


@pytest.fixture
def display(monkeypatch):
    """Have each run displayed from the start."""
    timer = threading.Timer
    monkeypatch.setattr(progress.threading, "Timer", lambda _, show: timer(0, show))
    return Display(monkeypatch)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_times_are_written_for_people(clock, display, seconds, text):
    with progress.ProgressBarListener(standing(states.PENDING), console()):
        clock.now += seconds
        assert display.drawn().endswith(f"  {text}")


@pytest.fixture
def drawn_when_done(clock, display):
    """Give a function that says how many of a hundred atoms are done, and returns what is drawn then."""
    engine = standing(*[states.PENDING] * 100)

    def drawn(done):
        for number in range(100):
            engine.storage.record.detail(f"t{number}").state = states.SUCCESS if number < done else states.PENDING
        return display.drawn()

    with progress.ProgressBarListener(engine, console()):
        yield drawn


def test_the_time_that_is_left_follows_from_what_has_ended(clock, drawn_when_done):
    drawn_when_done(20)
    clock.now += 10  # ten more atoms, seventy are left
    assert drawn_when_done(30).endswith("30/100  10.0 s  1:10 left")
    clock.now += 100  # and since then none
    assert drawn_when_done(30).endswith("30/100  1:50  1:40 left")


def test_the_time_that_is_left_is_told_in_whole_seconds(clock, drawn_when_done):
    drawn_when_done(0)
    clock.now += 0.2
    assert drawn_when_done(99).endswith("99/100  0.2 s  1 s left")


def test_no_time_is_told_to_be_left_before_enough_is_known(clock, drawn_when_done):
    for done, seconds in ((20, 0.01), (90, 0.01), (20, 1), (15, 1)):
        clock.now += seconds
        drawn = drawn_when_done(done)
        assert f"{done}/100" in drawn
        assert "left" not in drawn


def test_looking_takes_a_twentieth_of_the_time_at_most(clock, display):
    class Looked:
        """Stands for the details of atoms: it takes half a second to look at them."""

        def __iter__(self):
            clock.worked += 0.5
            clock.now += 0.5
            seen.append(clock.now)
            return iter([models.TaskDetail("t0")])

    seen = []
    engine = standing(states.PENDING)
    with progress.ProgressBarListener(engine, console()):
        kept, engine.preparation.details = engine.preparation.details, Looked()
        for _ in range(300):
            display.drawn()
            clock.now += 0.1
        engine.preparation.details = kept
    assert len(seen) == 3
    assert all(later - one >= 10 for one, later in itertools.pairwise(seen))


# -- the end ---------------------------------------------------------------------------------------


def ended(engine, **kwargs):
    """Run an engine; returns the state of the flow, and what was printed."""
    drawn = console(**kwargs)
    with progress.ProgressBarListener(engine, drawn):
        state = sample.run(engine)
    return state, lines(drawn)


GREEN, RED, YELLOW = "\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m"


@pytest.mark.parametrize(
    ("make", "line", "colour"),
    [
        (sample.load, "flow 100% SUCCESS 2/2 T", GREEN),
        (lambda: sample.load(sample.left_out()), "flow 100% SUCCESS 3/3 T", GREEN),
        (
            lambda: sample.load(sample.row(sample.Give("a"), sample.Break("b"))),
            "flow 0% REVERTED 0/2 T 2 reverted",
            RED,
        ),
        (
            lambda: sample.load(sample.row(sample.Stuck("a"), sample.Break("b"))),
            "flow 50% FAILURE 1/2 T 1 failed 1 reverted",
            RED,
        ),
        (lambda: sample.suspended_after("a"), "flow 50% SUSPENDED 1/2 T", YELLOW),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_the_end_stands_with_the_state_of_the_flow(make, line, colour, terminal):
    drawn, engine = console(terminal, color_system="standard"), make()
    with progress.ProgressBarListener(engine, drawn):
        state = sample.run(engine)
    assert lines(drawn) == [line]
    assert f"{colour}{state}" in drawn.file.getvalue()


@pytest.mark.parametrize("executor", ["serial", "threads", "processes", "asyncio"])
def test_it_works_on_each_executor(executor):
    engine = sample.load(engine="parallel", executor=executor)
    state, drawn = ended(engine)
    assert (state, drawn[-1]) == (states.SUCCESS, "flow 100% SUCCESS 2/2 T")


def test_a_flow_without_atoms_is_done():
    assert ended(sample.load(sample.row())) == (states.SUCCESS, ["flow 100% SUCCESS 0/0 T"])


def test_a_run_that_is_suspended_and_goes_on_has_two_ends():
    engine = sample.suspended_after("a")
    drawn = console()
    with progress.ProgressBarListener(engine, drawn):
        sample.run_on(engine)
    assert lines(drawn) == ["flow 50% SUSPENDED 1/2 T", "flow 100% SUCCESS 2/2 T"]


def test_a_flow_that_was_reverted_starts_anew():
    engine = sample.load(sample.row(sample.Give("a"), sample.Break("b", times=1)))
    drawn = console()
    with progress.ProgressBarListener(engine, drawn):
        sample.run(engine)
        sample.run(engine)
    assert lines(drawn) == ["flow 0% REVERTED 0/2 T 2 reverted", "flow 100% SUCCESS 2/2 T"]


@pytest.mark.parametrize("left_in", [states.SUSPENDED, states.RUNNING])
def test_a_run_that_is_resumed_begins_with_what_is_done(left_in):
    book = models.LogBook("book")
    first = engines.load(sample.row(*map(sample.Give, "abc")), book=book)
    first.atom_notifier.register(states.SUCCESS, lambda *_: first.suspend())
    first.run()
    [record] = book
    record.state = left_in
    drawn = {"lines": []}
    drawn["engine"] = engine = engines.load(
        sample.row(sample.Give("a"), Draw("b", drawn), sample.Give("c")), flow_detail=record, book=book
    )
    shown = console()
    with progress.ProgressBarListener(engine, shown):
        engine.run()
    assert drawn["lines"] == ["flow 33% 1/3 T 1 under way"]
    assert lines(shown) == ["flow 100% SUCCESS 3/3 T"]


def test_it_works_step_by_step():
    engine, drawn = sample.load(), console()
    with progress.ProgressBarListener(engine, drawn):
        steps = engine.run_iter()
        next(steps)
        steps.close()
        assert [*engine.run_iter()][-1] == states.SUCCESS
    assert lines(drawn) == ["flow 0% SUSPENDED 0/2 T", "flow 100% SUCCESS 2/2 T"]


def test_a_run_that_has_not_ended_is_left_as_it_is():
    engine, drawn = sample.load(), console()
    with progress.ProgressBarListener(engine, drawn):
        steps = engine.run_iter()
        for state in steps:
            if state == states.ANALYZING:
                break
    assert lines(drawn) == ["flow 50% 1/2 T"]
    steps.close()
    assert lines(drawn) == ["flow 50% 1/2 T"]


def test_nothing_is_printed_when_nothing_is_run():
    drawn = console()
    with progress.ProgressBarListener(sample.load(), drawn):
        pass
    assert drawn.file.getvalue() == ""


# -- the display -----------------------------------------------------------------------------------


class Screen(io.StringIO):
    """What is written to; tells when it shows a text."""

    def __init__(self, text):
        super().__init__()
        self.shows = threading.Event()
        self._text = text

    def write(self, text):
        done = super().write(text)
        if self._text in self.getvalue():
            self.shows.set()
        return done


class Await(sample.Give):
    """Goes on when something has been shown."""

    def __init__(self, name, shows):
        super().__init__(name)
        self._shows = shows

    def execute(self):
        assert self._shows.wait(20)


@pytest.fixture
def at_once(monkeypatch):
    """Have runs displayed from the start."""
    monkeypatch.setattr(progress, "_A_MOMENT", 0.0)


def test_a_run_that_takes_its_time_is_displayed(at_once):
    before = set(threading.enumerate())
    screen = Screen("1/2")
    engine = sample.load(sample.row(sample.Give("a"), Await("b", screen.shows)))
    with progress.ProgressBarListener(engine, console(file=screen), refresh_per_second=100):
        engine.run()
    shown = screen.getvalue()
    assert "\x1b[?25l" in shown  # the cursor is hidden
    assert shown.endswith("\x1b[?25h")  # and shown again
    assert lines(shown)[-1] == "flow 100% SUCCESS 2/2 T"
    assert_all_end(before)


def assert_all_end(before):
    """Check that all threads that were not there before end."""
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()


def test_of_a_short_run_only_the_end_is_drawn(monkeypatch):
    class Late(threading.Timer):
        def __init__(self, interval, function):
            rings.append(function)
            super().__init__(interval, function)

    rings = []
    monkeypatch.setattr(progress.threading, "Timer", Late)
    before = set(threading.enumerate())
    engine, drawn = sample.load(), console()
    with progress.ProgressBarListener(engine, drawn):
        engine.run()
        [ring] = rings
        ring()  # the timer rings too late
    assert "\x1b[?25l" not in drawn.file.getvalue()
    assert_all_end(before)


def test_where_there_is_no_terminal_no_thread_is_started(at_once):
    started = []

    class Note(sample.Give):
        def execute(self):
            started.extend(set(threading.enumerate()) - before)

    before = set(threading.enumerate())
    ended(sample.load(sample.row(Note("a"))), terminal=False)
    assert started == []


def test_a_large_flow_is_first_looked_at_when_it_has_run_for_long_enough(monkeypatch):
    waited = []

    class Timer(threading.Timer):
        def __init__(self, interval, function):
            waited.append(interval)
            super().__init__(interval, function)

    monkeypatch.setattr(progress.threading, "Timer", Timer)
    for atoms in (10, 1_000_000):
        bar = progress.ProgressBarListener(standing(states.PENDING), console())
        monkeypatch.setattr(bar, "_total", lambda atoms=atoms: atoms)
        with bar:
            pass
    assert waited == [0.1, pytest.approx(3.0)]


def test_what_tasks_print_appears_above_the_bar(at_once):
    screen = Screen("0/1")

    class Say(Await):
        def execute(self):
            super().execute()
            sys.stdout.write("hello\n")

    before = sys.stdout, sys.stderr
    engine = sample.load(sample.row(Say("a", screen.shows)))
    with progress.ProgressBarListener(engine, console(file=screen)):
        engine.run()
    assert (sys.stdout, sys.stderr) == before
    assert "hello" in lines(screen.getvalue())


def test_runs_of_two_engines_at_once_do_not_disturb_each_other(at_once):
    screen = Screen("inner")
    shared = console(file=screen)

    class Nest(sample.Give):
        def execute(self):
            inner = sample.load(sample.row(Await("a", screen.shows), name="inner"))
            with progress.ProgressBarListener(inner, shared, refresh_per_second=100):
                inner.run()

    outer = sample.load(sample.row(Nest("a")))
    with sample.logged() as records, progress.ProgressBarListener(outer, shared, refresh_per_second=100):
        assert sample.run(outer) == states.SUCCESS
    assert records == []
    assert lines(screen.getvalue())[-1] == "flow 100% SUCCESS 1/1 T"


# -- what goes wrong -------------------------------------------------------------------------------


def test_atoms_are_not_listened_to():
    engine = sample.load()
    with progress.ProgressBarListener(engine, console()):
        assert engine.atom_notifier._tfx_topics == {}


@pytest.mark.parametrize("at", ["_look", "_draw"])
def test_a_bar_that_cannot_be_drawn_is_logged_once_and_the_run_goes_on(at, at_once):
    tried = threading.Event()

    def fail():
        tried.set()
        raise KeyError("no bar")

    engine = sample.load(sample.row(Await("a", tried)))
    with sample.logged() as records:
        bar = progress.ProgressBarListener(engine, console(), refresh_per_second=100)
        setattr(bar, at, fail)
        with bar:
            assert sample.run(engine) == states.SUCCESS
    assert [record.getMessage() for record in records] == [f"Failed drawing the progress of engine {engine}"]
    assert records[0].exc_info[0] is KeyError


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, UnicodeError])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_gone_is_logged_once_and_the_run_goes_on(error, terminal, at_once):
    tried = threading.Event()

    class Gone(io.StringIO):
        def write(self, text):
            tried.set()
            raise error

    class Mute(Console):
        def on_broken_pipe(self):  # that of Rich closes the standard output, too
            raise SystemExit(1)

    before = set(threading.enumerate())
    engine = sample.load(sample.row(Await("a", tried) if terminal else sample.Give("a")))
    gone = Mute(file=Gone(), force_terminal=terminal, width=100)
    with sample.logged() as records, progress.ProgressBarListener(engine, gone, refresh_per_second=100):
        assert sample.run(engine) == states.SUCCESS
    assert len(records) == 1
    assert_all_end(before)


def test_without_rich_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r'pip install "taskflowx\[progress\]"'):
        progress.ProgressBarListener(sample.load())


def test_the_console_is_that_of_rich_by_default(capsys):
    engine = sample.load()
    with progress.ProgressBarListener(engine):
        engine.run()
    assert lines(capsys.readouterr().out) == ["flow 100% SUCCESS 2/2 T"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"details": -1}, "details"),
        ({"details": "many"}, "details"),
        ({"refresh_per_second": 0}, "refresh_per_second"),
        ({"console": 3}, "console must be a rich"),
    ],
)
def test_wrong_arguments_are_refused(given, match):
    with pytest.raises((TypeError, ValueError), match=match):
        progress.ProgressBarListener(sample.load(), **{"console": console(), **given})

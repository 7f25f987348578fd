"""A listener that draws a progress bar, with Rich.

    the thread of the run     events of the flow ─→ prepare, draw the end
    a timer                   if the run takes longer than a moment ─→ have Rich display it
    the thread of Rich        a few times per second: read the record ─→ draw

What must stay true: the bar does not subscribe to the events of atoms, so it costs a run nothing; reading the record
takes a twentieth of the time at most; the record is never written; an error here is logged once, and the run continues.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import math
import operator
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx._util import arguments
from taskflowx.listeners import base

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, OverflowMethod
    from rich.live import Live
    from rich.text import Text

    from taskflowx.engines.base import Engine

LOG = logging.getLogger(__name__)

#: the minimum pause between two reads, in units of the processor time of one
_PAUSE = 20
_A_MOMENT = 0.1  # seconds: of a run that is over by then only the end is drawn
_A_LOOK = 1.5e-7  # seconds per atom, before it is measured
_WIDEST, _NARROWEST = 40, 10  # columns of the bar
_STYLES = {
    states.SUCCESS: "green",
    states.FAILURE: "red",
    states.REVERTED: "red",
    states.REVERTING: "red",
    states.SUSPENDING: "yellow",
    states.SUSPENDED: "yellow",
}
_state_of = operator.attrgetter("state")


@dataclasses.dataclass(frozen=True)
class _Look:
    """A snapshot of the atoms.

    :param total: the number of atoms
    :param done: how many have ended, less those that were reverted since
    :param running: how many are running
    :param failed: how many have failed, and are not reverted
    :param reverted: how many are reverted
    :param turned: whether a rollback is in progress, or has taken place
    :param tasks: names of running tasks that report progress, and their progress from 0.0 to 1.0
    """

    total: int
    done: int
    running: int = 0
    failed: int = 0
    reverted: int = 0
    turned: bool = False
    tasks: tuple[tuple[str, float], ...] = ()


def _look_at(details: list[Any], most: int) -> _Look:
    """Make a snapshot of the records of all atoms; the work for each atom is done in C.

    :param details: the records, and None where there is no atom
    :param most: the maximum number of tasks in `tasks`
    """
    found = list(map(_state_of, filter(None, details)))
    count = collections.Counter(found)
    waiting = count[None] + count[states.PENDING]
    executing = count[states.RUNNING] + count[states.RETRYING]
    turned = bool(count[states.REVERTING] + count[states.REVERTED] + count[states.REVERT_FAILURE])
    nothing_to_undo = count[states.IGNORE] if turned else 0
    tasks: tuple[tuple[str, float], ...] = ()
    if most and count[states.RUNNING]:
        running = map(operator.eq, found, itertools.repeat(states.RUNNING))
        tasks = tuple(itertools.islice(_progress_of(itertools.compress(filter(None, details), running)), most))
    return _Look(
        total=len(found),
        done=len(found) - waiting - executing - count[states.REVERTED] - nothing_to_undo,
        running=executing + count[states.REVERTING],
        failed=count[states.FAILURE] + count[states.REVERT_FAILURE],
        reverted=count[states.REVERTED],
        turned=turned,
        tasks=tasks,
    )


def _progress_of(running: Iterator[Any]) -> Iterator[tuple[str, float]]:
    """Iterate over name and progress of tasks that report it."""
    for detail in running:
        meta = detail.own_meta  # `meta` would make one, as the thread of the run may do at the same time
        progress = meta.get("progress") if meta else None
        if progress is not None:
            yield detail.name, progress


class ProgressBarListener(base.Listener):
    """Draws the progress of a run, its duration, and its final state.

    During a rollback the bar turns red and goes back. If the console is no terminal, only the end is printed.

    :param engine: the engine
    :param console: the `rich.console.Console` to draw on; that of Rich, which is the standard output, by default
    :param details: the maximum number of running tasks that report progress and get a bar of their own
    :param refresh_per_second: how often the bar is drawn
    :raises ImportError: when Rich is not installed
    """

    def __init__(
        self, engine: Engine, console: Console | None = None, details: int = 5, refresh_per_second: float = 5.0
    ) -> None:
        super().__init__(engine, task_listen_for=(), retry_listen_for=())
        arguments.check_number("details", details, "a number of tasks, zero or more", least=0)
        arguments.check_number("refresh_per_second", refresh_per_second, "a number, at least 0.1", least=0.1)
        if console is None:
            try:
                import rich
            except ModuleNotFoundError as error:
                msg = 'A progress bar needs rich\nInstall it with: pip install "taskflowx[progress]"'
                raise ImportError(msg, name=error.name) from error
            console = rich.get_console()
        arguments.check_like("console", console, ("print", "options"), "a rich.console.Console, or None")
        self._console = console
        self._most = int(details)
        self._frequency = refresh_per_second
        self._timer: threading.Timer | None = None
        self._live: Live | None = None
        self._lock = threading.Lock()  # guards the two above: the timer may fire at any moment
        self._gave_up = False
        self._is_on = False
        self._reset()

    def _reset(self) -> None:
        self._state: str = states.RUNNING
        self._started_at, self._ended_at = time.monotonic(), math.inf
        self._seen = _Look(0, 0)
        self._seen_last: _Look | None = None  # of the end of the run: separate, as the other thread may be reading
        self._next_look_at = 0.0
        #: when atoms were first seen in this run, and how many were done; and when that number last changed
        self._first: tuple[float, int] | None = None
        self._changed_at = self._started_at

    # -- in the thread of the run ------------------------------------------------------------------

    def register(self) -> None:
        """Subscribe to the events of the flow."""
        super().register()
        if self._engine.storage.get_flow_state() == states.RUNNING:
            self._start()  # an interrupted run has left this state: the next one does not enter it again

    def deregister(self) -> None:
        """Deregister the receivers, and leave the bar as it is."""
        super().deregister()
        self._stop(self._engine.storage.get_flow_state())

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        if state == states.RUNNING:
            self._start()
        elif state in states.AT_REST:
            self._stop(state)
        else:
            self._state = state

    def _start(self) -> None:
        if self._is_on:
            return
        self._is_on = True
        self._reset()
        if self._console.is_interactive or self._console.is_jupyter:
            with self._undisturbed():
                self._timer = threading.Timer(max(_A_MOMENT, _PAUSE * _A_LOOK * self._total()), self._display)
                self._timer.daemon = True
                self._timer.start()

    def _total(self) -> int:
        compiled = self._engine.compilation
        return 0 if compiled is None else len(compiled.plan.names)

    def _stop(self, state: str) -> None:
        """Draw the end of a run, and leave it on the screen; does nothing when no run is drawn."""
        if not self._is_on:
            return
        with self._lock:
            self._is_on = False
            timer, self._timer = self._timer, None
            live, self._live = self._live, None
        if timer is not None:
            timer.cancel()
        with self._undisturbed():
            try:
                self._state, self._ended_at = state, time.monotonic()
                # After a success there is nothing to count.
                self._seen_last = _Look(self._total(), self._total()) if state == states.SUCCESS else self._look()
                if live is None:
                    crop = self._console.is_terminal  # a log has room for everything
                    overflow: OverflowMethod = "ellipsis" if crop else "ignore"
                    self._console.print(self._draw(), no_wrap=True, overflow=overflow, crop=crop)
                elif self._console.is_jupyter:
                    live.refresh()
            finally:
                if live is not None:
                    live.stop()  # draws once more

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Log an exception, once; an error here must not stop a run."""
        try:
            yield
        except (Exception, SystemExit):  # Rich ends the program when its output is a broken pipe
            if not self._gave_up:
                self._gave_up = True
                LOG.warning("Failed drawing the progress of engine %s", self._engine, exc_info=True)

    # -- in other threads --------------------------------------------------------------------------

    def _display(self) -> None:
        """Have Rich display the run, unless it is over."""
        with self._undisturbed(), self._lock:
            if self._is_on and self._live is None:
                live = _live_display(self)
                try:
                    live.start(refresh=True)
                except BaseException:  # for instance, Rich displays only one at a time
                    live.stop()
                    raise
                self._live = live

    def _renderable(self) -> Text | str:
        """Return the current view."""
        if not self._gave_up:
            with self._undisturbed():
                self._look_when_due()
                if self._seen.total or not self._is_on:
                    return self._draw()
        return ""

    def _look(self) -> _Look:
        # Directly from the details: by names, each snapshot would cost more than the run.
        return _look_at(self._engine.preparation.details, self._most)

    def _look_when_due(self) -> None:
        if self._seen_last is not None or time.monotonic() < self._next_look_at:
            return
        before = time.thread_time()
        seen = self._look()
        now = time.monotonic()
        if self._first is None and seen.total:
            self._first = now, seen.done
        if seen.done != self._seen.done:
            self._changed_at = now
        self._seen, self._next_look_at = seen, now + _PAUSE * (time.thread_time() - before)

    def _draw(self) -> Text:
        from rich.text import Text

        from taskflowx.pictures import wording  # with it come modules that a run alone does without

        seen, state = self._seen_last or self._seen, self._state
        if seen.turned and state == states.RUNNING:
            state = states.REVERTING
        style = _STYLES.get(state, "cyan")
        options = self._console.options  # read once: each time, Rich queries the terminal
        columns = max(_NARROWEST, min(_WIDEST, options.max_width // 3))
        name = Text(wording.one_line(str(self._engine.storage.flow_name)), "bold")
        name.truncate(options.max_width // 4, overflow="ellipsis")
        facts = (
            ("" if state == states.RUNNING else state, f"bold {style}"),
            (f"{seen.done:,}/{seen.total:,}", ""),
            (self._times(), "dim"),
            (_counted(seen.running, "under way"), "cyan"),
            (_counted(seen.failed, "failed"), "red"),
            (_counted(seen.reverted, "reverted"), "red"),
        )
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append_text(name).append(" ").append_text(self._bar(seen.done, seen.total, columns, style, options))
        for fact, its_style in facts:
            if fact:
                line.append("  ").append(fact, its_style)
        for task_name, progress in seen.tasks:
            line.append("\n" + " " * (name.cell_len + 1))
            line.append_text(self._bar(progress, 1.0, columns, "blue", options)).append(
                f"  {wording.one_line(str(task_name))}", "dim"
            )
        return line

    def _bar(self, done: float, total: float, columns: int, style: str, options: ConsoleOptions) -> Text:
        """Return a bar with its percentage."""
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        bar = Text()
        for piece in self._console.render(
            ProgressBar(total, done, columns, complete_style=style, finished_style=style), options
        ):
            bar.append(piece.text, piece.style)
        bar.truncate(columns, pad=True)  # without colours, the rest is not drawn
        return bar.append(f" {int(100 * done / total) if total else 100:3}%")

    def _times(self) -> str:
        """Return the elapsed and the estimated remaining time of the run, as text."""
        now = min(time.monotonic(), self._ended_at)
        elapsed = _duration(now - self._started_at)
        if not self._is_on or self._first is None or self._seen.turned:
            return elapsed
        since, done = self._first
        gained, left = self._seen.done - done, self._seen.total - self._seen.done
        if gained <= 0 or now - since < _A_MOMENT:
            return elapsed
        # While nothing has ended for a while, the remaining atoms take longer than those before.
        expected = max(left * (self._changed_at - since) / gained, now - self._changed_at)
        return f"{elapsed}  {_duration(math.ceil(expected), digits=0)} left"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count else ""


def _duration(seconds: float, digits: int = 1) -> str:
    """Format a duration for people."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.{digits}f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _live_display(listener: ProgressBarListener) -> Live:
    """Return Rich's live display of a listener's bar, which has a thread of its own."""
    from rich.live import Live

    class Display(Live):
        def refresh(self) -> None:
            with listener._undisturbed():  # noqa: SLF001 - a part of it
                super().refresh()

    return Display(
        console=listener._console,  # noqa: SLF001
        get_renderable=listener._renderable,  # noqa: SLF001
        refresh_per_second=listener._frequency,  # noqa: SLF001
    )

"""How commands end: the exit codes, and which of them an error or the state of a run means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DONE = 0
#: the run has failed, and is undone; `check` and `db verify` have found a fault
FAILED = 1
#: nothing was done, as an argument, the module or the flow is wrong
USAGE = 2
#: the run has failed, and something of it still stands
NOT_UNDONE = 3
#: the run is suspended, waits, or has been left by its process
WAITS = 4
#: a call is open: nobody knows whether it has had its effect
UNKNOWN = 5
#: the same command may succeed later: another process runs it, a store or cluster cannot be reached, a disk is full
AGAIN = 75
#: a fault of this package: its traceback is printed
FAULT = 70
#: interrupted while no run was under way, as shells say it
INTERRUPTED = 130
#: the reader of the output has gone
PIPE = 141


class Refused(Exception):
    """A command cannot do what is asked.

    :param message: says why, and the way out
    :param code: the exit code
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def of_state(state: str | None, not_undone: Collection[str], open_calls: Collection[object]) -> int:
    """Return the exit code for the state of a run.

    :param state: that of its flow
    :param not_undone: the atoms whose effects stand
    :param open_calls: the calls of which somebody has to give the outcome
    """
    from taskflowx import states

    if state == states.SUCCESS:
        return DONE
    if state == states.REVERTED:
        return NOT_UNDONE if not_undone else FAILED
    if state == states.FAILURE:
        return NOT_UNDONE
    return UNKNOWN if open_calls else WAITS


def of_error(error: BaseException) -> int | None:
    """Return the exit code for an error that the package has raised on purpose; None for another one."""
    from taskflowx import exceptions  # not for --help

    if isinstance(error, Refused):
        return error.code
    if isinstance(error, exceptions.OwnershipFailure):
        return AGAIN
    if isinstance(error, exceptions.StorageFailure):
        return AGAIN if error.may_pass else USAGE
    known = (exceptions.TaskFlowException, exceptions.NotImplementedError)
    return USAGE if isinstance(error, known) else None


def guarded(work: Callable[[], int]) -> int:
    """Do what a command does; an error is said in words, and becomes an exit code."""
    from taskflowx import exceptions
    from taskflowx.cli import output

    output.tolerate_any_text()
    try:
        code = work()
        print(end="", flush=True)
    except KeyboardInterrupt:
        output.note("Interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes the standard output once more at its end
        return PIPE
    except BaseException as error:  # noqa: BLE001 - this is the end of the program
        if not isinstance(error, Exception):  # commands end by their code: only code of a flow raises it
            from taskflowx.cli import targets

            output.note(f"{targets.folded(error)}The code of the flow ends the program: see above")
            return USAGE
        known = of_error(error)
        if known is None and isinstance(error, OSError):  # as of a full disk, or a cluster that does not answer
            known = AGAIN
        if known is None:
            import traceback

            traceback.print_exc()
            return FAULT
        output.note(f"taskflowx: {error}")
        if isinstance(error, exceptions.MissingDependencies):
            output.note("On the command line: --store NAME=VALUE, or --store-file FILE")
        return known
    return code

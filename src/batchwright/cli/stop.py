"""`batchwright stop`: ask a run, wherever it is at work, to stop at the end of its chunk.

The one rule: it writes who asked and when, and nothing else; the run's owner stops it.
"""

import getpass
import time
from contextlib import closing
from pathlib import Path

import click

from batchwright.cli.documents import document
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.next_commands import command, next_commands
from batchwright.cli.option_types import Seconds
from batchwright.cli.shared_options import debug_option, json_option, ledger_option, run_argument
from batchwright.cli.streams import say, write_json
from batchwright.model.execution import JobExecution
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable, status_words

WAIT_SECONDS = 300.0
STILL_RUNNING = 1

_LOOK_SECONDS = 0.2


@click.command("stop")
@run_argument(required=True)
@click.option("--wait", is_flag=True, help="Return when it has ended.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=WAIT_SECONDS,
    metavar="SECONDS",
    help=f"With --wait: how long at most; {WAIT_SECONDS:g} by default.",
)
@json_option
@ledger_option
@debug_option
def stop_command(run: int, *, wait: bool, timeout: float, as_json: bool, ledger: Path | str | None) -> int:
    """Ask a run, on this machine or another, to stop at the end of its chunk.

    It can be gone on with afterwards. Exits with 0 when it was asked, or does not run; with 1 if it still runs after
    --wait.
    """
    with opened_history(ledger) as opened:
        execution = opened.execution(run)
        asked = execution.status.live and _ask(opened.path, execution)
        if asked and wait:
            execution = _wait(opened, execution, timeout)
        elif not asked:
            execution = opened.execution(run)
        code = STILL_RUNNING if asked and wait and execution.status.live else 0
        if as_json:
            write_json(_document(execution, asked=asked, exit_code=code))
        else:
            _say(opened, execution, asked=asked, waited=timeout if wait else 0.0)
    return code


def _ask(place: Path | str, execution: JobExecution) -> bool:
    """Whether it was at work when it was asked."""
    from batchwright.launch import open_ledger

    kept, _ = open_ledger(place, None)
    with closing(kept):
        return kept.request_stop(execution.id, _who())


def _who() -> str:
    from batchwright.ledgers.transitions import this_host

    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        name = "somebody"
    return f"{name} on {this_host()}"


def _wait(opened: OpenedHistory, execution: JobExecution, seconds: float) -> JobExecution:
    deadline = time.monotonic() + seconds
    while execution.status.live and time.monotonic() < deadline:
        time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        execution = opened.execution(execution.id)
    return execution


def _document(execution: JobExecution, *, asked: bool, exit_code: int) -> dict[str, object]:
    return document(
        run=execution.id,
        job=execution.job,
        status=execution.status.value,
        asked=asked,
        stop_requested=execution.stop_requested or None,
        exit_code=exit_code,
    )


def _say(opened: OpenedHistory, execution: JobExecution, *, asked: bool, waited: float) -> None:
    name, status = f"run {execution.id} of {printable(execution.job)}", execution.status
    if status.live:
        if waited:
            say(f"{name} was asked to stop, and is still at work after {waited:g} seconds")
        else:
            say(f"{name} stops at the end of its chunk")
        say(f"next: {command('show', str(execution.id), ledger=opened.named)}")
        return
    if status in (Status.LOST, Status.COMPENSATION_LOST):
        say(f"{name}: nothing to stop, its process is gone")
    elif asked:
        say(f"{name}: {status_words(status)}")
    else:
        say(f"{name} is not at work: {status_words(status)}")
    for text in next_commands(opened.situation(execution), opened.named):
        say(f"next: {printable(text)}")

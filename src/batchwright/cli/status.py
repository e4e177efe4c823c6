"""`batchwright status`: the latest runs, and how to go on with those that did not end well."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from batchwright.cli.documents import document, execution_document, plain_parameters
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.next_commands import GOES_ON, Situation, first_step, in_full
from batchwright.cli.option_types import WholeNumber
from batchwright.cli.shared_options import json_option, ledger_option
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import NARROW, cut, terminal_width, write_table
from batchwright.model.checkpoint import Counts
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable, status_words

HINTS_SHOWN = 5

SHORT_STATUS = "COMPLETED*"

SHORT_STATUS_BELOW = 120
"""Columns of a terminal: with fewer the longest of all statuses would leave no room."""

DAYS_WITHOUT_A_YEAR = 180

_TO_GO_ON_WITH = GOES_ON | {Status.COMPENSATION_LOST, Status.COMPENSATION_FAILED}


@click.command("status")
@click.option("--job", metavar="NAME", help="Only runs of this job.")
@click.option("--limit", type=WholeNumber(1), default=20, show_default=True, help="At most so many runs.")
@json_option
@ledger_option
def status_command(job: str | None, limit: int, as_json: bool, ledger: Path | str | None) -> None:
    """List the latest runs, every attempt and replay, newest first.

    A run whose process is gone is LOST: it can be gone on with at once. `list` has one line for each piece of work.
    """
    with opened_history(ledger) as opened:
        if job is not None:
            opened.require_job(job)
        executions = opened.history.runs(job=job, limit=limit)
        steps = [opened.history.steps(execution.id) for execution in executions]
        if as_json:
            replayed = map(opened.replayed_run, executions)
            runs = [execution_document(*three) for three in zip(executions, steps, replayed, strict=True)]
            for run, execution in zip(runs, executions, strict=True):
                run["status_now"] = opened.status_now(execution).value
            write_json(document(ledger=opened.history.address, runs=runs))
        else:
            _write(opened, executions, steps)


def _write(opened: OpenedHistory, executions: Sequence[JobExecution], steps: Sequence[Sequence[StepExecution]]) -> None:
    if not executions:
        write_line(f"no runs in {printable(opened.history.address)}")
        return
    pairs = zip(executions, steps, strict=True)
    write_runs([_Listed(*pair, _kind(opened, pair[0]), opened.status_now(pair[0])) for pair in pairs])
    for execution in _unfinished(executions)[:HINTS_SHOWN]:
        gone = execution.status in (Status.LOST, Status.COMPENSATION_LOST)
        why = "its process is gone" if gone else status_words(execution.status)
        why = f"{why}, and it is rolled back in part" if execution.status is Status.COMPENSATION_LOST else why
        say(f"run {execution.id} of {printable(execution.job)}: {why}; go on with: {_go_on(execution, opened)}")


def _go_on(execution: JobExecution, opened: OpenedHistory) -> str:
    return printable(in_full(first_step(Situation(execution)), execution, opened.named))


def _kind(opened: OpenedHistory, execution: JobExecution) -> str:
    """What a run that is no plain run is; nothing for one that is."""
    replayed = opened.replayed_run(execution)
    if replayed is not None:
        return f"replay of run {replayed}"
    return "" if execution.kind == "run" else execution.kind


@dataclass(frozen=True, slots=True)
class _Listed:
    """A run with what its line is made of."""

    execution: JobExecution
    steps: Sequence[StepExecution]
    kind: str
    status_now: Status

    @property
    def parameters(self) -> str:
        values = plain_parameters(self.execution.parameters)
        return " ".join(f"{name}={value}" for name, value in values.items())


def write_runs(listed: Sequence[_Listed]) -> None:
    """The table. On a narrow terminal kind and parameters stand below each run, on a wide one they are cut to fit."""
    width = terminal_width()
    short = width is not None and width < SHORT_STATUS_BELOW
    rows = [_row(run, short=short) for run in listed]
    if width is not None and width < NARROW:
        write_table(_COLUMNS, rows, [", ".join(filter(None, (run.kind, run.parameters))) for run in listed])
    else:
        jobs = [f"{run.execution.job} ({run.kind})" if run.kind else run.execution.job for run in listed]
        room = None if width is None else _room(width, [(job, *row[2:]) for job, row in zip(jobs, rows, strict=True)])
        write_table(
            (*_COLUMNS[:2], "parameters", *_COLUMNS[2:]),
            [
                (row[0], job, cut(printable(run.parameters), room), *row[2:])
                for run, job, row in zip(listed, jobs, rows, strict=True)
            ],
        )
    if any(row[2] == SHORT_STATUS for row in rows):
        write_line("* with failures")


_COLUMNS = ("#run", "job", "status", "started (UTC)", "#read", "#written", "#filtered", "#failed")


def _room(width: int, rows: Sequence[Sequence[str]]) -> int:
    """What the other columns, each with two spaces behind it, leave for the parameters."""
    heads = [column.lstrip("#") for column in _COLUMNS[1:]]
    widest = (max(map(len, cells)) + 2 for cells in zip(heads, *rows, strict=True))
    return max(width - sum(widest) - len("  999  ") - 2, len("parameters"))


def _row(run: _Listed, *, short: bool) -> tuple[str, ...]:
    counts = sum((step.counts for step in run.steps), Counts())
    numbers = (f"{count:,}" for count in (counts.read, counts.written, counts.filtered, counts.failed))
    status = run.status_now
    shown = SHORT_STATUS if short and status is Status.COMPLETED_WITH_FAILURES else status.value
    return (str(run.execution.id), run.execution.job, shown, started(run.execution.started_at), *numbers)


def started(at: datetime) -> str:
    """When a run started, as `ls` has it: with the time if it was lately, otherwise with the year."""
    lately = datetime.now(UTC) - at < timedelta(days=DAYS_WITHOUT_A_YEAR)
    return f"{at:%m-%d %H:%M}" if lately else f"{at:%Y-%m-%d}"


def _unfinished(executions: Sequence[JobExecution]) -> list[JobExecution]:
    """The newest run of each instance, if it can be gone on with."""
    newest: dict[str, JobExecution] = {}
    for execution in executions:
        if execution.kind == "run":
            newest.setdefault(execution.key.digest, execution)
    return [execution for execution in newest.values() if execution.status in _TO_GO_ON_WITH]

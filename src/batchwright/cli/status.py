"""`batchwright status`: the latest runs, and how to go on with those that did not end well."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchwright.cli.documents import document, execution_document, plain_parameters
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.next_commands import GOES_ON, go_on_command
from batchwright.cli.shared_options import json_option, ledger_option
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import write_table
from batchwright.model.checkpoint import Counts
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable, status_words

COLUMNS = ("#run", "job", "parameters", "status", "started (UTC)", "#read", "#written", "#filtered", "#failed")
HINTS_SHOWN = 5


@click.command("status")
@click.option("--job", metavar="NAME", help="Only runs of this job.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many runs.")
@json_option
@ledger_option
def status_command(job: str | None, limit: int, as_json: bool, ledger: Path | str | None) -> None:
    """List the latest runs, newest first. A run whose process is gone is LOST: it can be gone on with at once."""
    with opened_history(ledger) as opened:
        executions = opened.history.runs(job=job, limit=limit)
        steps = [opened.history.steps(execution.id) for execution in executions]
        if as_json:
            runs = [execution_document(*pair) for pair in zip(executions, steps, strict=True)]
            write_json(document(ledger=opened.history.address, runs=runs))
        else:
            _write(opened, executions, steps)


def _write(opened: OpenedHistory, executions: Sequence[JobExecution], steps: Sequence[Sequence[StepExecution]]) -> None:
    if not executions:
        write_line(f"no runs in {printable(opened.history.address)}")
        return
    write_table(COLUMNS, [_row(*pair) for pair in zip(executions, steps, strict=True)])
    for execution in _unfinished(executions)[:HINTS_SHOWN]:
        why = "its process is gone" if execution.status is Status.LOST else status_words(execution.status)
        say(f"run {execution.id} of {printable(execution.job)}: {why}; go on with: {_go_on(execution, opened)}")


def _go_on(execution: JobExecution, opened: OpenedHistory) -> str:
    return printable(go_on_command(execution, opened.named))


def _row(execution: JobExecution, steps: Sequence[StepExecution]) -> tuple[object, ...]:
    counts = sum((step.counts for step in steps), Counts())
    job = execution.job if execution.kind == "run" else f"{execution.job} ({execution.kind})"
    parameters = " ".join(f"{name}={value}" for name, value in plain_parameters(execution.parameters).items())
    numbers = (f"{count:,}" for count in (counts.read, counts.written, counts.filtered, counts.failed))
    return (
        execution.id,
        job,
        parameters,
        execution.status.value,
        f"{execution.started_at:%Y-%m-%d %H:%M:%S}",
        *numbers,
    )


def _unfinished(executions: Sequence[JobExecution]) -> list[JobExecution]:
    """The newest run of each instance, if it can be gone on with."""
    newest: dict[str, JobExecution] = {}
    for execution in executions:
        if execution.kind == "run":
            newest.setdefault(execution.key.digest, execution)
    return [execution for execution in newest.values() if execution.status in GOES_ON]

"""`batchwright failures`: what failed in a run, grouped by cause first, then row by row."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from batchwright.cli.documents import document, group_document, plain_value
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.next_commands import command, next_commands
from batchwright.cli.shared_options import json_option, ledger_option, run_argument, where_option
from batchwright.cli.streams import is_terminal, json_text, say, write_json, write_line
from batchwright.cli.tables import ERROR_WIDTH, cut, short_place, write_fitting
from batchwright.ledgers.failure_groups import cause_of, group_failures
from batchwright.model.codec import decode
from batchwright.model.errors import CodecError
from batchwright.model.execution import FailureGroup, JobExecution, StepExecution
from batchwright.model.failure import Failure, PayloadKind, failure_document
from batchwright.model.failure_filter import FailureFilter
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable

COLUMNS = (
    "run",
    "step",
    "ordinal",
    "source",
    "line",
    "byte",
    "detail",
    "phase",
    "error_type",
    "error",
    "attempts",
    "at",
    "state",
    "note",
    "payload_kind",
    "payload",
    "value",
    "partition",
)
ROWS_A_TABLE = 1_000

_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@click.command("failures")
@run_argument(required=False)
@click.option("--all", "rows", is_flag=True, help="Every failure, not only the causes.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    help="Every failure in this form.",
)
@click.option("--step", metavar="NAME", help="Only failures of this step.")
@where_option
@click.option("--open", "open_only", is_flag=True, help="Only failures that were not replayed yet.")
@json_option
@ledger_option
def failures_command(
    *,
    run: int | None,
    rows: bool,
    form: str | None,
    step: str | None,
    where: tuple[str, ...],
    open_only: bool,
    as_json: bool,
    ledger: Path | str | None,
) -> None:
    """Show what failed in a run, by default the latest that is no replay.

    Grouped by cause, or with --all or --format row by row. What stopped a step is named behind: an item that is not set
    aside, or the causes of a chunk that passed the limit, are no failures that are kept.
    """
    chosen = FailureFilter(where)
    with opened_history(ledger) as opened:
        execution = opened.execution(run)
        if step is not None:
            opened.require_step(execution, step)
        if warning := opened.last_report(execution):
            say(warning)
        if form is not None or rows:
            failures = opened.history.failures(execution.id, step=step, open_only=open_only)
            _write_rows(form or ("json" if as_json else "table"), execution.id, iter(chosen.chosen(failures)))
            return
        groups = _groups(opened, execution, step, chosen, open_only=open_only)
        stopped = _stopped(opened, execution, step)
        if as_json:
            causes = [group_document(group) for group in groups]
            ended = [{"step": each.key.step, "error": each.error} for each in stopped]
            write_json(document(run=execution.id, ledger=opened.history.address, causes=causes, stopped_by=ended))
            return
        if groups:
            _write_causes(groups)
        else:
            nothing = "no failures are kept" if stopped else "nothing failed"
            what = "no such failures" if step or open_only or where else nothing
            write_line(f"run {execution.id} of {printable(execution.job)}: {what}")
        for each in stopped:
            write_line(f"step {printable(each.key.step)} was stopped by: {printable(each.error)}")
        if groups or stopped:
            _say_next(opened, execution, rows=bool(groups))


def _stopped(opened: OpenedHistory, execution: JobExecution, step: str | None) -> list[StepExecution]:
    """The steps of a run that an error ended: what it says is not among the failures."""
    steps = opened.history.steps(execution.id)
    return [each for each in steps if each.status is Status.FAILED and each.error and step in (None, each.key.step)]


def _groups(
    opened: OpenedHistory, execution: JobExecution, step: str | None, chosen: FailureFilter, *, open_only: bool
) -> list[FailureGroup]:
    if chosen.terms:
        found = opened.history.failures(execution.id, step=step, open_only=open_only)
        return group_failures(map(cause_of, chosen.chosen(found)))
    return [
        group
        for group in opened.history.failure_groups(execution.id)
        if step in (None, group.step) and (group.open or not open_only)
    ]


def _write_causes(groups: list[FailureGroup]) -> None:
    columns = ("#count", "#open", "step", "phase", "error", "message", "first at", "example")
    rows = [_group_row(group) for group in groups]
    # The example below its cause, instead of eight columns of single words.
    write_fitting(columns, rows, place=6, below=(7,), left_out=(5,))


def _say_next(opened: OpenedHistory, execution: JobExecution, *, rows: bool) -> None:
    if rows:
        say(f"next: {command('failures', str(execution.id), '--all', ledger=opened.named)}")
    this = command("failures", str(execution.id), ledger=opened.named)
    for text in next_commands(opened.situation(execution), opened.named):
        if text != this:
            say(f"next: {printable(text)}")


def _group_row(group: FailureGroup) -> tuple[str, ...]:
    return (
        f"{group.count:,}",
        f"{group.open:,}",
        group.step,
        group.phase,
        group.error_type,
        cut(group.message, ERROR_WIDTH),
        short_place(group.first_place),
        cut(group.example, ERROR_WIDTH),
    )


def _write_rows(form: str, run: int, failures: Iterator[Failure]) -> None:
    writers = {"table": _write_table, "json": _write_json, "jsonl": _write_json_lines, "csv": _write_csv}
    writers[form](run, failures)


def _write_table(run: int, failures: Iterator[Failure]) -> None:
    """So many rows at a time: a table needs its widths, and memory stays bounded."""
    del run
    rows: list[tuple[object, ...]] = []
    for failure in failures:
        error = f"{failure.error_type}: {failure.error}"
        rows.append(
            (
                failure.ordinal + 1,
                short_place(failure.place),
                failure.step,
                failure.phase,
                cut(error, ERROR_WIDTH),
                failure.state,
                _payload_text(failure),
            )
        )
        if len(rows) == ROWS_A_TABLE:
            _write_part(rows)
            rows = []
    _write_part(rows)


def failure_row(run: int, failure: Failure) -> dict[str, Any]:
    """A failure with the names of the failure file, and `value`: its payload decoded, null if it is no stored value."""
    return {**failure_document(run, failure), "value": _value(failure)}


def _value(failure: Failure) -> Any:
    if failure.payload is None or failure.payload_kind is not PayloadKind.JSON:
        return None
    try:
        return plain_value(decode(failure.payload))
    except CodecError:  # of a newer version: the text is there all the same
        return None


def _payload_text(failure: Failure) -> str:
    value = _value(failure)
    if value is None:
        return failure.payload or ""
    return value if isinstance(value, str) else json_text(value)


def _write_part(rows: list[tuple[object, ...]]) -> None:
    """Where there is no room for whole words, error and payload stand below each line."""
    columns = ("#item", "place", "step", "phase", "error", "state", "payload")
    if rows:
        write_fitting(columns, rows, place=1, below=(4, 6))


def _write_json(run: int, failures: Iterator[Failure]) -> None:
    head = json_text(document(run=run))[:-1]
    write_line(f'{head}, "failures": [')
    before = ""
    for failure in failures:
        if before:
            write_line(before + ",")
        before = json_text(failure_row(run, failure))
    write_line(before + "]}")


def _write_json_lines(run: int, failures: Iterator[Failure]) -> None:
    for failure in failures:
        write_line(json_text(failure_row(run, failure)))


def _write_csv(run: int, failures: Iterator[Failure]) -> None:
    """For spreadsheets, which run what starts like a formula."""
    plain = printable if is_terminal(sys.stdout) else str
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for failure in failures:
        named = {**failure_document(run, failure), "value": _payload_text(failure)}
        values = [named[column] for column in COLUMNS]
        writer.writerow(["" if value is None else neutralised(plain(value)) for value in values])
        write_line(buffer.getvalue().removesuffix("\n"))
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        write_line(buffer.getvalue().removesuffix("\n"))


def neutralised(cell: str) -> str:
    """The cell with an apostrophe before whatever a spreadsheet would take for a formula; numbers stay as they are."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell

"""`batchwright list`: which work there is, how each of it stands, and what to do next.

The one rule: one line for one piece of work (a job with its parameters), whatever number of runs it has had.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click

from batchwright.cli.documents import document, instance_document, plain_parameters
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.next_commands import for_instance, short_command
from batchwright.cli.option_types import WholeNumber
from batchwright.cli.shared_options import json_option, ledger_option
from batchwright.cli.status import SHORT_STATUS, SHORT_STATUS_BELOW, started
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import NARROW, cut, terminal_width, write_table
from batchwright.model.execution import InstanceSummary
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable

PARAMETERS_WIDTH = 60

_COLUMNS = ("#run", "job", "status", "last run (UTC)", "#open", "next")


@click.command("list")
@click.option("--job", metavar="NAME", help="Only this job.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(list(Status), case_sensitive=False),
    help="Only work whose newest run has this status; may be repeated.",
)
@click.option("--limit", type=WholeNumber(1), default=100, show_default=True, help="At most so many lines.")
@json_option
@ledger_option
def list_command(
    *, job: str | None, statuses: Sequence[Status], limit: int, as_json: bool, ledger: Path | str | None
) -> None:
    """List the jobs: each set of parameters once, with its newest run, what failed and is open, and what to do next.

    `status` lists the runs themselves, `show RUN` everything about one.
    """
    with opened_history(ledger) as opened:
        if job is not None:
            opened.require_job(job)
        chosen = (each for each in opened.instances(job) if not statuses or each.status in statuses)
        found = list(islice(chosen, limit + 1))
        more, found = len(found) > limit, found[:limit]
        if as_json:
            jobs = [instance_document(each, for_instance(each, opened.named)) for each in found]
            write_json(document(ledger=opened.history.address, jobs=jobs, more=more))
        else:
            _write(opened, found, more=more)


def _write(opened: OpenedHistory, found: Sequence[InstanceSummary], *, more: bool) -> None:
    if not found:
        write_line(f"no such work in {printable(opened.history.address)}")
        return
    width = terminal_width()
    short = width is not None and width < SHORT_STATUS_BELOW
    rows = [_row(each, short=short) for each in found]
    parameters = [_parameters(each) for each in found]
    if width is not None and width < NARROW:
        write_table(_COLUMNS, rows, parameters)
    else:
        room = None if width is None else PARAMETERS_WIDTH
        merged = [(*row[:2], cut(text, room), *row[2:]) for row, text in zip(rows, parameters, strict=True)]
        write_table((*_COLUMNS[:2], "parameters", *_COLUMNS[2:]), merged)
    if any(row[2] == SHORT_STATUS for row in rows):
        write_line("* with failures")
    if more:
        say(f"there is more: --limit {2 * len(found)}")
    if any(row[-1] for row in rows):
        say("next: batchwright, with the words in the last column")


def _row(each: InstanceSummary, *, short: bool) -> tuple[str, ...]:
    run = each.run
    status = SHORT_STATUS if short and each.status is Status.COMPLETED_WITH_FAILURES else each.status.value
    return (str(run.id), run.job, status, started(run.started_at), f"{each.open_failures:,}", short_command(each))


def _parameters(each: InstanceSummary) -> str:
    return printable(" ".join(f"{name}={value}" for name, value in plain_parameters(each.run.parameters).items()))

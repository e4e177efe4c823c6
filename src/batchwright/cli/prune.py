"""`batchwright prune`: forget what is long over.

The one rule: nothing goes without being asked for by age or number, and what stays says the same as before.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchwright.cli.documents import document
from batchwright.cli.histories import opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.option_types import WholeNumber
from batchwright.cli.shared_options import debug_option, json_option, ledger_option
from batchwright.cli.streams import say, write_json
from batchwright.job import Job
from batchwright.model.execution import JobExecution
from batchwright.observers.plain_text import printable
from batchwright.origins import rebuild

if TYPE_CHECKING:
    from batchwright.operations import PruneResult

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def _age(ctx: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """`90d`, `12h`, `8w`."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([hdw])", value.strip())
    if found is None:
        raise click.BadParameter(f"'{value}' is no age; write 90d, 12h or 8w", ctx, parameter)
    return int(found[1]) * _UNITS[found[2]]


@click.command("prune")
@click.option("--keep", type=WholeNumber(1), metavar="N", help="Keep the newest N runs of each job whole.")
@click.option(
    "--older-than", "age", callback=_age, metavar="AGE", help="Keep what ended in this time whole: 90d, 12h, 8w."
)
@click.option("--job", metavar="NAME", help="Only this job.")
@click.option("--with-failures", is_flag=True, help="Forget failures that are still open, too.")
@click.option("--targets", metavar="NAME", help="Instead: what the targets of this job keep about earlier laps.")
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten, and forget nothing.")
@json_option
@ledger_option
@debug_option
def prune_command(
    *,
    keep: int | None,
    age: timedelta | None,
    job: str | None,
    with_failures: bool,
    targets: str | None,
    dry_run: bool,
    as_json: bool,
    ledger: Path | str | None,
) -> int:
    """Forget runs that are over: their record, their failures, their failure files. Unfinished work is left alone.

    Of each piece of work its newest run stays: it still says that it is complete.
    """
    _check(keep, age, job, targets)
    from batchwright.operations import prune, prune_targets

    with opened_history(ledger) as opened:
        for name in filter(None, (job, targets)):
            opened.require_job(name)
        path = opened.path
    if targets is not None:
        result = prune_targets(targets, ledger=path, with_failures=with_failures, dry_run=dry_run, build=_build)
    else:
        before = None if age is None else datetime.now(UTC) - age
        result = prune(keep=keep, before=before, job=job, with_failures=with_failures, ledger=path, dry_run=dry_run)
    if as_json:
        write_json(_document(result, dry_run=dry_run))
    else:
        _say(result, "the targets" if targets else "the ledger", dry_run=dry_run)
    return 0


def _build(execution: JobExecution) -> Job:
    """The job, with secrets from the environment."""
    with user_output_on_stderr():
        chosen = chosen_again(execution)
        return chosen.build() if chosen else rebuild(execution)


def _check(keep: int | None, age: timedelta | None, job: str | None, targets: str | None) -> None:
    by_age = keep is not None or age is not None
    if targets is not None and (by_age or job is not None):
        raise click.UsageError("--targets goes without --keep, --older-than and --job")
    if targets is None and not by_age:
        raise click.UsageError("say what may go: --keep N, --older-than 90d, or both")


def _document(result: "PruneResult", *, dry_run: bool) -> dict[str, object]:
    forgotten = result.forgotten
    return document(
        dry_run=dry_run,
        instances=result.instances,
        executions=forgotten.executions,
        failures=forgotten.failures,
        checkpoints=forgotten.checkpoints,
        files=result.files,
        busy=list(result.busy),
        problems=list(result.problems),
        exit_code=0,
    )


def _say(result: "PruneResult", where: str, *, dry_run: bool) -> None:
    forgotten, verb = result.forgotten, "would be forgotten" if dry_run else "forgotten"
    if result.instances:
        parts = (
            f"{forgotten.executions:,} runs",
            f"{forgotten.failures:,} failures",
            f"{forgotten.checkpoints:,} checkpoints",
            f"{result.files:,} failure files",
        )
        say(f"{verb} in {where}: {', '.join(parts)}, of {result.instances:,} pieces of work")
    else:
        say(f"nothing to forget in {where}")
    for job in result.busy:
        say(f"left alone, it is under way: {printable(job)}")
    for problem in result.problems:
        say(f"warning: {printable(problem)}")

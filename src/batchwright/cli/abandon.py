"""`batchwright abandon`: give up work that was not finished.

The one rule: it says what is left in the targets, and removes nothing that anybody has seen.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchwright.cli.confirmation import require_yes
from batchwright.cli.documents import document
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import begin_anew, command, in_full
from batchwright.cli.shared_options import debug_option, json_option, ledger_option, run_argument
from batchwright.cli.streams import say, write_json
from batchwright.job import Job
from batchwright.model.effect import STANDING
from batchwright.model.errors import AlreadyRunningError, BatchwrightError
from batchwright.model.execution import JobExecution
from batchwright.model.status import Status, sources_of
from batchwright.observers.plain_text import printable

if TYPE_CHECKING:
    from batchwright.operations import AbandonResult, StepLeft

_ASKED = sources_of(Status.ABANDONED) | {Status.LOST}


@click.command("abandon")
@run_argument(required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@ledger_option
@debug_option
def abandon_command(run: int, *, yes: bool, as_json: bool, ledger: Path | str | None) -> int:
    """Give up a run that was stopped, failed or killed: it is never gone on with, only begun anew with --again.

    Removes what its steps have staged and not published, and says what they leave in their targets.
    """
    from batchwright.operations import abandon, newest_run, run_to_abandon

    with opened_history(ledger) as opened:
        execution = opened.execution(run)
        _refuse_live(opened, execution)
        run_to_abandon(opened.history, run)
        newest = newest_run(opened.history, execution.key)
        # Whatever else it is, is refused, or given up already: no question.
        if execution.status in _ASKED and newest is not None and newest.id == execution.id:
            what = f"run {run} of {printable(execution.job)}"
            lost = _not_undone(opened, execution)
            if lost:
                say(lost)
            require_yes(f"{what} can never be gone on with once it is abandoned", f"Abandon {what}?", given=yes)
        result = abandon(run, ledger=opened.path, job=_job(execution))
        following = [printable(in_full(begin_anew(execution), execution, opened.named))]
    if as_json:
        write_json(_document(result, following))
    else:
        _say_result(result, following)
    return 0


def _not_undone(opened: OpenedHistory, execution: JobExecution) -> str:
    """What is to be known of effects that are there, and that nothing could undo any more; or nothing."""
    counts = opened.history.effect_counts(execution.id) if execution.compensable else []
    left = sum(count.count for count in counts if count.state in STANDING)
    undo = command("rollback", str(execution.id), ledger=opened.named)
    return (
        f"{left:,} effects outside stay, and cannot be rolled back any more; to undo them first: {undo}" if left else ""
    )


def _refuse_live(opened: OpenedHistory, execution: JobExecution) -> None:
    if execution.status.live:
        where = f"process {execution.pid} on {execution.host}"
        error = AlreadyRunningError(execution.job, where, execution.started_at)
        error.add_note(f"next: {command('stop', str(execution.id), ledger=opened.named)}")
        raise error


def _job(execution: JobExecution) -> Job | None:
    """The job, with secrets from the environment; None where it cannot be built: then it is given up without it."""
    try:
        with user_output_on_stderr():
            chosen = chosen_again(execution)
            job = chosen.build() if chosen else None
    except BatchwrightError as error:
        say(f"its job cannot be built again, so nothing is cleaned up: {printable(str(error))}")
        return None
    return job if job is not None and job.key == execution.key else None


def _document(result: "AbandonResult", following: list[str]) -> dict[str, object]:
    return document(
        run=result.run,
        job=result.job,
        status=Status.ABANDONED.value,
        already=result.already,
        steps=[
            {
                "name": step.step,
                "target": step.target,
                "outputs": step.outputs,
                "finished": step.finished,
                "removed": step.removed or None,
                "problem": step.problem or None,
            }
            for step in result.steps
        ],
        next=following,
        exit_code=0,
    )


def _say_result(result: "AbandonResult", following: list[str]) -> None:
    already = " already" if result.already else ""
    say(f"run {result.run} of {printable(result.job)} is{already} abandoned")
    for step in result.steps:
        say(f"  {printable(step.step)}: {printable(_left(step, already=result.already))}")
    for text in following:
        say(f"to begin anew: {text}")


def _left(step: "StepLeft", *, already: bool) -> str:
    problem = f"; {step.problem}" if step.problem else ""
    if step.removed:
        return f"nothing is left, removed: {step.removed}{problem}"
    if step.problem and not step.outputs:
        return f"what is left in {step.target} is not known{problem}"
    if not step.outputs:
        return f"nothing is left in {step.target}"
    left = "may have left" if already and not step.finished else "leaves"
    what = f"{step.outputs:,} {'output' if step.outputs == 1 else 'outputs'}"
    return f"{left} {what} in {step.target}{', which is finished' if step.finished else ''}{problem}"

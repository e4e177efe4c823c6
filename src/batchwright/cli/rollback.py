"""`batchwright rollback`: undo what a run did outside.

The one rule: it says what it will undo before it undoes anything, and names what is left.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchwright.cli.confirmation import require_yes
from batchwright.cli.documents import document
from batchwright.cli.histories import opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import begin_anew, command, in_full
from batchwright.cli.shared_options import debug_option, grace_option, json_option, ledger_option, run_argument
from batchwright.cli.signals import StoppedAtOnce, show_past_buffers, signals_stop
from batchwright.cli.streams import say, write_json
from batchwright.engine.stop import Stop
from batchwright.job import Job
from batchwright.model.effect import STANDING, EffectCount
from batchwright.model.errors import AlreadyRunningError
from batchwright.model.execution import JobExecution
from batchwright.model.status import Status
from batchwright.observers.plain_text import printable

if TYPE_CHECKING:
    from batchwright.model.result import RollbackResult

FAILED, STOPPED = 1, 5


@click.command("rollback")
@run_argument(required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@grace_option
@json_option
@ledger_option
@debug_option
def rollback_command(run: int, *, yes: bool, grace: float, as_json: bool, ledger: Path | str | None) -> int:
    """Undo what a run did outside: its effects, the newest first, as the compensate= of its steps says.

    The run is never gone on with after that, only begun anew with --again. Exits with 1 if a compensation fails;
    rolling back again goes on there.
    """
    with opened_history(ledger) as opened:
        execution, path, named = opened.execution(run), opened.path, opened.named
        counts = opened.history.effect_counts(run)
        if execution.status.live:
            where = f"process {execution.pid} on {execution.host}"
            running = AlreadyRunningError(execution.job, where, execution.started_at)
            running.add_note(f"next: {command('stop', str(run), ledger=named)}")
            raise running
    with user_output_on_stderr():
        chosen = chosen_again(execution)
        job = chosen.build() if chosen else None
    again = command("rollback", str(run), ledger=named)
    if job is not None and execution.status is not Status.COMPENSATED:
        _confirm(execution, job, counts, yes=yes)
    with user_output_on_stderr():
        try:
            result, signalled = _roll_back(run, job, path, grace)
        except StoppedAtOnce as stopped:
            say(f"stopped at once: what was undone stays undone; go on with: {again}")
            return stopped.exit_code
    code = (signalled or STOPPED) if result.stopped else FAILED if result.error else 0
    following = _following(result, execution, named, again)
    if as_json:
        write_json(_document(result, following, code))
    else:
        _say_result(result, following)
    return code


def _confirm(execution: JobExecution, job: Job, counts: Sequence[EffectCount], *, yes: bool) -> None:
    from batchwright.engine.compensate_lap import compensable_steps

    what = f"run {execution.id} of {printable(execution.job)}"
    lines = []
    for step in compensable_steps(job):
        number = sum(count.count for count in counts if count.step == step.name and count.state in STANDING)
        lines.append(f"{printable(step.name)}: {number:,} effects")
    for line in lines:
        say(f"to undo of {line}")
    require_yes(f"rolling back {what} undoes {', '.join(lines)}", f"Roll back {what}?", given=yes or not lines)


def _roll_back(run: int, job: Job | None, path: Path | str, grace: float) -> tuple["RollbackResult", int | None]:
    from batchwright.compensation import rollback

    # The handlers know what to say of a signal only once they are there, and are made for this stop.
    stop = Stop(lambda reason: show_past_buffers(signals.notice(reason)))
    with signals_stop(stop, grace) as signals:
        result = rollback(run, ledger=path, job=job, stop=stop, check=False)
    return result, signals.exit_code


def _following(result: "RollbackResult", execution: JobExecution, ledger: Path | str | None, again: str) -> list[str]:
    if result.status is not Status.COMPENSATED:
        return [again]
    undone = replace(execution, status=Status.COMPENSATED)
    return [printable(in_full(begin_anew(undone), undone, ledger))]


def _document(result: "RollbackResult", following: list[str], exit_code: int) -> dict[str, object]:
    return document(
        run=result.run,
        job=result.job,
        status=result.status.value,
        already=result.already,
        steps=[
            {"name": step.step, "compensated": step.compensated, "left": step.left, "failed_calls": step.failed}
            for step in result.steps
        ],
        kept=list(result.kept),
        stopped=result.stopped or None,
        error=result.error or None,
        next=following,
        exit_code=exit_code,
    )


def _say_result(result: "RollbackResult", following: list[str]) -> None:
    head = f"run {result.run} of {printable(result.job)}"
    if result.already:
        say(f"{head} is already rolled back")
    else:
        say(f"{head}: {result.status.value}")
    for step in result.steps:
        failed = f", {step.failed:,} calls had failed" if step.failed else ""
        say(f"  {printable(step.step)}: {step.compensated:,} undone, {step.left:,} left{failed}")
    if result.kept:
        say(f"  what these steps wrote stays, they have no compensate=: {printable(', '.join(result.kept))}")
    if result.error or result.stopped:
        say(f"  {'error' if result.error else 'stopped'}: {printable(result.error or result.stopped)}")
    for text in following:
        say(f"{'to begin anew' if result.status is Status.COMPENSATED else 'next'}: {text}")

"""`batchwright replay`: give the failed items of a run to their step again."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchwright.cli.documents import document
from batchwright.cli.histories import opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import command, go_on_command
from batchwright.cli.shared_options import debug_option, grace_option, json_option, ledger_option, run_argument
from batchwright.cli.signals import StoppedAtOnce, show_past_buffers, signals_stop
from batchwright.cli.streams import say, write_json
from batchwright.engine.stop import Stop
from batchwright.model.execution import JobExecution
from batchwright.observers.plain_text import printable

if TYPE_CHECKING:
    from batchwright.launch import ReplayResult

STILL_OPEN, STOPPED = 3, 5


@click.command("replay")
@run_argument(required=True)
@click.option("--step", metavar="NAME", help="Only failures of this step.")
@grace_option
@json_option
@ledger_option
@debug_option
def replay_command(run: int, *, step: str | None, grace: float, as_json: bool, ledger: Path | str | None) -> int:
    """Give the failed items of a run to their step again, after the cause is mended.

    The job is built again from its file; secrets are read from the environment. Exits with 3 if items fail again. It
    can be stopped as a run can; what it has not tried then stays open.
    """
    with opened_history(ledger) as opened:
        execution, path = opened.execution(run), opened.path
        if step is not None:
            opened.require_step(execution, step)
    again = command("replay", str(run), *(("--step", step) if step else ()), ledger=ledger)
    with user_output_on_stderr():
        try:
            result, signalled = _replay(run, step, execution, path, grace)
        except StoppedAtOnce as stopped:
            say(f"stopped at once: what was replayed stays; go on with: {again}")
            return stopped.exit_code
    code = STILL_OPEN if result.still_open or result.refused else 0
    if result.stopped:
        code = signalled or STOPPED
    if as_json:
        write_json(_document(result, code))
    else:
        _say_result(result, execution, ledger, again)
    return code


def _replay(
    run: int, step: str | None, execution: JobExecution, path: Path | str, grace: float
) -> tuple["ReplayResult", int | None]:
    """What the replay did, and the exit code of the signal that came meanwhile."""
    from batchwright.launch import replay

    chosen = chosen_again(execution)
    job = chosen.build() if chosen else None
    # The handlers know what to say of a signal only once they are there, and are made for this stop.
    stop = Stop(lambda reason: show_past_buffers(signals.notice(reason)))
    with signals_stop(stop, grace) as signals:
        result = replay(run, ledger=path, step=step, job=job, stop=stop)
    return result, signals.exit_code


def _document(result: "ReplayResult", exit_code: int) -> dict[str, object]:
    return document(
        run=result.run or None,
        replayed=result.replayed,
        still_open=result.still_open,
        steps=[{"name": step.step, "replayed": step.replayed, "still_open": step.still_open} for step in result.steps],
        refused=list(result.refused),
        stale=list(result.stale),
        stopped=result.stopped or None,
        exit_code=exit_code,
    )


def _say_result(result: "ReplayResult", execution: JobExecution, ledger: Path | str | None, again: str) -> None:
    for step in result.steps:
        say(f"{printable(step.step)}: {step.replayed:,} replayed, {step.still_open:,} still open")
    if not (result.steps or result.refused):
        say(f"nothing to replay in run {execution.id}")
    for refused in result.refused:
        say(f"not replayed: {printable(refused)}")
    if result.stopped:
        say(f"{printable(result.stopped)}: what was not tried is still open")
        say(f"next: {again}")
    if result.still_open:
        say(f"next: {command('failures', str(execution.id), '--open', ledger=ledger)}")
    if result.stale:
        names = printable(", ".join(result.stale))
        say(
            f"next: {printable(go_on_command(execution, ledger))} --again (what follows was made without them: {names})"
        )

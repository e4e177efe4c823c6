"""`batchwright resume`: go on with the work of a run, wherever its job was started from.

The one rule: it runs what `run` with the same parameters would run; where there is nothing to go on with it says why,
and what would be right.
"""

from pathlib import Path
from typing import Any

import click

from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.job_command import ChosenJob, chosen_again
from batchwright.cli.next_commands import Situation, begin_anew, in_full, next_commands
from batchwright.cli.run import EXIT_CODES, RunCall, RunOptions, running_options
from batchwright.cli.shared_options import debug_option, ledger_option, run_argument
from batchwright.model.errors import AbandonedError, AlreadyRunningError, NotResumableError, OriginError
from batchwright.model.execution import JobExecution
from batchwright.observers.plain_text import printable


@click.command("resume", epilog=EXIT_CODES)
@run_argument(required=True)
@running_options
@ledger_option
@debug_option
def resume_command(run: int, ledger: Path | str | None, **options: Any) -> int:
    """Go on with a run that was stopped, failed or killed.

    Its job is built again from its file, with the parameters it had; secrets are read from the environment.
    """
    with opened_history(ledger) as opened:
        chosen = _chosen(opened, run)
        used = _ledger_to_name(opened, chosen)
    return RunCall(chosen, RunOptions(ledger=used, **options)).go()


def _chosen(opened: OpenedHistory, run: int) -> ChosenJob:
    from batchwright.operations import interrupted_run, require_same_work

    named = opened.execution(run)
    try:
        execution = interrupted_run(opened.history, run)
        chosen = chosen_again(execution)
        if chosen is None and execution.origin is not None and execution.origin.is_script:
            raise OriginError(
                f"run {execution.id} was a loop, which is no job that could be built again",
                "",
                f"run its script again: {execution.origin}",
            )
        if chosen is None:
            raise OriginError(
                f"run {execution.id} has no job function to build it from again",
                "it was started from Python with run(Job(…)) or run(Step(…))",
                "run it again from there, with the same parameters, or call batchwright.resume(…, job=…)",
            )
    except AlreadyRunningError as error:
        error.add_note(f"next: {next_commands(_newest(opened, named), opened.named)[0]}")
        raise
    except (AbandonedError, NotResumableError) as error:
        newest = _newest(opened, named)
        following = next_commands(newest, opened.named)
        for text in following:
            error.add_note(f"next: {printable(text)}")
        if not following:  # it is complete: nothing has to be done
            anew = in_full(begin_anew(newest.run), newest.run, opened.named)
            error.add_note(f"to begin anew: {printable(anew)}")
        raise
    require_same_work(chosen.build(), execution)
    return chosen


def _newest(opened: OpenedHistory, named: JobExecution) -> Situation:
    from batchwright.operations import newest_run

    return opened.situation(newest_run(opened.history, named.key) or named)


def _ledger_to_name(opened: OpenedHistory, chosen: ChosenJob) -> Path | str | None:
    """The ledger that the run is in, unless the job's own place leads there."""
    from batchwright.launch import ledger_place

    same = opened.named is None and ledger_place(chosen.file) == opened.path
    return None if same else opened.path

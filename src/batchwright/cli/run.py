"""`batchwright run`: run a job, or go on with it where it ended."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batchwright.cli.documents import TOLD_AS_JSON, error_document, result_document
from batchwright.cli.job_command import METAVAR, ChosenJob, JobCommand, user_output_on_stderr
from batchwright.cli.next_commands import (
    GOES_ON,
    Situation,
    command,
    go_on,
    in_full,
    needed_secrets,
    next_steps,
    option_texts,
    situation_of,
)
from batchwright.cli.option_types import Seconds, WholeNumber
from batchwright.cli.shared_options import Command, debug_option, grace_option, json_option, ledger_option
from batchwright.cli.signals import GRACE_SECONDS, Signals, StoppedAtOnce, show_past_buffers, signals_stop
from batchwright.cli.streams import say, say_error, silence_stdout, without_secrets, write_json
from batchwright.cli.try_run import try_run
from batchwright.engine.stop import Stop
from batchwright.job import Job
from batchwright.model.errors import (
    AlreadyRunningError,
    BatchwrightError,
    DeclarationError,
    GroundChangedError,
    JobFailedError,
)
from batchwright.model.execution import JobExecution
from batchwright.model.policy import parse_limit
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.observers.plain_text import summary_lines
from batchwright.observers.progress import Progress
from batchwright.ports import History

FAILED, WITH_FAILURES, STOPPED = 1, 3, 5

EXIT_CODES = (
    "Exit codes: 0 complete, or already complete; 1 failed; 2 wrong use or configuration, nothing was done; "
    "3 completed with failures, as long as any is open; "
    "4 it runs elsewhere; 5 stopped, can be gone on with; 70 a bug in batchwright; "
    "129, 130 and 143 stopped by a signal."
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command's own options."""

    ledger: Path | str | None = None
    as_json: bool = False
    quiet: bool = False
    no_progress: bool = False
    limit: int | None = None
    again: bool = False
    from_step: str | None = None
    yes: bool = False
    max_failures: str | None = None
    tolerate_failures: bool = False
    timeout: float | None = None
    grace: float = GRACE_SECONDS
    accept_input: bool = False
    adopt: bool = False


def _check_max_failures(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        parse_limit(value)
    except DeclarationError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None
    return value


def running_options(command: Command) -> Command:
    """The options of every command that runs a job: how far, how long, and what is said."""
    options = (
        click.option(
            "--limit", type=WholeNumber(1), metavar="N", help="Stop after N items of each step; run again to go on."
        ),
        click.option(
            "--max-failures",
            metavar="N|P%",
            callback=_check_max_failures,
            help="At most so many failed items, instead of the limits in the job.",
        ),
        click.option("--accept-input", is_flag=True, help="Go on though the input is not what it was."),
        click.option("--adopt", is_flag=True, help="Take the targets, and the job's declaration, as they are now."),
        click.option("--tolerate-failures", is_flag=True, help="Exit with 0, not 3, when items were set aside."),
        click.option(
            "--timeout",
            type=Seconds(),
            metavar="SECONDS",
            help="Stop after this time, instead of the job's; run again to go on.",
        ),
        grace_option,
        json_option,
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("--no-progress", is_flag=True, help="Say how it starts and ends, not how far it is."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("run", cls=JobCommand, epilog=EXIT_CODES)
@click.argument("target", metavar=METAVAR)
@running_options
@click.option("--again", is_flag=True, help="Run a finished job again from the start.")
@click.option("--from", "from_step", metavar="STEP", help="With --again: only this step and those that come after it.")
@click.option("--yes", is_flag=True, help="Do not ask before rows are written a second time.")
@click.option("--dry-run", is_flag=True, help="Write nothing: read, process, and say what a run would do.")
@ledger_option
@debug_option
def run_command(chosen: ChosenJob, *, dry_run: bool, **options: Any) -> int:
    """Run a job, or go on with it where it ended.

    The parameters of the job's function are options. A finished job with the same parameters is not run again.
    """
    given = RunOptions(**options)
    if dry_run:
        return try_run(chosen, given)
    return RunCall(chosen, given).go()


class RunCall:
    """One call of a command that runs a job."""

    def __init__(self, chosen: ChosenJob, options: RunOptions) -> None:
        """Do nothing yet."""
        self._chosen, self._options = chosen, options
        self._signals: Signals | None = None
        self._progress: Progress | None = None
        self._pace: tuple[int, float] | None = None

    def go(self) -> int:
        """Run the job, say how it ended, and give the exit code. Raises what ended it, with the next commands."""
        job = self._chosen.build()
        try:
            result, error = self._run(job)
        except StoppedAtOnce as stopped:
            if not self._options.quiet:
                say(f"stopped at once: what was committed stays; go on with: {self._go_on_with(job)}")
            return stopped.exit_code
        except BatchwrightError as refused:
            if isinstance(refused, AlreadyRunningError):
                self._note_how_to_stop(job, refused)
            self._print(error_document(job.name, refused, refused.exit_code), job)
            vars(refused)[TOLD_AS_JSON] = True
            raise
        code = self._exit_code(result, error)
        self._print(result_document(result, code), job)
        if not self._options.quiet:
            say("\n".join(summary_lines(result, self._pace)))
        commands = self._next_commands(job, result, error)
        if error is not None:
            for text in commands:
                error.add_note(text)
            vars(error)[TOLD_AS_JSON] = True
            raise error
        if not self._options.quiet:
            for text in commands:
                say(text)
        return code

    def _run(self, job: Job) -> tuple[JobResult, JobFailedError | None]:
        from batchwright.launch import run

        chosen, stop = self._options, Stop(self._tell)
        with contextlib.ExitStack() as stack:
            if chosen.as_json:
                stack.enter_context(user_output_on_stderr())
            progress = stack.enter_context(Progress(moving=not (chosen.no_progress or chosen.quiet), summary=False))
            self._progress = progress
            self._signals = stack.enter_context(signals_stop(stop, chosen.grace))
            stack.callback(self._note_pace, progress)
            try:
                result = run(
                    job,
                    ledger=chosen.ledger,
                    observers=() if chosen.quiet else (progress,),
                    again=chosen.again,
                    yes=chosen.yes,
                    from_step=chosen.from_step,
                    limit=chosen.limit,
                    max_failures=chosen.max_failures,
                    stop=stop,
                    timeout_seconds=chosen.timeout,
                    accept_input=chosen.accept_input,
                    adopt=chosen.adopt,
                )
            except JobFailedError as failed:
                return failed.result, failed
        return result, None

    def _tell(self, reason: str) -> None:
        """Say that the run is about to stop. Signal handlers call it: it takes no lock."""
        if self._options.quiet or self._signals is None or self._progress is None:
            return
        notice = self._signals.notice(reason)
        if not self._progress.show_notice(notice):
            show_past_buffers(notice)

    def _note_pace(self, progress: Progress) -> None:
        self._pace = progress.pace

    def _exit_code(self, result: JobResult, error: JobFailedError | None) -> int:
        if error is not None:
            return error.exit_code
        if result.status is Status.COMPLETED:
            return 0
        if result.status is Status.COMPLETED_WITH_FAILURES:
            return 0 if self._options.tolerate_failures else WITH_FAILURES
        if result.status is Status.STOPPED:
            return (self._signals.exit_code if self._signals else None) or STOPPED
        return FAILED

    def _next_commands(self, job: Job, result: JobResult, error: JobFailedError | None) -> list[str]:
        if result.run and result.status is Status.COMPLETED and not len(result.failures):
            return []
        now = self._situation(job, result)
        if now is None:
            return [f"next: {self._run_line(job)}"]
        steps = next_steps(now)
        if error is not None and isinstance(error.__cause__, GroundChangedError):
            # What stands on other ground would be refused again: the error names the choices.
            steps = [step for step in steps if step != go_on(now.run)]
        return [f"next: {in_full(step, now.run, self._named_ledger(job))}" for step in steps]

    def _situation(self, job: Job, result: JobResult) -> Situation | None:
        """What the ledger knows of the run by now; None for one that did not begin."""
        if not result.run:
            return None
        with self._history(job) as history:
            run = history.run(result.run)
            return None if run is None else situation_of(run, history.failure_groups(run.id))

    def _history(self, job: Job) -> contextlib.closing[History]:
        from batchwright.launch import ledger_place, open_history

        place = ledger_place(None if job.origin is None else Path(job.origin.path), self._options.ledger)
        return contextlib.closing(open_history(place))

    def _newest(self, job: Job) -> JobExecution | None:
        """The newest run of this work; None where the ledger cannot say now."""
        from batchwright.operations import newest_run

        try:
            with self._history(job) as history:
                return newest_run(history, job.key)
        except BatchwrightError:
            return None

    def _note_how_to_stop(self, job: Job, refused: AlreadyRunningError) -> None:
        """Name the command that stops the run that is in the way."""
        running = self._newest(job)
        if running is not None and running.status.live:
            refused.add_note(f"next: {command('stop', str(running.id), ledger=self._named_ledger(job))}")

    def _go_on_with(self, job: Job) -> str:
        """How to go on with a run of which no result is at hand."""
        newest = self._newest(job)
        if newest is None or newest.status not in GOES_ON:
            return self._run_line(job)
        return in_full(go_on(newest), newest, self._named_ledger(job))

    def _run_line(self, job: Job) -> str:
        line = command("run", self._chosen.target, *option_texts(job.parameters), ledger=self._options.ledger)
        return line + needed_secrets(job.secret_names)

    def _named_ledger(self, job: Job) -> Path | str | None:
        """The ledger for commands that know no job file: named unless they find it by themselves."""
        from batchwright.launch import ledger_place

        if self._options.ledger is not None or job.origin is None:
            return self._options.ledger
        used = ledger_place(Path(job.origin.path))
        return None if used == ledger_place(None) else used

    def _print(self, content: dict[str, Any], job: Job) -> None:
        """The object of `--json`. That nobody can read it changes nothing about the run."""
        if not self._options.as_json:
            return
        if content["error"]:
            content["error"] = without_secrets(content["error"], job.secrets)
        try:
            write_json(content)
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as broken:
            silence_stdout()
            say_error(f"cannot write to standard output; {broken.strerror}")

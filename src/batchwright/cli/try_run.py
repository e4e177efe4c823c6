"""`batchwright run --dry-run`: what a run would do, without one.

The one rule: nothing is written anywhere; that the user's functions run all the same is said first.
"""

from contextlib import closing
from pathlib import Path
from typing import Protocol

from batchwright.cli.documents import counts_document, document
from batchwright.cli.job_command import ChosenJob, user_output_on_stderr
from batchwright.cli.next_commands import GOES_ON, command, option_texts
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import ERROR_WIDTH, cut, short_place, write_facts, write_heading
from batchwright.engine.try_job import StepTrial, Trial
from batchwright.job import Job
from batchwright.model.errors import LedgerError
from batchwright.model.failure import failure_document
from batchwright.observers.plain_text import balance, printable

WOULD_FAIL = 1


class TryOptions(Protocol):
    """Those of `run` that a trial heeds."""

    @property
    def ledger(self) -> Path | str | None:
        """Where the work's runs are on record."""

    @property
    def limit(self) -> int | None:
        """How many items of each step are tried."""

    @property
    def max_failures(self) -> str | None:
        """Instead of the limits in the job."""

    @property
    def again(self) -> bool:
        """Whether the run would begin anew."""

    @property
    def as_json(self) -> bool:
        """Whether one object is printed."""


def try_run(chosen: ChosenJob, options: TryOptions) -> int:
    """Try the job, say what it would do, and give the exit code: 0, or 1 when it would fail."""
    from batchwright.operations import dry_run

    job = chosen.build()
    say("dry run: nothing is written; your functions do run, with whatever they do outside")
    with user_output_on_stderr():
        trial = dry_run(job, limit=options.limit, max_failures=options.max_failures)
    standing = _standing(job, options)
    code = WOULD_FAIL if trial.would_fail else 0
    if options.as_json:
        write_json(_document(trial, standing, code))
        return code
    write_line(f"job {printable(trial.job)}: {'would fail' if trial.would_fail else 'would run'}")
    if standing:
        write_line(f"as it stands: {printable(standing)}")
    for step in trial.steps:
        _write_step(step)
    if not trial.would_fail:
        say(f"next: {printable(command('run', chosen.target, *option_texts(job.parameters)))}")
    return code


def _standing(job: Job, options: TryOptions) -> str:
    """What a run would make of what earlier ones did, in words; empty where there is no ledger yet."""
    from batchwright.launch import ledger_place, open_history
    from batchwright.operations import newest_run, standing

    place = ledger_place(None if job.origin is None else Path(job.origin.path), options.ledger)
    if isinstance(place, Path) and not place.exists():
        return ""
    try:
        with closing(open_history(place)) as history:
            newest = newest_run(history, job.key)
            goes_on = newest is not None and newest.status in GOES_ON and not options.again
            steps = standing(newest, history, job) if newest is not None and goes_on else ()
    except LedgerError as error:
        return f"not known; {error}"
    if newest is None or options.again:
        return "would begin" if newest is None else f"would begin anew, after run {newest.id}"
    this = f"run {newest.id} is {newest.status}"
    if goes_on:
        places = (f"{step.step} at {step.place}" for step in steps if step.place)
        return f"{this}; would go on from it: {', '.join(places) or 'nothing is committed yet'}"
    if newest.status.complete:
        begins = f"{this}; would begin anew: the job has no parameters"
        return f"already complete: {this}; would do nothing without --again" if job.identifiable else begins
    return f"{this}; would be refused" + ("" if newest.status.live else " without --again")


def _document(trial: Trial, standing: str, code: int) -> dict[str, object]:
    return document(
        job=trial.job,
        dry_run=True,
        would_fail=trial.would_fail,
        standing=standing or None,
        steps=[
            {
                "name": step.step,
                "reads": step.reads,
                "writes": step.writes,
                "counts": counts_document(step.counts),
                "whole": step.whole,
                "samples": list(step.samples),
                "failures": [failure_document(0, failure) for failure in step.failures],
                "error": step.error or None,
                "untried": step.untried or None,
            }
            for step in trial.steps
        ],
        exit_code=code,
    )


def _write_step(step: StepTrial) -> None:
    write_heading(f"step {printable(step.step)}" + (": not tried" if step.untried else ""))
    facts: list[tuple[str, object]] = [("reads", step.reads), ("writes", step.writes)]
    if step.untried:
        write_facts([*facts, ("because", step.untried)], indent="  ")
        return
    tried = "its whole input" if step.whole else "a part of its input"
    facts += [("tried", tried), ("would be", f"{balance(step.counts)}; {step.counts.outputs:,} outputs")]
    facts += [("output", sample) for sample in step.samples]
    for failure in step.failures:
        error = cut(f"{failure.error_type}: {failure.error}", ERROR_WIDTH)
        facts.append(("fails", f"{short_place(failure.place)}: {error}"))
    write_facts([*facts, ("would fail", step.error)] if step.error else facts, indent="  ")

"""`batchwright run --dry-run`: what a run would do, without one.

The one rule: nothing is written anywhere; that the user's functions run all the same is said first.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from batchwright.cli.documents import counts_document, document
from batchwright.cli.job_command import ChosenJob, user_output_on_stderr
from batchwright.cli.next_commands import GOES_ON, command, option_texts
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import ERROR_WIDTH, cut, short_place, write_facts, write_heading
from batchwright.engine.try_job import StepTrial, Trial
from batchwright.job import Job
from batchwright.model.errors import AlreadyRunningError, LedgerError
from batchwright.model.execution import JobExecution
from batchwright.model.failure import failure_document
from batchwright.observers.plain_text import balance, printable

if TYPE_CHECKING:
    from batchwright.operations import Foreseen, StepStanding

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
    def yes(self) -> bool:
        """Whether a person has said yes already."""

    @property
    def from_step(self) -> str | None:
        """The step to begin again from."""

    @property
    def accept_input(self) -> bool:
        """Whether an input that has changed is accepted."""

    @property
    def adopt(self) -> bool:
        """Whether targets are taken as they are."""

    @property
    def as_json(self) -> bool:
        """Whether one object is printed."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a run would make of what earlier ones left, in words. `refused` is why it would not start, or nothing."""

    text: str
    refused: str = ""
    exit_code: int = 0


def try_run(chosen: ChosenJob, options: TryOptions) -> int:
    """Try the job, say what it would do, and give the exit code: 0, or 1 when it would fail."""
    from batchwright.operations import dry_run

    job = chosen.build()
    say("dry run: nothing is written; your functions do run, with whatever they do outside")
    with user_output_on_stderr():
        trial = dry_run(job, limit=options.limit, max_failures=options.max_failures)
    standing = _standing(job, options)
    code = standing.exit_code or (WOULD_FAIL if trial.would_fail else 0)
    if options.as_json:
        write_json(_document(trial, standing, code))
        return code
    would = "would be refused" if standing.refused else "would fail" if trial.would_fail else "would run"
    write_line(f"job {printable(trial.job)}: {would}")
    if standing.text:
        write_line(f"as it stands: {printable(standing.text)}")
    for step in trial.steps:
        _write_step(step)
    if not (trial.would_fail or standing.refused):
        say(f"next: {printable(command('run', chosen.target, *_options(job, options), ledger=options.ledger))}")
    return code


def _options(job: Job, options: TryOptions) -> Iterator[str]:
    """The options of the run that was tried."""
    yield from option_texts(job.parameters)
    for given, flag in (
        (options.accept_input, "--accept-input"),
        (options.adopt, "--adopt"),
        (options.again, "--again"),
        (options.yes, "--yes"),
    ):
        if given:
            yield flag
    if options.from_step is not None:
        yield from ("--from", options.from_step)
    if options.max_failures is not None:
        yield from ("--max-failures", options.max_failures)


def _standing(job: Job, options: TryOptions) -> _Standing:
    """What a run would make of what earlier ones did, as far as that can be seen without writing."""
    from batchwright.launch import ledger_place, open_history
    from batchwright.operations import RunOptions, foresee, newest_run, standing

    place = ledger_place(None if job.origin is None else Path(job.origin.path), options.ledger)
    asked = RunOptions(
        options.again, options.yes, accept_input=options.accept_input, adopt=options.adopt, from_step=options.from_step
    )
    if isinstance(place, Path) and not place.exists():
        seen = foresee(job, place, None, asked)
        return _Standing("") if seen.begins else _in_words((None, ()), seen, again=options.again)
    try:
        with closing(open_history(place)) as history:
            newest = newest_run(history, job.key)
            goes_on = newest is not None and newest.status in GOES_ON and not options.again
            steps = standing(newest, history, job) if newest is not None and goes_on else ()
            return _in_words((newest, steps), foresee(job, place, history, asked), again=options.again)
    except LedgerError as error:
        return _Standing(f"not known; {error}")
    except AlreadyRunningError as running:
        return _Standing(f"would not start: {running}", str(running), running.exit_code)


def _in_words(
    known: "tuple[JobExecution | None, Sequence[StepStanding]]", seen: "Foreseen", *, again: bool
) -> _Standing:
    (newest, steps), warnings = known, "".join(f"; warning: {text}" for text in seen.warnings)
    if seen.refused:
        return _Standing(f"would be refused: {seen.refused}", seen.refused, seen.exit_code)
    if seen.unasked:
        return _Standing("not known; a target that has to be asked first cannot be reached, or is locked")
    if not seen.begins and newest is None:
        return _Standing("this ledger does not know it, its targets do; would go on as they say")
    if newest is None or again:
        return _Standing("would begin" if newest is None else f"would begin anew, after run {newest.id}")
    this = f"run {newest.id} is {newest.status}"
    if newest.status.complete:
        told = f"{this}, but its targets do not show it; would go on as they say"
        if seen.begins:
            told = f"{this}; would begin anew: the job has no parameters"
        elif seen.complete:
            told = f"already complete: {this}; would do nothing without --again"
        return _Standing(told + warnings)
    places = (f"{step.step} at {step.place}" for step in steps if step.place)
    return _Standing(f"{this}; would go on from it: {', '.join(places) or 'nothing is committed yet'}{warnings}")


def _document(trial: Trial, standing: _Standing, code: int) -> dict[str, object]:
    return document(
        job=trial.job,
        dry_run=True,
        would_fail=trial.would_fail,
        standing=standing.text or None,
        refused=standing.refused or None,
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

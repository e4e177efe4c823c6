"""`batchwright run --dry-run`: what a run would do, without one.

The one rule: nothing is written anywhere; that the user's functions run all the same is said first.
"""

from batchwright.cli.documents import counts_document, document
from batchwright.cli.job_command import ChosenJob, user_output_on_stderr
from batchwright.cli.next_commands import command, option_texts
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import ERROR_WIDTH, cut, short_place, write_facts, write_heading
from batchwright.engine.try_job import StepTrial, Trial
from batchwright.model.failure import failure_document
from batchwright.observers.plain_text import balance, printable

WOULD_FAIL = 1


def try_run(chosen: ChosenJob, *, limit: int | None, max_failures: str | None, as_json: bool) -> int:
    """Try the job, say what it would do, and give the exit code: 0, or 1 when it would fail."""
    from batchwright.operations import dry_run

    job = chosen.build()
    say("dry run: nothing is written; your functions do run, with whatever they do outside")
    with user_output_on_stderr():
        trial = dry_run(job, limit=limit, max_failures=max_failures)
    code = WOULD_FAIL if trial.would_fail else 0
    if as_json:
        write_json(_document(trial, code))
        return code
    write_line(f"job {printable(trial.job)}: {'would fail' if trial.would_fail else 'would run'}")
    for step in trial.steps:
        _write_step(step)
    if not trial.would_fail:
        say(f"next: {printable(command('run', chosen.target, *option_texts(job.parameters)))}")
    return code


def _document(trial: Trial, code: int) -> dict[str, object]:
    return document(
        job=trial.job,
        dry_run=True,
        would_fail=trial.would_fail,
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

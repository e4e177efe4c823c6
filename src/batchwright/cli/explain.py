"""`batchwright explain`: what a job will do, promise and risk. Runs nothing, creates nothing."""

import dataclasses
from typing import Any

import click

from batchwright.cli.documents import document
from batchwright.cli.job_command import METAVAR, ChosenJob, JobCommand
from batchwright.cli.next_commands import command, option_texts
from batchwright.cli.shared_options import debug_option, json_option
from batchwright.cli.streams import say, write_json, write_line
from batchwright.cli.tables import write_facts, write_heading
from batchwright.engine.explain_job import Explanation, StepExplanation, explain
from batchwright.observers.plain_text import printable


@click.command("explain", cls=JobCommand)
@click.argument("target", metavar=METAVAR)
@json_option
@debug_option
def explain_command(chosen: ChosenJob, as_json: bool) -> None:
    """Say what a job will do: its steps in order, what each promises, what may happen twice, and what to mend.

    The job's function is called with its parameters; nothing is opened, checked, created or run.
    """
    job = chosen.build()
    explanation = explain(job)
    if as_json:
        write_json(_document(explanation))
        return
    write_line(f"job {printable(explanation.job)}")
    for step in explanation.steps:
        _write_step(step)
    _write_warnings(explanation)
    write_line(f"note: {'; '.join(explanation.notes)}")
    say(f"next: {printable(command('run', chosen.target, *option_texts(job.parameters)))}")


def _document(explanation: Explanation) -> dict[str, Any]:
    return document(**dataclasses.asdict(explanation))


def _write_step(step: StepExplanation) -> None:
    write_heading(
        f"step {printable(step.name)}" + (f", after {printable(', '.join(step.after))}" if step.after else "")
    )
    restart = "a restart goes straight to its place" if step.seeks else "a restart reads again from the start"
    facts = [
        ("reads", f"{step.reads} ({restart})"),
        ("writes", step.writes),
        ("guarantee", step.guarantee.value),
        ("may happen twice", step.may_happen_twice),
        ("chunk", f"{step.chunk_size:,} items"),
        ("workers", step.workers),
    ]
    facts += [("published", step.published)] if step.published else []
    facts += [("retry", step.retry)] if step.retry else []
    facts += [("set aside", step.skip)] if step.skip else []
    write_facts(facts, indent="  ")


def _write_warnings(explanation: Explanation) -> None:
    if explanation.warnings:
        write_heading("warnings")
    for warning in explanation.warnings:
        write_line(f"  {printable(warning.step)}: {printable(warning.what)}")
        write_line(f"    mend: {printable(warning.mend)}")
    write_line("")

"""What `show` says of interrupted work: where it stands, where it would go on, and what can be done about it.

The one rule: the job's file is loaded to name the place; whatever goes wrong with that only makes the place less exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchwright.cli.documents import counts_document
from batchwright.cli.histories import OpenedHistory
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import GOES_ON, Words, begin_anew, can_be_built, go_on, in_full
from batchwright.cli.tables import write_facts, write_heading
from batchwright.job import Job
from batchwright.model.execution import JobExecution

if TYPE_CHECKING:
    from batchwright.operations import StepStanding


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Where the work of a run stands, what can be done, and the later run if there is one; empty where it is not so."""

    steps: Sequence["StepStanding"] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    later: JobExecution | None = None

    @classmethod
    def found(cls, opened: OpenedHistory, execution: JobExecution) -> "Interrupted":
        """Look, if this is a run that was interrupted."""
        from batchwright.operations import newest_run, standing

        if execution.kind != "run" or execution.status not in GOES_ON:
            return cls()
        newest = newest_run(opened.history, execution.key)
        if newest is not None and newest.id != execution.id:
            return cls(later=newest)
        return cls(standing(execution, opened.history, _job(execution)), _choices(execution, opened))

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        steps = [
            {
                "name": step.step,
                "begun": step.begun,
                "complete": step.complete,
                "counts": counts_document(step.counts),
                "goes_on_at": step.place or None,
                "published": not step.staged,
            }
            for step in self.steps
        ]
        return {"standing": steps, "choices": dict(self.choices), "later_run": self.later.id if self.later else None}

    def write(self) -> None:
        """For people."""
        if self.later is not None:
            write_heading("since then")
            write_facts([("run", f"{self.later.id} of the same work: {self.later.status.value}")], indent="  ")
        if self.steps:
            write_heading("where it stands")
            write_facts([(step.step, _words(step)) for step in self.steps], indent="  ")
        if self.choices:
            write_heading("what can be done")
            write_facts(self.choices.items(), indent="  ")


def _words(step: "StepStanding") -> str:
    if not step.begun:
        return "not begun"
    if step.complete:
        return f"complete: {step.counts.read:,} items"
    if step.partitions:
        parts = "the partition" if step.partitions == 1 else f"each of {step.partitions:,} partitions"
        return f"{step.counts.read:,} items are committed; {parts} goes on after its last chunk"
    if not step.place:
        nothing = f"begun, nothing is {'published' if step.staged else 'committed'}: goes on at its start"
        return nothing if step.asked else "begun; what is committed is not known: its target cannot be asked now"
    if step.staged:
        return f"nothing is published; {step.counts.read:,} items are staged and kept; goes on at {step.place}"
    return f"{step.counts.read:,} items are committed; goes on at {step.place}"


def _choices(execution: JobExecution, opened: OpenedHistory) -> dict[str, str]:
    number, built = str(execution.id), can_be_built(execution)
    choices: dict[str, Words | str] = {
        "go on": go_on(execution),
        "begin anew": begin_anew(execution),
    }
    if built and execution.compensable:
        choices["undo what it did outside"] = ("rollback", number)
    choices["give up"] = ("abandon", number)
    return {name: in_full(step, execution, opened.named) for name, step in choices.items()}


def _job(execution: JobExecution) -> Job | None:
    try:
        with user_output_on_stderr():
            chosen = chosen_again(execution, ask=False)
            job = chosen.build() if chosen else None
    except Exception:  # noqa: BLE001 - a job that cannot be built is no reason to say nothing
        return None
    return job if job is not None and job.key == execution.key else None

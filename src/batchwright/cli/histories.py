"""Opening the record that a command reads, and finding a run in it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchwright.cli.next_commands import Situation, situation_of
from batchwright.cli.spelling import did_you_mean
from batchwright.cli.streams import say
from batchwright.model.errors import LedgerError
from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution
from batchwright.model.status import Status, status_now
from batchwright.places import VARIABLE
from batchwright.ports import History

PAGE = 100

LAST_REPORT = "its process died: counts and failures are those of its last report; "

_ASKS_NOW = "to go on with it, or to abandon it, brings the rest from the targets"

_COULD_NOT = "its targets could not be asked when it was closed"


@dataclass(frozen=True, slots=True)
class OpenedHistory:
    """A history, and the path to name in commands: None where they would find it by themselves."""

    history: History
    path: Path | str
    named: Path | str | None

    def execution(self, run: int | None) -> JobExecution:
        """One run, or the latest that is no replay. Raises LedgerError if it is not there."""
        if run is None:
            return self._latest()
        found = self.history.run(run)
        if found is None:
            newest = self.history.runs(limit=1)
            known = f"its latest run is {newest[0].id}" if newest else "it has no runs"
            raise LedgerError(
                f"there is no run {run} in {self.history.address}", known, "batchwright status lists them"
            )
        return found

    def replayed_run(self, replay: JobExecution) -> int | None:
        """The run whose failures a replay took up: the newest of its lap before it; None for what is no replay."""
        if replay.kind != "replay":
            return None
        before: int = replay.id
        while page := self.history.runs(key=replay.key, before=before, limit=PAGE):
            for run in page:
                if run.kind == "run":
                    return run.id if run.lap == replay.lap else None
            before = page[-1].id
        return None

    def situation(self, execution: JobExecution, groups: Sequence[FailureGroup] | None = None) -> Situation:
        """What decides what can be done next about the work of a run; for a replay, about the run that it took up.

        `groups` are the failures of this run, for whoever has asked for them.
        """
        newest = self._newest_run(execution)
        run = newest if newest is not None and execution.kind != "run" else execution
        if groups is None or run is not execution:
            groups = self.history.failure_groups(run.id)
        return situation_of(run, groups, newest.id if newest is not None and newest.id != run.id else None)

    def _newest_run(self, execution: JobExecution) -> JobExecution | None:
        from batchwright.operations import newest_run

        return newest_run(self.history, execution.key)

    def instances(self, job: str | None = None) -> Iterator[InstanceSummary]:
        """Every instance, by its newest run, newest first; read a page at a time."""
        before: int | None = None
        while page := self.history.instances(job=job, before=before, limit=PAGE):
            yield from page
            before = page[-1].run.id

    def last_report(self, execution: JobExecution) -> str:
        """What to say of a run of which the targets may know more than this ledger; empty: they know no more."""
        if execution.kind != "run":
            return ""
        if execution.status is Status.LOST:
            return LAST_REPORT + _ASKS_NOW
        if execution.status.live or execution.status.complete:
            return ""
        newest = self._newest_run(execution) or execution
        goes_on = newest.lap == execution.lap
        steps = self.history.steps(newest.id if goes_on else execution.id)
        if not any(step.known_in_part for step in steps):
            return ""
        return LAST_REPORT + _COULD_NOT + (f"; {_ASKS_NOW}" if goes_on else "")

    def status_now(self, execution: JobExecution) -> Status:
        """What a run's status has become: complete without failures once each is replayed or ignored."""
        if execution.kind != "run" or execution.status is not Status.COMPLETED_WITH_FAILURES:
            return execution.status
        first = next(self.history.failures(execution.id, open_only=True), None)
        return status_now(execution.status, open_failures=first is not None)

    def require_job(self, job: str) -> None:
        """Raise LedgerError if no run is of this job, and name the jobs that there are."""
        known = self.history.jobs()
        if known and job not in known:
            raise LedgerError(
                f"there is no run of a job '{job}' in {self.history.address}",
                f"its jobs are {', '.join(known)}",
                did_you_mean(job, known),
            )

    def require_step(self, execution: JobExecution, step: str) -> None:
        """Raise LedgerError if the run has no such step, and name those it has."""
        if execution.steps and step not in execution.steps:
            raise LedgerError(
                f"run {execution.id} of job '{execution.job}' has no step '{step}'",
                f"its steps are {', '.join(execution.steps)}",
                did_you_mean(step, execution.steps),
            )

    def _latest(self) -> JobExecution:
        for latest in self.history.instances(limit=1):
            return latest.run
        raise LedgerError("there are no runs yet", f"in {self.history.address}")


@contextlib.contextmanager
def opened_history(given: Path | str | None) -> Iterator[OpenedHistory]:
    """The history of the ledger given, else of the one that `launch.ledger_place` finds. Raises LedgerError."""
    from batchwright.launch import ledger_place, open_history

    path = ledger_place(None, given)
    history = open_history(path)
    if isinstance(path, Path) and given is None and not os.environ.get(VARIABLE) and path.parent.parent != Path.cwd():
        say(f"ledger {path}")  # found in a folder above: not where one would look first
    try:
        yield OpenedHistory(history, path, given)
    finally:
        history.close()

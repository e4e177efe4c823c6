"""The ledger that lives in this process only: for tests, notebooks, and runs that need no restart.

The one rule: it behaves like the durable ones, so values pass through the codec here too.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from batchwright.ledgers.execution_rows import belongs_to, in_job_order, of_lap, of_partitions, without_partitions
from batchwright.ledgers.failure_groups import cause_of, group_failures
from batchwright.ledgers.locks import LockOwnership
from batchwright.ledgers.lost_steps import require_lost
from batchwright.ledgers.memory_logs import KeepsLogs
from batchwright.ledgers.memory_records import is_later, of_instance, status_of, through_codec, with_outcome
from batchwright.ledgers.transitions import closed_as, not_owned, owner_gone, refused, seen, stop_request, this_host
from batchwright.model.checkpoint import Checkpoint, Counts, InstanceKey, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.effect import EffectCount
from batchwright.model.errors import AlreadyRunningError
from batchwright.model.execution import (
    FailureGroup,
    InstanceSummary,
    JobExecution,
    RunRequest,
    StepExecution,
    StepOutcome,
)
from batchwright.model.failure import Failure, FailureState
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.model.status import Status, sources_of, without_owner


class MemoryLedger(KeepsLogs):
    """A ledger and its own history, both gone with the object. Excludes threads of this process from each other."""

    durable = False
    address = "memory"

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._guard = threading.Lock()
        self._owned: dict[InstanceKey | StepKey, datetime] = {}
        self._laps: dict[InstanceKey, int] = {}
        self._runs: dict[int, JobExecution] = {}
        self._numbers, self._numbers_of_steps = count(1), count(1)
        self._steps: dict[int, StepExecution] = {}
        self._seen: dict[int, datetime] = {}
        self._checkpoints: dict[StepKey, Checkpoint] = {}
        self._keys: dict[bytes, dict[bytes, int]] = {}
        self._failures: dict[StepKey, dict[int, Failure]] = {}

    def own(self, key: InstanceKey) -> AbstractContextManager[LockOwnership]:
        """Own this instance while the context lasts. Raises AlreadyRunningError at once."""
        return self._own(key)

    def own_partition(self, key: StepKey) -> AbstractContextManager[LockOwnership]:
        """Own this partition while the context lasts. Raises AlreadyRunningError at once."""
        return self._own(key)

    def last_run(self, key: InstanceKey) -> JobExecution | None:
        """The newest execution of kind `run` of this instance."""
        return next((run for run in reversed([*self._runs.values()]) if run.key == key and run.kind == "run"), None)

    def begin_run(self, request: RunRequest) -> JobExecution:
        """Record a new execution, STARTING; close those that are still live. Raises LedgerError without ownership."""
        key = request.key
        if key not in self._owned:
            raise not_owned(key.job)
        parameters = decode(encode(dict(request.parameters)))
        self._close_lost(key)
        lap = self._laps[key] + request.next_lap if key in self._laps else 1
        self._laps[key] = max(lap, request.at_least_lap)
        run = JobExecution(
            id=next(self._numbers),
            key=key,
            lap=self._laps[key],
            status=Status.STARTING,
            started_at=datetime.now(UTC),
            kind=request.kind,
            parameters=parameters,
            steps=request.steps,
            origin=request.origin,
            definition=decode(encode(dict(request.definition))),
            kept=dict(request.kept),
            host=this_host(),
            pid=os.getpid(),
        )
        self._keep_run(run)
        return run

    def close_lost(self, key: InstanceKey) -> None:
        """Close executions that are still live. Raises LedgerError without ownership."""
        if key not in self._owned:
            raise not_owned(key.job)
        self._close_lost(key)

    def move_run(self, run: int, status: Status, error: str = "") -> None:
        """Change an execution's status; a text already there is kept if `error` is empty.

        Raises FencedError if somebody else has closed it, LedgerError if the table of transitions forbids it.
        """
        found = self._runs.get(run)
        if found is None or found.status not in sources_of(status):
            raise refused("run", run, status_of(found), status)
        ended_at = None if status.live else found.ended_at or datetime.now(UTC)
        self._keep_run(replace(found, status=status, ended_at=ended_at, error=error or found.error))

    def request_stop(self, run: int, who: str) -> bool:
        """Note on a live execution that `who` wants it to stop; the first request stays."""
        found = self._runs.get(run)
        if found is None or not found.status.live:
            return False
        self._runs[run] = replace(found, stop_requested=found.stop_requested or stop_request(who))
        return True

    def begin_step(self, run: int, key: StepKey, source: str, target: str, guarantee: str) -> StepExecution:
        """Record a new execution of a step, RUNNING, with the counts that its lap had so far.

        Raises FencedError if the run is closed.
        """
        found = self._runs.get(run)
        if found is None or not found.status.live:
            raise refused("run", run, status_of(found), Status.RUNNING)
        before = self.last_step(key) if found.kind == "run" else None
        step = StepExecution(
            id=next(self._numbers_of_steps),
            run=run,
            key=key,
            status=Status.RUNNING,
            started_at=datetime.now(UTC),
            counts=before.counts if before else Counts(),
            target_identity=before.target_identity if before else "",
            source=source,
            target=target,
            guarantee=guarantee,
            kind=found.kind,
        )
        self._keep_step(step)
        return step

    def note_progress(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Copy counts and failures of a running step. Raises FencedError if somebody else has closed it."""
        found = self._steps.get(step_execution)
        if found is None or not found.status.live:
            raise refused("step execution", step_execution, status_of(found), Status.RUNNING)
        self._add_failures(found.key, failures)
        self._keep_step(with_outcome(found, outcome))

    def end_step(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Close an execution of a step with its counts and last failures.

        Raises FencedError if somebody else has closed it, LedgerError if the table of transitions forbids it.
        """
        found = self._steps.get(step_execution)
        if found is None or found.status not in sources_of(outcome.status):
            raise refused("step execution", step_execution, status_of(found), outcome.status)
        self._add_failures(found.key, failures)
        if outcome.status is not Status.STOPPED:
            self._logs.deaths.pop(found.key, None)
        self._keep_step(replace(with_outcome(found, outcome), status=outcome.status, ended_at=datetime.now(UTC)))

    def note_lost(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Complete an execution that was closed for a dead owner. Raises LedgerError without ownership."""
        found = require_lost(self._steps.get(step_execution), step_execution, self._owned)
        self._add_failures(found.key, failures)
        self._steps[found.id] = with_outcome(found, outcome)

    def last_step(self, key: StepKey) -> StepExecution | None:
        """The newest execution of this step in this lap, of kind `run`."""
        return next((one for one in reversed([*self._steps.values()]) if one.key == key and one.kind == "run"), None)

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""
        return self._checkpoints.get(key)

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        """Store all. Failures and keys are added, the checkpoint is replaced."""
        kept = replace(
            checkpoint,
            position=through_codec(checkpoint.position),
            state=decode(encode(dict(checkpoint.state))),
        )
        self._add_failures(key, failures)
        self._checkpoints[key] = kept
        if seen is not None:
            self._keys.setdefault(seen.space.scope, {}).update(dict.fromkeys(seen.digests, key.lap))
            if seen.space.is_over(checkpoint):
                del self._keys[seen.space.scope]

    def known_keys(self, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored, by this lap or by a finished one."""
        laps = self._keys.get(space.scope, {})
        return {digest for digest in digests if digest in laps and self._counts(space.step, laps[digest])}

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal."""
        for _ordinal, failure in sorted(self._failures.get(key, {}).items()):
            yield failure

    def void_failures(self, key: StepKey, from_ordinal: int) -> None:
        """Forget failures at or past this ordinal: their items are to be read again."""
        kept = self._failures.get(key, {}).items()
        self._failures[key] = {ordinal: failure for ordinal, failure in kept if ordinal < from_ordinal}

    def settle_failures(
        self,
        key: StepKey,
        ordinals: Sequence[int],
        state: FailureState = FailureState.REPLAYED,
        note: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Move failures into a state, from the one that it is reached from; others keep theirs."""
        if checkpoint is not None:
            self.save_checkpoint(key, checkpoint, ())
        known = self._failures.get(key, {})
        for ordinal in ordinals:
            if ordinal in known and known[ordinal].state is state.source:
                known[ordinal] = replace(known[ordinal], state=state, note=note)

    def jobs(self) -> list[str]:
        """The names of all jobs, sorted."""
        return sorted({key.job for key in self._laps})

    def instances(self, *, job: str | None = None, before: int | None = None, limit: int = 20) -> list[InstanceSummary]:
        """Instances by their newest execution of kind `run`, newest first; with `before`, the page behind that run."""
        newest = {run.key: run for run in self._runs.values() if run.kind == "run" and job in (None, run.job)}
        page = sorted((run for run in newest.values() if before is None or run.id < before), key=lambda run: -run.id)
        return [
            InstanceSummary(
                self._judged(run),
                sum(each.key == run.key for each in self._runs.values()),
                sum(1 for _ in self.failures(run.id, open_only=True)),
            )
            for run in page[:limit]
        ]

    def forget(self, key: InstanceKey, what: Forgetting) -> Forgotten:
        """Forget this of an instance that is over. Raises LedgerError without ownership."""
        if key not in self._owned:
            raise not_owned(key.job)
        runs = [number for number in what.runs if number in self._runs and self._runs[number].key == key]
        for number in runs:
            del self._runs[number]
        self._steps = {number: step for number, step in self._steps.items() if step.run not in runs}
        failures = [
            self._forget_failures(step, with_open=what.with_open)
            for step in list(self._failures)
            if of_instance(step, key) and step.lap in what.failure_laps
        ]
        old = [step for step in self._checkpoints if of_instance(step, key) and step.lap < what.checkpoints_below]
        gone = [each for each in old if any(is_later(each, other) for other in self._checkpoints)]
        self._logs.forget(key, what.checkpoints_below)
        for step in gone:
            self._forget_keys(step, finished=self._checkpoints.pop(step).finished)
        return Forgotten(len(runs), sum(failures), len(gone))

    def shrink(self) -> str:
        """Do nothing: what was forgotten is gone."""
        return ""

    def runs(
        self, *, job: str | None = None, key: InstanceKey | None = None, before: int | None = None, limit: int = 20
    ) -> list[JobExecution]:
        """Executions, of a job or an instance, newest first; with `before`, the page behind that run."""
        newest = (
            run
            for run in reversed(list(self._runs.values()))
            if job in (None, run.job) and key in (None, run.key) and (before is None or run.id < before)
        )
        return [self._judged(run) for run, _ in zip(newest, range(limit), strict=False)]

    def run(self, run: int) -> JobExecution | None:
        """One execution."""
        found = self._runs.get(run)
        return found and self._judged(found)

    def steps(self, run: int) -> list[StepExecution]:
        """The newest execution of each step of this run's lap up to it, in the job's order; for a replay its own."""
        return without_partitions(self._steps_of(run))

    def partitions(self, run: int, step: str) -> list[StepExecution]:
        """The newest execution of each partition of a step of this run's lap, up to it."""
        return of_partitions(self._steps_of(run), step)

    def _steps_of(self, run: int) -> list[StepExecution]:
        job_run = self._runs.get(run)
        if job_run is None:
            return []
        newest = {step.key: step for step in self._steps.values() if belongs_to(step, job_run)}
        return in_job_order(map(self._judged_step, newest.values()), job_run)

    def failures(self, run: int, *, step: str | None = None, open_only: bool = False) -> Iterator[Failure]:
        """The failures of this run's lap, by step, partition and ordinal."""
        job_run = self._runs.get(run)
        keys = [key for key in self._failures if job_run and of_lap(key, job_run) and step in (None, key.step)]
        for key in sorted(keys, key=lambda key: (key.step, key.partition)):
            for failure in self.load_failures(key):
                if failure.state is FailureState.OPEN or not open_only:
                    yield replace(failure, partition=key.partition)

    def failure_groups(self, run: int) -> list[FailureGroup]:
        """The same, grouped by cause, most frequent first."""
        return group_failures(map(cause_of, self.failures(run)))

    def effect_counts(self, run: int) -> list[EffectCount]:
        """How many effects of this run's lap are in which state, by step and state."""
        job_run = self._runs.get(run)
        keys = [key for key in self._logs.effects if job_run and of_lap(key, job_run)]
        found = Counter((key.step, effect.state) for key in keys for effect in self._logs.effects[key].values())
        return [EffectCount(step, state, count) for (step, state), count in sorted(found.items())]

    def summary(self) -> Mapping[str, Any]:
        """Counts of what is held."""
        return {
            "path": self.address,
            "integrity": "ok",
            "instances": len(self._laps),
            "executions": len(self._runs),
            "failures": sum(map(len, self._failures.values())),
        }

    def close(self) -> None:
        """Do nothing: the record lasts as long as the object."""

    @contextlib.contextmanager
    def _own(self, key: InstanceKey | StepKey) -> Iterator[LockOwnership]:
        with self._guard:
            if key in self._owned:
                where = f"process {os.getpid()} on {this_host()}"
                raise AlreadyRunningError(key.job, where, self._owned[key])
            self._owned[key] = datetime.now(UTC)
        try:
            yield LockOwnership()
        finally:
            del self._owned[key]

    def _close_lost(self, key: InstanceKey) -> None:
        for run in [run for run in self._runs.values() if run.key == key and run.status.live]:
            status, error, seen_at = closed_as(run.status), owner_gone(run.pid, run.host), self._seen[run.id]
            for step in [step for step in self._steps.values() if step.run == run.id and step.status.live]:
                self._steps[step.id] = replace(step, status=status, error=error, ended_at=seen_at)
            self._runs[run.id] = replace(run, status=status, error=error, ended_at=seen_at)

    def _counts(self, key: StepKey, lap: int) -> bool:
        checkpoint = self._checkpoints.get(replace(key, lap=lap))
        return lap in (0, key.lap) or (checkpoint is not None and checkpoint.finished)

    def _keep_run(self, run: JobExecution) -> None:
        self._runs[run.id] = run
        self._seen[run.id] = datetime.now(UTC)

    def _keep_step(self, step: StepExecution) -> None:
        self._steps[step.id] = step
        self._seen[step.run] = datetime.now(UTC)

    def _add_failures(self, key: StepKey, failures: Sequence[Failure]) -> None:
        kept = [replace(failure, step=key.step, position=through_codec(failure.position)) for failure in failures]
        known = self._failures.setdefault(key, {})
        for failure in kept:
            known.setdefault(failure.ordinal, failure)

    def _forget_keys(self, key: StepKey, *, finished: bool) -> None:
        across = KeySpace(key, across_laps=True).scope
        laps = self._keys.pop(across, {})
        others = {digest: lap for digest, lap in laps.items() if lap != key.lap}
        self._keys[across] = dict.fromkeys(laps, 0) | others if finished else others
        if not self._failures.get(key):
            self._keys.pop(KeySpace(key).scope, None)

    def _forget_failures(self, key: StepKey, *, with_open: bool) -> int:
        known = self._failures[key]
        kept = {} if with_open else {n: one for n, one in known.items() if one.state is FailureState.OPEN}
        self._failures[key] = kept
        return len(known) - len(kept)

    def _judged(self, run: JobExecution) -> JobExecution:
        lost = run.status.live and run.key not in self._owned
        return replace(run, status=without_owner(run.status)) if lost else seen(run)

    def _judged_step(self, step: StepExecution) -> StepExecution:
        lost = step.status.live and not self._judged(self._runs[step.run]).status.live
        return replace(step, status=Status.LOST) if lost else step

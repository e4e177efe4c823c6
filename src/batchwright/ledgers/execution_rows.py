"""Executions of jobs and steps as rows and back, the same in every database.

The one rule: the order of columns is said once, here, for the side that writes and the side that reads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from batchwright.databases.records import COUNTS, failure_of, storable
from batchwright.model.checkpoint import Counts, InstanceKey, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.execution import JobExecution, Origin, RunRequest, StepExecution, StepOutcome
from batchwright.model.failure import Failure
from batchwright.model.status import Status
from batchwright.model.waits import Waits

PAGE = 100

FetchFailures = Callable[[tuple[Any, ...], int], Sequence[Sequence[Any]]]

RUN_COLUMNS = (
    "id", "job", "parameters_hash", "lap", "status", "started_at", "ended_at",
    "kind", "parameters", "steps", "origin", "host", "pid", "error", "stop_requested", "definition", "kept",
)  # fmt: skip

WAITS = ("reading_seconds", "processing_seconds", "writing_seconds")

OUTCOME_COLUMNS = (*COUNTS, "seconds", "peak_memory_bytes", "error", "target_identity", *WAITS)

STEP_COLUMNS = (
    "id", "run", "job", "parameters_hash", "lap", "step", "partition", "status", "started_at", "ended_at",
    *OUTCOME_COLUMNS, "source", "target", "guarantee", "kind",
)  # fmt: skip


def run_of(row: Sequence[Any]) -> JobExecution:
    """An execution from `RUN_COLUMNS`."""
    number, job, parameters_hash, lap, status, started_at, ended_at, kind, *rest = row
    parameters, steps, origin, host, pid, error, stop_requested, definition, kept = rest
    return JobExecution(
        id=number,
        key=InstanceKey(job, parameters_hash),
        lap=lap,
        status=Status(status),
        started_at=_moment(started_at),
        ended_at=None if ended_at is None else _moment(ended_at),
        kind=kind,
        parameters=decode(parameters),
        steps=tuple(decode(steps)),
        origin=None if origin is None else Origin(*decode(origin)),
        host=host,
        pid=pid,
        error=error,
        stop_requested=stop_requested,
        definition=decode(definition),
        kept=decode(kept),
    )


def narrowed(
    job: str | None, key: InstanceKey | None, before: int | None, mark: str
) -> tuple[str, tuple[str | int, ...]]:
    """The condition on executions of a job or an instance that are older than a run, with its values."""
    given: dict[str, str | int | None] = {"job =": job, "id <": before}
    if key is not None:
        given |= {"job =": key.job, "parameters_hash =": key.parameters_hash}
    known = {condition: value for condition, value in given.items() if value is not None}
    words = " AND ".join(f"run.{condition} {mark}" for condition in known)
    return (f" WHERE {words}" if words else ""), tuple(known.values())


def lap_values(run: JobExecution) -> tuple[Any, ...]:
    """The lap of an execution, as the columns of its steps and failures hold it."""
    return (run.key.job, run.key.parameters_hash, run.lap)


def of_lap(key: StepKey, run: JobExecution) -> bool:
    """Whether a step is of the lap of this run."""
    return (key.job, key.parameters_hash, key.lap) == lap_values(run)


def belongs_to(step: StepExecution, run: JobExecution) -> bool:
    """Whether it is an execution of this run, or for a run of kind `run` one of its lap up to it."""
    earlier = step.run < run.id and run.kind == step.kind == "run"
    return of_lap(step.key, run) and (earlier or step.run == run.id)


def in_job_order(steps: Iterable[StepExecution], run: JobExecution) -> list[StepExecution]:
    """Executions of steps in the order in which the run lists its steps."""
    places = {name: place for place, name in enumerate(run.steps)}
    return sorted(steps, key=lambda step: (places.get(step.key.step, len(places)), step.key.partition, step.id))


def without_partitions(steps: Sequence[StepExecution]) -> list[StepExecution]:
    """Steps as a whole; of a replay, which has no execution of a step in partitions as a whole, all.

    One in partitions that is not complete has the counts of its partitions: they are noted by those who work on them,
    while those of the whole stay as they are when the process that started the run dies.
    """
    return [_in_all(step, steps) for step in steps if step.key.partition == 0 or step.kind != "run"]


def _in_all(whole: StepExecution, steps: Sequence[StepExecution]) -> StepExecution:
    if whole.status.complete or whole.kind != "run":
        return whole
    counts = sum((step.counts for step in of_partitions(steps, whole.key.step)), Counts())
    return replace(whole, counts=counts) if counts.read > whole.counts.read else whole


def of_partitions(steps: Sequence[StepExecution], name: str) -> list[StepExecution]:
    """The partitions of one step, in order."""
    return [step for step in steps if step.key.step == name and step.key.partition > 0]


def failures_by_page(fetch: FetchFailures, step: str | None) -> Iterator[Failure]:
    """Failures by step, partition and ordinal, a page at a time, so that nothing stays open between two pages.

    `fetch` gives the rows behind (step, partition, ordinal), each with its partition as the last column.
    """
    after: tuple[Any, ...] = ("" if step is None else step, -1, -1)
    while True:
        page = fetch(after, PAGE)
        for *row, partition in page:
            yield replace(failure_of(row), partition=partition)
            after = (row[0], partition, row[1])
        if len(page) < PAGE:
            return


def request_values(request: RunRequest) -> dict[str, Any]:
    """What a request says, by column."""
    origin = request.origin
    return {
        "kind": request.kind,
        "parameters": storable(encode(dict(request.parameters))),
        "steps": storable(encode(list(request.steps))),
        "definition": storable(encode(dict(request.definition))),
        "kept": storable(encode(dict(request.kept))),
        "origin": None if origin is None else storable(encode([origin.path, origin.function, origin.digest])),
    }


def step_of(row: Sequence[Any]) -> StepExecution:
    """An execution of a step from `STEP_COLUMNS`."""
    number, run, job, parameters_hash, lap, step, partition, status, started_at, ended_at, *rest = row
    counts, rest = rest[: len(COUNTS)], rest[len(COUNTS) :]
    seconds, peak_memory_bytes, error, target_identity, *rest = rest
    waits, (source, target, guarantee, kind) = rest[: len(WAITS)], rest[len(WAITS) :]
    return StepExecution(
        id=number,
        run=run,
        key=StepKey(job, parameters_hash, lap, step, partition),
        status=Status(status),
        started_at=_moment(started_at),
        ended_at=None if ended_at is None else _moment(ended_at),
        counts=Counts(*counts),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
        error=error,
        source=source,
        target=target,
        guarantee=guarantee,
        target_identity=target_identity,
        kind=kind,
        waits=Waits(*waits),
    )


def count_values(counts: Counts) -> tuple[int, ...]:
    """Counts in the order of their columns."""
    return tuple(getattr(counts, column) for column in COUNTS)


def outcome_values(outcome: StepOutcome) -> tuple[Any, ...]:
    """An outcome in the order of `OUTCOME_COLUMNS`."""
    told, waits = (storable(outcome.error), storable(outcome.target_identity)), outcome.waits
    waited = waits.reading, waits.processing, waits.writing
    return (*count_values(outcome.counts), outcome.seconds, outcome.peak_memory_bytes, *told, *waited)


def _moment(stored: str | datetime) -> datetime:
    return stored.astimezone(UTC) if isinstance(stored, datetime) else datetime.fromisoformat(stored)

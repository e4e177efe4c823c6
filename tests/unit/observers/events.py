"""Events of a small run, for the tests beside this file."""

from datetime import UTC, datetime

from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Counts
from batchwright.model.events import ChunkCommitted, ItemFailed, JobFinished, JobStarted, StepFinished, StepStarted
from batchwright.model.failure import Failure, Phase
from batchwright.model.result import Failures, JobResult, StepResult
from batchwright.model.status import Status


class Ticking:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def started(*, resumed: bool = False) -> JobStarted:
    return JobStarted(12, "sales", 1, {}, (("load", "exactly once"),), "/data/ledger.db", resumed)


def step_started(read: int = 0, fraction: float | None = 0.0) -> StepStarted:
    return StepStarted(12, "load", Counts(read=read, written=read), fraction)


def committed(read: int, fraction: float | None = None, failed: int = 0, retried: int = 0) -> ChunkCommitted:
    counts = Counts(read=read, written=read - failed, failed_process=failed, retried=retried)
    return ChunkCommitted(12, "load", counts, fraction)


def item_failed(ordinal: int = 41, error: str = "no price") -> ItemFailed:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    place = Place("in/sales.csv", 43)
    return ItemFailed(12, Failure("load", Position(ordinal), Phase.PROCESS, "ValueError", error, 1, place, at))


def step_finished(status: Status = Status.COMPLETED, error: str = "") -> StepFinished:
    return StepFinished(12, "load", status, Counts(read=100, written=100), 2.0, error)


def finished(status: Status = Status.COMPLETED, error: str = "") -> JobFinished:
    steps = (StepResult("load", status, Counts(read=100, written=100), 2.0),)
    return JobFinished(12, JobResult("sales", 12, 1, status, steps, Failures(lambda: iter(()), 0), 2.0, error))

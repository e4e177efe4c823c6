"""What is asked of a run, and what it works with.

The one rule: plain values; nothing here opens or does anything.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from batchwright.engine.announce import Announcer
from batchwright.engine.restart import Choices
from batchwright.engine.run_step import RunContext
from batchwright.engine.stop import Stop
from batchwright.job import Job
from batchwright.model.execution import ASKS, JobExecution
from batchwright.model.failure import Failure
from batchwright.ports import Clock, Ledger, Ownership


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the caller asks of a run beyond the job itself. See `batchwright.run`."""

    again: bool = False
    confirmed: bool = False
    limit: int | None = None
    max_failures: int | str | None = None
    timeout_seconds: float | None = None
    accept_input: bool = False
    adopt: bool = False
    from_step: str | None = None

    @property
    def choices(self) -> Choices:
        """What is to be done about ground that has changed."""
        return Choices(self.accept_input, self.adopt)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run works with. `failures` reads a run's failures; `report` writes them to a file and names it.

    `watched` is the context in which a run is watched for what asks it to stop; `ledgers` opens the ledger once more.
    """

    ledger: Ledger
    clock: Clock
    stop: Stop
    announcer: Announcer
    failures: Callable[[int], Iterator[Failure]]
    report: Callable[[int], str]
    watched: Callable[[int], AbstractContextManager[object]] = nullcontext
    ledgers: Callable[[], AbstractContextManager[Ledger]] | None = None


def context_of(
    job: Job, execution: JobExecution, options: RunOptions, around: Surroundings, ownership: Ownership
) -> RunContext:
    """What the steps of this execution share."""
    return replace(
        context_in(job, execution, around, ownership),
        kept=execution.kept,
        limit=options.limit,
        max_failures=options.max_failures,
        timeout_seconds=job.timeout_seconds if options.timeout_seconds is None else options.timeout_seconds,
        choices=options.choices,
        asks=bool(execution.definition.get(ASKS)),
    )


def context_in(job: Job, execution: JobExecution, around: Surroundings, ownership: Ownership) -> RunContext:
    """The same without what a run is asked for: for whoever works in the lap of an execution."""
    return RunContext(
        run=execution.id,
        key=execution.key,
        lap=execution.lap,
        ledger=around.ledger,
        clock=around.clock,
        stop=around.stop,
        announcer=around.announcer,
        ownership=ownership,
        secrets=job.secrets,
        ledgers=around.ledgers,
    )

"""Work through the partitions of a step: own the next one that is free, run it as a step of its own, and the next.

The one rule: what is done, and by whom, is never asked of a worker. Who owns a partition, the ledger says; how far it
is, its target.

The states of a partition, and what holds in each when its worker dies:
  waiting    nobody owns it: it is taken by whoever is free first
  owned      its worker commits chunks under its own fence and checkpoint; a dead worker's ownership ends (on SQLite at
             once, on PostgreSQL with its lease), another one raises the fence, and goes on from the checkpoint
  finished   its target has its finished mark: whoever owns it finds that, and does nothing
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace

from batchwright.engine.restart import changes, split_otherwise
from batchwright.engine.run_step import RunContext, run_step
from batchwright.engine.tally_partitions import Tally
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts
from batchwright.model.errors import (
    AlreadyRunningError,
    FencedError,
    LedgerError,
    StopRequestedError,
)
from batchwright.model.result import StepResult
from batchwright.model.status import Status
from batchwright.ports import Ledger
from batchwright.ports.partitions import OwnsPartitions
from batchwright.step import BoundStep

WAIT_SECONDS = 0.5
"""How long a worker waits before it looks again whether a partition has become free."""


@dataclass(slots=True)
class Crew:
    """The workers of one process on one step. `context` is that of the step as a whole, with a stop of its own.

    `begin` is where in the plan they begin to look; `left` bounds the items that they read; `own` counts what they did.
    """

    parts: Mapping[int, BoundStep]
    context: RunContext
    tally: Tally
    begin: int = 0
    left: int | None = None
    own: Counts = field(default_factory=Counts)
    done: set[int] = field(default_factory=set)
    here: set[int] = field(default_factory=set)
    errors: list[tuple[int, BaseException]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    idle: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do, or a stop is requested."""
        return self.context.stop.requested is not None or len(self.done) == len(self.parts)

    def start(self, workers: int) -> list[threading.Thread]:
        """Set so many workers to work, each on a thread and with a ledger of its own."""
        threads = [
            threading.Thread(target=copy_context().run, args=(self._work,), name=f"batchwright-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in threads:
            thread.start()
        return threads

    def hear(self, checkpoints: Mapping[int, Checkpoint]) -> None:
        """Take note of what the target says: what others have finished is done."""
        self.tally.read_in(checkpoints)
        with self.lock:
            self.done.update(number for number, checkpoint in checkpoints.items() if checkpoint.finished)

    def fail(self, number: int, error: BaseException) -> None:
        """Stop the others at their chunk boundaries; all of them can be gone on with."""
        with self.lock:
            self.errors.append((number, error))
        self.context.stop.request(f"partition {number} has failed" if number else "a worker has failed")
        self.idle.set()

    def tell(self, numbers: Sequence[int]) -> None:
        """Copy what the target knows of finished partitions into the ledger, by running them: nothing is left to do."""
        for number in numbers:
            self._run(number, self.context.ledger)

    def _work(self) -> None:
        try:
            with another_ledger(self.context) as ledger, self.context.stop.interrupting(ledger):
                while not self.over:
                    if not any(self._tried(number, ledger) for number in self.waiting()):
                        self.idle.wait(WAIT_SECONDS)
        except StopRequestedError:
            return
        except BaseException as error:  # noqa: BLE001 - it ends the step, whose error it is
            self.fail(0, error)

    def waiting(self) -> Iterator[int]:
        """The partitions that nobody here works on, from where we begin to look."""
        last = len(self.parts)
        first = min(self.begin, last)
        for number in (*range(first + 1, last + 1), *range(1, first + 1)):
            if self.over:
                return
            if number not in self.done and number not in self.here:
                yield number

    def _tried(self, number: int, ledger: Ledger) -> bool:
        """Whether this partition was ours to work on."""
        with self.lock:
            if number in self.here or number in self.done:
                return False
            self.here.add(number)
        try:
            return self._run(number, ledger)
        except (AlreadyRunningError, FencedError):
            # Somebody else has it, or has taken it over from us, who were held up.
            return False
        except StopRequestedError:
            return True
        except BaseException as error:  # noqa: BLE001 - whatever ends a partition ends the step
            self.fail(number, error)
            return True
        finally:
            with self.lock:
                self.here.discard(number)

    def _run(self, number: int, ledger: Ledger) -> bool:
        context = replace(self.context, ledger=ledger, announcer=self.tally.of(number), limit=self.left)
        result, error = run_partition(self.parts[number], number, context)
        with self.lock:
            self.own += result.counts_now
        if error is not None:
            if isinstance(error, FencedError):
                return False
            self.fail(number, error)
        else:
            self.note(number, result)
        return True

    def note(self, number: int, result: StepResult) -> None:
        """Take note of how a partition ended that was worked on here."""
        with self.lock:
            if result.status is not None and result.status.complete:
                self.done.add(number)
            if self.left is not None:
                self.left = max(0, self.left - (result.counts.read - result.read_before))
        if self.left == 0 or (self.left is not None and result.status is Status.STOPPED):
            self.context.stop.request("the limit of this run is reached")
        if len(self.done) == len(self.parts):
            self.idle.set()


def run_partition(part: BoundStep, number: int, context: RunContext) -> tuple[StepResult, BaseException | None]:
    """Own a partition and run it, as a step of its own; the context is that of the step as a whole.

    Raises AlreadyRunningError if somebody else owns it, and GroundChangedError if it is not what was split.
    """
    key = replace(context.step_key(part.step.name), partition=number)
    with owning(context.ledger).own_partition(key) as ownership, context.stop.divided() as stop:
        if found := changes(part.reader, Position(0), finished=False):
            raise split_otherwise(part.step.name, found)
        return run_step(part, replace(context, stop=stop, ownership=ownership, partition=number))


def another_ledger(context: RunContext) -> AbstractContextManager[Ledger]:
    """The ledger once more, for a thread of its own; one that lives in this process is shared."""
    return nullcontext(context.ledger) if context.ledgers is None else context.ledgers()


def owning(ledger: Ledger) -> OwnsPartitions:
    """The ledger, as one in which partitions are owned. Raises LedgerError for one of one's own that knows nothing."""
    if not isinstance(ledger, OwnsPartitions):
        raise LedgerError(
            f"the ledger {ledger.address} knows no partitions",
            f"a {type(ledger).__name__} has no own_partition()",
            "use the one in SQLite or PostgreSQL, or leave partitions out",
        )
    return ledger

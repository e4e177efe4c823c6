"""Work through the partitions of a step in processes of this machine, which the run starts and watches over.

The one rule: a process that dies costs its partition nothing but time. What it had committed stays; the partition is
given to another one, which calls the step's function in a process apart, so that the item that kills is found and
judged there, as by the runner of a step without partitions.

The states of a partition, as the run sees it, and what comes next:
  waiting    it is given to the next process that is free; if somebody else owns it, once more after a while
  given      a process owns it and commits its chunks. If that process dies: suspected
  suspected  waiting, and its function is called apart from now on. If a process dies all the same, of reading or
             writing, it waits again; the step fails when MOST_DEATHS of them have
  done       its target has its finished mark
When the run dies its processes are ended, and every partition is free: the next run goes on with all of them.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from batchwright.engine.restart import Choices
from batchwright.engine.run_step import RunContext
from batchwright.engine.split_step import carefully, parts_of
from batchwright.engine.stop import POLL_SECONDS, Stop, watched
from batchwright.engine.tally_partitions import Tally
from batchwright.engine.tell_time import SystemClock
from batchwright.engine.work_partitions import WAIT_SECONDS, Crew, run_partition
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, InstanceKey
from batchwright.model.errors import AlreadyRunningError, FencedError, StopRequestedError, WorkerDiedError
from batchwright.model.events import ChunkCommitted, Event, ItemFailed, StepMoved
from batchwright.model.exits import in_words
from batchwright.model.result import StepResult
from batchwright.model.work import Attempted, Death, Outcome, Work
from batchwright.ports import Ledger
from batchwright.ports.runners import TakesPartitions, Workers
from batchwright.step import BoundStep

MOST_DEATHS = 3
"""How many processes may die over one partition: one of an item, the others of reading or writing."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process has to know, as it is sent there. `again` makes the step, `ledger` is opened once more.

    `heard` says whether anybody listens to what is committed.
    """

    step: str
    again: Callable[[], BoundStep]
    specs: Sequence[Any]
    ledger: Ledger
    run: int
    key: InstanceKey
    lap: int
    secrets: Sequence[str]
    max_failures: int | str | None
    choices: Choices
    heard: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition to work on. `careful` says that a process has died over it, `left` bounds the items that are read."""

    number: int
    careful: bool
    left: int | None


@dataclass(slots=True)
class PartitionTask:
    """See `Task`, of which an item is a partition here: run on one side, heard on the other."""

    orders: Orders
    stop: Stop
    tally: Tally | None = None
    bound: BoundStep | None = None
    parts: Mapping[int, BoundStep] = field(default_factory=dict)
    send: Callable[[Any], None] | None = None

    def __reduce__(self) -> tuple[Callable[[Orders], "PartitionTask"], tuple[Orders]]:
        """How it goes to another process."""
        return _arrived, (self.orders,)

    def run(self, work: Work) -> Outcome:
        """See `Task`. The result is the partition's, or None if somebody else owns it."""
        try:
            with watched(self.stop, nullcontext(str)):
                result, error = self._run(*work.items)
        except (AlreadyRunningError, FencedError, StopRequestedError):
            return Outcome(work.number, [None])
        except BaseException as raised:  # noqa: BLE001 - whatever ends a partition ends the step
            return _ended(work, raised)
        if isinstance(error, FencedError):
            return Outcome(work.number, [None])
        return Outcome(work.number, [result]) if error is None else _ended(work, error)

    def _run(self, assignment: Assignment) -> tuple[StepResult, BaseException | None]:
        orders, bound, number = self.orders, self.bound, assignment.number
        assert bound is not None  # noqa: S101 - for the type checker: it is made where it arrives
        context = RunContext(
            run=orders.run,
            key=orders.key,
            lap=orders.lap,
            ledger=orders.ledger,
            clock=SystemClock(),
            stop=self.stop,
            announcer=_Teller(self, number),
            ownership=_Unowned(),
            secrets=orders.secrets,
            limit=assignment.left,
            max_failures=orders.max_failures,
            choices=orders.choices,
        )
        part = self.parts[number]
        return run_partition(carefully(part, bound, suspected=assignment.careful), number, context)

    async def run_item(self, item: Any) -> Attempted:
        """See `Task`."""
        outcome = self.run(Work(0, [item]))
        return Attempted(outcome.results[0] if outcome.results else None, outcome.ended_by, 1)

    def skips(self, error: BaseException) -> bool:  # noqa: ARG002 - the port gives it
        """Whoever gave out the partition says what comes next."""
        return True

    def wait_before(self, error: BaseException, attempts: int) -> float | None:  # noqa: ARG002 - as above
        """The same."""
        return None

    def note_death(self, work: Work, index: int, death: Death) -> None:
        """Of an item nothing is known yet."""

    def tell_by(self, send: Callable[[Any], None]) -> None:
        """See `Tells`."""
        self.send = send

    def hear(self, told: tuple[int, Event]) -> None:
        """See `Tells`."""
        number, event = told
        if self.tally is not None:
            self.tally.of(number).announce(event)

    @property
    def step(self) -> str:
        """See `Task`."""
        return self.orders.step

    @property
    def item_timeout_seconds(self) -> float | None:
        """A partition takes as long as it takes."""
        return None

    @property
    def stopping(self) -> bool:
        """See `Task`."""
        return self.stop.requested is not None

    def stop_soon(self) -> None:
        """See `Task`."""
        self.stop.request("by the run")


def _arrived(orders: Orders) -> PartitionTask:
    bound = orders.again()
    return PartitionTask(orders, Stop(), bound=bound, parts=parts_of(bound, orders.specs))


def _ended(work: Work, error: BaseException) -> Outcome:
    return Outcome(work.number, ended_by=error)


class _Unowned:
    """Of the run as a whole a process owns nothing; each partition has an ownership of its own."""

    def check(self) -> None:
        """Nothing to lose."""


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells the run how far a partition is."""

    task: PartitionTask
    number: int

    @property
    def heard(self) -> bool:
        return self.task.orders.heard

    def announce(self, event: Event) -> None:
        if self.task.send is not None and isinstance(event, ChunkCommitted | ItemFailed | StepMoved):
            self.task.send((self.number, event))


def work_apart(
    crew: Crew, task: PartitionTask, runner: TakesPartitions, look: Callable[[], Mapping[int, Checkpoint]]
) -> Generator[None, None, None]:
    """Give out partitions until all are done, or a stop is requested and the processes have ended their chunks.

    Comes back again and again, so that the caller can look on; closed early, it ends the processes at once. `look` says
    how far the partitions are.
    """
    processes = runner.for_partitions()
    most = 1 if crew.left is not None else min(processes.workers, len(crew.parts))
    with closing(processes.start(task)) as workers:
        yield from _Gang(crew, workers, most, look).work()


@dataclass(slots=True)
class _Gang:
    crew: Crew
    workers: Workers
    most: int
    look: Callable[[], Mapping[int, Checkpoint]]
    given: dict[int, int] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    later: dict[int, float] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def work(self) -> Iterator[None]:
        while self.given or not self.crew.over:
            if self.crew.context.stop.now:
                return
            self._hand_out()
            outcome = self.workers.collect(POLL_SECONDS)
            if outcome is not None:
                self._take_in(outcome)
            yield

    def _hand_out(self) -> None:
        now = time.monotonic()
        for number in self.crew.waiting() if len(self.given) < self.most else ():
            if self.later.get(number, now) <= now:
                work = next(self.numbers)
                self.given[work] = number
                self.crew.here.add(number)
                assignment = Assignment(number, number in self.deaths, self.crew.left)
                # A single death is enough to know: it is this partition's.
                self.workers.submit(Work(work, [assignment], [number], {0: Death(0, None)}))
            if len(self.given) >= self.most:
                return

    def _take_in(self, outcome: Outcome) -> None:
        number = self.given.pop(outcome.number, None)
        if number is None:
            return
        self.crew.here.discard(number)
        if outcome.broken is not None:
            self.given.clear()
            self.crew.fail(0, outcome.broken)
        elif outcome.ended_by is not None:
            self.crew.fail(number, outcome.ended_by)
        elif outcome.failed:
            self._bury(number, outcome.failed[0].error)
        elif outcome.results and outcome.results[0] is not None:
            self.crew.note(number, outcome.results[0])
        else:
            self.later[number] = time.monotonic() + WAIT_SECONDS

    def _bury(self, number: int, error: BaseException) -> None:
        self.deaths[number] += 1
        if self.deaths[number] >= MOST_DEATHS and not self.crew.over:
            self.crew.fail(number, self._given_up(number, error))

    def _given_up(self, number: int, error: BaseException) -> BaseException:
        part, found = self.crew.parts[number], self.look()
        at = found[number].position if number in found else Position(0)
        code = error.code if isinstance(error, WorkerDiedError) else -9
        last = at.ordinal + part.step.chunk_size
        return WorkerDiedError(
            part.step.name,
            code,
            f"{MOST_DEATHS} processes have died over partition {number} of {len(self.crew.parts)}, reading or writing "
            f"its items {at.ordinal + 1:,} to {last:,} ({part.reader.place(at)}); the last one {in_words(code)}",
            "see what they wrote to standard error, mend it and run it again",
        )

"""Join a run from another process or host: pull partitions of its steps until there are none.

The one rule: a worker decides nothing about the run. It owns the partitions that it works on; what is wrong with the
run as a whole, and when a step is finished, is the affair of the process that started it.

The states of the run, as a worker sees it, and what it does:
  live    it works on partitions that nobody owns; where all are owned, it waits for one whose owner dies
  over    it stops at the end of its chunks, if it is still at one, and ends
  lost    the process that started it is gone: the partitions are still good to work on; then somebody has to resume it
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchwright.engine.announce import Announcer
from batchwright.engine.run_step import RunContext, check_adapters
from batchwright.engine.split_step import carefully, parts_of, rows_of
from batchwright.engine.stop import POLL_SECONDS, Stop
from batchwright.engine.tally_partitions import Tally
from batchwright.engine.work_partitions import Crew
from batchwright.job import Job
from batchwright.launch import SystemClock, bind, open_history, open_ledger
from batchwright.ledgers.locks import LockOwnership
from batchwright.model.checkpoint import Counts
from batchwright.model.errors import ConfigurationError, LedgerError, NotResumableError
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.partition import plan_of
from batchwright.model.status import Status
from batchwright.opening import another_ledger
from batchwright.operations import built_again
from batchwright.ports import History, Ledger, Observer, Scope
from batchwright.step import BoundStep

LOOK_SECONDS = 0.5

INDEX_VARIABLES = (
    ("JOB_COMPLETION_INDEX", ""),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
)
"""Where Kubernetes, AWS Batch, Cloud Run and Slurm say which of several this process is, and of how many."""


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """How a worker works. `index` of `of` says where in a plan it begins to look: a hint, never an assignment.

    `parent` is a process without which it ends.
    """

    workers: int = 1
    index: int = 0
    of: int = 0
    max_failures: int | str | None = None
    parent: int | None = None


@dataclass(slots=True)
class JoinResult:
    """What a worker has seen. `status` is how its own work ended; `steps` has the counts of those it worked on.

    These are over all workers; `own` has what this one has done. `unfinished` says of how many of their partitions
    nobody has come to the end, `lost` that the process that started the run is gone.
    """

    run: int
    status: Status
    steps: dict[str, Counts] = field(default_factory=dict)
    own: dict[str, Counts] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)
    error: BaseException | None = None
    reason: str = ""
    lost: bool = False


def join(
    number: int,
    *,
    ledger: Ledger | str | Path | None = None,
    job: Job | None = None,
    options: JoinOptions = JoinOptions(),
    observers: Sequence[Observer] = (),
    stop: Stop | None = None,
) -> JoinResult:
    """Work on the partitions of a run that is going on, from this process, until none is left or the run is over.

    The job is built again from where it came from, unless it is given. Raises LedgerError for an unknown run,
    NotResumableError for one that is not going on, OriginError and GroundChangedError as `resume` does.
    """
    kept, close = open_ledger(ledger, None)
    announcer = Announcer(observers)
    try:
        with closing(open_history(kept)) as history:
            execution = _live(history, number, kept)
            bound = bind(built_again(execution, job), durable=kept.durable)
            _require_partitions(bound, execution)
            worker = _Worker(history, kept, execution, bound, options, stop or Stop(), announcer)
            return worker.work()
    finally:
        announcer.close()
        if close:
            kept.close()


def index_hint(environment: Mapping[str, str]) -> tuple[int, int]:
    """Which of how many this process is, as the scheduler of an array says; (0, 0) if none does."""
    for index, count in INDEX_VARIABLES:
        given = environment.get(index, "")
        if given.isdecimal():
            of = environment.get(count, "")
            return int(given), int(of) if of.isdecimal() else 0
    return 0, 0


@dataclass(slots=True)
class _Worker:
    history: History
    ledger: Ledger
    execution: JobExecution
    bound: Mapping[str, BoundStep]
    options: JoinOptions
    stop: Stop
    announcer: Announcer

    def work(self) -> JoinResult:
        """Each step in partitions that is going on, one after the other."""
        result = JoinResult(self.execution.id, Status.COMPLETED)
        left = [name for name, step in self.bound.items() if step.step.partitions is not None]
        while left:
            run, known = self._look()
            if self._asked_to_stop(run, result):
                break
            running = [name for name in left if name in known and _is_going_on(known[name].status)]
            left = [name for name in left if not (name in known and known[name].status.complete)]
            if run.status.live and not running:
                time.sleep(LOOK_SECONDS)
                continue
            if not running:
                break
            if self._step(self.bound[running[0]], result):
                left.remove(running[0])
        result.lost = self._look()[0].status is Status.LOST
        return result

    def _look(self) -> tuple[JobExecution, dict[str, StepExecution]]:
        # A run that was forgotten is over.
        run = self.history.run(self.execution.id) or replace(self.execution, status=Status.FAILED)
        return run, {step.key.step: step for step in self.history.steps(run.id) if step.run == run.id}

    def _asked_to_stop(self, run: JobExecution, result: JoinResult) -> bool:
        if self.options.parent is not None and os.getppid() != self.options.parent:
            self.stop.request("the process that started this worker is gone")
        if run.stop_requested:
            self.stop.request(f"stopped by {run.stop_requested}")
        if self.stop.requested is not None:
            result.status, result.reason = Status.STOPPED, self.stop.requested
        return self.stop.requested is not None or not _is_going_on(run.status)

    def _step(self, bound: BoundStep, result: JoinResult) -> bool:
        """Work on one step until nothing of it is left, or something ends that; whether nothing is left."""
        check_adapters(bound)
        with ExitStack() as stack:
            stop = stack.enter_context(self.stop.divided())
            context = self._context(stop)
            scope = Scope(context.step_key(bound.step.name), self.ledger, context.clock)
            sink = stack.enter_context(closing(bound.writer.open(scope)))
            specs = plan_of(sink.recall())
            if specs is None:
                time.sleep(LOOK_SECONDS)  # it has begun, and is being planned
                return False
            parts = parts_of(bound, specs)
            # Nobody watches over this process: an item that would end it ends one of its own.
            parts = {number: carefully(part, bound) for number, part in parts.items()}
            crew = Crew(parts, context, Tally(self.announcer, len(specs)))
            index, of = self.options.index, self.options.of
            crew.begin = len(specs) * index // of if of else index % max(1, len(specs))
            crew.hear(rows_of(sink).checkpoints())
            self._until_over(crew, bound.step.name, lambda: rows_of(sink).checkpoints(), result)
            crew.hear(rows_of(sink).checkpoints())
            result.steps[bound.step.name], result.own[bound.step.name] = crew.tally.in_all(), crew.own
            left = len(crew.parts) - len(crew.done)
            if left:
                result.unfinished[bound.step.name] = left
            return self._ended(crew, result, left)

    def _until_over(self, crew: Crew, name: str, look: Callable[[], Mapping[int, Any]], result: JoinResult) -> None:
        threads = crew.start(min(self.options.workers, len(crew.parts))) if not crew.over else []
        for _ in _every(LOOK_SECONDS, lambda: any(thread.is_alive() for thread in threads)):
            crew.hear(look())
            run, known = self._look()
            ended = name not in known or not _is_going_on(known[name].status)
            if self._asked_to_stop(run, result) or ended:
                crew.context.stop.request(self.stop.requested or "the step has ended elsewhere", now=self.stop.now)
            crew.context.stop.press()

    def _ended(self, crew: Crew, result: JoinResult, left: int) -> bool:
        if crew.errors:
            result.status, result.error = Status.FAILED, crew.errors[0][1]
            self.stop.request("a partition has failed")
            return False
        if left and result.status.complete:
            result.status, result.reason = Status.STOPPED, "the step has ended elsewhere, and is not complete"
        if result.status is Status.COMPLETED and crew.tally.in_all().failed:
            result.status = Status.COMPLETED_WITH_FAILURES
        return True

    def _context(self, stop: Stop) -> RunContext:
        return RunContext(
            run=self.execution.id,
            key=self.execution.key,
            lap=self.execution.lap,
            ledger=self.ledger,
            clock=SystemClock(),
            stop=stop,
            announcer=self.announcer,
            # Of the run as a whole it owns nothing; each partition has an ownership of its own.
            ownership=LockOwnership(),
            max_failures=self.options.max_failures,
            ledgers=lambda: another_ledger(self.ledger),
        )


def _is_going_on(status: Status) -> bool:
    """Whether nobody has closed it. Its owner may be gone: there may be partitions to work on all the same."""
    return status.live or status is Status.LOST


def _every(seconds: float, going: Callable[[], bool]) -> Iterator[None]:
    """Again and again, with a pause that ends early when it is over."""
    while going():
        yield
        until = time.monotonic() + seconds
        while going() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


def _live(history: History, number: int, ledger: Ledger) -> JobExecution:
    execution = history.run(number)
    if execution is None:
        raise LedgerError(f"there is no run {number} in {ledger.address}", "", "see batchwright status")
    if not ledger.durable:
        raise ConfigurationError(
            "a ledger in memory cannot be shared with a worker", "", "keep it in a file or a server"
        )
    if execution.status is Status.LOST:
        raise NotResumableError(
            f"run {number} has lost the process that started it",
            f"process {execution.pid} on {execution.host} is gone",
            f"go on with it first: batchwright resume {number}; then join that run",
        )
    if not execution.status.live:
        raise NotResumableError(f"run {number} is {execution.status}", "only a run that is going on can be joined")
    return execution


def _require_partitions(bound: Mapping[str, BoundStep], execution: JobExecution) -> None:
    if not any(step.step.partitions for step in bound.values()):
        raise NotResumableError(
            f"run {execution.id} of job '{execution.job}' has no step in partitions",
            "there is nothing that another process could take",
            "give a step partitions=",
        )

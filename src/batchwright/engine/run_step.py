"""Run one step: recall, read, process, commit, finish.

The states of a step, and what holds in each when the process dies:
  begun       its checkpoint says how far it is; the next run goes on there
  exhausted   all items are committed, the target is not finished: reading on gives nothing, it is finished again
  finished    the target has its finished mark; the ledger may not know yet and learns it from the target
  ended       the ledger knows
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from batchwright.engine.announce import Announces
from batchwright.engine.attempt import Attempts
from batchwright.engine.commit_chunk import OpenTarget, commit_chunk, finish_target, require_sound, too_late
from batchwright.engine.count_beside import counting_beside, limit_of
from batchwright.engine.deduplicate import keeping_keys
from batchwright.engine.drive import drive
from batchwright.engine.limit_failures import passes_limit
from batchwright.engine.measure_memory import peak_memory_bytes
from batchwright.engine.process_chunk import Processed
from batchwright.engine.process_chunks import process_chunks
from batchwright.engine.read_chunks import Chunk, Limited
from batchwright.engine.read_on import read_on
from batchwright.engine.record_failure import FailureRecorder, describe_error, note_place
from batchwright.engine.restart import Choices, failures_behind, identity_of, recall
from batchwright.engine.stop import Stop, pause
from batchwright.engine.tell_progress import ProgressTeller, fraction_of
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, InstanceKey, StepKey
from batchwright.model.errors import (
    BatchwrightError,
    ChunkTimeoutError,
    DamagedOutputError,
    FailureLimitError,
    FencedError,
    StopRequestedError,
)
from batchwright.model.events import ChunkCommitted, ItemFailed, StepFinished, StepStarted
from batchwright.model.execution import StepOutcome
from batchwright.model.failure import Failure
from batchwright.model.fault_points import reach
from batchwright.model.fork import end_if_forked
from batchwright.model.guarantee import Guarantee
from batchwright.model.idempotency import running_step
from batchwright.model.result import StepResult
from batchwright.model.status import Status
from batchwright.ports import Checks, Clock, Flushes, Ledger, Ownership, Scope, Sink
from batchwright.step import BoundStep

FAILURES_AT_ONCE = 1_000

NOTE_SECONDS = 1.0
"""How often a running step's counts are copied to the ledger."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all steps of a run share. `limit` ends a step after so many items; `max_failures` overrides limits.

    `partition` is the one that is worked on, if any; `ledgers` opens the ledger once more, for another thread. With
    `asks` the ledger may have forgotten calls that were made outside.
    """

    run: int
    key: InstanceKey
    lap: int
    ledger: Ledger
    clock: Clock
    stop: Stop
    announcer: Announces
    ownership: Ownership
    secrets: Sequence[str] = ()
    limit: int | None = None
    max_failures: int | str | None = None
    timeout_seconds: float | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    choices: Choices = field(default_factory=Choices)
    warnings: tuple[str, ...] = ()
    partition: int = 0
    ledgers: Callable[[], AbstractContextManager[Ledger]] | None = None
    asks: bool = False

    def step_key(self, step: str) -> StepKey:
        """What everything durable about a step is stored under."""
        return replace(self.key.step(self.lap, step), partition=self.partition)


@dataclass(slots=True)
class Running:
    """A step while it runs: what is committed, and what of it the ledger does not know yet."""

    bound: BoundStep
    context: RunContext
    sink: Sink[Any]
    execution: int
    target_identity: str
    checkpoint: Checkpoint
    started: float
    noted: float
    before: Counts
    fresh: list[Failure] = field(default_factory=list)
    held: list[Failure] = field(default_factory=list)
    teller: ProgressTeller = field(kw_only=True)

    def hold(self, _: Checkpoint, failures: Sequence[Failure]) -> None:
        """Take note of a chunk that is durable with the whole step only: nothing is said of it before."""
        self.context.stop.chunk_committed()
        self.held.extend(failures)

    def committed(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Take note of a commit: events at once, the ledger's copy about once a second."""
        self.context.stop.chunk_committed()
        self.target_identity = self.target_identity or identity_of(self.sink)
        self.checkpoint = checkpoint
        self.fresh.extend(failures)
        announcer = self.context.announcer
        if announcer.heard:
            run = self.context.run
            for failure in failures:
                announcer.announce(ItemFailed(run, failure))
            fraction = fraction_of(self.bound, checkpoint.position)
            name, waits = self.bound.step.name, self.teller.meter.waits
            announcer.announce(ChunkCommitted(run, name, checkpoint.counts, fraction, waits))
        now = self.context.clock.monotonic()
        if now - self.noted >= NOTE_SECONDS:
            self.context.ledger.note_progress(self.execution, self.outcome(Status.RUNNING), self.fresh)
            self.fresh.clear()
            self.noted = now

    def outcome(self, status: Status, error: str = "") -> StepOutcome:
        """The step's state in the ledger's words."""
        seconds = self.context.clock.monotonic() - self.started
        counts, memory = self.checkpoint.counts, peak_memory_bytes()
        return StepOutcome(status, counts, seconds, memory, error, self.target_identity, self.teller.meter.waits)

    def end(self, status: Status, error: str = "") -> StepResult:
        """Close the execution in the ledger and say so."""
        reach("K21")
        outcome = self.outcome(status, error)
        self.context.ledger.end_step(self.execution, outcome, self.fresh)
        step = self.bound.step
        if self.context.announcer.heard:
            finished = StepFinished(self.context.run, step.name, status, outcome.counts, outcome.seconds, error)
            self.context.announcer.announce(finished)
        return StepResult(
            name=step.name,
            status=status,
            counts=outcome.counts,
            seconds=outcome.seconds,
            peak_memory_bytes=outcome.peak_memory_bytes,
            error=error,
            guarantee=self.bound.writer.guarantee,
            before=self.before,
            waits=outcome.waits,
            atomic=self.bound.step.atomic,
        )


@dataclass(frozen=True, slots=True)
class StepInWork:
    """A step that has begun: its chunks from where it goes on, to be committed in order and then finished.

    `note` says in an error's notes at which item it was raised.
    """

    target: OpenTarget
    chunks: Callable[[], Generator[Chunk, None, None]]
    commit: Callable[[Processed], BaseException | None]
    finish: Callable[[], None]
    note: Callable[[BaseException, str, Position], None]
    go_through: Callable[[], BaseException | None]


def run_step(bound: BoundStep, context: RunContext) -> tuple[StepResult, BaseException | None]:
    """Run a step to its end, or as far as it goes: its result, and the error that ended it.

    Raises what stands in the way before anything is read, and KeyboardInterrupt once the step is closed as STOPPED.
    """
    return drive(step_in_work(bound, context), lambda work: work.go_through())


def step_in_work(
    bound: BoundStep, context: RunContext
) -> Generator[StepInWork, BaseException | None, tuple[StepResult, BaseException | None]]:
    """The same for whoever goes through the chunks himself: is told what ended that; None: the step is finished."""
    step, stop = bound.step, context.stop
    check_adapters(bound)
    key, choices, teller = context.step_key(step.name), context.choices, ProgressTeller(bound, context)
    scope = Scope(
        key, context.ledger, context.clock, step.checkpoint_seconds, claims=True, adopt=choices.adopt,
        owned=context.ownership.check, called=teller.called, asks=context.asks,
    )  # fmt: skip
    over = f"timeout_seconds={step.timeout_seconds} of step '{step.name}' are over"
    with ExitStack() as stack:
        stack.enter_context(running_step(key))
        sink = stack.enter_context(closing(bound.writer.open(keeping_keys(scope, step))))
        stack.enter_context(stop.interrupting(sink, writes=True))
        stack.enter_context(stop.deadline(context.clock, step.timeout_seconds, over))
        wait = partial(pause, context.clock, stop)
        checkpoint = recall(bound, key, sink, context.ledger, wait, choices)
        running = _begin(teller, checkpoint, sink)
        if running.checkpoint.finished:
            return running.end(finished_status(running.checkpoint.counts)), None
        try:
            error = yield _in_work(running, _open_target(running, sink), resumed=checkpoint is not None)
            if error is None:
                return running.end(finished_status(running.checkpoint.counts)), None
        except KeyboardInterrupt as interrupted:
            close_interrupted(running, interrupted)
            raise
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever ends a step is in its result
            error = raised
        error = _flushed(sink, error)
    if isinstance(error, StopRequestedError):
        return running.end(Status.STOPPED, stop.requested or str(error)), None
    return close_failed(running, error), error


def check_adapters(bound: BoundStep) -> None:
    """Raise SourceError or TargetError for what stands in a step's way. Writes nothing."""
    for adapter in (bound.reader, bound.writer):
        if isinstance(adapter, Checks):
            adapter.check()


def _begin(teller: ProgressTeller, checkpoint: Checkpoint | None, sink: Sink[Any]) -> Running:
    bound, context = teller.bound, teller.context
    step, writer, key = bound.step, bound.writer, context.step_key(bound.step.name)
    missing = failures_behind(key, checkpoint, sink, context.ledger) if checkpoint else iter(())
    begun = context.ledger.begin_step(context.run, key, step.source_address, step.target_address, writer.guarantee)
    now, before = context.clock.monotonic(), checkpoint.counts if checkpoint else Counts()
    identity = identity_of(sink) or begun.target_identity
    start = checkpoint or Checkpoint(Position(0))
    running = Running(bound, context, sink, begun.id, identity, start, now, now, before, teller=teller)
    while batch := list(islice(missing, FAILURES_AT_ONCE)):
        context.ledger.note_progress(begun.id, running.outcome(Status.RUNNING), batch)
    if context.announcer.heard:
        fraction = fraction_of(bound, running.checkpoint.position)
        context.announcer.announce(StepStarted(context.run, step.name, running.checkpoint.counts, fraction))
    return running


def _flushed(sink: Sink[Any], error: BaseException) -> BaseException:
    """The error that ended the step, once everything committed before it is durable."""
    try:
        if isinstance(sink, Flushes):
            sink.flush()
    except Exception as second:  # noqa: BLE001 - the first error explains more
        error.add_note(f"and then: {second}")
    return error


def close_interrupted(running: Running, interrupted: KeyboardInterrupt) -> None:
    """Close the step, if the ledger lets us: whoever is not waited for does not wait either."""
    try:
        running.end(Status.STOPPED, running.context.stop.requested or "interrupted")
    except BatchwrightError as second:
        interrupted.add_note(f"and then: {second}")


def close_failed(running: Running, error: BaseException) -> StepResult:
    """Close the step with the error that ended it."""
    try:
        return running.end(Status.FAILED, describe_error(error, running.context.secrets))
    except BatchwrightError as second:
        # Fenced, or without the ledger: whoever looks has to see what came first, too.
        raise second from error


def _in_work(running: Running, target: OpenTarget, *, resumed: bool) -> StepInWork:
    context, after = running.context, running.checkpoint.position if resumed else None
    return StepInWork(
        target,
        partial(read_on, running.bound, context, target, after),
        partial(_note_and_commit, running, target),
        partial(_finish, running, target),
        partial(_note, running),
        partial(_run_chunks, running, target, resumed=resumed),
    )


def _run_chunks(running: Running, target: OpenTarget, *, resumed: bool) -> BaseException | None:
    """Read, process and commit until the input ends (None) or something ends the step (its error)."""
    context, after = running.context, running.checkpoint.position if resumed else None
    limited, meter = Limited(context.limit, running.bound.reader), running.teller.meter
    with (
        closing(read_on(running.bound, context, target, after)) as chunks,
        closing(process_chunks(running.bound, context, target, limited.cut(meter.read(chunks)))) as processed,
    ):
        for part in meter.process(processed):
            ended_by = _note_and_commit(running, target, part)
            if ended_by is not None:
                return ended_by
            if context.stop.requested is not None:
                return StopRequestedError()
            del part  # before the next chunk is read
    if limited.over or context.stop.requested is not None:
        return StopRequestedError()
    _finish(running, target)
    return None


def _note_and_commit(running: Running, target: OpenTarget, processed: Processed) -> BaseException | None:
    """Commit a part of the input; the error that ends the step, or None."""
    error, at = processed.ended_by, processed.ended_at
    if error is not None and at is not None and not isinstance(error, StopRequestedError):
        _note(running, error, processed.ended_while, at)
    running.teller.writing = processed.chunk
    try:
        ended_by = _commit_in_time(running, target, processed)
    finally:
        running.teller.writing = None
    if ended_by is not None:
        _note(running, ended_by, "writing", target.checkpoint.position)
    return ended_by


def _commit_in_time(running: Running, target: OpenTarget, processed: Processed) -> BaseException | None:
    """Commit, unless the chunk's time is over first, or a stop does not wait for it: then it is rolled back."""
    step, stop = running.bound.step, running.context.stop
    with ExitStack() as stack:
        if step.chunk_timeout_seconds is not None:
            stack.enter_context(stop.chunk_deadline(running.context.clock, step.chunk_timeout_seconds))
        try:
            return commit_chunk(target, processed)
        except (StopRequestedError, FencedError, DamagedOutputError, FailureLimitError):
            raise
        except Exception as error:
            if stop.late:
                raise too_late(step, processed, error, running.context.secrets) from error
            if stop.now:
                raise StopRequestedError from error
            raise


def _finish(running: Running, target: OpenTarget) -> None:
    """Judge the rate of failures over everything, reconcile the counts, and finish the target."""
    require_sound(running.bound.step.name, target.checkpoint.counts, None if target.beside else target.limit)
    running.context.ownership.check()
    finish_target(target)
    if target.holds:
        running.committed(target.checkpoint, running.held)


def _open_target(running: Running, sink: Sink[Any]) -> OpenTarget:
    step, context, bound = running.bound.step, running.context, running.bound
    wait = partial(pause, context.clock, context.stop)
    limit, holds = limit_of(step, context.max_failures), step.atomic == "transaction"
    target = OpenTarget(
        step=step.name,
        sink=sink,
        undoes=bound.writer.guarantee is Guarantee.EXACTLY_ONCE,
        attempts=Attempts(step.retry, limit, wait),
        recorder=FailureRecorder(step.name, bound.reader, context.clock, limit, context.secrets),
        write_retry=step.write_retry,
        limit=limit,
        checkpoint=running.checkpoint,
        committed=running.hold if holds else running.committed,
        owned=partial(_require_time, context, os.getpid()),
        holds=holds,
        moved=running.teller.moved,
        beside=counting_beside(sink, step, limit) if context.partition else None,
    )
    target.attempts = replace(target.attempts, over=partial(passes_limit, target))
    return target


def _require_time(context: RunContext, process: int) -> None:
    """Raise FencedError once the work may be somebody else's, ChunkTimeoutError once the time of the chunk is over."""
    end_if_forked(process)
    context.ownership.check()
    if context.stop.late:
        raise ChunkTimeoutError


def _note(running: Running, error: BaseException, verb: str, position: Position) -> None:
    # An item's error is noted once, where it is seen first; a user's own notes are no reason to be silent.
    known = ("while processing item ", "while writing item ")
    if not any(str(note).startswith(known) for note in getattr(error, "__notes__", ())):
        note_place(error, verb, running.bound.reader, position, (running.bound.step.name, running.context.key.job))


def finished_status(counts: Counts) -> Status:
    """How a step is complete."""
    return Status.COMPLETED_WITH_FAILURES if counts.failed else Status.COMPLETED

"""Give failed items to their step again, and close the failures of those that go in.

The one rule: a failure is closed together with what its item became, never before, and later only where nothing can be
undone.

What holds when the process dies in the middle of a chunk:
  transactional   rows and closed failures are in the target, both or neither; the ledger's copy follows, and the next
                  replay makes up for what it lacks
  file            see `batchwright.writers.amended_files`: the file holds all replayed items, and their failures are
                  closed, or neither
  function        it was called and the failures are open: the next replay calls it again (at least once)
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.check_replay import require_replayable
from batchwright.engine.commit_chunk import OpenTarget, commit_chunk
from batchwright.engine.deduplicate import keeping_keys, step_processor
from batchwright.engine.measure_memory import peak_memory_bytes
from batchwright.engine.process_chunk import Processed
from batchwright.engine.process_chunks import processing_singly
from batchwright.engine.read_chunks import Chunk, Segment
from batchwright.engine.recall_checkpoint import ask
from batchwright.engine.record_failure import FailureRecorder, describe_error, error_text
from batchwright.engine.reread_items import Items, Rereader
from batchwright.engine.restart import require_same_addresses
from batchwright.engine.run_step import FAILURES_AT_ONCE, NOTE_SECONDS, RunContext
from batchwright.engine.stop import Stop, pause
from batchwright.model.block import BadRecord, Position
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.errors import (
    BatchwrightError,
    FencedError,
    ItemChangedError,
    NotAcceptedError,
    StopRequestedError,
    WriteError,
)
from batchwright.model.execution import StepOutcome
from batchwright.model.failure import Failure, FailureState
from batchwright.model.failure_filter import FailureFilter
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.idempotency import running_step
from batchwright.model.policy import Skip
from batchwright.model.replay_result import Replayed
from batchwright.model.status import Status
from batchwright.ports import Amends, Ledger, Scope, Settles, Sink
from batchwright.step import BoundStep

REASONS_KEPT = 5

_CHANGED = (ItemChangedError.__qualname__, NotAcceptedError.__qualname__)

_log = logging.getLogger("batchwright")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which failures are meant, and which items are taken for them; `accepted` is a yes to items that have changed."""

    where: FailureFilter
    items: Items
    accepted: bool = False

    def rereader(self, bound: BoundStep) -> Rereader:
        """What finds the items again."""
        return Rereader(bound.reader, self.items, self.accepted, bound.step.skip)


def replay_failures(bound: BoundStep, context: RunContext, chosen: Chosen) -> Replayed:
    """Replay the chosen open failures of one step into its target, as an execution of the step of its own.

    A stop ends it behind a chunk; what is not replayed then stays open. Raises NotReplayableError for a target that
    cannot take items later, GroundChangedError for one that is not as the step left it.
    """
    key = context.step_key(bound.step.name)
    with ExitStack() as stack:
        opened = stack.enter_context(closing(bound.writer.open(_scope(bound, context))))
        require_replayable(bound, opened)
        recalled = _prepare(bound, context, opened)
        sink: Any = opened
        if isinstance(opened, Amends):
            sink = stack.enter_context(closing(opened.amend(recalled)))
        for warning in replay_warnings(bound):
            _log.warning("%s", warning)
        settling = _SettlingSink(sink, context.ledger, key, transactional=isinstance(opened, Settles))
        stack.enter_context(context.stop.interrupting(sink, writes=True))
        stack.enter_context(running_step(key))
        return _as_an_execution(bound, context, settling, chosen)


def close_failures(
    bound: BoundStep, context: RunContext, where: FailureFilter, state: FailureState, note: str = ""
) -> int:
    """Move the chosen failures of one step to IGNORED, or from there to OPEN, without trying them; how many."""
    key, moved = context.step_key(bound.step.name), 0
    with closing(bound.writer.open(_scope(bound, context))) as sink:
        transactional = isinstance(sink, Settles)
        if transactional:
            _prepare(bound, context, sink)
        found = sink.failures() if transactional else context.ledger.load_failures(key)
        # Those that a killed command moved in the target only are moved in the ledger, too.
        chosen = where.chosen(failure for failure in found if failure.state in (state, state.source))
        while batch := list(islice(chosen, FAILURES_AT_ONCE)):
            context.ownership.check()
            waiting = [failure.ordinal for failure in batch if failure.state is state.source]
            if waiting and isinstance(sink, Settles):
                sink.settle(waiting, state, note)
            context.ledger.settle_failures(key, [failure.ordinal for failure in batch], state, note)
            moved += len(waiting)
    return moved


def rehearse(bound: BoundStep, context: RunContext, chosen: Chosen) -> Replayed:
    """What a replay would try: the items are looked for, nothing is called and nothing is written."""
    found = _Found()
    with closing(bound.writer.open(Scope(context.step_key(bound.step.name), context.ledger, context.clock))) as sink:
        require_replayable(bound, sink)
    known = context.ledger.load_failures(context.step_key(bound.step.name))
    opened = iter(chosen.where.chosen(failure for failure in known if failure.state is FailureState.OPEN))
    with closing(chosen.rereader(bound)) as rereader:
        while batch := list(islice(opened, bound.step.chunk_size)):
            rereader.prepare(batch)
            for failure in batch:
                item = rereader.find(failure)
                if isinstance(item, BadRecord):
                    found.left_open(failure, error_text(item.error, context.secrets), type(item.error).__qualname__)
                else:
                    found.replayed += 1
    return found.as_replayed(bound.step.name)


def replay_warnings(bound: BoundStep) -> tuple[str, ...]:
    """What a person should know before items are given to this step's target again."""
    step, writer = bound.step, bound.writer
    if writer.guarantee is Guarantee.AT_LEAST_ONCE:
        return (f"step '{step.name}': killed in between, {step.target_address} is given the same items once more",)
    # An upsert: a table, and no word of what to do in a conflict but to take the place of the row that is there.
    table = getattr(writer, "table", None)
    if table is not None and getattr(writer, "conflict", "") is None and not table.version:
        return (f"step '{step.name}': rows of the same key that are newer are overwritten by replayed ones",)
    return ()


def _scope(bound: BoundStep, context: RunContext) -> Scope:
    step, key = bound.step, context.step_key(bound.step.name)
    scope = Scope(
        key, context.ledger, context.clock, step.checkpoint_seconds, claims=True, owned=context.ownership.check
    )
    return keeping_keys(scope, step)


def _prepare(bound: BoundStep, context: RunContext, sink: Sink[Any]) -> Checkpoint | None:
    """Claim the target, and close in the ledger what a replay closed in the target before it was killed."""
    key, ledger = context.step_key(bound.step.name), context.ledger
    last = ledger.last_step(key)
    if last is not None:
        require_same_addresses(bound, last)
    recalled = ask(sink, bound.step.write_retry, partial(pause, context.clock, context.stop))
    if isinstance(sink, Settles):
        for state in (FailureState.REPLAYED, FailureState.IGNORED):
            closed = (failure for failure in sink.failures() if failure.state is state)
            while batch := list(islice(closed, FAILURES_AT_ONCE)):
                ledger.settle_failures(key, [failure.ordinal for failure in batch], state, batch[0].note)
    return recalled


def _as_an_execution(bound: BoundStep, context: RunContext, settling: "_SettlingSink", chosen: Chosen) -> Replayed:
    step, ledger, started = bound.step, context.ledger, context.clock.monotonic()
    begun = ledger.begin_step(
        context.run, settling.key, step.source_address, step.target_address, bound.writer.guarantee
    )
    target = _open_target(bound, context, settling)
    noted = [started]

    def outcome(status: Status, error: str = "") -> StepOutcome:
        seconds = context.clock.monotonic() - started
        return StepOutcome(status, target.checkpoint.counts, seconds, peak_memory_bytes(), error)

    def note(checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        del checkpoint, failures  # the sink has settled them already
        context.stop.chunk_committed()
        if context.clock.monotonic() - noted[0] >= NOTE_SECONDS:
            ledger.note_progress(begun.id, outcome(Status.RUNNING), ())
            noted[0] = context.clock.monotonic()

    target.committed = note
    try:
        _replay_open(bound, context, target, chosen)
    except BaseException as error:
        _end_broken_off(context, begun.id, outcome, error)
        raise
    status = Status.COMPLETED_WITH_FAILURES if settling.found.still_open else Status.COMPLETED
    stopped = context.stop.requested
    ledger.end_step(begun.id, outcome(Status.STOPPED if stopped else status, stopped or ""), ())
    return settling.found.as_replayed(step.name)


def _end_broken_off(
    context: RunContext, execution: int, outcome: Callable[[Status, str], StepOutcome], error: BaseException
) -> None:
    if isinstance(error, FencedError):
        return
    interrupted = isinstance(error, KeyboardInterrupt)
    text = context.stop.requested or "interrupted" if interrupted else describe_error(error, context.secrets)
    try:
        context.ledger.end_step(execution, outcome(Status.STOPPED if interrupted else Status.FAILED, text), ())
    except BatchwrightError as second:
        error.add_note(f"and then: {second}")


def _replay_open(bound: BoundStep, context: RunContext, target: OpenTarget, chosen: Chosen) -> None:
    """Chunk after chunk of open failures, until there are no more, or a stop is requested: the others stay open."""
    settling, stop = target.sink, context.stop
    assert isinstance(settling, _SettlingSink)  # noqa: S101 - for the type checker: `_open_target` has put it there
    opened = iter(chosen.where.chosen(f for f in settling.failures_there() if f.state is FailureState.OPEN))
    called = step_processor(bound.step, settling.key, target, settling.sink)
    processing = processing_singly(bound, called, target.attempts, (context.clock, stop))
    try:
        with processing as parts_of, closing(chosen.rereader(bound)) as rereader:
            while stop.requested is None and (batch := list(islice(opened, bound.step.chunk_size))):
                context.ownership.check()
                settling.begin(batch)
                rereader.prepare(batch)
                _replay_chunk(parts_of(_chunk(rereader, batch, settling.given)), target, stop)
        settling.publish()
    except (StopRequestedError, FencedError) as ended:
        if isinstance(ended, FencedError):
            raise
        settling.publish()
    except Exception:
        # Whoever is not waited for: what it was at was interrupted, and is rolled back.
        if not stop.now:
            raise


def _replay_chunk(parts: Iterator[Processed], target: OpenTarget, stop: Stop) -> None:
    """Process and settle a chunk, in as many parts as its time asks for. Raises the error that ends the replay."""
    for processed in parts:
        error = commit_chunk(target, processed)
        if error is not None:
            raise error
        if stop.requested is not None:
            return


@dataclass(slots=True)
class _Found:
    """What became of the failures so far."""

    replayed: int = 0
    still_open: int = 0
    changed: int = 0
    unaccepted: int = 0
    reasons: list[str] = field(default_factory=list)

    def left_open(self, failure: Failure, error: str, kind: str) -> None:
        self.still_open += 1
        self.changed += kind in _CHANGED
        self.unaccepted += kind == NotAcceptedError.__qualname__
        # Nobody can say yes to what they have not seen: of those, all.
        if len(self.reasons) < REASONS_KEPT or kind == NotAcceptedError.__qualname__:
            named = f"{kind}: " if kind and kind not in _CHANGED else ""
            self.reasons.append(f"item {failure.ordinal + 1} ({failure.place}): {named}{error}")

    def as_replayed(self, step: str) -> Replayed:
        return Replayed(
            step, self.replayed, self.still_open, self.changed, reasons=tuple(self.reasons), unaccepted=self.unaccepted
        )


@dataclass(slots=True)
class _SettlingSink:
    """A sink whose commit closes the failures of the items that went in. Ordinals count within the replay."""

    sink: Any
    ledger: Ledger
    key: StepKey
    transactional: bool
    found: _Found = field(default_factory=_Found)
    given: int = 0
    done: int = 0
    batch: Sequence[Failure] = field(default_factory=list)

    def failures_there(self) -> Iterator[Failure]:
        return self.sink.failures() if self.transactional else self.ledger.load_failures(self.key)

    def begin(self, batch: Sequence[Failure]) -> None:
        self.given += len(self.batch)
        self.batch = batch

    def publish(self) -> None:
        if hasattr(self.sink, "publish"):
            self.sink.publish()

    @property
    def takes_ordinals(self) -> bool:
        return getattr(self.sink, "takes_ordinals", False)

    def write(self, outputs: Sequence[Any]) -> None:
        if self.takes_ordinals:
            # Keys are made of an item's place in the step's input, not of its place in the replay.
            outputs = [replace(one, ordinal=self.batch[one.ordinal - self.given].ordinal) for one in outputs]
        self.sink.write(outputs)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        start, end = self.done, checkpoint.position.ordinal
        failed = {failure.ordinal: failure for failure in failures}
        ordinals = [self.batch[n - self.given].ordinal for n in range(start, end) if n not in failed]
        self.sink.settle(ordinals)
        if self.transactional:
            self.ledger.settle_failures(self.key, ordinals)
        self.done = end
        self.found.replayed += len(ordinals)
        for number, failure in failed.items():
            self.found.left_open(self.batch[number - self.given], failure.error, failure.error_type)

    def rollback(self) -> None:
        self.sink.rollback()

    def recall(self) -> Checkpoint | None:
        # Asked only when a commit is in doubt: what went in is closed in the target, and that is all one has to know.
        raise WriteError(
            f"step '{self.key.step}': the answer of the target to a commit of this replay was lost",
            "what went in is closed there, what did not is still open",
            "replay the run again",
        )

    def finish(self, checkpoint: Checkpoint) -> None:
        """A replay finishes nothing."""

    def failures(self) -> Iterator[Failure]:
        return iter(())

    def classify(self, error: BaseException) -> Fault:
        return Fault(self.sink.classify(error))

    def explain(self, error: BaseException) -> BaseException:
        explained: BaseException = self.sink.explain(error) if hasattr(self.sink, "explain") else error
        return explained

    def close(self) -> None:
        self.sink.close()


def _chunk(rereader: Rereader, batch: Sequence[Failure], start: int) -> Chunk:
    """The failed items as a chunk; those that cannot be had again are its bad records."""
    items, bad = [], {}
    for index, failure in enumerate(batch):
        item = rereader.find(failure)
        if isinstance(item, BadRecord):
            bad[index] = item
        else:
            items.append(item)
    segments = [Segment(index, None, 0, divisible=True) for index in range(len(batch))]
    return Chunk(start, items, bad, segments, Position(start + len(batch)))


def _open_target(bound: BoundStep, context: RunContext, sink: Sink[Any]) -> OpenTarget:
    everything = Skip(on=Exception, payload=False)
    step = bound.step
    return OpenTarget(
        step=step.name,
        sink=sink,
        undoes=bound.writer.guarantee is Guarantee.EXACTLY_ONCE,
        attempts=Attempts(step.retry, everything, partial(pause, context.clock, context.stop)),
        recorder=FailureRecorder(step.name, bound.reader, context.clock, everything, context.secrets),
        write_retry=step.write_retry,
        limit=None,
        checkpoint=Checkpoint(Position(0)),
        committed=lambda checkpoint, failures: None,  # noqa: ARG005 - replaced by whoever keeps the execution
        owned=context.ownership.check,
    )

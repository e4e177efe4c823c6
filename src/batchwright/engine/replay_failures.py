"""Give failed items to their step again: what goes in now is written and its failure closed in one transaction.

The one rule: an item whose failure is closed is never written again, whatever is killed in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.call_processor import Processor
from batchwright.engine.commit_chunk import OpenTarget, commit_chunk
from batchwright.engine.deduplicate import keeping_keys, step_processor
from batchwright.engine.process_chunk import Pace, process_chunk
from batchwright.engine.read_chunks import Chunk, Segment
from batchwright.engine.record_failure import FailureRecorder
from batchwright.engine.restart import require_same_addresses
from batchwright.engine.run_step import FAILURES_AT_ONCE, RunContext
from batchwright.engine.stop import pause
from batchwright.model.block import BadRecord, Position
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.codec import decode
from batchwright.model.errors import (
    FencedError,
    MalformedRecordError,
    NotReplayableError,
    StopRequestedError,
    WriteError,
)
from batchwright.model.failure import Failure, FailureState, PayloadKind
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.policy import Skip
from batchwright.ports import Ledger, Reader, Scope, Settles, Sink
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a step's open failures."""

    step: str
    replayed: int
    still_open: int


def replay_failures(bound: BoundStep, context: RunContext) -> Replayed:
    """Replay the open failures of one step into its target.

    A stop ends it behind a chunk; what is not replayed then stays open. Raises NotReplayableError for a target that is
    not transactional: there nothing could keep an item from being written twice.
    """
    step, writer = bound.step, bound.writer
    if step.atomic:
        raise NotReplayableError(
            f"step '{step.name}' is atomic: it publishes everything at once, or nothing",
            f"its failures are not in {step.target_address}",
            "mend the input or the code and run the job anew with --again",
        )
    key = context.step_key(step.name)
    scope = Scope(key, context.ledger, context.clock, step.checkpoint_seconds, claims=True)
    with closing(writer.open(keeping_keys(scope, step))) as sink:
        if not isinstance(sink, Settles) or writer.guarantee is not Guarantee.EXACTLY_ONCE:
            raise NotReplayableError(
                f"step '{step.name}' cannot be replayed into {step.target_address}",
                "only transactional targets can close a failure together with its row",
                "mend the input or the code and run the job anew with --again",
            )
        last = context.ledger.last_step(key)
        if last is not None:
            require_same_addresses(bound, last)
        sink.recall()
        _catch_up(sink, context.ledger, key)
        settling = _SettlingSink(sink, context.ledger, key)
        with context.stop.interrupting(sink, writes=True):
            _replay_open(bound, context, settling)
        return Replayed(step.name, settling.replayed, settling.done - settling.replayed)


def _replay_open(bound: BoundStep, context: RunContext, settling: "_SettlingSink") -> None:
    """Chunk after chunk of open failures, until there are no more, or a stop is requested: the others stay open."""
    target, stop = _open_target(bound, context, settling), context.stop
    opened = (failure for failure in settling.failures_there() if failure.state is FailureState.OPEN)
    try:
        with step_processor(bound.step, settling.key, target, settling.sink) as processor:
            pace = Pace(context.clock, stop)
            while stop.requested is None and (batch := list(islice(opened, bound.step.chunk_size))):
                context.ownership.check()
                settling.begin(batch)
                _replay_chunk(_chunk(bound.reader, batch, settling.given), target, processor, pace)
    except (StopRequestedError, FencedError) as ended:
        if isinstance(ended, FencedError):
            raise
    except Exception:
        # Whoever is not waited for: what it was at was interrupted, and is rolled back.
        if not stop.now:
            raise


def _replay_chunk(chunk: Chunk, target: OpenTarget, processor: Processor, pace: Pace) -> None:
    """Process and settle a chunk, in as many parts as its time asks for. Raises the error that ends the replay."""
    done = 0
    while done < len(chunk) and pace.stop.requested is None:
        processed = process_chunk(chunk.part(done, len(chunk)), processor, target.attempts, pace, target.step)
        error = commit_chunk(target, processed)
        if error is not None:
            raise error
        done += len(processed.chunk)


@dataclass(slots=True)
class _SettlingSink:
    """A sink whose commit closes the failures of the items that went in. Ordinals count within the replay."""

    sink: Any
    ledger: Ledger
    key: StepKey
    given: int = 0
    done: int = 0
    replayed: int = 0
    batch: Sequence[Failure] = field(default_factory=list)

    def failures_there(self) -> Iterator[Failure]:
        failures: Iterator[Failure] = self.sink.failures()
        return failures

    def begin(self, batch: Sequence[Failure]) -> None:
        self.given += len(self.batch)
        self.batch = batch

    def write(self, outputs: Sequence[Any]) -> None:
        self.sink.write(outputs)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        start, end = self.done, checkpoint.position.ordinal
        failed = {failure.ordinal for failure in failures}
        ordinals = [self.batch[n - self.given].ordinal for n in range(start, end) if n not in failed]
        self.sink.settle(ordinals)
        self.ledger.settle_failures(self.key, ordinals)
        self.done = end
        self.replayed += len(ordinals)

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


def _catch_up(sink: Sink[Any], ledger: Ledger, key: StepKey) -> None:
    """Close in the ledger what a replay closed in the target before it was killed."""
    closed = (failure.ordinal for failure in sink.failures() if failure.state is FailureState.REPLAYED)
    while batch := list(islice(closed, FAILURES_AT_ONCE)):
        ledger.settle_failures(key, batch)


def _chunk(reader: Reader[Any], batch: Sequence[Failure], start: int) -> Chunk:
    """The failed items as a chunk: from their payloads where those are whole, else read again by position."""
    items, bad = [], {}
    for index, failure in enumerate(batch):
        item = _item(reader, failure)
        if isinstance(item, BadRecord):
            bad[index] = item
        else:
            items.append(item)
    segments = [Segment(index, None, 0, divisible=True) for index in range(len(batch))]
    return Chunk(start, items, bad, segments, Position(start + len(batch)))


def _item(reader: Reader[Any], failure: Failure) -> Any:
    if failure.payload_kind is PayloadKind.JSON and failure.payload is not None:
        return decode(failure.payload)
    skip = failure.position.offset
    try:
        for block in reader.read(failure.position):
            if skip >= len(block):
                skip -= len(block)
                continue
            known = {record.index: record for record in block.bad}
            return known[skip] if skip in known else block.items[skip - sum(index < skip for index in known)]
    except Exception as error:  # noqa: BLE001 - what cannot be read stays open, whatever the reason
        return BadRecord(0, error, None)
    gone = MalformedRecordError("the item is not in the input any more", f"{failure.place}", "restore the input")
    return BadRecord(0, gone, None)


def _open_target(bound: BoundStep, context: RunContext, sink: Sink[Any]) -> OpenTarget:
    everything = Skip(on=Exception, payload=False)
    step = bound.step
    return OpenTarget(
        step=step.name,
        sink=sink,
        undoes=True,
        attempts=Attempts(step.retry, everything, partial(pause, context.clock, context.stop)),
        recorder=FailureRecorder(step.name, bound.reader, context.clock, everything, context.secrets),
        write_retry=step.write_retry,
        limit=None,
        checkpoint=Checkpoint(Position(0)),
        committed=lambda checkpoint, failures: None,  # noqa: ARG005 - the sink has settled them already
        owned=context.ownership.check,
    )

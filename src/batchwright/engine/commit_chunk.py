"""Write a chunk's outputs and commit them together with its checkpoint and failures.

The states of a chunk, and what holds in each when the process dies:
  processed    nothing of it is in the target; it is read and processed again
  written      its transaction is open (or its bytes lie behind the durable length): undone
  committing   either all of outputs, checkpoint and failures are in the target, or none: the target is asked
  committed    it is never touched again
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwright.engine.attempt import Attempts, attempt_again, tries_again, wait_seconds
from batchwright.engine.isolate_failures import commit_in_parts
from batchwright.engine.limit_failures import require_within
from batchwright.engine.process_chunk import Processed, told_nobody
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.recall_checkpoint import ask
from batchwright.engine.record_failure import FailureRecorder, describe_error
from batchwright.engine.revive_duplicates import orphans_of, outputs_of, revive
from batchwright.model.checkpoint import Checkpoint, Counts
from batchwright.model.effect import NumberedOutput
from batchwright.model.errors import (
    BEGIN_AGAIN,
    ChunkTimeoutError,
    FailureLimitError,
    FencedError,
    GroundChangedError,
    ItemsFailed,
    ReadError,
    StopRequestedError,
    WriteError,
)
from batchwright.model.failure import Failure, Phase
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.model.policy import Retry, Skip
from batchwright.model.work import SetAside
from batchwright.ports import Explains, Sink
from batchwright.step import Step


@dataclass(slots=True)
class OpenTarget:
    """A step's open sink with everything that commits need. `checkpoint` is the last one committed.

    `undoes` says that what is written can be undone until it is committed; `owned` raises FencedError once the work may
    be somebody else's; `holds` says that no commit is durable before the end; `beside` gives the counts of the step's
    other partitions; `moved` is told how far a chunk is processed; `sent` are the failures of the last
    commit that was tried.
    """

    step: str
    sink: Sink[Any]
    undoes: bool
    attempts: Attempts
    recorder: FailureRecorder
    write_retry: Retry | None
    limit: Skip | None
    checkpoint: Checkpoint
    committed: Callable[[Checkpoint, Sequence[Failure]], None]
    owned: Callable[[], None]
    holds: bool = False
    beside: Callable[[Counts], Counts] | None = None
    moved: Callable[[Chunk, int, float], None] = told_nobody
    rollbacks: int = field(default=0, init=False)
    retried: int = field(default=0, init=False)
    sent: Sequence[Failure] = field(default=(), init=False)

    def roll_back(self) -> None:
        """Undo what is written and not committed."""
        self.sink.rollback()
        self.rollbacks += 1

    def write_one(self, output: Any) -> None:
        """Write a single output, raising its own error."""
        try:
            self.sink.write([output])
        except ItemsFailed as refused:
            raise refused.errors[0] from None

    def explained(self, error: BaseException) -> BaseException:
        """A driver's error in our words, where the sink has them."""
        return self.sink.explain(error) if isinstance(self.sink, Explains) else error


def commit_chunk(target: OpenTarget, processed: Processed) -> BaseException | None:
    """Make a processed chunk durable, retrying passing errors and setting refused items aside.

    Returns the error that ends the step behind what was committed, or None. Raises FailureLimitError and FencedError,
    with the chunk not committed, GroundChangedError if the target has lost what was committed to it, and any error that
    it does not recover from.
    """
    tries, written = 0, processed
    while True:
        try:
            # User functions may have taken long, and so may the writing: whoever was held up begins and ends nothing.
            target.owned()
            # A part of a chunk: what its items waited for may have been refused in the part before.
            processed = revive(target, processed, orphans_of(processed))
            written, outputs = _write(target, processed)
            ended_by = _commit(target, written, outputs)
            if ended_by is not None or len(written.chunk) == len(processed.chunk):
                return ended_by
            # The writer has taken its time: the rest is a chunk of its own, unless a stop is requested.
            processed, tries = processed.part(len(written.chunk), len(processed.chunk)), 0
            target.attempts.pause(0)
        except FailureLimitError:
            target.roll_back()
            raise
        except FencedError as fenced:
            target.roll_back()
            raise fenced from fenced.__cause__ or processed.ended_by
        except Exception as error:
            fault = target.sink.classify(error)
            if fault is Fault.DOUBTFUL:
                if _has_committed(target):
                    return written.ended_by
                fault = Fault.TRANSIENT
            target.roll_back()
            if fault is Fault.REFUSED and target.undoes:
                return commit_in_parts(target, processed, error, commit_chunk)
            tries += 1
            if not _tries_again(target, error, fault, tries):
                raise target.explained(error) from error
            target.attempts.pause(wait_seconds(target.write_retry, tries))


def finish_target(target: OpenTarget) -> None:
    """Finish the target after its last chunk, retrying passing errors."""
    tries = 0
    while True:
        try:
            target.sink.finish(target.checkpoint)
            return
        except Exception as error:
            fault = target.sink.classify(error)
            if fault is Fault.DOUBTFUL:
                recalled = _recalled(target)
                if recalled is not None and recalled.finished:
                    return
                fault = Fault.TRANSIENT
            target.sink.rollback()
            tries += 1
            if not _tries_again(target, error, fault, tries):
                raise target.explained(error) from error
            target.attempts.pause(wait_seconds(target.write_retry, tries))


def require_sound(step: str, counts: Counts, limit: Skip | None) -> None:
    """Raise FailureLimitError if too much has failed over everything, ReadError for counts that do not add up."""
    if limit is not None and limit.exceeded(counts.failed, counts.read, at_end=True):
        raise FailureLimitError(step, counts.failed, counts.read, limit.limit)
    if not counts.balanced:
        raise ReadError(f"step '{step}': the counts do not add up", f"{counts}", "please report this")


def too_late(step: Step[Any, Any], processed: Processed, error: Exception, secrets: Sequence[str]) -> WriteError:
    """The error of a chunk whose time was over before it was committed."""
    chunk = processed.chunk
    why = "" if isinstance(error, ChunkTimeoutError) else f": {describe_error(error, secrets)}"
    return WriteError(
        f"step '{step.name}': a chunk was not written and committed within {step.chunk_timeout_seconds:g} seconds",
        f"items {chunk.start + 1:,} to {chunk.start + len(chunk):,} are rolled back{why}",
        "make chunks smaller, or raise chunk_timeout_seconds",
    )


def _tries_again(target: OpenTarget, error: Exception, fault: Fault, tries: int) -> bool:
    """Whether the chunk is written again. Raises StopRequestedError if a stop is requested."""
    if fault is Fault.TRANSIENT:
        # The error may be that of a wait which the request itself has ended: no reason to fail.
        target.attempts.pause(0)
    return tries_again(target.write_retry, error, fault, tries)


def _write(target: OpenTarget, processed: Processed) -> tuple[Processed, int]:
    """Write the outputs; what comes back has the refused items set aside, or is cut short before one of them.

    With it comes the number of outputs written.
    """
    # What other partitions have done counts, too: they are asked in the transaction that commits.
    if processed.over_limit or (processed.failed and target.beside is None):
        require_within(target, processed)
    while True:
        outputs = processed.outputs()
        if not outputs:
            return processed, 0
        if not target.undoes:
            processed = _call_function(target, processed, outputs, processed.owners(len(outputs)))
            while orphans := orphans_of(processed):
                processed = revive(target, processed, orphans)
                processed = _call_function(target, processed, *outputs_of(processed, orphans))
            return processed, len(processed.outputs())
        try:
            target.sink.write(outputs)
            return processed, len(outputs)
        except ItemsFailed as refused:
            owners = processed.owners(len(outputs))
            aside = {owners[index]: SetAside(error, Phase.WRITE) for index, error in sorted(refused.errors.items())}
        ending = next((index for index in sorted(aside) if not target.attempts.skips(aside[index].error)), None)
        if ending is not None:
            target.roll_back()
            processed = processed.before(ending, aside[ending].error)
            continue
        processed = processed.without(aside)
        orphans = orphans_of(processed)
        if not processed.many and not orphans:
            return processed, len(outputs) - len(aside)
        # Other outputs of a refused item may be among those written: none of them may stay.
        target.roll_back()
        processed = revive(target, processed, orphans)


def _call_function(
    target: OpenTarget, processed: Processed, outputs: Sequence[Any], owners: Sequence[int]
) -> Processed:
    """Hand outputs to a user's function, which can undo nothing: what it has taken is never handed over again."""
    if getattr(target.sink, "takes_ordinals", False):
        outputs = _numbered(outputs, owners, processed.chunk.start)
    aside: dict[int, SetAside] = {}
    start = 0
    while start < len(outputs):
        try:
            target.sink.write(outputs[start:])
            break
        except ItemsFailed as refused:
            _check_answer(target, refused, len(outputs) - start)
            for index, error in sorted(refused.errors.items()):
                owner = owners[start + index]
                try:
                    tried = attempt_again(target.write_one, outputs[start + index], error, target.attempts)
                except StopRequestedError as stopping:
                    return processed.without(aside).before(owner, stopping)
                target.retried += tried.attempts - 1
                if tried.error is None:
                    continue
                if not target.attempts.skips(tried.error):
                    return processed.without(aside).before(owner, tried.error)
                aside[owner] = SetAside(tried.error, Phase.WRITE, tried.attempts)
                _require_few(target, processed, aside)
            start = len(outputs) if refused.attempted is None else start + refused.attempted
            if not refused.errors and _may_end(processed, owners, start):
                return processed.without(aside).part(0, owners[start])
            while start < len(outputs) and owners[start] in aside:
                start += 1
    return processed.without(aside) if aside else processed


def _require_few(target: OpenTarget, processed: Processed, aside: Mapping[int, SetAside]) -> None:
    """Raise FailureLimitError at once: the function is not called for the rest of a chunk that passes the limit."""
    if target.attempts.over(len(processed.failed) + len(aside)):
        require_within(target, processed.without(aside).part(0, max(aside) + 1))


def _may_end(processed: Processed, owners: Sequence[int], start: int) -> bool:
    """Whether what was handed over can be committed without what comes from this output on."""
    if not 0 < start < len(owners) or owners[start - 1] == owners[start]:
        return False
    return processed.chunk.cut_at(owners[start]) == owners[start]


def _numbered(outputs: Sequence[Any], owners: Sequence[int], first: int) -> list[NumberedOutput]:
    """Each output with its item's ordinal and its own place among the outputs of that item."""
    numbered: list[NumberedOutput] = []
    for owner, output in zip(owners, outputs, strict=True):
        another = bool(numbered) and numbered[-1].ordinal == first + owner
        numbered.append(NumberedOutput(first + owner, numbered[-1].index + 1 if another else 0, output))
    return numbered


def _check_answer(target: OpenTarget, refused: ItemsFailed, given: int) -> None:
    """Raise WriteError for an answer that cannot be: it would lose outputs, or ask for ever."""
    known = range(given if refused.attempted is None else min(given, refused.attempted))
    if not known or not all(index in known for index in refused.errors):
        raise WriteError(
            f"step '{target.step}': the writer's ItemsFailed does not fit what it was given",
            f"it was given {given:,} outputs, attempted {refused.attempted}, failed at {sorted(refused.errors)[:10]}",
            "count from 0 in the list that the function was given",
        )


def _commit(target: OpenTarget, processed: Processed, outputs: int) -> BaseException | None:
    chunk = processed.chunk
    if not len(chunk):
        return processed.ended_by
    checkpoint = _checkpoint_after(target, processed, outputs)
    beside = target.beside(checkpoint.counts) if target.limit and target.beside and processed.failed else None
    require_within(target, processed, beside)
    failures = [target.recorder.record(chunk, index, processed.failed[index]) for index in sorted(processed.failed)]
    target.sent = failures
    target.owned()
    if processed.keys is not None:
        processed.keys.memory.remember(processed.keys.owned(chunk.start, chunk.start + len(chunk)))
    target.sink.commit(checkpoint, failures)
    reach("K13")
    _advance(target, checkpoint, failures)
    return processed.ended_by


def _advance(target: OpenTarget, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
    target.checkpoint = checkpoint
    target.rollbacks = target.retried = 0
    target.committed(checkpoint, failures)


def _checkpoint_after(target: OpenTarget, processed: Processed, outputs: int) -> Checkpoint:
    filtered = processed.filtered(outputs)
    phases = [why.phase for why in processed.failed.values()]
    added = Counts(
        read=len(processed.chunk),
        written=len(processed.results) - filtered,
        filtered=filtered,
        failed_read=phases.count(Phase.READ),
        failed_process=phases.count(Phase.PROCESS),
        failed_write=phases.count(Phase.WRITE),
        outputs=outputs,
        retried=processed.retried + target.retried,
        commits=1,
        rollbacks=target.rollbacks,
    )
    return Checkpoint(processed.chunk.checkpoint(target.checkpoint.position), target.checkpoint.counts + added)


def _has_committed(target: OpenTarget) -> bool:
    """Ask the target whether a commit in doubt has taken effect; what follows goes by its word."""
    recalled = _recalled(target)
    if recalled is None or recalled.counts.commits == target.checkpoint.counts.commits:
        return False
    # They were part of it: a second question, which could fail where the first one did not, is not needed.
    _advance(target, recalled, target.sent)
    return True


def _recalled(target: OpenTarget) -> Checkpoint | None:
    """The target's checkpoint. Raises GroundChangedError if it is behind what was committed: a gap would be left."""
    recalled = ask(target.sink, target.write_retry, target.attempts.pause)
    found = recalled.counts.commits if recalled else 0
    known = 0 if target.holds else target.checkpoint.counts.commits
    if found < known:
        raise GroundChangedError(
            f"step '{target.step}': its target lacks work that was committed to it",
            f"{known:,} chunks were committed, it knows of {found:,}: it was restored, or lost acknowledged commits",
            f"restore the target, or {BEGIN_AGAIN}",
        )
    return recalled

"""Run a job of one step whose items are handed to a loop, instead of being given to a processor.

The one rule: an item is done when its block has ended, without an error or with one that is skipped; whatever ends the
loop, the items that are done are committed, and the one in hand is not. The states, and what holds when it is killed:
  between    the items of the chunk so far are in the open transaction, or done outside: undone, or done again
  in hand    one item is handed out, its block not begun: nothing of it is written
  in block   what its body has written is behind a savepoint: undone with the chunk
  committed  at the end of a chunk, after `chunk_seconds`, and when the loop ends: never touched again
Everything around it, from ownership to the failure file, is `run_job`'s and `run_step`'s; commits are `commit_chunk`'s.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast

from batchwright.engine.commit_chunk import OpenTarget
from batchwright.engine.process_chunk import Processed, cut_before, split_unreadable
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.recall_checkpoint import ask_for
from batchwright.engine.record_failure import describe_error
from batchwright.engine.run_job import JobInWork, job_in_work
from batchwright.engine.run_step import RunContext, StepInWork, step_in_work
from batchwright.engine.set_up_run import RunOptions, Surroundings
from batchwright.job import Job
from batchwright.model.drop import DROP
from batchwright.model.errors import DeclarationError, StopRequestedError, WriteError
from batchwright.model.failure import Phase
from batchwright.model.fault_points import reach
from batchwright.model.result import JobResult, StepResult
from batchwright.model.work import SetAside
from batchwright.ports.loops import ServesBodies
from batchwright.step import BoundStep

END: Final = object()
"""What `take` gives when there are no more items, or none are to be taken."""

_LEFT = "the loop was left before the end of its input"


class LoopRun:
    """The run behind one loop. Its methods are called by `resumable`, in the order of an item's life."""

    def __init__(
        self,
        job: Job,
        bound: Mapping[str, BoundStep],
        options: RunOptions,
        around: Surroundings,
        chunk_seconds: float,
    ) -> None:
        """Begin nothing yet."""
        self.result: JobResult | None = None
        self.error: BaseException | None = None
        self._job: JobInWork = job_in_work(job, bound, options, around)
        self._step: Generator[StepInWork, BaseException | None, tuple[StepResult, BaseException | None]]
        self._clock, self._stop, self._chunk_seconds = around.clock, around.stop, chunk_seconds
        self._context: RunContext
        self._work: StepInWork
        self._target: OpenTarget
        self._sink: ServesBodies
        self._chunks: Generator[Chunk, None, None]
        self._read: Chunk | None = None
        self._part: Processed
        self._ending: BaseException | None = None
        self._good: Sequence[int] = ()
        self._divisible = True
        self._done = 0
        self._results: list[Any] = []
        self._aside: dict[int, SetAside] = {}
        self._began: float | None = None
        self._over: BaseException | None = None
        self._exhausted = self._in_hand = self._in_block = False
        self._settled = True

    def begin(self) -> None:
        """Own the work and find where it goes on. Afterwards there is a result if there is nothing to do.

        Raises what stands in its way.
        """
        try:
            bound, self._context = next(self._job)
        except StopIteration as ended:
            self.result, self.error = ended.value
            return
        self._step = step_in_work(bound, self._context)
        work = self._move(lambda: next(self._step))
        if self.error is not None:
            raise self.error
        if work is None:
            return
        self._work, self._target = work, work.target
        self._sink = cast("ServesBodies", work.target.sink)
        self._sink.serve(lambda question: ask_for(self._target.sink, question, None, self._target.attempts.pause))
        self._chunks = work.chunks()

    def take(self) -> Any:
        """The next item, or END. Raises what the reader raises, once everything before it is committed."""
        if self.result is not None:
            return END
        if self._in_hand or self._in_block:
            raise self._misused(
                "the next item was asked for, but the block of the one before has not been gone through",
                "what list() or zip() takes ahead, and what `continue` passes over, would be lost on the quiet",
            )
        self._settled = False
        item = END
        while not self._exhausted and self._over is None and item is END:
            item = self._next_of_chunk()
        self._settled = True
        self._in_hand = item is not END
        return item

    def enter(self) -> None:
        """Begin the block of the item in hand."""
        if not self._in_hand:
            raise self._misused("there is no item in hand for `with loop.item():`", "each item has one such block")
        self._in_hand, self._in_block = False, True
        if self._began is None:
            self._began = self._clock.monotonic()
        self._sink.enter_item()

    def leave(self, error: BaseException | None) -> bool:
        """End the block of the item in hand: whether its error is set aside. Raises what ends the loop instead."""
        self._in_block, self._settled = False, False
        reach("K5")
        if error is not None or self._sink.ended_by is not None or not self._keep():
            self._sink.undo_item()
            verdict = self._verdict(error)
            if verdict is not None:
                self._settled = True
                return self._ends_with(verdict, error)
            assert error is not None  # noqa: S101 - for the type checker: only errors have verdicts
            self._aside[self._index] = SetAside(error, Phase.PROCESS)
        self._done += 1
        self._commit_when_due()
        self._settled = True
        return error is not None

    def end(self, error: BaseException | None) -> None:
        """Commit what is done, and close the run. Raises what goes wrong in that, if nothing else did before."""
        if self.result is not None:
            return
        ended_by = error or self._over
        if error is None and not self._exhausted and self._over is None:
            ended_by = StopRequestedError(_LEFT)
        try:
            if self._settled and self._sink.whole:
                self._commit_done()
            if ended_by is None and self._stop.requested is None:
                self._work.finish()
            elif ended_by is None:
                ended_by = StopRequestedError()
        except BaseException as second:  # noqa: BLE001 - it is in the result, and raised at the end
            if isinstance(ended_by, StopRequestedError) or ended_by is None:
                ended_by = second
            else:
                ended_by.add_note(f"and then: {second}")
        self._chunks.close()
        told = _as_told(ended_by)
        self._move(lambda: self._step.send(told))
        if error is None and self.error is not None:
            raise self.error

    @property
    def connection(self) -> Any:
        """The target's connection. Raises DeclarationError outside of an item."""
        if self.result is not None or not hasattr(self, "_sink"):
            raise DeclarationError(
                "loop.connection is used outside of the loop", "the loop is over, or there was nothing to do"
            )
        return self._sink.connection

    def _next_of_chunk(self) -> Any:
        """The next item of the chunk in work, or of the one after it; END if another look is needed."""
        if self._read is None:
            self._context.ownership.check()
            read = next(self._chunks, None)
            if read is None:
                self._exhausted = True
                return END
            reach("K6")
            self._load(read)
        if self._done == len(self._good):
            self._commit_whole()
            return END
        chunk = self._part.chunk
        if not self._divisible:
            index = self._index
            if index and chunk.cut_at(index) == index and chunk.cut_at(min(index + 1, len(chunk))) <= index:
                # Nothing can be committed inside of what comes next: what is done before it must not hang on it.
                self._commit_part(index)
                return END
        return chunk.items[self._done]

    def _load(self, read: Chunk) -> None:
        """Begin a chunk, or what is left of one: bad records are set aside, up to the first that ends the loop."""
        self._read, self._began = read, None
        self._part, self._ending = split_unreadable(read, self._target.attempts, many=False)
        self._good, self._results, self._aside = self._part.chunk.good_indexes(), [], {}
        self._divisible, self._done = all(segment.divisible for segment in self._part.chunk.segments), 0

    @property
    def _index(self) -> int:
        """The index in the chunk of the item in hand, or that comes next."""
        return self._good[self._done]

    def _commit_when_due(self) -> None:
        """Commit if the chunk is done, has lasted long enough, or a stop is requested."""
        stopping = self._stop.requested is not None
        if self._done == len(self._good):
            self._commit_whole()
        elif stopping or self._clock.monotonic() - (self._began or 0.0) >= self._chunk_seconds:
            self._commit_part(self._index)
        if stopping:
            self._over = self._over or StopRequestedError()

    def _commit_done(self) -> None:
        """Commit what is done of the chunk in work, as far as a checkpoint may stand there."""
        if self._read is not None and self._done:
            if self._done == len(self._good):
                self._commit_whole()
            else:
                self._commit_part(self._index)

    def _commit_whole(self) -> None:
        assert self._read is not None  # noqa: S101 - for the type checker: nothing is done without a chunk
        failed = {**self._part.failed, **self._aside}
        whole = Processed(self._part.chunk, self._results, failed=failed)
        self._commit(whole.before_unreadable(self._read, 0, self._ending))
        self._read, self._good = None, ()
        self._results, self._aside, self._began, self._done = [], {}, None, 0

    def _commit_part(self, index: int) -> None:
        """Commit the records before this one, unless they are within what has no place for a checkpoint."""
        assert self._read is not None  # noqa: S101 - for the type checker: nothing is done without a chunk
        if self._part.chunk.cut_at(index) != index:
            return
        self._commit(cut_before(self._part, index, self._results, self._aside, 0, None))
        if self._over is None:
            self._load(self._read.part(index, len(self._read)))

    def _commit(self, processed: Processed) -> None:
        try:
            ended_by = self._work.commit(processed)
        except StopRequestedError as stopping:
            self._over = stopping
            return
        except BaseException as error:
            self._over = error
            raise
        if ended_by is not None:
            self._over = ended_by
            raise ended_by

    def _keep(self) -> bool:
        """Keep what the item has written, or see from `ended_by` why that cannot be."""
        try:
            self._results.append(None if self._sink.keep_item() else DROP)
        except Exception:
            if self._sink.ended_by is None:
                raise
            return False
        return True

    def _verdict(self, error: BaseException | None) -> BaseException | None:
        """What ends the loop, after an error in a block or one that the sink has come upon; None: it is skipped."""
        ended_by = self._sink.ended_by or error
        assert ended_by is not None  # noqa: S101 - for the type checker: it is asked for nothing else
        if isinstance(ended_by, StopRequestedError):
            return ended_by
        passing = self._sink.passes(ended_by)
        if self._stop.requested is not None and (self._stop.now or passing):
            return StopRequestedError()
        if passing:
            wrong = "the database broke off a statement of the loop's body, which is not run a second time"
            found = describe_error(self._target.explained(ended_by), self._context.secrets)
            return WriteError(wrong, found, "run the script again: it goes on behind the last commit")
        if self._sink.ended_by is not None:
            return self._target.explained(ended_by)
        skips = not isinstance(ended_by, KeyboardInterrupt | GeneratorExit) and self._target.attempts.skips(ended_by)
        return None if skips else ended_by

    def _ends_with(self, verdict: BaseException, error: BaseException | None) -> bool:
        """End the loop, whose block has raised this error: whether it is not to go on to the caller."""
        self._over = verdict
        if isinstance(verdict, StopRequestedError):
            return error is not None
        if isinstance(verdict, Exception):
            self._work.note(verdict, "processing", self._part.chunk.locate(self._index))
        if verdict is error:
            return False
        raise verdict from (error if verdict.__cause__ is None else verdict.__cause__)

    def _misused(self, wrong: str, found: str) -> DeclarationError:
        mend = "write `with loop.item():` around all that the body does with an item, once an item"
        self._over = DeclarationError(f"loop '{self._work.target.step}': {wrong}", found, mend)
        return self._over

    def _move(self, move: Callable[[], StepInWork]) -> StepInWork | None:
        """Let the step go on: where it stands, or, if that was its end, None, and the job goes on to its own end."""
        try:
            return move()
        except StopIteration as ended:
            step_end = ended.value
            self._answer(lambda: self._job.send(step_end))
        except BaseException as error:  # noqa: BLE001 - it is the job's affair
            raised = error
            self._answer(lambda: self._job.throw(raised))
        return None

    def _answer(self, move: Callable[[], object]) -> None:
        try:
            move()
        except StopIteration as ended:
            self.result, self.error = ended.value


def _as_told(ended_by: BaseException | None) -> BaseException | None:
    """What ended the loop, in the step's words: who only leaves it, or interrupts it, has stopped it."""
    if isinstance(ended_by, KeyboardInterrupt):
        return StopRequestedError("interrupted")
    if isinstance(ended_by, GeneratorExit):
        return StopRequestedError(_LEFT)
    if isinstance(ended_by, SystemExit) and ended_by.code in (None, 0):
        return StopRequestedError("the script ended itself")
    return ended_by

"""Run the user's function over a chunk: outputs for the good, a reason for the others.

The one rule: after each pass, results + failures equal the items; a StopIteration is its item's failure.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from typing import Any

from batchwright.engine.attempt import Attempts, attempt_again
from batchwright.engine.call_processor import Processor, refuse_iterators
from batchwright.engine.deduplicate import ChunkKeys, Deduplicating
from batchwright.engine.read_chunks import Chunk, Segment
from batchwright.engine.stop import Stop
from batchwright.model.block import Position
from batchwright.model.drop import DROP
from batchwright.model.errors import StopRequestedError
from batchwright.model.failure import Phase
from batchwright.model.fault_points import reach
from batchwright.model.fork import end_if_forked
from batchwright.model.pace import CHUNK_SECONDS, next_pass
from batchwright.model.work import Attempted, SetAside
from batchwright.ports import Clock


@dataclass(frozen=True, slots=True)
class Processed:
    """A chunk with a result for each item that did not fail, in order.

    With `many`, a result is a list of outputs. `failed` maps the index of a record in the chunk to the reason.
    `ended_by` is set on a chunk that was cut short: the error of the first record behind it, which is at `ended_at`.
    `keys` are there where the step asks for distinct ones. With `over_limit` more has failed than may: the chunk was
    broken off and is never committed.
    """

    chunk: Chunk
    results: Sequence[Any]
    many: bool = False
    failed: Mapping[int, SetAside] = field(default_factory=dict)
    retried: int = 0
    ended_by: BaseException | None = None
    ended_at: Position | None = None
    ended_while: str = "processing"
    keys: ChunkKeys | None = None
    over_limit: bool = False

    def outputs(self) -> Sequence[Any]:
        """What is to be written, in order."""
        results = chain.from_iterable(self.results) if self.many else self.results
        return [output for output in results if output is not DROP]

    def owners(self, outputs: int) -> Sequence[int]:
        """For each output, the index in the chunk of the record that it comes from, given the number of outputs."""
        if not self.many:
            if outputs == len(self.results):
                return self.indexes()
            pairs = zip(self.indexes(), self.results, strict=True)
            return [index for index, result in pairs if result is not DROP]
        counted = [sum(output is not DROP for output in outputs) for outputs in self.results]
        return list(chain.from_iterable(map(repeat, self.indexes(), counted)))

    def indexes(self) -> Sequence[int]:
        """For each result, the index of its record in the chunk."""
        good = self.chunk.good_indexes()
        return [index for index in good if index not in self.failed] if self.failed else good

    def filtered(self, outputs: int) -> int:
        """How many items have no output, given the number of outputs."""
        if not self.many:
            return len(self.results) - outputs
        if outputs == sum(map(len, self.results)):
            return sum(not result for result in self.results)
        return sum(all(output is DROP for output in result) for result in self.results)

    def without(self, aside: Mapping[int, SetAside]) -> "Processed":
        """The same chunk with more records set aside."""
        for why in aside.values():
            _forget_frames(why.error)
        pairs = zip(self.indexes(), self.results, strict=True)
        results = [result for index, result in pairs if index not in aside]
        keys = self.keys and self.keys.without({self.chunk.start + index for index in aside})
        return replace(self, results=results, failed={**self.failed, **aside}, keys=keys)

    def part(self, start: int, stop: int) -> "Processed":
        """The records from `start` up to `stop`, as a chunk of its own."""
        pairs = zip(self.indexes(), self.results, strict=True)
        return replace(
            self,
            chunk=self.chunk.part(start, stop),
            results=[result for index, result in pairs if start <= index < stop],
            failed={index - start: why for index, why in self.failed.items() if start <= index < stop},
            retried=self.retried if start == 0 else 0,
            ended_by=self.ended_by if stop == len(self.chunk) else None,
            ended_at=self.ended_at if stop == len(self.chunk) else None,
        )

    def before(self, index: int, error: BaseException) -> "Processed":
        """What comes before a record that ends the step, as far as a checkpoint may stand there."""
        return replace(self.part(0, self.chunk.cut_at(index)), ended_by=error, ended_at=None)

    def before_unreadable(self, read: Chunk, start: int, error: BaseException | None) -> "Processed":
        """The same, if this is the error of the next record of the chunk that was read, of which this is a part."""
        if error is None or self.ended_by is not None:
            return self
        index = start + len(self.chunk)
        cut = max(0, read.cut_at(index) - start)
        return replace(self.part(0, cut), ended_by=error, ended_at=read.locate(index), ended_while="reading")


def told_nobody(_chunk: Chunk, _index: int, _now: float) -> None:
    """Nobody wants to know how far a chunk is."""


@dataclass(slots=True)
class Pace:
    """How many items are processed between two looks at the clock: about half a second's worth.

    A chunk that takes longer than `CHUNK_SECONDS`, or during which a stop is requested, is cut there: what slow
    functions did is committed, shown and stopped in good time, whatever the chunk size. Fast ones never see the clock.
    """

    clock: Clock
    stop: Stop
    items: int = 1
    moved: Callable[[Chunk, int, float], None] = told_nobody
    chunk_seconds: float = field(default_factory=lambda: CHUNK_SECONDS)
    process: int = field(default_factory=os.getpid)

    def ends_chunk(self, chunk_began: float, pass_began: float, *, whole: bool) -> bool:
        """Whether a chunk ends here; after a whole pass the next one is made longer or shorter."""
        now = self.clock.monotonic()
        if whole:
            self.items = next_pass(self.items, now - pass_began)
        return now - chunk_began >= self.chunk_seconds or self.stop.requested is not None


def process_chunk(chunk: Chunk, processor: Processor, policy: Attempts, pace: Pace, step: str) -> Processed:
    """Outputs and failures of a chunk; cut short before the first record whose error the policy does not skip.

    It is also cut where its time is up; what is left is a chunk of its own. Raises DeclarationError if the processor
    returns iterators.
    """
    unprocessed, ending = split_unreadable(chunk, policy, many=processor.many)
    if unprocessed.failed and policy.over(len(unprocessed.failed)):
        return replace(unprocessed, over_limit=True)
    if isinstance(processor, Deduplicating):
        unprocessed = replace(unprocessed, keys=processor.keys_of(unprocessed.chunk))
    done = _call(unprocessed, processor, policy, pace, step)
    reach("K6")
    if done.over_limit:
        return done
    return done.before_unreadable(chunk, 0, ending) if len(done.chunk) == len(unprocessed.chunk) else done


def split_unreadable(chunk: Chunk, policy: Attempts, *, many: bool) -> tuple[Processed, BaseException | None]:
    """A chunk with its bad records set aside, up to the first that is not skipped, and the error of that one."""
    unreadable = {index: SetAside(record.error, Phase.READ) for index, record in chunk.bad.items()}
    ending = next((index for index in sorted(unreadable) if not policy.skips(unreadable[index].error)), None)
    if ending is None:
        return Processed(chunk, (), many, unreadable), None
    before = {index: why for index, why in unreadable.items() if index < ending}
    return Processed(chunk.part(0, ending), (), many, before), chunk.bad[ending].error


def process_items(items: Sequence[Any], processor: Processor, policy: Attempts, pace: Pace, step: str) -> Processed:
    """As `process_chunk`, for items that come without their chunk: all that is said of records is said of items."""
    chunk = Chunk(0, items, {}, [Segment(0, None, 0, divisible=True)], Position(len(items)))
    return _call(Processed(chunk, (), processor.many), processor, policy, pace, step)


def _call(unprocessed: Processed, processor: Processor, policy: Attempts, pace: Pace, step: str) -> Processed:
    """Pass over the items as often as it takes, until each has a result or a reason, or the time is up."""
    chunk, keys = unprocessed.chunk, unprocessed.keys
    items = chunk.items if keys is None else keys.items
    results: list[Any] = []
    aside: dict[int, SetAside] = {}
    retried, remaining, checked = 0, iter(items), False
    began = pass_began = pace.clock.monotonic()
    looked = 0
    while True:
        start = len(results) + len(aside)
        size = max(1, pace.items - (start - looked))
        error = _pass(processor, results, islice(remaining, size))
        end_if_forked(pace.process)
        if not processor.many and not checked:
            checked = refuse_iterators(results, step)
        position = len(results) + len(aside)
        if position < len(items) and (error is not None or position - start < size):
            error = error or StopIteration("raised by the processor")
            tried, ends_step = _second_chance(processor, items[position], error, policy)
            end_if_forked(pace.process)
            retried += tried.attempts - 1
            index = chunk.good_indexes()[position]
            if tried.error is None:
                results.append(tried.result)
            elif ends_step:
                return cut_before(unprocessed, index, results, aside, retried, tried.error)
            else:
                _forget_frames(tried.error)
                aside[index] = SetAside(tried.error, Phase.PROCESS, tried.attempts)
                if policy.over(len(unprocessed.failed) + len(aside)):
                    failed = {**unprocessed.failed, **aside}
                    return replace(unprocessed, results=results, failed=failed, retried=retried, over_limit=True)
            position += 1
        if position == len(items):
            return Processed(chunk, results, processor.many, {**unprocessed.failed, **aside}, retried, keys=keys)
        whole = position - looked >= pace.items
        ends_chunk = pace.ends_chunk(began, pass_began, whole=whole)
        if whole:
            looked, pass_began = position, pace.clock.monotonic()
            pace.moved(chunk, chunk.good_indexes()[position], pass_began)
        if ends_chunk and chunk.cut_at(index := chunk.good_indexes()[position]):
            return cut_before(unprocessed, index, results, aside, retried, None)


def _second_chance(processor: Processor, item: Any, error: BaseException, policy: Attempts) -> tuple[Attempted, bool]:
    """What came of trying an item again, and whether its error ends the step."""
    try:
        tried = attempt_again(processor.one, item, error, policy)
    except StopRequestedError as stopping:
        return Attempted(None, stopping, 1), True
    return tried, tried.error is not None and not policy.skips(tried.error)


def _pass(processor: Processor, results: list[Any], items: Iterator[Any]) -> BaseException | None:
    """Process items until they end (None) or one raises (its error). A StopIteration ends them early, silently."""
    try:
        processor.run(results, items)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's SystemExit is an item's failure too
        return error
    return None


def cut_before(
    unprocessed: Processed,
    index: int,
    results: list[Any],
    aside: dict[int, SetAside],
    retried: int,
    error: BaseException | None,
) -> Processed:
    """The part before a record that ends the chunk; what lies behind the last possible checkpoint is done again."""
    failed = {**{known: why for known, why in unprocessed.failed.items() if known < index}, **aside}
    until = replace(
        unprocessed, chunk=unprocessed.chunk.part(0, index), results=results, failed=failed, retried=retried
    )
    cut = until.part(0, unprocessed.chunk.cut_at(index))
    return replace(cut, ended_by=error, ended_at=None if error is None else unprocessed.chunk.locate(index))


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error that is set aside.

    They hold the frames, these the chunk, and that the error: a ring that lives until the garbage collector finds it.
    """
    pending: list[BaseException | None] = [error]
    while pending:
        known = pending.pop()
        if known is not None and known.__traceback__ is not None:
            known.__traceback__ = None
            pending += (known.__cause__, known.__context__)

"""Run the user's function over a chunk: outputs for the good, a reason for the others.

The one rule: after each pass, results + failures equal the items; a StopIteration is its item's failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

from batchwright.engine.attempt import Attempts, attempt_again
from batchwright.engine.call_processor import Processor, refuse_iterators
from batchwright.engine.read_chunks import Chunk
from batchwright.model.drop import DROP
from batchwright.model.errors import StopRequestedError
from batchwright.model.failure import Phase
from batchwright.model.fault_points import reach


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why a record does not go on."""

    error: BaseException
    phase: Phase
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Processed:
    """A chunk with a result for each item that did not fail, in order.

    With `many`, a result is a list of outputs. `failed` maps the index of a record in the chunk to the reason.
    `ended_by` is set on a chunk that was cut short: the error of the first record behind it.
    """

    chunk: Chunk
    results: Sequence[Any]
    many: bool = False
    failed: Mapping[int, SetAside] = field(default_factory=dict)
    retried: int = 0
    ended_by: BaseException | None = None

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
        return replace(self, results=results, failed={**self.failed, **aside})

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
        )

    def before(self, index: int, error: BaseException) -> "Processed":
        """What comes before a record that ends the step, as far as a checkpoint may stand there."""
        return replace(self.part(0, self.chunk.cut_at(index)), ended_by=error)


def process_chunk(chunk: Chunk, processor: Processor, policy: Attempts, step: str) -> Processed:
    """Outputs and failures of a chunk; cut short before the first record whose error the policy does not skip.

    Raises DeclarationError if the processor returns iterators.
    """
    unreadable = {index: SetAside(record.error, Phase.READ) for index, record in chunk.bad.items()}
    ending = next((index for index in sorted(unreadable) if not policy.skips(unreadable[index].error)), None)
    readable = chunk
    if ending is not None:
        readable = chunk.part(0, ending)
        unreadable = {index: why for index, why in unreadable.items() if index < ending}
    done = _call(Processed(readable, (), processor.many, unreadable), processor, policy, step)
    reach("K6")
    if ending is not None and done.ended_by is None:
        done = replace(done.part(0, chunk.cut_at(ending)), ended_by=chunk.bad[ending].error)
    return done


def _call(unprocessed: Processed, processor: Processor, policy: Attempts, step: str) -> Processed:
    """Pass over the items as often as it takes, until each has a result or a reason."""
    chunk, items = unprocessed.chunk, unprocessed.chunk.items
    results: list[Any] = []
    aside: dict[int, SetAside] = {}
    retried, remaining, checked = 0, iter(items), False
    while True:
        try:
            processor.run(results, remaining)
            error: BaseException = StopIteration("raised by the processor")
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - a user's SystemExit is an item's failure too
            error = raised
        if not processor.many and not checked:
            checked = refuse_iterators(results, step)
        position = len(results) + len(aside)
        if position == len(items):
            break
        ended = False
        try:
            tried = attempt_again(processor.one, items[position], error, policy)
            retried += tried.attempts - 1
            if tried.error is None:
                results.append(tried.result)
                continue
            error, ended = tried.error, not policy.skips(tried.error)
            attempts = tried.attempts
        except StopRequestedError as stopping:
            error, ended, attempts = stopping, True, 1
        index = chunk.good_indexes()[position]
        if ended:
            return _cut(unprocessed, index, results, aside, retried, error)
        _forget_frames(error)
        aside[index] = SetAside(error, Phase.PROCESS, attempts)
    return Processed(chunk, results, processor.many, {**unprocessed.failed, **aside}, retried)


def _cut(
    unprocessed: Processed,
    index: int,
    results: list[Any],
    aside: dict[int, SetAside],
    retried: int,
    error: BaseException,
) -> Processed:
    """The part before a record that ends the step; what lies behind the last possible checkpoint is done again."""
    failed = {**{known: why for known, why in unprocessed.failed.items() if known < index}, **aside}
    until = replace(
        unprocessed, chunk=unprocessed.chunk.part(0, index), results=results, failed=failed, retried=retried
    )
    return replace(until.part(0, unprocessed.chunk.cut_at(index)), ended_by=error)


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

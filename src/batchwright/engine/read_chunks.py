"""Cut chunks out of a reader's blocks.

The one rule: where a chunk ends is arithmetic over what the blocks said, never a question to the reader.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from batchwright.model.block import Anchor, BadRecord, Block, Position
from batchwright.model.errors import ReadError
from batchwright.model.fault_points import reach
from batchwright.ports import Reader


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a run of records within a chunk comes from: `index` is its first record's place in the chunk."""

    index: int
    anchor: Anchor
    offset: int
    divisible: bool


@dataclass(slots=True)
class Chunk:
    """An ordinal range of records. `bad` maps the index of each record that could not be read to what was found."""

    start: int
    items: Sequence[Any] = ()
    bad: dict[int, BadRecord] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    end: Position = field(default_factory=lambda: Position(0))

    def __len__(self) -> int:
        """The number of records, good and bad."""
        return len(self.items) + len(self.bad)

    def good_indexes(self) -> Sequence[int]:
        """The index in the chunk of each item, in order."""
        if not self.bad:
            return range(len(self.items))
        return [index for index in range(len(self)) if index not in self.bad]

    def locate(self, index: int) -> Position:
        """Where this record starts in the input."""
        if index == len(self):
            return self.end
        segment = self.segments[bisect_right([segment.index for segment in self.segments], index) - 1]
        return Position(self.start + index, segment.anchor, segment.offset + index - segment.index)

    def cut_at(self, index: int) -> int:
        """The last index up to this one at which a checkpoint may stand."""
        if index == len(self):
            return index
        segment = self.segments[bisect_right([segment.index for segment in self.segments], index) - 1]
        return index if segment.divisible else segment.index

    def part(self, start: int, stop: int) -> "Chunk":
        """The records from `start` up to `stop`, as a chunk of its own."""
        good = self.good_indexes()
        first, last = bisect_left(good, start), bisect_left(good, stop)
        inside = [segment for segment in self.segments if start < segment.index < stop]
        begin = self.locate(start)
        divisible = self.cut_at(start) == start and self._divisible_at(start)
        return Chunk(
            start=self.start + start,
            items=self.items[first:last],
            bad={index - start: record for index, record in self.bad.items() if start <= index < stop},
            segments=[
                Segment(0, begin.anchor, begin.offset, divisible),
                *(replace(segment, index=segment.index - start) for segment in inside),
            ],
            end=self.locate(stop),
        )

    def _divisible_at(self, index: int) -> bool:
        return self.segments[bisect_right([segment.index for segment in self.segments], index) - 1].divisible


def read_chunks(
    reader: Reader[Any],
    after: Position | None,
    chunk_size: int,
    interrupting: Callable[[object], AbstractContextManager[object]] = nullcontext,
) -> Iterator[Chunk]:
    """Chunks of `chunk_size` records from a position on; the last one may be shorter.

    Records that were read before the reader raised an error come as a chunk first, then the error. While it reads, the
    reader's iterator is in the context that `interrupting` gives. Raises ReadError if the input ends before the
    position.
    """
    ordinal, skip = (after.ordinal, after.offset) if after else (0, 0)
    chunk = Chunk(ordinal)
    try:
        for block in _read(reader, after, interrupting):
            reach("K4")
            taken = min(skip, len(block))
            skip -= taken
            while taken < len(block):
                stop = min(len(block), taken + chunk_size - len(chunk)) if block.divisible else len(block)
                _append(chunk, block, taken, stop)
                taken = stop
                if len(chunk) >= chunk_size:
                    yield chunk
                    chunk = Chunk(chunk.end.ordinal)
    except Exception:
        if len(chunk):
            yield chunk
        raise
    if skip:
        raise ReadError(
            f"{reader.address} ends before the checkpoint",
            f"{skip:,} items are missing that were read before",
            "restore the input, or begin again with --again",
        )
    if len(chunk):
        yield chunk


@dataclass(slots=True)
class Limited:
    """The input up to so many records. `over` says that this, and not the input, was its end."""

    left: int | None
    over: bool = False

    def cut(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks; the last of them may be shorter than it was read."""
        for read in chunks:
            chunk = read
            if self.left is not None:
                if len(chunk) > self.left:
                    chunk = chunk.part(0, chunk.cut_at(self.left) or len(chunk))
                self.left -= len(chunk)
                # A chunk that was cut ends the step even short of the limit: nothing is read a second time.
                self.over = chunk is not read or self.left <= 0
            yield chunk
            if self.over:
                return


def _read(
    reader: Reader[Any], after: Position | None, interrupting: Callable[[object], AbstractContextManager[object]]
) -> Iterator[Block[Any]]:
    blocks = reader.read(after)
    with interrupting(blocks):
        yield from blocks


def _append(chunk: Chunk, block: Block[Any], start: int, stop: int) -> None:
    """Add the block's records from `start` up to `stop` to the chunk."""
    index = len(chunk)
    chunk.segments.append(Segment(index, block.anchor, start, block.divisible))
    first, last = start, stop
    if block.bad:
        places = [record.index for record in block.bad]
        low, high = bisect_left(places, start), bisect_left(places, stop)
        first, last = start - low, stop - high
        chunk.bad.update({index + record.index - start: record for record in block.bad[low:high]})
    items = block.items[first:last]
    chunk.items = items if not chunk.items else [*chunk.items, *items]
    ordinal = chunk.start + len(chunk)
    whole = stop == len(block)
    chunk.end = Position(ordinal, block.next_anchor, 0) if whole else Position(ordinal, block.anchor, stop)

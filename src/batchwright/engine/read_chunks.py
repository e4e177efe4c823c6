"""Cut chunks out of a reader's blocks.

The one rule: where a chunk ends is arithmetic over what the blocks said, never a question to the reader.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchwright.abilities import Identifies
from batchwright.engine.stop import Stop
from batchwright.model.block import Anchor, BadRecord, Block, Place, Position
from batchwright.model.digest import item_digest
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError, StopRequestedError, not_repeatable
from batchwright.model.fault_points import reach
from batchwright.model.pace import CHUNK_SECONDS
from batchwright.ports import Clock, Reader

Fingerprint = Callable[[int], Any] | None

Telling = Callable[[int], Place | None] | None

Anchoring = Callable[[int], Anchor] | None

SAMPLES = 2
"""How many witnesses a chunk has beside its first record: where it is cut in between, the nearest one is compared."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a run of records within a chunk comes from: `index` is its first record's place in the chunk."""

    index: int
    anchor: Anchor
    offset: int
    divisible: bool
    fingerprint: Fingerprint = None
    place: Telling = None
    anchor_at: Anchoring = None

    def reach(self, index: int) -> int:
        """How many records of the block stand before this index of the chunk."""
        return self.offset + index - self.index

    def position(self, index: int, ordinal: int) -> Position:
        """Where the record at this index of the chunk starts."""
        return _position(ordinal, self.anchor, self.reach(index), self.anchor_at)


@dataclass(slots=True)
class Chunk:
    """An ordinal range of records. `bad` maps the index of each record that could not be read to what was found.

    `witnesses` are digests of some of them, with their ordinals, made before anybody could change them. `size` is about
    how many bytes of input they were made of, as far as the reader knows.
    """

    start: int
    items: Sequence[Any] = ()
    bad: dict[int, BadRecord] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    end: Position = field(default_factory=lambda: Position(0))
    witnesses: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def __len__(self) -> int:
        """The number of records, good and bad."""
        return len(self.items) + len(self.bad)

    def checkpoint(self, before: Position) -> Position:
        """The end, with what a restart needs to see whether the input before it is still the same."""
        behind = self.segments[-1] if self.segments else None
        found = behind.fingerprint(behind.reach(len(self))) if behind and behind.fingerprint else None
        end, witness = self.end, self.witnesses[-1] if self.witnesses else before.witness
        return Position(end.ordinal, end.anchor, end.offset, found, witness)

    def good_indexes(self) -> Sequence[int]:
        """The index in the chunk of each item, in order."""
        if not self.bad:
            return range(len(self.items))
        return [index for index in range(len(self)) if index not in self.bad]

    def locate(self, index: int) -> Position:
        """Where this record starts in the input."""
        if index == len(self):
            return self.end
        return self._segment_at(index).position(index, self.start + index)

    def place(self, index: int) -> Place | None:
        """Where a person finds this record, if what was read tells it."""
        segment = self._segment_at(index)
        return segment.place(segment.reach(index)) if segment.place else None

    def cut_at(self, index: int) -> int:
        """The last index up to this one at which a checkpoint may stand."""
        if index == len(self):
            return index
        segment = self._segment_at(index)
        return index if segment.divisible else segment.index

    def part(self, start: int, stop: int) -> "Chunk":
        """The records from `start` up to `stop`, as a chunk of its own."""
        good = self.good_indexes()
        first, last = bisect_left(good, start), bisect_left(good, stop)
        inside = [segment for segment in self.segments if start < segment.index < stop]
        at = self._segment_at(start)
        divisible = self.cut_at(start) == start and at.divisible
        return Chunk(
            start=self.start + start,
            items=self.items[first:last],
            bad={index - start: record for index, record in self.bad.items() if start <= index < stop},
            segments=[
                replace(at, index=0, offset=at.reach(start), divisible=divisible),
                *(replace(segment, index=segment.index - start) for segment in inside),
            ],
            end=self.locate(stop),
            witnesses=[seen for seen in self.witnesses if start <= seen[0] - self.start < stop],
        )

    def _segment_at(self, index: int) -> Segment:
        return self.segments[bisect_right([segment.index for segment in self.segments], index) - 1]


def read_chunks(
    reader: Reader[Any], after: Position | None, chunk_size: int, clock: Clock, stop: Stop
) -> Iterator[Chunk]:
    """Chunks of `chunk_size` records from a position on; the last one is shorter, and so is one that is read slowly.

    Records that were read before the reader raised an error come as a chunk first, then the error; so it is with those
    read before a stop, and StopRequestedError. A stop interrupts the reader. Raises GroundChangedError if the input
    ends before the position, or gives another record before it than it did when the position was reached.
    """
    ordinal, skip = (after.ordinal, after.offset) if after else (0, 0)
    chunk, began = Chunk(ordinal), clock.monotonic()
    identify = identifying(reader)
    try:
        for block in _read(reader, after, stop):
            reach("K4")
            taken = min(skip, len(block))
            if taken and after is not None:
                _require_same(reader, after, block, (after.ordinal - skip, taken))
            skip -= taken
            while taken < len(block):
                until = min(len(block), taken + chunk_size - len(chunk)) if block.divisible else len(block)
                _append(chunk, block, taken, until)
                taken = until
                if len(chunk) >= chunk_size:
                    yield witnessed(chunk, identify)
                    chunk, began = Chunk(chunk.end.ordinal), clock.monotonic()
            if len(chunk) and clock.monotonic() - began >= CHUNK_SECONDS:
                yield witnessed(chunk, identify)
                chunk, began = Chunk(chunk.end.ordinal), clock.monotonic()
            del block  # before the next one is read
    except Exception:
        if len(chunk):
            yield witnessed(chunk, identify)
        raise
    if skip:
        raise GroundChangedError(
            f"{reader.address} ends before the checkpoint",
            f"{skip:,} items are missing that were read before",
            f"restore the input, or {BEGIN_AGAIN}",
        )
    if len(chunk):
        yield witnessed(chunk, identify)


def identifying(reader: Reader[Any]) -> Callable[[Any], Any]:
    """What of an item of this reader is compared: all of it, unless the reader says what. Ask once, it is slow."""
    return reader.identify if isinstance(reader, Identifies) else _itself


def _itself(item: Any) -> Any:
    return item


def witnessed(chunk: Chunk, identify: Callable[[Any], Any]) -> Chunk:
    """Note what some of the records are, the first and the last among them, before anybody can change them.

    Where the reader makes fingerprints of what it read there is no need to.
    """
    if len(chunk) and chunk.segments[-1].fingerprint is None:
        last = len(chunk) - 1
        places = sorted({last * part // SAMPLES for part in range(SAMPLES + 1)})
        good = chunk.good_indexes()
        records = (chunk.bad.get(n) or chunk.items[bisect_left(good, n)] for n in places)
        digests = (_digest(identify, record) for record in records)
        chunk.witnesses = [(chunk.start + n, digest) for n, digest in zip(places, digests, strict=True) if digest]
    return chunk


@dataclass(slots=True)
class Limited:
    """The input up to so many records. `over` says that this, and not the input, was its end."""

    left: int | None
    reader: Reader[Any]
    over: bool = False

    def cut(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks; the last of them may be shorter than it was read."""
        for read in chunks:
            chunk = read
            if self.left is not None:
                if len(chunk) > self.left:
                    # What it ends with now is looked at before anybody can change it, as whole chunks are.
                    chunk = witnessed(chunk.part(0, chunk.cut_at(self.left) or len(chunk)), identifying(self.reader))
                self.left -= len(chunk)
                # A chunk that was cut ends the step even short of the limit: nothing is read a second time.
                self.over = chunk is not read or self.left <= 0
            yield chunk
            del read, chunk
            if self.over:
                return


def _read(reader: Reader[Any], after: Position | None, stop: Stop) -> Iterator[Block[Any]]:
    blocks = reader.read(after)
    with stop.interrupting(blocks):
        for block in blocks:
            yield block
            del block
            if stop.requested is not None:
                raise StopRequestedError


def _append(chunk: Chunk, block: Block[Any], start: int, stop: int) -> None:
    """Add the block's records from `start` up to `stop` to the chunk."""
    index = len(chunk)
    chunk.segments.append(
        Segment(index, block.anchor, start, block.divisible, block.fingerprint, block.place, block.anchor_at)
    )
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
    chunk.size += block.size if whole and not start else block.size * (stop - start) // len(block)
    if whole:
        chunk.end = Position(ordinal, block.next_anchor, 0)
    else:
        chunk.end = _position(ordinal, block.anchor, stop, block.anchor_at)


def _position(ordinal: int, anchor: Anchor, offset: int, anchor_at: Anchoring) -> Position:
    """A position in a block: at an anchor of its own, where the block knows one, so that no record is counted."""
    return Position(ordinal, anchor, offset) if anchor_at is None else Position(ordinal, anchor_at(offset))


def _require_same(reader: Reader[Any], after: Position, block: Block[Any], passed: tuple[int, int]) -> None:
    """Compare the witness, if it is among the block's first records that are passed over: from an ordinal, so many."""
    start, taken = passed
    ordinal, known = after.witness or (-1, "")
    index = ordinal - start
    if 0 <= index < taken:
        places = [record.index for record in block.bad]
        place = bisect_left(places, index)
        bad = place < len(places) and places[place] == index
        found = _digest(identifying(reader), block.bad[place] if bad else block.items[index - place])
        if found and found != known:
            raise not_repeatable(reader.address, ordinal)


def _digest(identify: Callable[[Any], Any], record: Any) -> str:
    return item_digest(["bad", record.raw] if isinstance(record, BadRecord) else identify(record))

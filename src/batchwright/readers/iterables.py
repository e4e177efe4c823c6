"""Plain Python collections and functions as readers.

The one rule: a source that fails in mid-block first hands over what it gave before.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from batchwright.model.block import Block, Place, Position
from batchwright.model.digest import item_digest
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError, SourceError, not_repeatable
from batchwright.model.pace import PASS_SECONDS, next_pass
from batchwright.model.processor import function_address
from batchwright.ports import Reader


def iterable_reader(
    source: Iterable[Any] | Callable[[], Iterable[Any]], block_items: int, *, one_shot: bool = False
) -> Reader[Any]:
    """A reader over a collection, or over what a function returns each time it is called.

    A sequence is entered at any index; anything else is iterated from its start again, passing over what is done.
    `one_shot` allows what a restarted process could not read again in the same order: an iterator, a set. Raises
    SourceError for those without it, and for what cannot be iterated.
    """
    if not one_shot:
        _refuse_unrepeatable(source)
    if isinstance(source, Sequence):
        return SequenceReader(type(source).__name__, source, block_items)
    if isinstance(source, Iterable):
        return IterableReader(type(source).__name__, source, block_items)
    if callable(source):
        return IterableReader(function_address(source), source, block_items)
    raise SourceError(f"a {type(source).__name__} cannot be iterated", f"got {source!r}", _MEND)


def is_one_shot(source: object) -> bool:
    """Whether this is an iterator: what it gave it gives no second time."""
    return isinstance(source, Iterator) and iter(source) is source


@dataclass(frozen=True, slots=True, eq=False)
class SequenceReader:
    """A reader over a sequence; an anchor is an index."""

    address: str
    source: Sequence[Any] = field(repr=False)
    block_items: int
    only: range | None = None

    @property
    def seeks(self) -> bool:
        """A restart goes straight to its index."""
        return True

    @property
    def undivided(self) -> str:
        """Nothing: it can be split."""
        return ""

    def split(self, most: int) -> Sequence[Any]:
        """Ranges of indexes of about the same size."""
        length, count = len(self.source), min(most, len(self.source))
        return [[length * part // count, length * (part + 1) // count] for part in range(count)]

    def part(self, spec: Any) -> "SequenceReader":
        """A reader of one of them."""
        return replace(self, only=range(*spec))

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        """Blocks of items. Raises GroundChangedError if the sequence has become shorter than the position."""
        source, start, end = self.source, self._start(after), self._end
        if max(start, end) > len(source):
            raise _shorter(self.address, len(source), max(start, end))
        while start < end:
            stop = min(start + self.block_items, end)
            yield Block(_slice(source, start, stop), start, stop)
            start = stop

    def place(self, position: Position) -> Place:
        """The item's index."""
        return Place(self.address, detail=f"item {self._start(position) + position.offset + 1}")

    def fraction(self, position: Position) -> float | None:
        """The position's part of the sequence."""
        first, length = self._start(None), self._end - self._start(None)
        return min(1.0, (self._start(position) + position.offset - first) / length) if length else 1.0

    def fingerprint(self, position: Position) -> None:  # noqa: ARG002 - the port gives it
        """Nothing of its own: the position's witness is enough."""
        return

    def changes(self, position: Position, *, finished: bool) -> str:
        """Whether it has become shorter or, once finished, longer, and whether an item before is what it was."""
        before, length = self._start(position) + position.offset, len(self.source)
        if self.only is not None:
            before = self.only.stop
        if length < before:
            return f"the {self.address} has become shorter: {before:,} items of it were read, now it has {length:,}"
        ordinal, known = position.witness or (0, "")
        ordinal += self._start(None)
        found = item_digest(self.source[ordinal]) if known and ordinal < length else ""
        if found and found != known:
            return f"the {self.address} was changed: item {ordinal + 1:,}, which was read, is not what it was"
        if finished and length > before and self.only is None:
            return f"the {self.address} has grown: it had {before:,} items when it was read, now it has {length:,}"
        return ""

    def _start(self, position: Position | None) -> int:
        first = 0 if self.only is None else self.only.start
        return first if position is None or position.anchor is None else int(position.anchor)

    @property
    def _end(self) -> int:
        return len(self.source) if self.only is None else self.only.stop


@dataclass(frozen=True, slots=True, eq=False)
class IterableReader:
    """A reader over whatever can be iterated anew; an anchor counts the items before it."""

    address: str
    source: Iterable[Any] | Callable[[], Iterable[Any]] = field(repr=False)
    block_items: int
    last_iterator: deque[Iterator[Any]] = field(init=False, repr=False, default_factory=lambda: deque(maxlen=1))
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @property
    def seeks(self) -> bool:
        """A restart iterates from the start again."""
        return False

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        """Blocks of items. What the source raises is raised as it is, behind a block of the items before it.

        A block ends early when its items come slowly; while a slow source is passed over, empty ones show that it is
        at work. Raises SourceError if the source gives an iterator that was read before, and GroundChangedError if it
        ends before the position.
        """
        iterator, start = self._open(), _anchor(after)
        try:
            yield from self._pass_over(iterator, start, after.witness if after else None)
            yield from self._blocks(iterator, start)
        finally:
            # Only generators, which are ours alone: a user's file or cursor stays open.
            if isinstance(iterator, Generator):
                iterator.close()

    def place(self, position: Position) -> Place:
        """The item's number, counted from 0."""
        return _place(self.address, position)

    def _open(self) -> Iterator[Any]:
        source = self.source if isinstance(self.source, Iterable) else self.source()
        if not isinstance(source, Iterable):
            raise SourceError(f"{self.address} must return something to iterate", f"it returned {source!r}", _MEND)
        iterator = iter(source)
        if any(iterator is known for known in self.last_iterator):
            raise SourceError(
                f"{self.address} can be read only once, and was read before",
                f"it gave the same {type(iterator).__name__} again",
                _MEND,
            )
        self.last_iterator.append(iterator)
        return iterator

    def _pass_over(self, iterator: Iterator[Any], count: int, witness: tuple[int, str] | None) -> Iterator[Block[Any]]:
        """Take what was read before, and compare the witness if it is among it; in the last block the engine does."""
        ordinal, known = witness or (-1, "")
        done, size, shown = 0, 1, self.clock()
        while done < count:
            wanted, began = min(size, count - done), self.clock()
            items = list(islice(iterator, wanted))
            if known and 0 <= ordinal - done < len(items) and item_digest(items[ordinal - done]) not in ("", known):
                raise not_repeatable(self.address, ordinal)
            done += len(items)
            if len(items) < wanted:
                raise _shorter(self.address, done, count)
            now = self.clock()
            size = min(next_pass(size, now - began), self.block_items)
            if now - shown >= PASS_SECONDS:
                yield Block((), done, done)
                shown = now

    def _blocks(self, iterator: Iterator[Any], start: int) -> Iterator[Block[Any]]:
        size, ended = 1, None
        while ended is None:
            items, size, ended = self._block(iterator, size)
            if items:
                block = Block(items, start, start + len(items))
                start += len(items)
                del items  # the next block is not read into memory beside this one
                yield block
                del block
        if not isinstance(ended, StopIteration):
            raise ended

    def _block(self, iterator: Iterator[Any], size: int) -> tuple[list[Any], int, Exception | None]:
        """Items, taken `size` at a time between two looks at the clock; the next size; and what ended the source."""
        items: list[Any] = []
        began = looked = self.clock()
        while len(items) < self.block_items and looked - began < PASS_SECONDS:
            before, wanted = len(items), min(size, self.block_items - len(items))
            try:
                # extend() keeps what it got when the iterator raises.
                items.extend(islice(iterator, wanted))
            except Exception as raised:  # noqa: BLE001 - raised again, behind the items
                return items, size, raised
            if len(items) - before < wanted:
                return items, size, StopIteration()
            now = self.clock()
            if wanted == size:
                size = min(next_pass(size, now - looked), self.block_items)
            looked = now
        return items, size, None


_MEND = "give a list, or a function that returns a new iterator each time, as a generator function does"


def _refuse_unrepeatable(source: object) -> None:
    if is_one_shot(source):
        raise SourceError(
            "an iterator can be read only once", f"got {type(source).__name__}; after a crash nothing is left", _MEND
        )
    if isinstance(source, set | frozenset):
        raise SourceError("a set has another order in each process", f"got {len(source):,} items", "give sorted(…)")


def _anchor(position: Position | None) -> int:
    return 0 if position is None or position.anchor is None else int(position.anchor)


def _slice(source: Sequence[Any], start: int, stop: int) -> Sequence[Any]:
    # Other sequences, like deque, need not know slices, and their slices need not be lists.
    known = isinstance(source, list | tuple | range)
    return list(source[start:stop]) if known else [source[index] for index in range(start, stop)]


def _place(address: str, position: Position) -> Place:
    return Place(address, detail=f"item {_anchor(position) + position.offset + 1}")


def _shorter(address: str, found: int, wanted: int) -> GroundChangedError:
    return GroundChangedError(
        f"{address} ends before the checkpoint",
        f"it has {found:,} items, {wanted:,} were done",
        f"restore the input, or {BEGIN_AGAIN}",
    )

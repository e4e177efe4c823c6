"""What a reader hands over: items in blocks, and where in the input they stand.

The one rule: a position comes with the data. Nobody ever asks a reader where it is now.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", covariant=True)

Anchor = Any
"""Anything the codec can store (see `batchwright.model.codec`); only the reader that made it reads it."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two items of a step's input.

    `ordinal` counts the items before it and is its identity and order. `anchor` and `offset` only say how to get
    there: open the input at `anchor`, then pass over `offset` items (bad records count as items).

    `fingerprint` and `witness` say what stood before it when it was reached, so that a restart sees whether it still
    does: the first is the reader's own (see `ports.Fingerprints`), the second a record's ordinal and digest.
    """

    ordinal: int
    anchor: Anchor = None
    offset: int = 0
    fingerprint: Any = field(default=None, compare=False, repr=False)
    witness: tuple[int, str] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be read: its index in the block, the error, and its raw text or bytes."""

    index: int
    error: Exception
    raw: str | bytes | None


@dataclass(frozen=True, slots=True)
class Block(Generic[Item]):
    """Items that a reader hands over at once.

    `anchor` is where the block starts and `next_anchor` where the next one does. `bad` holds the records that could
    not be read, in order; their indexes count both items and bad records. With `divisible=False` no checkpoint is
    made inside the block. `fingerprint` gives, for a number of records, the fingerprint of the position behind them; it
    is called once for each checkpoint in the block, and must be cheap. `place` tells without reading again where the
    record behind so many others is found; None: ask the reader. `anchor_at` gives the anchor of the position behind so
    many records, for an input whose records may be gone when it is read again: then a position in the block has an
    anchor of its own, and none is counted. `size` is the bytes of input that the block was made of, where the reader
    knows them at no cost: they bound what is read ahead.
    """

    items: Sequence[Item]
    anchor: Anchor
    next_anchor: Anchor
    bad: Sequence[BadRecord] = ()
    divisible: bool = True
    fingerprint: Callable[[int], Any] | None = field(default=None, compare=False, repr=False)
    place: "Callable[[int], Place | None] | None" = field(default=None, compare=False, repr=False)
    anchor_at: Callable[[int], Anchor] | None = field(default=None, compare=False, repr=False)
    size: int = field(default=0, compare=False, repr=False)

    def __len__(self) -> int:
        """The number of records in the block, good and bad."""
        return len(self.items) + len(self.bad)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person finds an item: a file with line and byte, or a table with a key."""

    source: str
    line: int | None = None
    byte: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        """The place in words, as it stands in notes and reports: `in/sales.csv line 1044`."""
        line = "" if self.line is None else f" line {self.line}"
        detail = f" {self.detail}" if self.detail else ""
        return f"{self.source}{line}{detail}"

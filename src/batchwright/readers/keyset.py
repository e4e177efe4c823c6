"""Pages of a query by the key of their last row, the same for every database.

The one rule: a key that is not unique, or is NULL, would lose rows at the edge of a page; it is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from batchwright.model.block import Block, Place, Position
from batchwright.model.digest import item_digest
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError, SourceError, not_repeatable

Row = dict[str, Any]

FetchPage = Callable[[Any, int], list[Row]]
"""The next rows behind an anchor (None: from the start), so many at the most, in the order of the key."""


def read_pages(fetch: FetchPage, key: Sequence[str], page_rows: int, anchor: Any, address: str) -> Iterator[Block[Row]]:
    """Pages from an anchor on, each a block. Raises SourceError for a key that cannot be one."""
    while True:
        # One row more than the page, to see whether the key at its edge is unique.
        rows = fetch(anchor, page_rows + 1)
        checked = _checked_keys(rows, key, address)
        page = rows[:page_rows]
        if not page:
            return
        # Taken now: the rows are the user's from here on, and their keys may be changed.
        keys = [anchor, *map(list, checked[:page_rows])]
        last = keys[-1]
        yield Block(page, anchor, last, anchor_at=keys.__getitem__)
        if len(rows) <= page_rows:
            return
        anchor = last


def place_row(fetch: FetchPage | None, key: Sequence[str], position: Position, source: str) -> Place:
    """The database and the row's key; its number where there is no key to find it by (`fetch` is None)."""
    if fetch is not None:
        rows = fetch(position.anchor, position.offset + 1)
        if len(rows) > position.offset:
            row = rows[position.offset]
            return Place(source, detail=" ".join(f"{name}={row[name]!r}" for name in key))
    return Place(source, detail=f"row {position.ordinal + 1}")


def pass_over(fetch: Callable[[int, int], Row | None], after: Position | None, address: str) -> None:
    """Pass over the rows before a position in a query without key, comparing the witness and looking for the last one.

    `fetch` gives the row at an ordinal, given the number of rows between the one it gave before and that one. Raises
    GroundChangedError if a row is not the one that was read before, or is missing.
    """
    count = int(after.anchor) if after is not None and after.anchor else 0
    if after is None or not count:
        return
    ordinal, known = after.witness or (count, "")
    passed = 0
    for place in sorted({ordinal, count - 1}):
        if place < count:
            row = fetch(place, place - passed)
            if row is None:
                raise GroundChangedError(
                    f"{address} gives fewer rows than before",
                    f"{count:,} rows were read, now row {place + 1:,} is missing",
                    f"put the rows back, give the query a key=, or {BEGIN_AGAIN}",
                )
            if place == ordinal and known and item_digest(row) not in ("", known):
                raise not_repeatable(address, ordinal)
            passed = place + 1


def key_of(key: Sequence[str], row: Row) -> Any:
    """What makes a row the same one: its key, while other columns may change; without a key all of it."""
    return [row[name] for name in key] if key else row


def require_key(key: Sequence[str], columns: Sequence[str], database: object) -> None:
    """Raise SourceError for a key column that is not in the query's result."""
    for name in key:
        if name not in columns:
            raise SourceError(
                f"the query on {database} has no column '{name}' for its key",
                f"its columns are {', '.join(columns)}",
                "change key=, or select it",
            )


def _checked_keys(rows: Sequence[Row], key: Sequence[str], address: str) -> list[tuple[Any, ...]]:
    keys = [tuple(row[name] for name in key) for row in rows]
    words = ", ".join(key)
    if any(None in values for values in keys):
        raise SourceError(f"the key {words} of a query is NULL in some row", address, "choose a key that is never NULL")
    for before, values in pairwise(keys):
        if before == values:
            raise SourceError(
                f"the key {words} of a query is not unique",
                f"two rows have {', '.join(map(repr, values))}; rows would be lost at the edge of a page",
                "add columns to key= until it is unique",
            )
    return keys

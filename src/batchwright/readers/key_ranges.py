"""Ranges of a query's key, so that several readers read it at once, the same for every database.

The one rule: a row belongs to the range that its key says, whenever it is read; ranges leave no gap and do not overlap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from batchwright.model.errors import SourceError

NO_KEY = "the query has no key=, by whose ranges it could be split; give it one"


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys behind `above` and up to `up_to`; None: there is no bound on that side."""

    above: Sequence[Any] | None = None
    up_to: Sequence[Any] | None = None

    def condition(self, ordered: str, anchor: Sequence[Any] | None, mark: str) -> tuple[str, list[Any]]:
        """The WHERE clause for rows of this range behind an anchor, and its values; `{}` in the mark is a number."""
        bounds = ((">", self.above if anchor is None else anchor), ("<=", self.up_to))
        words, values = [], list[Any]()
        for sign, bound in bounds:
            if bound is not None:
                marks = ", ".join(mark.format(len(values) + place) for place in range(len(bound)))
                words.append(f"({ordered}) {sign} ({marks})")
                values.extend(bound)
        return (f"WHERE {' AND '.join(words)}" if words else ""), values


EVERY_KEY = KeyRange()


@dataclass(frozen=True, slots=True)
class KeyedQuery:
    """A query as SQL has it in FROM, the quoted names of its key, and how that is ordered."""

    source: str
    names: Sequence[str]
    ordered: str
    address: str


def split_keys(ask: Callable[[str], Sequence[Sequence[Any]]], keyed: KeyedQuery, most: int) -> list[list[Any]]:
    """Ranges with about as many rows in each, at most so many; at least one, without bounds.

    Raises SourceError for a key that is NULL in some row: such a row would be in no range.
    """
    columns = ", ".join(keyed.names)
    missing = " OR ".join(f"{name} IS NULL" for name in keyed.names)
    ((rows, nulls),) = ask(f"SELECT count(*), count(CASE WHEN {missing} THEN 1 END) FROM {keyed.source}")  # noqa: S608 - quoted
    if nulls:
        raise SourceError(
            f"the key {columns} of a query is NULL in {nulls:,} rows", keyed.address, "choose a key that is never NULL"
        )
    size = max(1, -(-rows // most))
    numbered = f"SELECT {columns}, row_number() OVER (ORDER BY {keyed.ordered}) AS batchwright_row FROM {keyed.source}"  # noqa: S608 - as above
    found = ask(
        f"SELECT {columns} FROM ({numbered}) AS numbered "  # noqa: S608 - as above
        f"WHERE batchwright_row = batchwright_row / {size} * {size} AND batchwright_row < {rows} "
        "ORDER BY batchwright_row"
    )
    cuts: list[list[Any] | None] = [None, *map(list, found), None]
    return [[above, up_to] for above, up_to in pairwise(cuts)]

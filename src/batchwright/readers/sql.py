"""Rows of a SQLite query, by keyset: each page begins behind the last key, so that restart goes straight there.

The one rule: no OFFSET. A key that is not unique or is NULL would lose rows at the edge of a page; it is refused.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from batchwright.databases import sqlite
from batchwright.databases.postgres import database_of, is_postgres
from batchwright.databases.sqlite import quoted
from batchwright.model.block import Block, Place, Position
from batchwright.model.digest import item_digest
from batchwright.model.errors import DeclarationError, SourceError
from batchwright.ports import Reader
from batchwright.readers.interruptible_blocks import InterruptibleBlocks
from batchwright.readers.key_ranges import EVERY_KEY, NO_KEY, KeyedQuery, KeyRange, split_keys
from batchwright.readers.keyset import key_of, pass_over, place_row, read_pages, require_key

PAGE_ROWS = 1_000

Parameters = Mapping[str, Any] | Sequence[Any]


def query(
    database: str,
    sql: str,
    parameters: Parameters = (),
    *,
    key: str | Sequence[str] | None = None,
    page_rows: int = PAGE_ROWS,
) -> Reader[dict[str, Any]]:
    """The rows of a query as dicts, ordered by `key`: columns of its result that are unique together and never NULL.

    `database` is `sqlite:///file.db` or `postgresql://user@host/database`; parameters are written as its driver wants
    them: `:day` and `?`, or `%(day)s` and `%s`. Rows are read page by page, each in a short transaction of its own.
    Without `key` the query runs as it is, and after a crash runs again and passes over the rows that are done: give it
    an ORDER BY. On PostgreSQL text keys are ordered byte by byte: an index on them should be `COLLATE "C"`.
    """
    keys = () if key is None else (key,) if isinstance(key, str) else tuple(key)
    if key is not None and not (keys and all(isinstance(name, str) and name for name in keys)):
        raise DeclarationError("query: key must name one or more columns", f"got {key!r}", 'write key="id"')
    if page_rows < 1:
        raise DeclarationError("query: page_rows must be at least 1", f"got {page_rows}")
    if not isinstance(parameters, Mapping | Sequence) or isinstance(parameters, str):
        raise DeclarationError("query: parameters must be a dict or a sequence", f"got {parameters!r}")
    sql = sql.strip().rstrip(";")
    if is_postgres(database):
        from batchwright.readers.postgres import PostgresQuery

        given = dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)
        return PostgresQuery(database_of(database), sql, given, keys, page_rows)
    return Query(database, sql, _frozen(parameters), keys, page_rows)


@dataclass(frozen=True)
class Query:
    """A query of a SQLite database as the source of a step."""

    database: str
    sql: str
    parameters: tuple[tuple[str, Any], ...] | tuple[Any, ...]
    key: tuple[str, ...]
    page_rows: int = PAGE_ROWS
    only: KeyRange = EVERY_KEY

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        sqlite.database_path(self.database)

    @property
    def address(self) -> str:
        """The database's absolute address and a digest of the query."""
        digest = hashlib.sha256(" ".join(self.sql.split()).encode()).hexdigest()[:8]
        path = os.path.abspath(sqlite.database_path(self.database))  # noqa: PTH100 - without following links
        return f"{sqlite.SCHEME}{path} query {digest} by {', '.join(self.key) or 'no key'}"

    @property
    def seeks(self) -> bool:
        """Whether a restart goes straight to its place: with a key."""
        return bool(self.key)

    def check(self) -> None:
        """Raise SourceError for a missing database, a statement that is no query, or an unknown key column."""
        path = sqlite.database_path(self.database)
        if not path.exists():
            raise SourceError(f"there is no database {path}", "no such file", "check the path")
        with closing(self._connect()) as connection:
            try:
                cursor = connection.execute(f"SELECT * FROM ({self.sql}\n) LIMIT 0", self._bound(()))  # noqa: S608 - the user's SQL
            except sqlite3.Error as error:
                raise SourceError(f"the query on {path} does not run", str(error), "mend the SQL") from error
            columns = [column[0] for column in cursor.description]
        require_key(self.key, columns, path)

    def read(self, after: Position | None) -> InterruptibleBlocks[dict[str, Any], sqlite3.Connection]:
        """Pages from the key in the anchor on. Another thread may interrupt them."""
        return InterruptibleBlocks(lambda opened: self._read(after, opened), sqlite.interrupt)

    def _read(
        self, after: Position | None, opened: Callable[[sqlite3.Connection], None]
    ) -> Generator[Block[dict[str, Any]], None, None]:
        anchor = after.anchor if after else None
        with closing(self._connect()) as connection:
            opened(connection)
            if self.key:
                yield from read_pages(partial(self._page, connection), self.key, self.page_rows, anchor, self.address)
            else:
                yield from self._stream(connection, after)

    @property
    def options(self) -> Mapping[str, str]:
        """A digest of the parameters, which may be secret."""
        given = self.parameters if self._positional else dict(self.parameters)
        return {"parameters": item_digest(given) if given else "none"}

    def identify(self, item: dict[str, Any]) -> Any:
        """A row's key: its other columns may change while the query is read. Without a key all of it."""
        return key_of(self.key, item)

    def place(self, position: Position) -> Place:
        """The database and the row's key."""
        source = str(sqlite.database_path(self.database))
        if not self.key:
            return place_row(None, (), position, source)
        with closing(self._connect()) as connection:
            return place_row(partial(self._page, connection), self.key, position, source)

    def _connect(self) -> sqlite3.Connection:
        return sqlite.connect_read_only(sqlite.database_path(self.database))

    def _stream(self, connection: sqlite3.Connection, after: Position | None) -> Iterator[Block[dict[str, Any]]]:
        cursor = connection.execute(self.sql, self._bound(()))
        names = [column[0] for column in cursor.description]

        def fetch(_: int, passing: int) -> dict[str, Any] | None:
            row = next(islice(cursor, passing, None), None)
            return None if row is None else dict(zip(names, row, strict=True))

        pass_over(fetch, after, self.address)
        done = after.anchor if after is not None and after.anchor else 0
        while rows := cursor.fetchmany(self.page_rows):
            yield Block([dict(zip(names, row, strict=True)) for row in rows], done, done + len(rows))
            done += len(rows)

    def _page(self, connection: sqlite3.Connection, anchor: Any, rows: int) -> list[dict[str, Any]]:
        # BINARY everywhere: a column's own collation may call two keys equal that Python tells apart.
        ordered = self._keyed().ordered
        where, bounds = self.only.condition(ordered, anchor, "?" if self._positional else ":batchwright_key_{}")
        statement = f"SELECT * FROM ({self.sql}\n) {where} ORDER BY {ordered} LIMIT {int(rows)}"  # noqa: S608 - quoted
        cursor = connection.execute(statement, self._bound(bounds))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    @property
    def undivided(self) -> str:
        """Why it cannot be split: without a key there are no ranges of it."""
        return "" if self.key else NO_KEY

    def split(self, most: int) -> Sequence[Any]:
        """Ranges of the key with about as many rows in each; the database looks at all keys once."""
        with closing(self._connect()) as connection:
            return split_keys(lambda sql: connection.execute(sql, self._bound(())).fetchall(), self._keyed(), most)

    def part(self, spec: Any) -> "Query":
        """A reader of one of them."""
        return replace(self, only=KeyRange(*spec))

    def _keyed(self) -> KeyedQuery:
        ordered = ", ".join(f"{quoted(name)} COLLATE BINARY" for name in self.key)
        return KeyedQuery(f"({self.sql}\n)", [*map(quoted, self.key)], ordered, self.address)

    @property
    def _positional(self) -> bool:
        return not (self.parameters and isinstance(self.parameters[0], _Named))

    def _bound(self, anchor: Sequence[Any]) -> Any:
        if self._positional:
            return (*self.parameters, *anchor)
        return {**dict(self.parameters), **{f"batchwright_key_{index}": value for index, value in enumerate(anchor)}}


class _Named(tuple[str, Any]):
    """A parameter by name."""

    __slots__ = ()


def _frozen(parameters: Parameters) -> tuple[Any, ...]:
    if isinstance(parameters, Mapping):
        return tuple(_Named(entry) for entry in parameters.items())
    return tuple(parameters)

"""Rows of a PostgreSQL query, by keyset: each page begins behind the last key, so that restart goes straight there.

The one rule: no OFFSET, and no transaction that stays open while rows are worked on. Text keys are compared byte by
byte, so that the order is the same on every server and after every upgrade of its locales.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwright.databases import postgres, postgres_errors
from batchwright.databases.postgres import Database, quoted
from batchwright.model.block import Block, Place, Position
from batchwright.model.digest import item_digest
from batchwright.model.errors import ReadError, SourceAwayError, SourceError, TargetError, WriteError
from batchwright.model.guarantee import Fault
from batchwright.readers.interruptible_blocks import InterruptibleBlocks
from batchwright.readers.key_ranges import EVERY_KEY, NO_KEY, KeyedQuery, KeyRange, split_keys
from batchwright.readers.keyset import key_of, pass_over, place_row, read_pages, require_key

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

STATEMENT_SECONDS = 3_600
"""How long the server may look for one page."""

_BYTEWISE = ("C", "POSIX", "C.UTF-8", "C.utf8")

_OWN_COLLATION = """
SELECT CASE c.collprovider WHEN 'd' THEN d.datcollate ELSE c.collcollate END
FROM pg_catalog.pg_collation c, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database() AND c.oid = pg_catalog.to_regcollation(%s)
"""


@dataclass(frozen=True)
class PostgresQuery:
    """A query of a PostgreSQL database as the source of a step. Parameters are a dict or a tuple."""

    database: Database
    sql: str
    parameters: Mapping[str, Any] | tuple[Any, ...] = field(repr=False)
    key: tuple[str, ...]
    page_rows: int
    only: KeyRange = EVERY_KEY

    @property
    def address(self) -> str:
        """The database's address, without user and password, and a digest of the query."""
        digest = hashlib.sha256(" ".join(self.sql.split()).encode()).hexdigest()[:8]
        return f"{self.database} query {digest} by {', '.join(self.key) or 'no key'}"

    @property
    def seeks(self) -> bool:
        """Whether a restart goes straight to its place: with a key."""
        return bool(self.key)

    def check(self) -> None:
        """Raise SourceError for a database that turns us away, a statement that is no query, or an unknown key.

        A server that cannot be reached now is no error yet: it is waited for when it is read.
        """
        try:
            with self._connected() as connection:
                columns = [name for name, _ in self._columns(connection)]
        except SourceAwayError:
            return
        require_key(self.key, columns, self.database)

    def read(self, after: Position | None) -> InterruptibleBlocks[dict[str, Any], "Connection"]:
        """Pages from the key in the anchor on. Another thread may interrupt them."""
        return InterruptibleBlocks(lambda opened: self._read(after, opened), postgres.interrupt)

    def _read(
        self, after: Position | None, opened: "Callable[[Connection], None]"
    ) -> Generator[Block[dict[str, Any]], None, None]:
        anchor = after.anchor if after else None
        with self._connected() as connection:
            opened(connection)
            if self.key:
                page = partial(self._page, connection, self._ordered(connection))
                yield from read_pages(page, self.key, self.page_rows, anchor, self.address)
            else:
                yield from self._stream(connection, after)

    @property
    def options(self) -> Mapping[str, str]:
        """A digest of the parameters, which may be secret."""
        given = self.parameters
        return {"parameters": item_digest(given) if given else "none"}

    def identify(self, item: dict[str, Any]) -> Any:
        """A row's key: its other columns may change while the query is read. Without a key all of it."""
        return key_of(self.key, item)

    def place(self, position: Position) -> Place:
        """The database and the row's key."""
        source = str(self.database)
        if not self.key:
            return place_row(None, (), position, source)
        with self._connected() as connection:
            page = partial(self._page, connection, self._ordered(connection))
            return place_row(page, self.key, position, source)

    @contextmanager
    def _connected(self) -> Iterator["Connection"]:
        """A connection that cannot write; the driver's errors come out in our words."""
        connection = None
        try:
            connection = postgres.connect(self.database, read_only=True, statement_seconds=STATEMENT_SECONDS)
            yield connection
        except Exception as error:
            raise self._explained(error) from error
        finally:
            if connection is not None:
                postgres.close(connection)

    def _explained(self, error: Exception) -> Exception:
        away = postgres_errors.classify(error) is Fault.TRANSIENT
        if postgres_errors.is_driver_error(error):
            error = postgres_errors.explained(error, self.database.shown, self.database.secrets)
        if isinstance(error, TargetError):
            return SourceError(error.wrong, error.found, error.mend)
        if isinstance(error, WriteError):
            return (SourceAwayError if away else ReadError)(error.wrong, error.found, error.mend)
        return error

    def _stream(self, connection: "Connection", after: Position | None) -> Iterator[Block[dict[str, Any]]]:
        """Without a key: the server keeps the whole result, outside any transaction, and hands it over by pages."""
        with connection.cursor("batchwright_rows", withhold=True) as cursor:
            cursor.execute(self.sql.encode(), self.parameters or None)
            names = [column.name for column in cursor.description or ()]

            def fetch(_: int, passing: int) -> dict[str, Any] | None:
                if passing:
                    cursor.scroll(passing)
                row = cursor.fetchone()
                return None if row is None else dict(zip(names, row, strict=True))

            pass_over(fetch, after, self.address)
            done = after.anchor if after is not None and after.anchor else 0
            while rows := cursor.fetchmany(self.page_rows):
                yield Block([dict(zip(names, row, strict=True)) for row in rows], done, done + len(rows))
                done += len(rows)

    def _columns(self, connection: "Connection") -> list[tuple[str, int]]:
        """The names of the query's columns, and their types' ids."""
        cursor = connection.execute(f"SELECT * FROM ({self._sql}\n) AS q LIMIT 0".encode(), self._bound(()))  # noqa: S608 - the user's SQL
        return [(column.name, column.type_code) for column in cursor.description or ()]

    def _ordered(self, connection: "Connection") -> str:
        """The key columns as they are ordered and compared: texts byte by byte."""
        types = dict(self._columns(connection))
        collated = connection.execute(
            "SELECT oid FROM pg_catalog.pg_type WHERE typcollation <> 0 AND oid = ANY(%s)", [list(types.values())]
        ).fetchall()
        texts = {row[0] for row in collated}
        return ", ".join(
            self._bytewise(connection, name) if types.get(name) in texts else _escaped(name) for name in self.key
        )

    def _bytewise(self, connection: "Connection", name: str) -> str:
        """A text column, in a collation that compares bytes; its own if it is one, for the sake of its index."""
        inner = f"SELECT {_escaped(name)} FROM ({self._sql}\n) AS q LIMIT 0"  # noqa: S608 - quoted
        asked = connection.execute(f"SELECT pg_catalog.pg_collation_for(({inner}))".encode(), self._bound(()))
        (collation,) = asked.fetchone() or (None,)
        (own,) = connection.execute(_OWN_COLLATION, [collation]).fetchone() or (None,)
        return _escaped(name) if own in _BYTEWISE else f'{_escaped(name)} COLLATE "C"'

    def _page(self, connection: "Connection", ordered: str, anchor: Any, rows: int) -> list[dict[str, Any]]:
        named = isinstance(self.parameters, Mapping)
        where, bounds = self.only.condition(ordered, anchor, "%(batchwright_key_{})s" if named else "%s")
        statement = f"SELECT * FROM ({self._sql}\n) AS q {where} ORDER BY {ordered} LIMIT {rows}"  # noqa: S608 - quoted
        cursor = connection.execute(statement.encode(), self._bound(bounds))
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    @property
    def undivided(self) -> str:
        """Why it cannot be split: without a key there are no ranges of it."""
        return "" if self.key else NO_KEY

    def split(self, most: int) -> Sequence[Any]:
        """Ranges of the key with about as many rows in each; the database looks at all keys once."""
        with self._connected() as connection:
            source, names = f"({self._sql}\n) AS q", [*map(_escaped, self.key)]
            keyed = KeyedQuery(source, names, self._ordered(connection), self.address)
            return split_keys(lambda sql: connection.execute(sql.encode(), self._bound(())).fetchall(), keyed, most)

    def part(self, spec: Any) -> "PostgresQuery":
        """A reader of one of them."""
        return replace(self, only=KeyRange(*spec))

    @property
    def _sql(self) -> str:
        """The query as a part of a statement with parameters, in which a percent sign is doubled."""
        return self.sql if self.parameters else self.sql.replace("%", "%%")

    def _bound(self, anchor: Sequence[Any]) -> Any:
        if isinstance(self.parameters, Mapping):
            return {**self.parameters, **{f"batchwright_key_{index}": value for index, value in enumerate(anchor)}}
        return (*self.parameters, *anchor)


def _escaped(name: str) -> str:
    return quoted(name).replace("%", "%%")

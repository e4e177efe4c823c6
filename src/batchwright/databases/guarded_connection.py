"""A target's connection lent to a loop's body: it writes with it, and can neither commit nor roll back.

The one rule: whatever would end the transaction that holds the checkpoint is refused before it is sent. It serves
SQLite's connections and psycopg's: both have `cursor()`, and cursors with `execute`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

from batchwright.model.errors import DeclarationError

Opened = Callable[[], Any]
"""Gives the real connection, inside an open transaction; raises outside of an item."""

Refuse = Callable[[DeclarationError], DeclarationError]
"""Takes note of an error of the body's, to be raised."""

_OURS = ("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE TRANSACTION")

_APART = ("ATTACH", "DETACH")

_PASSED_ON = (
    "create_aggregate", "create_collation", "create_function", "create_window_function", "info", "total_changes",
    "transaction",
)  # fmt: skip

_REFUSED = {
    "commit": "leave it out: the loop commits, with its checkpoint",
    "rollback": "raise an error instead: the item is undone, and skip= says whether the loop goes on",
    "executescript": "it commits first; give its statements to execute(), one by one",
    "close": "leave it out: the loop closes it",
    "autocommit": "leave it: the loop opens and commits each transaction",
    "isolation_level": "leave it: the loop opens and commits each transaction",
    "set_autocommit": "leave it: the loop opens and commits each transaction",
    "set_isolation_level": "leave it: the loop opens and commits each transaction",
    "tpc_begin": "leave it out: the loop commits, with its checkpoint",
    "pipeline": "leave it out: what is sent has to be answered before the item ends",
}

_MOST_KNOWN = 1_000

_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?(?:\*/|\Z)
    | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<end>;) | (?P<word>[A-Za-z_]\w*) | .""",
    re.VERBOSE | re.DOTALL,
)


class GuardedConnection:
    """`execute`, `executemany` and `cursor` of a database connection, for the body of a loop.

    To be used inside `with loop.item():` only. `row_factory` holds for the cursors that are made after it was set.
    Raises DeclarationError for `commit()`, `rollback()`, `executescript()`, `with connection:` and statements such as
    BEGIN, COMMIT and SAVEPOINT; that ends the loop, and nothing of the item is written.
    """

    def __init__(self, opened: Opened, refuse: Refuse) -> None:
        """Open nothing."""
        self.row_factory: Any = None
        self._opened = opened
        self._refuse = refuse
        self._allowed: set[str] = set()
        self.knows: Callable[[str], bool] = self._allowed.__contains__
        self._cursors: list[Any] = []

    def execute(self, sql: Any, *parameters: Any, **options: Any) -> "GuardedCursor":
        """Execute one statement on a cursor of its own."""
        return self.cursor().execute(sql, *parameters, **options)

    def executemany(self, sql: Any, parameters: Any) -> "GuardedCursor":
        """Execute one statement for each of the parameters, on a cursor of its own."""
        return self.cursor().executemany(sql, parameters)

    def cursor(self, *arguments: Any, **options: Any) -> "GuardedCursor":
        """A cursor. It is closed when the item ends, and opened anew by its next `execute`."""
        return GuardedCursor(self, arguments, options)

    def __enter__(self) -> None:
        """Refused: it would commit at its end."""
        raise self._refused("with connection:", "leave it out: `with loop.item():` is what it was")

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    def __getattr__(self, name: str) -> Any:
        """What else a connection has, where it harms nothing."""
        if name in _REFUSED:
            raise self._refused(name, _REFUSED[name])
        if name in _PASSED_ON:
            return getattr(self._opened(), name)
        offered = "execute, executemany, cursor and row_factory"
        raise AttributeError(f"loop.connection has no {name}; it offers {offered}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would change how transactions are made."""
        if name in _REFUSED:
            raise self._refused(f"{name} = {value!r}", _REFUSED[name])
        object.__setattr__(self, name, value)

    def open_cursor(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A real cursor, until the item ends."""
        cursor = self._opened().cursor(*arguments, **options)
        if self.row_factory is not None and "row_factory" not in options:
            cursor.row_factory = self.row_factory
        self._cursors.append(cursor)
        return cursor

    def require_harmless(self, sql: Any) -> None:
        """Raise DeclarationError for a statement that would end the transaction, or leave it."""
        text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql
        text = text.as_string(None) if hasattr(text, "as_string") else text
        if not isinstance(text, str) or text in self._allowed:
            return
        for words in first_words(text):
            if words in _OURS or words.split(" ")[0] in _OURS:
                raise self._refused(words.split(" ")[0], "leave it out: the loop begins, commits and undoes by itself")
            if words.split(" ")[0] in _APART:
                raise self._refused(words.split(" ")[0], "write to one database: two are not committed together")
        if len(self._allowed) >= _MOST_KNOWN:
            self._allowed.clear()
        self._allowed.add(text)

    def close_cursors(self) -> None:
        """End what an item has left open: a statement that is not read to its end would hold up the commit."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()

    def still_open(self, cursor: Any) -> bool:
        """Whether this cursor was opened for the item in hand."""
        return any(cursor is known for known in self._cursors)

    def _refused(self, what: str, mend: str) -> DeclarationError:
        return self._refuse(
            DeclarationError(f"loop.connection refuses {what}", "it would part the rows from their checkpoint", mend)
        )


class GuardedCursor:
    """A cursor of a guarded connection: its rows are there until the item ends."""

    def __init__(self, connection: GuardedConnection, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Open nothing yet."""
        self.connection: Final = connection
        self._made_with = arguments, options
        self._cursor: Any = None

    def execute(self, sql: Any, *parameters: Any, **options: Any) -> "GuardedCursor":
        """Execute one statement."""
        if type(sql) is not str or not self.connection.knows(sql):
            self.connection.require_harmless(sql)
        self._real().execute(sql, *parameters, **options)
        return self

    def executemany(self, sql: Any, parameters: Any, **options: Any) -> "GuardedCursor":
        """Execute one statement for each of the parameters."""
        self.connection.require_harmless(sql)
        self._real().executemany(sql, parameters, **options)
        return self

    def copy(self, sql: Any, *parameters: Any, **options: Any) -> Any:
        """PostgreSQL's COPY, as psycopg has it."""
        self.connection.require_harmless(sql)
        return self._real().copy(sql, *parameters, **options)

    def __iter__(self) -> Iterator[Any]:
        """The rows."""
        return iter(self._real())

    def __next__(self) -> Any:
        """The next row."""
        return next(self._real())

    def __enter__(self) -> Self:
        """Itself: as psycopg's cursors, it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let it go."""
        if self._cursor is not None:
            self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        """What else a cursor has: `fetchone`, `fetchall`, `rowcount`, `lastrowid` and so on."""
        if name in _REFUSED and name != "close":
            return getattr(self.connection, name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        if self._cursor is None or not self.connection.still_open(self._cursor):
            self._cursor = self.connection.open_cursor(*self._made_with)
        return self._cursor


def first_words(sql: str) -> Iterator[str]:
    """The first word of each statement of a text, in capitals; of PREPARE and what follows it the first two."""
    words: list[str] = []
    for token in _TOKEN.finditer(sql):
        if token["end"]:
            if words:
                yield " ".join(words)
            words = []
        elif token["word"] and (not words or words == ["PREPARE"]):
            words.append(token["word"].upper())
        elif words == ["PREPARE"] and not token[0].isspace():
            words.append("")
    if words:
        yield " ".join(words)

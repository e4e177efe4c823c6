"""The staging table of an atomic step in a SQLite database.

The one rule: nothing here commits. Rows reach the target in the transaction that drops the staging table and sets the
finished mark. See `staging_tables` for the states.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchwright.databases import sqlite
from batchwright.databases.sqlite import quoted
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.errors import NotPublishedError
from batchwright.model.fault_points import reach
from batchwright.model.publication import Publication, Rows
from batchwright.writers.sqlite_tables import Table, column_types
from batchwright.writers.staging_tables import (
    ROW,
    earlier_stages,
    not_published,
    require_agreement,
    require_whole,
    stage_name,
)

_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

_EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the rows of one step wait. `conflict` is that of the writer into the target: None for an upsert."""

    key: StepKey
    target: Table
    conflict: str | None
    duplicates: str
    publication: Publication

    @property
    def name(self) -> str:
        """The staging table."""
        return stage_name(self.key)

    @property
    def staging_conflict(self) -> str | None:
        """The clause for rows into the staging table: of equal keys, across all chunks, one waits there."""
        if not self.target.key:
            return ""
        return {"last": None, "first": " ON CONFLICT DO NOTHING"}.get(self.duplicates, "")

    def ready(self, connection: sqlite3.Connection, columns: tuple[str, ...], values: list[Any]) -> Table:
        """The staging table, created in the open transaction if it was missing, with the target's types.

        Raises TargetError for a target that the rows do not fit, as for a plain step.
        """
        connection.execute("SAVEPOINT batchwright_stage")
        target = self.target.ready(connection, columns, values, checks=self.conflict is None)
        types = {name.lower(): kind for name, kind in column_types(connection, target.name).items()}
        # A target that was missing is created when there is something to publish, not before.
        connection.execute("ROLLBACK TO batchwright_stage")
        connection.execute("RELEASE batchwright_stage")
        staged = Table(self.name, target.key, tuple((name, types[name.lower()]) for name in target.columns))
        if not column_types(connection, self.name):
            self._drop_earlier(connection)
            _create(connection, staged)
        return staged

    def publish(self, connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        """Move all rows into the target and drop the staging table, in the open transaction.

        Raises NotPublishedError if `publish_if` says no or the target refuses a row, GroundChangedError if rows lack.
        """
        types = column_types(connection, self.name)
        if types:
            (found,) = connection.execute(f"SELECT count(*) FROM {quoted(self.name)}").fetchone()  # noqa: S608 - quoted
            require_whole(self.key.step, self.name, found, checkpoint.counts, merges=bool(self.target.key))
            del types[ROW]
            self._move(connection, types)
        elif checkpoint.counts.outputs:
            require_whole(self.key.step, self.name, None, checkpoint.counts, merges=False)
        reach("K8")
        judge(connection, self.publication, checkpoint, quoted(self.name) if types else "")
        if types:
            connection.execute(f"DROP TABLE {quoted(self.name)}")

    def drop(self, connection: sqlite3.Connection) -> bool:
        """Drop the staging table; whether there was one."""
        found = bool(column_types(connection, self.name))
        connection.execute(f"DROP TABLE IF EXISTS {quoted(self.name)}")
        return found

    def refused(self, error: Exception, example: Sequence[Any] | None) -> NotPublishedError:
        """The error of a target that refuses what is to be published: its constraint, and a row that breaks it."""
        shown = ""
        if example is not None and self.publication.shows_rows:
            text = repr(tuple(example))
            shown = f", for example by {text[:_EXAMPLE_CHARACTERS]}{'…' if len(text) > _EXAMPLE_CHARACTERS else ''}"
        words = f"table '{self.target.name}' refuses it: {error}{shown}"
        return not_published(self.publication, words, f"mend the rows in {self.name}, or the table")

    def _drop_earlier(self, connection: sqlite3.Connection) -> None:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in earlier_stages(self.key, names):
            connection.execute(f"DROP TABLE {quoted(name)}")

    def _move(self, connection: sqlite3.Connection, types: dict[str, str]) -> None:
        """Rows into the target, in the order of the input; the target is created if it is missing."""
        known = dict(self.target.typed_columns)
        typed = tuple((name, known.get(name) or kind) for name, kind in types.items())
        target = replace(self.target, typed_columns=typed)
        target = target.ready(connection, target.columns, [], checks=self.conflict is None)
        columns = ", ".join(map(quoted, target.columns))
        conflict = target.on_conflict() if self.conflict is None else self.conflict
        insert = (
            f"INSERT INTO {quoted(target.name)} ({columns}) SELECT {columns} FROM {quoted(self.name)} "  # noqa: S608 - quoted
            f"WHERE {ROW} > ? AND {ROW} <= ? ORDER BY {ROW}{conflict}"
        )
        (last,) = connection.execute(f"SELECT max({ROW}) FROM {quoted(self.name)}").fetchone()  # noqa: S608 - quoted
        error = sqlite.refusal(connection, partial(connection.execute, insert, (0, last or 0)))
        if error is not None:
            select = f"SELECT {columns} FROM {quoted(self.name)} WHERE {ROW} = ?"  # noqa: S608 - quoted
            row = connection.execute(select, (_first_refused(connection, insert, last),)).fetchone()
            raise self.refused(error, row) from error


def judge(connection: sqlite3.Connection, publication: Publication, checkpoint: Checkpoint, staged: str) -> None:
    """Ask `publish_if`, which may read and nothing else. Raises NotPublishedError unless it says yes."""

    def ask(sql: str, parameters: Any) -> Rows:
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
        try:
            return [tuple(row) for row in connection.execute(sql, parameters)]
        finally:
            connection.set_authorizer(None)

    require_agreement(publication, checkpoint.counts, staged, ask, sqlite.classify)


def broken_reference(connection: sqlite3.Connection, table: str) -> Sequence[Any] | None:
    """A row of a table that refers to one that is not there: what a COMMIT is refused for."""
    if not connection.in_transaction:
        return None
    found = connection.execute(f"PRAGMA foreign_key_check({quoted(table)})").fetchone()
    if found is None or found[1] is None:
        return None
    row: Sequence[Any] | None = connection.execute(
        f"SELECT * FROM {quoted(table)} WHERE rowid = ?",  # noqa: S608 - quoted
        (found[1],),
    ).fetchone()
    return row


def _create(connection: sqlite3.Connection, staged: Table) -> None:
    columns = ", ".join(f"{quoted(name)} {kind}".rstrip() for name, kind in staged.typed_columns)
    connection.execute(f"CREATE TABLE {quoted(staged.name)} ({ROW} INTEGER PRIMARY KEY, {columns})")
    if staged.key:
        key = ", ".join(map(quoted, staged.key))
        connection.execute(f"CREATE UNIQUE INDEX {quoted(f'{staged.name}_key')} ON {quoted(staged.name)} ({key})")


def _first_refused(connection: sqlite3.Connection, insert: str, last: int) -> int:
    """The first row that is refused, by halving: those before it are written, and with them what depends on them."""
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if sqlite.refusal(connection, partial(connection.execute, insert, (low, middle))) is None:
            low = middle
        else:
            high = middle
    return high

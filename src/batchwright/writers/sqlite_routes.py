"""Rows into several tables of a SQLite database: one sink holds the transaction, one for each table writes into it.

The one rule: only the former begins, commits and undoes. See `routes`.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from batchwright.databases import sqlite
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.failure import Failure
from batchwright.ports import Scope
from batchwright.writers.routed_tables import Routing, Tables
from batchwright.writers.sqlite import SqlSink, SqlWriter
from batchwright.writers.sqlite_staging import judge
from batchwright.writers.staging_tables import not_published


class SqlRoutesSink(SqlSink):
    """One step's outputs into several tables. A chunk is one transaction, begun by its first `write`."""

    def __init__(self, writer: Routing, scope: Scope) -> None:
        """Open nothing yet."""
        super().__init__(SqlWriter(writer.writers[0].database, None, None), scope)
        self._publication = writer.publication
        self._tables = Tables(writer, scope, lambda table, own: _TableSink(table, own, self._begin))

    def recall(self) -> Checkpoint | None:
        """As of one table, with what each of them had."""
        checkpoint = super().recall()
        self._tables.restore(checkpoint)
        return checkpoint

    def write(self, outputs: Sequence[Any]) -> None:
        """Write each row to its table. Those refused are named in ItemsFailed; all others are written."""
        self.opened()
        self._tables.write(outputs)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Commit all rows, failures and checkpoint together."""
        self._state = {"columns": self._tables.state()}
        super().commit(checkpoint, failures)
        self._tables.end_transaction()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Set the finished mark in the target; the rows of all tables of an atomic step come with it."""
        if not self._tables.staged or (self._checkpoint is not None and self._checkpoint.finished):
            super().finish(checkpoint)
            return
        assert self._publication is not None  # noqa: S101 - for the type checker: what is staged is published
        connection = self.opened()
        self._require_fence(connection)
        self._tables.publish(connection, checkpoint)
        judge(connection, self._publication, checkpoint, "")
        try:
            self.commit(replace(checkpoint, finished=True), ())
        except sqlite3.IntegrityError as error:
            raise not_published(self._publication, f"the database refuses it: {error}", "mend the rows") from error

    def discard(self) -> str:
        """Drop the staging tables, as the only one who can commit from then on; what they were."""
        if not self._tables.staged or not self.last_lap():
            return ""
        connection = self.opened()
        self._require_fence(connection)
        found = self._tables.drop(connection)
        self._committing = True
        sqlite.commit(connection)
        return found

    def _filled(self, outputs: int) -> Sequence[str]:
        return self._tables.filled(self._checkpoint, outputs, lambda: self.partitions().checkpoints().values())

    def _forget_table(self) -> None:
        super()._forget_table()
        self._tables.forget()


class _TableSink(SqlSink):
    """Writes the rows of one table; `begin` gives the connection, in a transaction."""

    def __init__(self, writer: SqlWriter, scope: Scope, begin: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(writer, scope)
        self._begin_together = begin

    def forget(self) -> None:
        """The table may have been created in the transaction that was undone."""
        self._forget_table()

    def end_transaction(self) -> None:
        """Nothing to do."""

    def settled(self) -> tuple[Sequence[str], str | None]:
        """Columns as of now, and the staging table if there is something in it."""
        if not self._columns and self._table is not None and self._statements:
            self._columns = list(self._table.columns)
        return self._columns, self._stage.name if self._stage is not None and self._columns else None

    def restore(self, columns: Sequence[str], stage: str | None) -> None:  # noqa: ARG002 - its name is always the same
        """Take the columns from a checkpoint."""
        self._columns = columns
        self._forget_table()

    def publish(self, connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        """Move what is staged into the table."""
        if self._stage is not None:
            self._stage.publish(connection, checkpoint)

    def drop(self, connection: sqlite3.Connection) -> str | None:
        """Drop the staging table, if there is one."""
        return self._stage.name if self._stage is not None and self._stage.drop(connection) else None

    def _begin(self) -> sqlite3.Connection:
        return self._begin_together()

"""Rows into several tables of a PostgreSQL database: one sink holds the transaction, one for each table writes into it.

The one rule: only the former begins, commits and undoes. See `routes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.failure import Failure
from batchwright.model.guarantee import Fault
from batchwright.ports import Scope
from batchwright.writers.postgres import PostgresSink, PostgresWriter
from batchwright.writers.postgres_staging import judge
from batchwright.writers.routed_tables import Routing, Tables
from batchwright.writers.staging_tables import not_published

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection


class PostgresRoutesSink(PostgresSink):
    """One step's outputs into several tables. A chunk is one transaction, begun by its first `write`."""

    def __init__(self, writer: Routing, scope: Scope) -> None:
        """Open nothing yet."""
        super().__init__(PostgresWriter(writer.writers[0].database, None), scope)
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
        # What is said of all tables is kept in the place of one table's columns.
        self._columns = cast("Sequence[str]", self._tables.state())
        super().commit(checkpoint, failures)

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
        except Exception as error:
            if self.classify(error) is not Fault.REFUSED:
                raise
            found = f"the database refuses it: {self.explain(error)}"
            raise not_published(self._publication, found, "mend the rows") from error

    def discard(self) -> str:
        """Drop the staging tables, as the only one who can commit from then on; what they were."""
        checkpoint = self.recall() if self._tables.staged else None
        if checkpoint is None or checkpoint.finished:
            return ""
        connection = self._begin()
        self._require_fence(connection)
        found = self._tables.drop(connection)
        self._commit(connection)
        return found

    def _filled(self, outputs: int) -> Sequence[str]:
        return self._tables.filled(self._checkpoint, outputs, lambda: self.partitions().checkpoints().values())

    def _forget_table(self) -> None:
        super()._forget_table()
        self._tables.forget()

    def _commit(self, connection: "Connection") -> None:
        super()._commit(connection)
        self._tables.end_transaction()


class _TableSink(PostgresSink):
    """Writes the rows of one table; `begin` gives the connection, in a transaction."""

    def __init__(self, writer: PostgresWriter, scope: Scope, begin: "Callable[[], Connection]") -> None:
        super().__init__(writer, scope)
        self._begin_together = begin
        self._known_stage: str | None = None

    def forget(self) -> None:
        """The table may have been created in the transaction that was undone."""
        self._rows, self._stage_name = None, self._known_stage

    def end_transaction(self) -> None:
        """What is in the temporary table is gone; the staging table stays."""
        self._known_stage = self._stage_name
        if self._rows is not None:
            self._rows.end_transaction()

    def settled(self) -> tuple[Sequence[str], str | None]:
        """Columns as of now, and the staging table if there is one."""
        if not self._columns and self._rows is not None:
            self._columns = list(self._rows.table.names)
        return self._columns, self._stage_name

    def restore(self, columns: Sequence[str], stage: str | None) -> None:
        """Take both from a checkpoint."""
        self._columns, self._known_stage = columns, stage
        self.forget()

    def publish(self, connection: "Connection", checkpoint: Checkpoint) -> None:
        """Move what is staged into the table."""
        if self._stage is not None:
            self._stage.publish(connection, checkpoint, self._stage_name)

    def drop(self, connection: "Connection") -> str | None:
        """Drop the staging table, if there is one."""
        if self._stage_name is not None:
            connection.execute(f"DROP TABLE IF EXISTS {self._stage_name}".encode())
        return self._stage_name

    def _begin(self) -> "Connection":
        return self._begin_together()

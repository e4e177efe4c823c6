"""The staging table of an atomic step in PostgreSQL.

The one rule: nothing here commits. Rows reach the target in the transaction that drops the staging table and sets the
finished mark. See `staging_tables` for the states.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchwright.databases.postgres import Database, publishing_time, quoted, without_secrets
from batchwright.databases.postgres_errors import classify, row_free_words, words
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.errors import NotPublishedError
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.model.publication import Publication, Rows
from batchwright.writers.postgres_tables import Table, column_types, found_table
from batchwright.writers.staging_tables import (
    ROW,
    earlier_stages,
    not_published,
    require_agreement,
    require_whole,
    stage_name,
)

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_TABLES = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %s AND left(tablename, 13) = '_batchwright_'"


def stage_of(writer: Any, key: StepKey) -> "Stage | None":
    """Where the rows of a step wait, if its writer stages them."""
    if writer.table is None or writer.publication is None or writer.publication.one_transaction:
        return None
    return Stage(writer.database, key, writer.table, writer.conflict, writer.duplicates, writer.publication)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the rows of one step wait. `conflict` is that of the writer into the target: None for an upsert."""

    database: Database
    key: StepKey
    target: Table
    conflict: str | None
    duplicates: str
    publication: Publication

    @property
    def staging_conflict(self) -> str | None:
        """The clause for rows into the staging table: of equal keys, across all chunks, one waits there."""
        if not self.target.key:
            return ""
        return {"last": None, "first": " ON CONFLICT DO NOTHING"}.get(self.duplicates, "")

    def ready(
        self, connection: "Connection", columns: tuple[str, ...], values: list[Any], known: str | None
    ) -> tuple[Table, str]:
        """The staging table and its name for SQL, created in the open transaction unless it is `known` by that name.

        It has the target's types and lies in its schema. Raises TargetError for a target that the rows do not fit.
        """
        connection.execute("SAVEPOINT batchwright_stage")
        target = self.target.ready(connection, columns, values)
        found = found_table(connection, target.quoted_name)
        assert found is not None  # noqa: S101 - for the type checker: it is ready
        # A target that was missing is created when there is something to publish, not before.
        connection.execute("ROLLBACK TO batchwright_stage")
        connection.execute("RELEASE batchwright_stage")
        name = known or f"{quoted(found[1])}.{quoted(stage_name(self.key))}"
        staged = Table(name, target.key, tuple((column.name, column.kind) for column in target.columns))
        if found_table(connection, name) is None:
            _drop_earlier(connection, self.key, found[1])
            _create(connection, staged)
        return staged.ready(connection, columns, values), name

    def publish(self, connection: "Connection", checkpoint: Checkpoint, name: str | None) -> None:
        """Move all rows into the target and drop the staging table, in the open transaction.

        Raises NotPublishedError if `publish_if` says no or the target refuses a row, GroundChangedError if rows lack.
        """
        publishing_time(connection)
        found = None if name is None else found_table(connection, name)
        if name is not None and found is not None:
            row = connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()  # noqa: S608 - quoted
            count = int(row[0]) if row else 0
            require_whole(self.key.step, name, count, checkpoint.counts, merges=bool(self.target.key))
            types = column_types(connection, found[0])
            del types[ROW]
            self._move(connection, name, types)
        elif checkpoint.counts.outputs:
            require_whole(self.key.step, name or "its staging table", None, checkpoint.counts, merges=False)
        reach("K8")
        judge(connection, self.publication, checkpoint, name or "")
        if name is not None:
            connection.execute(f"DROP TABLE IF EXISTS {name}".encode())

    def refused(self, error: BaseException, name: str | None) -> NotPublishedError:
        """The error of a target that refuses what is to be published: its constraint, and a row that breaks it."""
        found = words(error) if self.publication.shows_rows else row_free_words(error)
        return not_published(
            self.publication,
            f"table '{self.target.name}' refuses it: {without_secrets(found, self.database)}",
            f"mend the rows in {name}, or the table",
        )

    def _move(self, connection: "Connection", name: str, types: dict[str, str]) -> None:
        """Rows into the target, in the order of the input; the target is created if it is missing."""
        known = dict(self.target.typed_columns)
        typed = tuple((column, known.get(column) or kind) for column, kind in types.items())
        target = replace(self.target, typed_columns=typed).ready(connection, tuple(types), [])
        conflict = target.on_conflict() if self.conflict is None else self.conflict
        columns = target.quoted_columns
        select = f"SELECT {columns} FROM {name} ORDER BY {ROW}"  # noqa: S608 - quoted
        try:
            connection.execute(f"INSERT INTO {target.quoted_name} ({columns}) {select}{conflict}".encode())
        except Exception as error:
            if classify(error) is not Fault.REFUSED:
                raise
            raise self.refused(error, name) from error


def judge(connection: "Connection", publication: Publication, checkpoint: Checkpoint, staged: str) -> None:
    """Ask `publish_if`, which may read and nothing else. Raises NotPublishedError unless it says yes."""

    def ask(sql: str, parameters: Any) -> Rows:
        # A cursor that is declared takes a SELECT only.
        with connection.cursor(name="batchwright_publish_if") as cursor:
            return [tuple(row) for row in cursor.execute(sql.encode(), parameters or None).fetchall()]

    connection.execute("SAVEPOINT batchwright_publish_if")
    require_agreement(publication, checkpoint.counts, staged, ask, classify)
    # What a function in a query has done does not stay.
    connection.execute("ROLLBACK TO batchwright_publish_if")
    connection.execute("RELEASE batchwright_publish_if")


def _create(connection: "Connection", staged: Table) -> None:
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in staged.typed_columns)
    row = f"{ROW} bigint GENERATED ALWAYS AS IDENTITY"
    connection.execute(f"CREATE TABLE {staged.quoted_name} ({row}, {columns})".encode())
    if staged.key:
        key = ", ".join(map(quoted, staged.key))
        connection.execute(f"CREATE UNIQUE INDEX ON {staged.quoted_name} ({key})".encode())


def _drop_earlier(connection: "Connection", key: StepKey, schema: str) -> None:
    names = [name for (name,) in connection.execute(_TABLES, [schema]).fetchall()]
    for name in earlier_stages(key, names):
        connection.execute(f"DROP TABLE {quoted(schema)}.{quoted(name)}".encode())

"""Rows into PostgreSQL, exactly once: data, checkpoint and failures share one transaction.

The one rule: the checkpoint row lives in the target, and its word goes before the ledger's; after a commit in doubt it
is asked only once no transaction is under way that could still move it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwright.databases import postgres, postgres_errors, postgres_keys
from batchwright.databases import postgres_records as records
from batchwright.databases.postgres import Database
from batchwright.databases.postgres_partitions import PostgresPartitions
from batchwright.databases.postgres_waits import LockWaits
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import FencedError, ItemsFailed
from batchwright.model.failure import Failure, FailureState
from batchwright.model.fault_points import reach
from batchwright.model.forgetting import Forgotten
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.partition import PLAN
from batchwright.model.publication import Publication
from batchwright.ports import Scope, Sink, Writer
from batchwright.writers import staging_tables
from batchwright.writers.duplicate_keys import Duplicates, policy_of, write_each_key_once
from batchwright.writers.one_transaction import OneTransactionSink
from batchwright.writers.postgres_rows import RowWriter, execute_all
from batchwright.writers.postgres_staging import judge, stage_of
from batchwright.writers.postgres_tables import Table, existing_columns, missing_tables
from batchwright.writers.postgres_values import column_values
from batchwright.writers.rows import flat_values, settled
from batchwright.writers.table_options import table_options

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

Row = Any


@dataclass(frozen=True, eq=False)
class PostgresWriter:
    """A table or statement of a PostgreSQL database as the target of a step.

    `conflict` is the ON CONFLICT clause; None: the one by which an insert into the table becomes an upsert.
    """

    database: Database
    table: Table | None
    conflict: str | None = ""
    sql: str = ""
    duplicates: Duplicates = "last"
    adds_again: bool = False
    publication: Publication | None = None
    order_matters: tuple[str, ...] = ()
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    @property
    def address(self) -> str:
        """The database's address, without user and password, and the table or statement."""
        return f"{self.database} {self.table.name if self.table else ' '.join(self.sql.split())}"

    @property
    def options(self) -> Mapping[str, str]:
        """How rows are written, and into which columns if they are declared."""
        table = self.table
        if table is None:
            return table_options(None, (), self.conflict, self.duplicates)
        return table_options(table.names, table.key, self.conflict, self.duplicates, table.version)

    def check(self) -> None:
        """Raise ConfigurationError without the driver or with an unusable address, TargetError if we are turned away.

        A server that cannot be reached now is left to the step, which tries again.
        """
        postgres.try_connecting(self.database)

    def open(self, scope: Scope) -> Sink[Row]:
        """A sink with a connection of its own, opened when it is first needed."""
        sink = PostgresSink(self, scope)
        one = self.publication if self.publication and self.publication.one_transaction else None
        return sink if one is None else OneTransactionSink(sink, scope, one)

    def publishing(self, publication: Publication) -> Writer[Row]:
        """The same table, filled all at once. A statement is refused: what it does cannot be staged."""
        staging_tables.require_stageable(publication, self.table, self.address)
        return replace(self, publication=publication)


class PostgresSink:
    """One step's outputs into one table. A chunk is one transaction, begun by its first `write`."""

    def __init__(self, writer: PostgresWriter, scope: Scope) -> None:
        """Open nothing yet."""
        self._writer = writer
        self._key = scope.key
        self._claims, self._owned = scope.claims, scope.owned
        self._vouch = postgres.voucher_of(scope.store, writer.database, scope.key) if scope.claims else None
        self._keys = scope.keys
        self._epoch: int | None = None
        self._database = writer.database
        self._schema = writer.database.schema
        self._connection: Connection | None = None
        self._prepared = False
        self._checkpoint: Checkpoint | None = None
        self._columns: Sequence[str] = ()
        self._rows: RowWriter | None = None
        self._stage = stage_of(writer, scope.key)
        self._stage_name: str | None = None
        self._committing = False
        self._warned = False
        words = self._database.shown, self._database.secrets
        self._in_our_words = partial(postgres_errors.in_our_words, *words)
        self._lock_waits, self._interrupted = LockWaits(writer.database), False

    def recall(self) -> Checkpoint | None:
        """The checkpoint row of this step in the target, claimed first. A connection in doubt is closed before.

        Raises FencedError if this sink had claimed the step and somebody else has since.
        """
        self._disconnect()
        self._committing = False
        self._checkpoint, self._columns, self._stage_name = None, (), None
        with self._in_our_words():
            connection = self._open()
            if self._claims or self._epoch is not None:
                self._claim(connection)
            if records.prepared(connection, self._schema):
                records.prepare(connection, self._schema)
                self._prepared = True
                self._checkpoint = records.settled_checkpoint(connection, self._schema, self._key)
        if self._checkpoint is not None:
            if self._claims:
                staging_tables.require_same_way(self._key, self._checkpoint, staged=self._stage is not None)
            self._columns = self._checkpoint.state.get("columns", ())
            self._stage_name = self._checkpoint.state.get(staging_tables.STAGE)
        return self._checkpoint

    def last_lap(self) -> int:
        """The highest lap of this step in the target."""
        with self._in_our_words():
            connection = self._open()
            prepared = records.prepared(connection, self._schema)
            return records.last_lap(connection, self._schema, self._key) if prepared else 0

    def identity(self) -> str:
        """Which database this is, once it is open."""
        return records.identity(self._connection, self._schema) if self._connection is not None else ""

    def missing(self, outputs: int) -> Sequence[str]:
        """Those of the tables that unfinished work has put so many outputs into which are not there."""
        with self._in_our_words():
            return missing_tables(self._open(), self._filled(outputs))

    def partitions(self, *, writing: bool = False) -> PostgresPartitions:
        """All partitions of this step."""
        return PostgresPartitions(self.opened() if writing else self._open(), self._schema, self._key)

    def write(self, outputs: Sequence[Row]) -> None:
        """Write rows, by COPY if there are many. Those refused are undone one by one and named in ItemsFailed."""
        connection = self.opened()
        if self._writer.table is None:
            errors = execute_all(connection, self._writer.sql, outputs)
        else:
            errors = self._write_rows(connection, self._writer.table, outputs)
        reach("K9")
        if errors:
            raise ItemsFailed(errors)

    def opened(self) -> "Connection":
        """The connection, in the transaction of the chunk, begun if need be: for who writes with it himself."""
        self._committing = False
        return self._begin()

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Commit rows, failures and checkpoint together."""
        connection = self.opened()
        columns = list(self._columns or (self._rows.table.names if self._rows else ()))
        if PLAN not in checkpoint.state:
            staged = {} if self._stage_name is None else {staging_tables.STAGE: self._stage_name}
            checkpoint = replace(checkpoint, state={"columns": columns, **staged} if columns else {})
        self._require_fence(connection)
        if self._keys is not None and self._keys.is_over(checkpoint):
            postgres_keys.forget_keys(connection, self._schema, self._keys)
        records.put_failures(connection, self._schema, self._key, failures)
        records.move_checkpoint(connection, self._schema, self._key, self._checkpoint, checkpoint)
        self._commit(connection)
        self._checkpoint, self._columns = checkpoint, columns
        reach("K13")

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are in the target."""
        self._committing = False
        asked = self._keys if self._prepared else None
        return postgres_keys.known_keys(self._open(), self._schema, asked, digests) if asked else set()

    def remember(self, digests: Sequence[bytes]) -> None:
        """Write keys into the chunk's transaction, which whoever takes over waits for."""
        if self._keys is not None:
            connection = self._begin()
            self._require_fence(connection)
            postgres_keys.remember_keys(connection, self._schema, self._keys, digests)

    def rollback(self) -> None:
        """Undo the open transaction, with the table if it was created in it."""
        if self._connection is not None:
            postgres.roll_back(self._connection)
        self._forget_table()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Set the finished mark in the target; an atomic step's rows come with it. See `staging_tables`."""
        if self._checkpoint is not None and self._checkpoint.finished:
            return
        if self._stage is not None:
            self._committing = False
            connection = self._begin()
            self._require_fence(connection)
            self._stage.publish(connection, checkpoint, self._stage_name)
        try:
            self.commit(replace(checkpoint, finished=True), ())
        except Exception as error:
            if self._stage is None or self.classify(error) is not Fault.REFUSED:
                raise
            raise self._stage.refused(error, self._stage_name) from error

    def discard(self) -> str:
        """Drop the staging table, if there is one, as the only one who can commit from then on; what it was."""
        checkpoint = self.recall() if self._stage is not None else None
        if checkpoint is None or checkpoint.finished or self._stage_name is None:
            return ""
        connection = self._begin()
        self._require_fence(connection)
        connection.execute(f"DROP TABLE IF EXISTS {self._stage_name}".encode())
        self._commit(connection)
        return f"staging table {self._stage_name}"

    def mark(self) -> None:
        """Begin the transaction, unless it is open, and set a savepoint in it."""
        self.opened().execute("SAVEPOINT batchwright_chunk")

    def undo(self) -> None:
        """Undo everything behind the savepoint, and the table if it was created there."""
        try:
            if self.is_open:
                self._open().execute("ROLLBACK TO batchwright_chunk")
                self.keep()
        except Exception:  # noqa: BLE001 - what cannot be undone in part is undone as a whole
            self.rollback()
        self._forget_table()

    def keep(self) -> None:
        """Give up the savepoint."""
        self._open().execute("RELEASE batchwright_chunk")

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open, sound or failed."""
        return self._connection is not None and postgres.in_transaction(self._connection)

    def judge(self, publication: Publication, checkpoint: Checkpoint) -> None:
        """Ask `publish_if` about what is in the open transaction."""
        judge(self._begin(), publication, checkpoint, "")

    def failures(self) -> Iterator[Failure]:
        """Every failure of this step in the target."""
        if self._connection is None or not records.prepared(self._connection, self._schema):
            return iter(())
        return records.get_failures(self._connection, self._schema, self._key)

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Commit replayed rows together with closing their failures. Raises FencedError if one is closed already."""
        connection = self.opened()
        self._require_fence(connection)
        if records.settle_failures(connection, self._schema, self._key, ordinals, state, note) != len(ordinals):
            self.rollback()
            raise FencedError("some of these failures are closed already", "somebody else replays them", "look again")
        self._commit(connection)

    def forget_laps(self, *, with_open: bool, pretend: bool) -> Forgotten:
        """Delete what the target keeps about laps of this step before its newest."""
        if not self.last_lap():
            return Forgotten()
        with self._in_our_words():
            connection = self._open()
            records.prepare(connection, self._schema)
            return records.forget_older_laps(connection, self._schema, self._key, with_open=with_open, pretend=pretend)

    def classify(self, error: BaseException) -> Fault:
        """By SQLSTATE; an error of COMMIT itself leaves the outcome in doubt, unless the server says otherwise.

        A statement that we ended ourselves passes: who is asked to stop does not try it again.
        """
        if self._interrupted and postgres_errors.is_cancelled(error):
            return Fault.TRANSIENT
        return postgres_errors.classify_commit(error) if self._committing else postgres_errors.classify(error)

    def explain(self, error: BaseException) -> BaseException:
        """A driver's error in our words, without secrets."""
        words = self._database.shown, self._database.secrets
        return postgres_errors.explained(error, *words) if postgres_errors.is_driver_error(error) else error

    def interrupt(self, *, now: bool) -> None:
        """End the wait for a lock; with `now` whatever statement is running."""
        self._interrupted = True
        if now:
            postgres.interrupt(self._connection)
        else:
            self._lock_waits.end(self._connection)

    def close(self) -> None:
        """Undo what is open and let the server go."""
        self._disconnect()
        self._lock_waits.close()

    def _disconnect(self) -> None:
        self.rollback()
        if self._connection is not None:
            postgres.close(self._connection)
            self._connection = None

    def _forget_table(self) -> None:
        self._rows = None
        self._stage_name = None if self._checkpoint is None else self._checkpoint.state.get(staging_tables.STAGE)

    def _filled(self, outputs: int) -> Sequence[str]:
        return staging_tables.filled_table(self._checkpoint, self._writer.table, outputs)

    def _open(self) -> "Connection":
        if self._connection is None or self._connection.closed:
            self._rows = None
            self._connection = postgres.connect(self._database)
            if not self._warned and (warning := postgres.durability_warning(self._connection)):
                logging.getLogger("batchwright").warning("%s: %s", self._database, warning)
            self._warned = True
        return self._connection

    def _claim(self, connection: "Connection") -> None:
        """Raise the fence once; after that, see that nobody else has."""
        if not self._prepared:
            records.prepare(connection, self._schema)
            self._prepared = True
        if self._epoch is None:
            self._epoch = records.raise_fence(connection, self._schema, self._key, self._owned)
        else:
            records.check_fence(connection, self._schema, self._key, self._epoch)

    def _require_fence(self, connection: "Connection") -> None:
        if self._vouch is not None:
            self._vouch(connection)
        if self._epoch is not None:
            records.check_fence(connection, self._schema, self._key, self._epoch)

    def _begin(self) -> "Connection":
        connection = self._open()
        if not postgres.in_transaction(connection):
            if self._epoch is None or not self._prepared:
                self._claim(connection)
            postgres.begin(connection)
            reach("K7")
        return connection

    def _commit(self, connection: "Connection") -> None:
        self._committing = True
        postgres.commit(connection)
        self._committing = False
        if self._rows is not None:
            self._rows.end_transaction()

    def _write_rows(self, connection: "Connection", table: Table, outputs: Sequence[Row]) -> dict[int, BaseException]:
        # Columns are settled by the first chunk, for the whole lap: a restart must not see fewer in a later one.
        columns = table.names or tuple(self._columns) or settled(outputs, existing_columns(connection, table), str)
        values, misfits = flat_values(outputs, columns)
        if len(misfits) == len(outputs):  # nothing to begin a table with
            return misfits
        if self._rows is None:
            conflict = self._writer.conflict
            if self._stage is None:
                table = table.ready(connection, columns, values)
            else:
                conflict = self._stage.staging_conflict
                table, self._stage_name = self._stage.ready(connection, columns, values, self._stage_name)
            self._rows = RowWriter(table, table.on_conflict() if conflict is None else conflict)
        table = self._rows.table
        stored, binary, refused = column_values(values, table.columns, misfits)
        rows = list(zip(*stored, strict=True))
        keys = list(zip(*(stored[columns.index(name)] for name in table.key), strict=True)) if table.key else None
        writer = self._rows

        def write(indexes: Sequence[int]) -> dict[int, BaseException]:
            chosen = rows if len(indexes) == len(rows) else [rows[index] for index in indexes]
            failed = writer.write(connection, chosen, binary=binary)
            return {indexes[index]: error for index, error in failed.items()}

        good = [index for index in range(len(rows)) if index not in refused] if refused else range(len(rows))
        errors = refused | write_each_key_once(write, keys, good, policy_of(table.version, self._writer.duplicates))
        if self._stage is not None:
            staging_tables.name_repeated_keys(errors, postgres_errors.repeats_a_key)
        return errors

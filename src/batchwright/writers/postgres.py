"""Rows into PostgreSQL, exactly once: data, checkpoint and failures share one transaction.

The one rule: the checkpoint row lives in the target, and its word goes before the ledger's; after a commit in doubt it
is asked only once no transaction is under way that could still move it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batchwright.databases import postgres, postgres_errors, postgres_keys
from batchwright.databases import postgres_records as records
from batchwright.databases.postgres import Database, Vouches
from batchwright.databases.postgres_waits import LockWaits
from batchwright.model.checkpoint import Checkpoint, InstanceKey
from batchwright.model.errors import ConfigurationError, FencedError, ItemsFailed
from batchwright.model.failure import Failure
from batchwright.model.fault_points import reach
from batchwright.model.forgetting import Forgotten
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.ports import Scope, Sink
from batchwright.writers.duplicate_keys import Duplicates, write_each_key_once
from batchwright.writers.postgres_rows import RowWriter
from batchwright.writers.postgres_tables import Table
from batchwright.writers.postgres_values import column_values, parameter_values
from batchwright.writers.rows import columns_of, flat_values
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
        return table_options(table.names, table.key, self.conflict, self.duplicates)

    def check(self) -> None:
        """Raise ConfigurationError without the driver or with an unusable address, TargetError if we are turned away.

        A server that cannot be reached now is left to the step, which tries again.
        """
        try:
            postgres.close(postgres.connect(self.database))
        except ConfigurationError:
            raise
        except Exception as error:
            if postgres_errors.classify(error) is not Fault.TRANSIENT:
                raise

    def open(self, scope: Scope) -> Sink[Row]:
        """A sink with a connection of its own, opened when it is first needed."""
        return PostgresSink(self, scope)


class PostgresSink:
    """One step's outputs into one table. A chunk is one transaction, begun by its first `write`."""

    def __init__(self, writer: PostgresWriter, scope: Scope) -> None:
        """Open nothing yet."""
        self._writer = writer
        self._key = scope.key
        self._claims = scope.claims
        self._vouch = _voucher(writer.database, scope) if scope.claims else None
        self._keys = scope.keys
        self._epoch: int | None = None
        self._database = writer.database
        self._schema = writer.database.schema
        self._connection: Connection | None = None
        self._prepared = False
        self._checkpoint: Checkpoint | None = None
        self._columns: Sequence[str] = ()
        self._rows: RowWriter | None = None
        self._committing = False
        self._warned = False
        self._lock_waits, self._interrupted = LockWaits(writer.database), False

    def recall(self) -> Checkpoint | None:
        """The checkpoint row of this step in the target, claimed first. A connection in doubt is closed before.

        Raises FencedError if this sink had claimed the step and somebody else has since.
        """
        self._disconnect()
        self._committing = False
        self._checkpoint, self._columns = None, ()
        with self._in_our_words():
            connection = self._open()
            if self._claims or self._epoch is not None:
                self._claim(connection)
            if records.prepared(connection, self._schema):
                records.prepare(connection, self._schema)
                self._prepared = True
                self._checkpoint = records.settled_checkpoint(connection, self._schema, self._key)
        if self._checkpoint is not None:
            self._columns = self._checkpoint.state.get("columns", ())
        return self._checkpoint

    def last_lap(self) -> int:
        """The highest lap of this step in the target."""
        with self._in_our_words():
            connection = self._open()
            if not records.prepared(connection, self._schema):
                return 0
            return records.last_lap(connection, self._schema, self._key)

    def identity(self) -> str:
        """Which database this is, once it is open."""
        return records.identity(self._connection, self._schema) if self._connection is not None else ""

    def write(self, outputs: Sequence[Row]) -> None:
        """Write rows, by COPY if there are many. Those refused are undone one by one and named in ItemsFailed."""
        self._committing = False
        connection = self._begin()
        if self._writer.table is None:
            errors = _execute_all(connection, self._writer.sql, outputs)
        else:
            errors = self._write_rows(connection, self._writer.table, outputs)
        reach("K9")
        if errors:
            raise ItemsFailed(errors)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Commit rows, failures and checkpoint together."""
        self._committing = False
        connection = self._begin()
        columns = list(self._columns or (self._rows.table.names if self._rows else ()))
        checkpoint = replace(checkpoint, state={"columns": columns} if columns else {})
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
        if self._keys is None or not self._prepared:
            return set()
        return postgres_keys.known_keys(self._open(), self._schema, self._keys, digests)

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
        self._rows = None

    def finish(self, checkpoint: Checkpoint) -> None:
        """Set the finished mark in the target."""
        if self._checkpoint is None or not self._checkpoint.finished:
            self.commit(replace(checkpoint, finished=True), ())

    def failures(self) -> Iterator[Failure]:
        """Every failure of this step in the target."""
        if self._connection is None or not records.prepared(self._connection, self._schema):
            return iter(())
        return records.get_failures(self._connection, self._schema, self._key)

    def settle(self, ordinals: Sequence[int]) -> None:
        """Commit replayed rows together with closing their failures. Raises FencedError if one is closed already."""
        self._committing = False
        connection = self._begin()
        self._require_fence(connection)
        if records.settle_failures(connection, self._schema, self._key, ordinals) != len(ordinals):
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
            postgres.begin(connection)
            try:
                forgotten = records.forget_before(connection, self._schema, self._key, with_open=with_open)
                if not pretend:
                    postgres.commit(connection)
            finally:
                postgres.roll_back(connection)
        return forgotten

    def classify(self, error: BaseException) -> Fault:
        """By SQLSTATE; an error of COMMIT itself leaves the outcome in doubt, unless the server says otherwise.

        A statement that we ended ourselves passes: who is asked to stop does not try it again.
        """
        if self._interrupted and postgres_errors.is_cancelled(error):
            return Fault.TRANSIENT
        return postgres_errors.classify_commit(error) if self._committing else postgres_errors.classify(error)

    def explain(self, error: BaseException) -> BaseException:
        """A driver's error in our words, without secrets."""
        if not postgres_errors.is_driver_error(error):
            return error
        return postgres_errors.explained(error, self._database.shown, self._database.secrets)

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

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """For calls outside a chunk, whose errors the engine does not ask us to explain."""
        try:
            yield
        except Exception as error:
            if postgres_errors.is_driver_error(error):
                raise self.explain(error) from error
            raise

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
            self._epoch = records.raise_fence(connection, self._schema, self._key)
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
        columns = table.names or tuple(self._columns) or columns_of(outputs)
        values = flat_values(outputs, columns)
        if self._rows is None:
            table = table.ready(connection, columns, values)
            conflict = self._writer.conflict
            self._rows = RowWriter(table, table.on_conflict() if conflict is None else conflict)
        table = self._rows.table
        stored, binary, refused = column_values(values, table.columns)
        rows = list(zip(*stored, strict=True))
        keys = list(zip(*(stored[columns.index(name)] for name in table.key), strict=True)) if table.key else None
        writer = self._rows

        def write(indexes: Sequence[int]) -> dict[int, BaseException]:
            chosen = rows if len(indexes) == len(rows) else [rows[index] for index in indexes]
            failed = writer.write(connection, chosen, binary=binary)
            return {indexes[index]: error for index, error in failed.items()}

        good: Sequence[int] = range(len(rows))
        if refused:
            good = [index for index in good if index not in refused]
        return dict(refused) | write_each_key_once(write, keys, good, self._writer.duplicates)


def _voucher(database: Database, scope: Scope) -> Callable[[Any], None] | None:
    """The ledger's word that the work is still ours, where it is in the same database."""
    if not isinstance(scope.store, Vouches):
        return None
    return scope.store.voucher(database, InstanceKey(scope.key.job, scope.key.parameters_hash))


def _execute_all(connection: "Connection", sql: str, rows: Sequence[Row]) -> dict[int, BaseException]:
    """Execute a statement for each row, in order; the errors of those refused. All others have taken effect."""
    errors: dict[int, BaseException] = {}
    parameters: list[tuple[int, Any]] = []
    for index, row in enumerate(rows):
        try:
            parameters.append((index, parameter_values(row)))
        except ValueError as error:
            errors[index] = error
    parts = [(0, len(parameters))]
    while parts:
        start, end = parts.pop()
        if start == end:
            continue
        refusal = _try_all(connection, sql, [row for _, row in parameters[start:end]])
        if refusal is None:
            continue
        reach("K18")
        if end - start == 1:
            errors[parameters[start][0]] = refusal
        else:
            middle = (start + end) // 2
            parts += [(middle, end), (start, middle)]
    return errors


def _try_all(connection: "Connection", sql: str, rows: Sequence[Any]) -> BaseException | None:
    """Execute for all rows or for none; then the error of one that was refused."""
    connection.execute("SAVEPOINT batchwright_rows")
    try:
        with connection.cursor() as cursor:
            cursor.executemany(sql.encode(), rows)
        connection.execute("RELEASE batchwright_rows")
    except Exception as error:
        if postgres_errors.classify(error) is not Fault.REFUSED:
            raise
        connection.execute("ROLLBACK TO batchwright_rows")
        # Its traceback would hold these frames, and they the chunk, until the garbage collector comes.
        return error.with_traceback(None)
    return None

"""Rows into a SQLite table, exactly once: data, checkpoint, failures and fence share one transaction."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

from batchwright.databases import sqlite, sqlite_keys, sqlite_records
from batchwright.databases.sqlite_partitions import SqlitePartitions
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import FencedError, ItemsFailed
from batchwright.model.failure import Failure, FailureState
from batchwright.model.fault_points import reach
from batchwright.model.forgetting import Forgotten
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.partition import PLAN
from batchwright.model.publication import Publication
from batchwright.ports import Scope, Sink, Writer
from batchwright.writers.duplicate_keys import Duplicates, write_each_key_once
from batchwright.writers.one_transaction import OneTransactionSink
from batchwright.writers.rows import bindable, flat_values, settled, without_key
from batchwright.writers.sqlite_staging import Stage, broken_reference, judge
from batchwright.writers.sqlite_statements import write_group, write_singly
from batchwright.writers.sqlite_tables import Table, column_types
from batchwright.writers.staging_tables import (
    STAGE,
    filled_table,
    name_repeated_keys,
    require_same_way,
    require_stageable,
)
from batchwright.writers.table_options import table_options

Row = Any

ROWS_A_STATEMENT = 200
MAX_VARIABLES = 32_766


@dataclass(frozen=True, eq=False)
class SqlWriter:
    """A table or statement of a SQLite database as the target of a step."""

    database: str
    table: Table | None
    conflict: str | None
    sql: str = ""
    adds_again: bool = False
    duplicates: Duplicates = "last"
    publication: Publication | None = None
    order_matters: tuple[str, ...] = ()
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        sqlite.database_path(self.database)

    @property
    def address(self) -> str:
        """The database's absolute address and the table or statement."""
        path = os.path.abspath(sqlite.database_path(self.database))  # noqa: PTH100 - without following links
        return f"{sqlite.SCHEME}{path} {self.table.name if self.table else ' '.join(self.sql.split())}"

    @property
    def options(self) -> Mapping[str, str]:
        """How rows are written, and into which columns if they are declared."""
        table = self.table
        if table is None:
            return table_options(None, (), self.conflict, self.duplicates)
        return table_options(table.columns, table.key, self.conflict, self.duplicates, table.version)

    def check(self) -> None:
        """Raise TargetError for a folder in the database's place, or a missing folder around it."""
        sqlite.check_place(sqlite.database_path(self.database))

    def open(self, scope: Scope) -> Sink[Row]:
        """A sink with a connection of its own, opened when it is first needed."""
        sink = SqlSink(self, scope)
        one = self.publication if self.publication and self.publication.one_transaction else None
        return sink if one is None else OneTransactionSink(sink, scope, one)

    def publishing(self, publication: Publication) -> Writer[Row]:
        """The same table, filled all at once. A statement is refused: what it does cannot be staged."""
        require_stageable(publication, self.table, self.address)
        return replace(self, publication=publication)


class SqlSink:
    """One step's outputs into one table. A chunk is one transaction, begun by its first `write`."""

    def __init__(self, writer: SqlWriter, scope: Scope) -> None:
        """Open nothing yet."""
        self._writer = writer
        self._key = scope.key
        self._claims, self._owned = scope.claims, scope.owned
        self._keys, self._new_keys = scope.keys, sqlite_keys.NewKeys()
        self._epoch: int | None = None
        self._broken: sqlite3.Error | None = None
        self._path = sqlite.database_path(writer.database)
        self._connection: sqlite3.Connection | None = None
        self._patience = sqlite.Patience()
        self._checkpoint: Checkpoint | None = None
        self._columns: Sequence[str] = ()
        self._state: Mapping[str, Any] = {}
        self._table = writer.table
        self._stage: Stage | None = None
        if writer.table is not None and writer.publication is not None and not writer.publication.one_transaction:
            staged = writer.table, writer.conflict, writer.duplicates, writer.publication
            self._stage = Stage(scope.key, *staged)
        self._conflict = writer.conflict if self._stage is None else self._stage.staging_conflict
        self._statements: dict[int, str] = {}
        self._committing = False

    def recall(self) -> Checkpoint | None:
        """The checkpoint row of this step in the target, claimed first. A connection in doubt is closed before.

        Raises FencedError if this sink had claimed the step and somebody else has since.
        """
        self.close()
        self._checkpoint, self._columns, self._state = None, (), {}
        if self._path.exists() and self._path.stat().st_size > 0:
            connection = self._open()
            if self._claims or self._epoch is not None:
                self._claim(connection)
            if sqlite_records.prepared(connection):
                sqlite_records.prepare(connection)
                self._checkpoint = sqlite_records.get_checkpoint(connection, self._key)
        if self._checkpoint is not None:
            if self._claims:
                require_same_way(self._key, self._checkpoint, staged=self._stage is not None)
            self._state = self._checkpoint.state
            self._columns = self._state.get("columns", ())
        return self._checkpoint

    def last_lap(self) -> int:
        """The highest lap of this step in the target."""
        if not self._path.exists() or self._path.stat().st_size == 0:
            return 0
        connection = self._open()
        return sqlite_records.last_lap(connection, self._key) if sqlite_records.prepared(connection) else 0

    def identity(self) -> str:
        """Which database this is, once it is open."""
        return sqlite_records.identity(self._connection) if self._connection is not None else ""

    def missing(self, outputs: int) -> Sequence[str]:
        """Those of the tables that unfinished work has put so many outputs into which are not there."""
        connection = self._open()
        return [name for name in self._filled(outputs) if not column_types(connection, name)]

    def partitions(self, *, writing: bool = False) -> SqlitePartitions:
        """All partitions of this step."""
        return SqlitePartitions(self.opened() if writing else self._open(), self._key)

    def write(self, outputs: Sequence[Row]) -> None:
        """Write rows, several a statement. Those refused are undone one by one and named in ItemsFailed."""
        connection = self.opened()
        errors: dict[int, BaseException] = {}
        if self._table is None:
            write_singly(connection, self._writer.sql, outputs, errors)
        else:
            self._write_rows(connection, self._table, outputs, errors)
        reach("K9")
        if errors:
            raise ItemsFailed(errors)

    def opened(self) -> sqlite3.Connection:
        """The connection, in the transaction of the chunk, begun if need be: for who writes with it himself."""
        self._committing = False
        return self._begin()

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Commit rows, failures and checkpoint together."""
        connection = self.opened()
        if not self._columns and self._table is not None and self._table.columns:
            self._columns = list(self._table.columns)
            self._state = {"columns": self._columns} | ({STAGE: self._stage.name} if self._stage is not None else {})
        state = checkpoint.state if PLAN in checkpoint.state else self._state
        checkpoint = Checkpoint(checkpoint.position, checkpoint.counts, state, checkpoint.finished)
        self._require_fence(connection)
        if self._keys is not None and self._keys.is_over(checkpoint):
            sqlite_keys.forget_keys(connection, self._keys)
        sqlite_records.put_failures(connection, self._key, failures)
        sqlite_records.move_checkpoint(connection, self._key, self._checkpoint, checkpoint)
        self._committing = True
        sqlite.commit(connection)
        self._checkpoint = checkpoint
        reach("K13")

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are in the target."""
        self._committing = False
        if self._keys is None or self._connection is None or not sqlite_records.prepared(self._connection):
            return set()
        return sqlite_keys.known_keys(self._connection, self._keys, digests, self._new_keys)

    def remember(self, digests: Sequence[bytes]) -> None:
        """Write keys into the chunk's transaction."""
        if self._keys is not None:
            sqlite_keys.remember_keys(self._begin(), self._keys, digests)

    def rollback(self) -> None:
        """Undo the open transaction, with the table if it was created in it."""
        if self._connection is not None:
            sqlite.roll_back(self._connection)
        self._forget_table()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Set the finished mark in the target; an atomic step's rows come with it. See `staging_tables`."""
        if self._checkpoint is not None and self._checkpoint.finished:
            return
        finished = replace(checkpoint, finished=True)
        if self._stage is None:
            self.commit(finished, ())
            return
        connection = self.opened()
        self._require_fence(connection)
        self._stage.publish(connection, checkpoint)
        try:
            self.commit(finished, ())
        except sqlite3.IntegrityError as error:
            example = broken_reference(connection, self._stage.target.name)
            raise self._stage.refused(error, example) from error

    def discard(self) -> str:
        """Drop the staging table, if there is one, as the only one who can commit from then on; what it was."""
        if self._stage is None or not self.last_lap():
            return ""
        connection = self.opened()
        self._require_fence(connection)
        found = self._stage.drop(connection)
        self._committing = True
        sqlite.commit(connection)
        return f"staging table {self._stage.name}" if found else ""

    def mark(self) -> None:
        """Begin the transaction, unless it is open, and set a savepoint in it."""
        self.opened().execute("SAVEPOINT batchwright_chunk")

    def undo(self) -> None:
        """Undo everything behind the savepoint, and the table if it was created there."""
        with contextlib.suppress(sqlite3.Error):
            if self.is_open:
                self._open().execute("ROLLBACK TO batchwright_chunk")
                self.keep()
        self._forget_table()

    def keep(self) -> None:
        """Give up the savepoint."""
        self._open().execute("RELEASE batchwright_chunk")

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return self._connection is not None and self._connection.in_transaction

    def judge(self, publication: Publication, checkpoint: Checkpoint) -> None:
        """Ask `publish_if` about what is in the open transaction."""
        judge(self._begin(), publication, checkpoint, "")

    def failures(self) -> Iterator[Failure]:
        """Every failure of this step in the target."""
        if self._connection is None or not sqlite_records.prepared(self._connection):
            return iter(())
        return sqlite_records.get_failures(self._connection, self._key)

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Commit replayed rows together with closing their failures. Raises FencedError if one is closed already."""
        connection = self._begin()
        self._require_fence(connection)
        if sqlite_records.settle_failures(connection, self._key, ordinals, state, note) != len(ordinals):
            self.rollback()
            raise FencedError("some of these failures are closed already", "somebody else replays them", "look again")
        self._committing = True
        sqlite.commit(connection)

    def forget_laps(self, *, with_open: bool, pretend: bool) -> Forgotten:
        """Delete what the target keeps about laps of this step before its newest."""
        if not self.last_lap():
            return Forgotten()
        connection = self._open()
        sqlite_records.prepare(connection)
        return sqlite_records.forget_older_laps(connection, self._key, with_open=with_open, pretend=pretend)

    def classify(self, error: BaseException) -> Fault:
        """By the driver's code; an error of COMMIT itself leaves the outcome in doubt, and ends the work here."""
        fault = sqlite.classify_commit(error) if self._committing else sqlite.classify(error)
        if fault is Fault.DOUBTFUL and isinstance(error, sqlite3.Error):
            self._broken = error
        return fault

    def explain(self, error: BaseException) -> BaseException:
        """A driver's error in our words."""
        return sqlite.explained(error, self._path) if isinstance(error, sqlite3.Error) else error

    def interrupt(self, *, now: bool) -> None:
        """End the wait for a lock; with `now` also the statement."""
        self._patience.ended = True
        if now:
            sqlite.interrupt(self._connection)

    def close(self) -> None:
        """Undo what is open and let the database go."""
        self.rollback()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _filled(self, outputs: int) -> Sequence[str]:
        return filled_table(self._checkpoint, self._writer.table, outputs)

    def _forget_table(self) -> None:
        self._table = self._writer.table
        self._statements.clear()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite.connect(self._path, self._patience)
        return self._connection

    def _claim(self, connection: sqlite3.Connection) -> None:
        """Raise the fence once; after that, see that nobody else has."""
        sqlite_records.prepare(connection)
        if self._epoch is None:
            with sqlite.transaction(connection):
                self._epoch = sqlite_records.raise_fence(connection, self._key, self._owned)
        else:
            sqlite_records.check_fence(connection, self._key, self._epoch)

    def _require_fence(self, connection: sqlite3.Connection) -> None:
        if self._epoch is not None:
            sqlite_records.check_fence(connection, self._key, self._epoch)

    def _begin(self) -> sqlite3.Connection:
        if self._broken is not None:
            raise sqlite.explained(self._broken, self._path)
        connection = self._open()
        if not connection.in_transaction:
            if self._checkpoint is None or self._epoch is None:
                self._claim(connection)
            connection.execute("BEGIN IMMEDIATE")
            reach("K7")
        return connection

    def _write_rows(
        self, connection: sqlite3.Connection, table: Table, outputs: Sequence[Row], errors: dict[int, BaseException]
    ) -> None:
        # Columns are settled by the first chunk, for the whole lap: a restart must not see fewer in a later one.
        columns = table.columns or tuple(self._columns) or settled(outputs, column_types(connection, table.name))
        width = len(columns)
        values, misfits = flat_values(outputs, columns)
        values, unbound = bindable(values, width)
        refused = without_key(values, columns, table.key) | misfits | unbound
        errors.update(refused)
        if len(refused) == len(outputs):  # nothing to begin a table with
            return
        if not self._statements:
            prepare = partial(table.ready, checks=self._conflict is None) if self._stage is None else self._stage.ready
            table = self._table = prepare(connection, columns, values)
        good: Sequence[int] = range(len(outputs))
        if refused:
            good = [index for index in good if index not in refused]
        # The table itself has the last of equal keys win, or of those with a version the newest: row after row.
        policy = self._writer.duplicates
        keyed = table.key and policy != "last"
        keys = list(zip(*(values[columns.index(name) :: width] for name in table.key), strict=True)) if keyed else None
        write = partial(self._write_some, connection, values, width)
        errors.update(write_each_key_once(write, keys, good, policy))
        if self._stage is not None:
            name_repeated_keys(errors, sqlite.repeats_a_key)

    def _write_some(
        self, connection: sqlite3.Connection, values: list[Any], width: int, good: Sequence[int]
    ) -> dict[int, BaseException]:
        errors: dict[int, BaseException] = {}
        if len(good) * width < len(values):
            values = list(chain.from_iterable(values[index * width : (index + 1) * width] for index in good))
        size = max(1, min(ROWS_A_STATEMENT, MAX_VARIABLES // width))
        for start in range(0, len(good), size):
            stop = start + size
            group = values[start * width : stop * width], good[start:stop]
            write_group(connection, self._statement, *group, errors)
            reach("K8")
        return errors

    def _statement(self, rows: int) -> str:
        if rows not in self._statements:
            assert self._table is not None  # noqa: S101 - for the type checker: only tables have row statements
            self._statements[rows] = self._table.insert_statement(rows, self._conflict)
        return self._statements[rows]

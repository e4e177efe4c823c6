"""Bugs to plant, one function each: they break a guarantee on purpose, so that a suite can show that it would see it.

The one rule: nothing in the product knows of them. Each patches the process that it is called in; `patch` is `setattr`
in a process that will be killed, and a test's own undoing setter elsewhere.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from batchwright.databases import sqlite, sqlite_keys, sqlite_records
from batchwright.databases.records import key_values
from batchwright.engine import commit_chunk, read_chunks, read_on
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.failure import Failure
from batchwright.model.fault_points import reach
from batchwright.ports import Scope
from batchwright.writers import sqlite as sql
from batchwright.writers import sqlite_routes, sqlite_staging, sqlite_statements, stage_folders

Patch = Callable[[Any, str, Any], None]


def checkpoint_outside_the_transaction(patch: Patch) -> None:
    """The rows are committed first, their checkpoint in a transaction of its own."""
    commit = sql.SqlSink.commit

    def apart(self: Any, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        if self._connection is not None and self._connection.in_transaction:
            sqlite.commit(self._connection)
        commit(self, checkpoint, failures)

    patch(sql.SqlSink, "commit", apart)


def no_fsync(patch: Patch) -> None:
    """Nothing is synced: neither stages nor SQLite."""
    patch(os, "fsync", lambda _: None)
    durable = sqlite._make_durable

    def careless(connection: sqlite3.Connection, *, created: bool) -> None:
        durable(connection, created=created)
        connection.execute("PRAGMA synchronous = OFF")

    patch(sqlite, "_make_durable", careless)


def no_savepoint(patch: Patch) -> None:
    """A row that is refused is passed over, and what its statement has done so far stays."""

    class WithoutSavepoints:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, *parameters: Any) -> Any:
            if statement.startswith(("SAVEPOINT", "ROLLBACK TO", "RELEASE")):
                return None
            return self._connection.execute(statement, *parameters)

        def executemany(self, statement: str, rows: Any) -> Any:
            return self._connection.executemany(statement, rows)

        @property
        def in_transaction(self) -> bool:
            return self._connection.in_transaction

    grouped, singly = sql.write_group, sql.write_singly
    patch(sql, "write_group", lambda connection, *rest: grouped(WithoutSavepoints(connection), *rest))
    patch(sql, "write_singly", lambda connection, *rest: singly(WithoutSavepoints(connection), *rest))


def trigger_behind_a_cascade_overlooked(patch: Patch) -> None:
    """A single row is undone with a savepoint only where its own table has triggers, not one that it cascades to."""
    patch(
        sqlite_statements,
        "_ANY_TRIGGER",
        sqlite_statements._ANY_TRIGGER.replace("'trigger'", "'trigger' AND tbl_name <> 'children'"),
    )


def position_asked_at_commit_time(patch: Patch) -> None:
    """The checkpoint says where the reader stands, which is at the end of the block that it gave last."""
    chunks, checkpoint_after = read_chunks.read_chunks, commit_chunk._checkpoint_after
    stands: list[Position] = []

    def noting(reader: Any, after: Position | None, *rest: Any) -> Iterator[Any]:
        class Noting:
            address = reader.address

            @staticmethod
            def read(position: Position | None) -> Iterator[Any]:
                # What was read of the first block before counts into its ordinal already.
                ordinal = position.ordinal - position.offset if position else 0
                for block in reader.read(position):
                    ordinal += len(block)
                    stands[:] = [Position(ordinal, block.next_anchor)]
                    yield block

        return chunks(Noting, after, *rest)

    def asking(*arguments: Any) -> Checkpoint:
        checkpoint = checkpoint_after(*arguments)
        return replace(checkpoint, position=stands[0]) if stands else checkpoint

    patch(read_on, "read_chunks", noting)
    patch(commit_chunk, "_checkpoint_after", asking)


def failures_stored_apart(patch: Patch) -> None:
    """Failures are stored in a transaction of their own, after that of the checkpoint; in targets and in the ledger."""
    commit, save = sql.SqlSink.commit, SqliteLedger.save_checkpoint

    def commit_apart(self: Any, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        commit(self, checkpoint, ())
        if failures:
            with sqlite.transaction(self._connection) as connection:
                sqlite_records.put_failures(connection, self._key, failures)

    def save_apart(self: Any, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], *seen: Any) -> None:
        save(self, key, checkpoint, (), *seen)
        if failures:
            with self._writing() as connection:
                sqlite_records.put_failures(connection, key, failures)

    patch(sql.SqlSink, "commit", commit_apart)
    patch(SqliteLedger, "save_checkpoint", save_apart)


def keys_before_the_commit(patch: Patch) -> None:
    """Keys are stored in a transaction of their own, before that of their rows."""
    write = commit_chunk._write

    def early(target: Any, processed: Any) -> Any:
        sink = processed.keys and processed.keys.memory
        if isinstance(sink, sql.SqlSink):
            connection, start = sink._open(), processed.chunk.start
            sqlite_records.prepare(connection)
            with sqlite.transaction(connection):
                digests = processed.keys.owned(start, start + len(processed.chunk))
                sqlite_keys.remember_keys(connection, sink._keys, digests)
        return write(target, processed)

    patch(commit_chunk, "_write", early)


def keys_in_memory_only(patch: Patch) -> None:
    """Keys are never stored: who goes on knows none of those before."""
    seen: dict[Any, set[bytes]] = {}

    def remember(self: Any, digests: Sequence[bytes]) -> None:
        seen.setdefault(self._key, set()).update(digests)

    patch(sql.SqlSink, "remember", remember)
    patch(sql.SqlSink, "known", lambda self, digests: seen.get(self._key, set()).intersection(digests))


def published_without_its_mark(patch: Patch) -> None:
    """What is staged is published in one transaction, and the finished mark set in the next."""
    publish = sqlite_staging.Stage.publish

    def apart(self: Any, connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
        publish(self, connection, checkpoint)
        sqlite.commit(connection)
        connection.execute("BEGIN IMMEDIATE")

    patch(sqlite_staging.Stage, "publish", apart)


def staging_dropped_apart(patch: Patch) -> None:
    """The staging table is dropped in a transaction of its own, after what was in it is published."""
    drop = "DROP TABLE"

    class Late:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, *parameters: Any) -> Any:
            if statement.startswith(drop):
                self._connection.execute("COMMIT")
                self._connection.execute("BEGIN IMMEDIATE")
            return self._connection.execute(statement, *parameters)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    publish = sqlite_staging.Stage.publish
    patch(sqlite_staging.Stage, "publish", lambda self, connection, mark: publish(self, Late(connection), mark))


def staged_rows_without_their_checkpoint(patch: Patch) -> None:
    """A chunk of staged rows is committed before its checkpoint."""
    begin = sql.SqlSink._require_fence

    def apart(self: Any, connection: sqlite3.Connection) -> None:
        begin(self, connection)
        if self._stage is not None and connection.in_transaction:
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")

    patch(sql.SqlSink, "_require_fence", apart)


def chunks_of_one_transaction_committed(patch: Patch) -> None:
    """A step that is one transaction commits each chunk."""
    keep = sql.SqlSink.keep

    def early(self: Any) -> None:
        keep(self)
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN IMMEDIATE")

    patch(sql.SqlSink, "keep", early)


def files_of_a_set_not_cut_back(patch: Patch) -> None:
    """What the journal does not speak of stays in the stage of a file set."""
    patch(stage_folders.StageFolder, "_cut_back", lambda _: None)


def set_published_file_by_file(patch: Patch) -> None:
    """The files of a set are moved one by one into the folder that is there."""

    def one_by_one(self: Any) -> None:
        self.target.mkdir(exist_ok=True)
        for name in self.parts:
            (self.folder / name).replace(self.target / name)
            reach("K15")
        (self.folder / "manifest.json").replace(self.target / "manifest.json")

    patch(stage_folders.StageFolder, "replace_target", one_by_one)


def each_table_committed_alone(patch: Patch) -> None:
    """Of several tables each is written in a transaction of its own."""
    write = sqlite_routes._TableSink.write

    def alone(self: Any, outputs: Sequence[Any]) -> None:
        write(self, outputs)
        connection = self._begin()
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")

    patch(sqlite_routes._TableSink, "write", alone)


def ledger_local_keys(patch: Patch) -> None:
    """What is stored in a target is found by a number that only one ledger knows."""
    build = sql.SqlSink.__init__

    def local(self: Any, writer: Any, scope: Scope) -> None:
        build(self, writer, replace(scope, key=replace(scope.key, parameters_hash=_id_of(scope.store))))

    patch(sql.SqlSink, "__init__", local)


def _id_of(ledger: Any) -> str:
    """What an instance's row would have for an id; another ledger has another one."""
    if not ledger.durable:
        return str(id(ledger))
    with ledger._writing() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS ids (id TEXT)")
        row = connection.execute("SELECT id FROM ids").fetchone()
        if row is None:
            row = (uuid4().hex,)
            connection.execute("INSERT INTO ids VALUES (?)", row)
    return str(row[0])


def claimed_without_an_epoch(patch: Patch) -> None:
    """Whoever claims a step, or a partition, finds the fence where the one before has put it, and leaves it there."""
    raised = sqlite_records.raise_fence
    epoch_of = f"SELECT epoch FROM batchwright_fences WHERE {sqlite_records._KEYED}"

    def unraised(connection: sqlite3.Connection, key: StepKey, owned: Callable[[], object]) -> int:
        found = connection.execute(epoch_of, key_values(key)).fetchone()
        return int(found[0]) if found else raised(connection, key, owned)

    patch(sqlite_records, "raise_fence", unraised)


BUGS: dict[str, Callable[[Patch], None]] = {
    bug.__name__: bug
    for bug in (
        checkpoint_outside_the_transaction,
        no_fsync,
        no_savepoint,
        trigger_behind_a_cascade_overlooked,
        position_asked_at_commit_time,
        failures_stored_apart,
        keys_before_the_commit,
        keys_in_memory_only,
        published_without_its_mark,
        staging_dropped_apart,
        staged_rows_without_their_checkpoint,
        chunks_of_one_transaction_committed,
        files_of_a_set_not_cut_back,
        set_published_file_by_file,
        each_table_committed_alone,
        ledger_local_keys,
        claimed_without_an_epoch,
    )
}

SHOWS_IN: dict[str, tuple[str, ...]] = {
    "keys_before_the_commit": ("firsts",),
    "keys_in_memory_only": ("firsts",),
    "published_without_its_mark": ("staged",),
    "staging_dropped_apart": ("staged",),
    "staged_rows_without_their_checkpoint": ("staged",),
    "chunks_of_one_transaction_committed": ("once",),
    "files_of_a_set_not_cut_back": ("sets",),
    "set_published_file_by_file": ("sets",),
    "each_table_committed_alone": ("routes",),
    "claimed_without_an_epoch": ("parts",),
}
"""The jobs that a bug breaks, where that is not most of them: they are tried first, which saves minutes."""

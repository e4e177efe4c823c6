"""The ledger in one SQLite file: what runs on one machine need, without a server.

The one rule: every change of status is a compare-and-set in a short transaction, and touches exactly one row.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from batchwright.databases import sqlite_keys as keys
from batchwright.databases import sqlite_records as records
from batchwright.databases.records import key_values, storable
from batchwright.databases.sqlite import Patience, connect, transaction
from batchwright.databases.sqlite_schema import migrate
from batchwright.ledgers import execution_rows as executions
from batchwright.ledgers import sqlite_rows as rows
from batchwright.ledgers.call_marks import find_mark, leave_mark
from batchwright.ledgers.death_rows import death_values, deaths_of
from batchwright.ledgers.effect_rows import END, effect_of, effect_values
from batchwright.ledgers.locks import WAIT_SECONDS, LockOwnership, hold, lock_folder, own_partition
from batchwright.ledgers.lost_steps import require_lost
from batchwright.ledgers.sqlite_closing import close_lost, listed
from batchwright.ledgers.sqlite_forgetting import DEATHS, EFFECTS, forget, shrink
from batchwright.ledgers.sqlite_insertions import insert_run, insert_step
from batchwright.ledgers.transitions import LIVE, not_owned, refused, stop_request
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.effect import Effect
from batchwright.model.errors import LedgerError
from batchwright.model.execution import JobExecution, RunRequest, StepExecution, StepOutcome
from batchwright.model.failure import Failure, FailureState
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.model.status import Status, sources_of
from batchwright.model.work import Death
from batchwright.ports.call_marks import CallMark

BUSY_SECONDS = 30.0
"""How long a transaction waits for those of other runs on the same ledger; each of them takes milliseconds."""

_RUNS = f"SELECT {', '.join(executions.RUN_COLUMNS)} FROM batchwright_job_executions"  # noqa: S608 - our own column names
_STEPS = f"SELECT {', '.join(executions.STEP_COLUMNS)} FROM batchwright_step_executions"  # noqa: S608 - as above
_OF_INSTANCE = "job = ? AND parameters_hash = ?"
_OF_STEP = f"{_OF_INSTANCE} AND lap = ? AND step = ? AND partition = ?"

LAST_RUN = f"{_RUNS} WHERE {_OF_INSTANCE} AND kind = 'run' ORDER BY id DESC LIMIT 1"
LAST_STEP = f"{_STEPS} WHERE {_OF_STEP} AND kind = 'run' ORDER BY run DESC, id DESC LIMIT 1"


class SqliteLedger:
    """A durable ledger in one file, created with its folder if need be, readable by its owner alone.

    Several processes and several jobs may use one file at once. An object is for one thread and one process.

    Raises LedgerError, in one line, if the file cannot be used.
    """

    durable = True

    def __init__(self, path: str | os.PathLike[str], *, lock_wait_seconds: float = WAIT_SECONDS) -> None:
        """Open, and create or upgrade the tables."""
        self._path = Path(path).resolve()
        self._lock_wait_seconds = lock_wait_seconds
        self._owned: set[InstanceKey] = set()
        self._new_keys = keys.NewKeys()
        self._pid = os.getpid()
        self._patience = Patience(BUSY_SECONDS)
        with rows.opening(self._path):
            self._connection = _open(self._path, self._patience)

    @property
    def address(self) -> str:
        """The path of the file."""
        return str(self._path)

    def own(self, key: InstanceKey) -> AbstractContextManager[LockOwnership]:
        """Own this instance while the context lasts, and not a moment longer than the process lives.

        Raises AlreadyRunningError, naming the process that owns it.
        """
        return self._own(key)

    def another(self) -> "SqliteLedger":
        """The same file, opened once more, for another thread."""
        return SqliteLedger(self._path, lock_wait_seconds=self._lock_wait_seconds)

    def __reduce__(self) -> tuple[type["SqliteLedger"], tuple[Path]]:
        """How it goes to another process of the run: it is opened there once more."""
        return SqliteLedger, (self._path,)

    def own_partition(self, key: StepKey) -> AbstractContextManager[LockOwnership]:
        """Own this partition while the context lasts, and not a moment longer. Raises AlreadyRunningError at once."""
        return own_partition(lock_folder(self._path), key)

    def last_run(self, key: InstanceKey) -> JobExecution | None:
        """The newest execution of kind `run` of this instance."""
        with self._reading() as connection:
            row = connection.execute(LAST_RUN, (key.job, key.parameters_hash)).fetchone()
        return None if row is None else executions.run_of(row)

    def begin_run(self, request: RunRequest) -> JobExecution:
        """Record a new execution, STARTING; close those that a dead owner left.

        Raises LedgerError if this object does not own the instance.
        """
        if request.key not in self._owned:
            raise not_owned(request.key.job)
        with self._writing() as connection:
            close_lost(connection, request.key)
            number = insert_run(connection, request)
            row = connection.execute(f"{_RUNS} WHERE id = ?", (number,)).fetchone()
        return executions.run_of(row)

    def close_lost(self, key: InstanceKey) -> None:
        """Close executions that a dead owner left. Raises LedgerError if this object does not own the instance."""
        if key not in self._owned:
            raise not_owned(key.job)
        with self._writing() as connection:
            close_lost(connection, key)

    def move_run(self, run: int, status: Status, error: str = "") -> None:
        """Change an execution's status; a text already there is kept if `error` is empty.

        Raises FencedError if somebody else has closed it, LedgerError if the table of transitions forbids it.
        """
        now = rows.now()
        with self._writing() as connection:
            moved = connection.execute(
                f"{_MOVE_RUN} WHERE id = ? AND {_status_in(status)}",
                (status, now, storable(error), status.live, now, run),
            )
            if moved.rowcount != 1:
                raise refused("run", run, _status(connection, "batchwright_job_executions", run), status)

    def request_stop(self, run: int, who: str) -> bool:
        """Note on a live execution, whoever owns it, that `who` wants it to stop; the first request stays."""
        with self._writing() as connection:
            return connection.execute(_REQUEST_STOP, (storable(stop_request(who)), run)).rowcount == 1

    def begin_step(self, run: int, key: StepKey, source: str, target: str, guarantee: str) -> StepExecution:
        """Record a new execution of a step, RUNNING, with the counts that its lap had so far.

        Raises FencedError if the run is closed.
        """
        with self._writing() as connection:
            owner = connection.execute(f"{_RUNS} WHERE id = ?", (run,)).fetchone()
            found = None if owner is None else executions.run_of(owner)
            if found is None or not found.status.live:
                raise refused("run", run, found.status if found else None, Status.RUNNING)
            before = connection.execute(LAST_STEP, key_values(key)).fetchone() if found.kind == "run" else None
            known = None if before is None else executions.step_of(before)
            number = insert_step(connection, found, key, known, (source, target, guarantee))
            row = connection.execute(f"{_STEPS} WHERE id = ?", (number,)).fetchone()
        return executions.step_of(row)

    def note_progress(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Copy counts and failures of a running step, in one transaction; its status stays.

        Raises FencedError if somebody else has closed it.
        """
        values = (rows.now(), *executions.outcome_values(outcome), step_execution)
        with self._writing() as connection:
            noted = connection.execute(f"{_SET_OUTCOME} WHERE id = ? AND status IN ({listed(LIVE)})", values)
            if noted.rowcount != 1:
                raise _refused_step(connection, step_execution, Status.RUNNING)
            records.put_failures(connection, _key_of_step(connection, step_execution), failures)

    def end_step(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Close an execution of a step with its counts and last failures, in one transaction.

        Raises FencedError if somebody else has closed it, LedgerError if the table of transitions forbids it.
        """
        now, status = rows.now(), outcome.status
        values = (now, *executions.outcome_values(outcome), status, now, step_execution)
        with self._writing() as connection:
            ended = connection.execute(
                f"{_SET_OUTCOME}, status = ?, ended_at = ? WHERE id = ? AND {_status_in(status)}", values
            )
            if ended.rowcount != 1:
                raise _refused_step(connection, step_execution, status)
            key = _key_of_step(connection, step_execution)
            records.put_failures(connection, key, failures)
            if status is not Status.STOPPED:
                connection.execute(DEATHS.end, key_values(key))

    def note_lost(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Complete an execution that was closed for a dead owner, in one transaction; its status stays.

        Raises LedgerError if this object does not own the instance, and for any other execution.
        """
        with self._writing() as connection:
            row = connection.execute(f"{_STEPS} WHERE id = ?", (step_execution,)).fetchone()
            found = require_lost(None if row is None else executions.step_of(row), step_execution, self._owned)
            values = (rows.now(), *executions.outcome_values(outcome), step_execution)
            connection.execute(f"{_SET_OUTCOME} WHERE id = ?", values)
            records.put_failures(connection, found.key, failures)

    def last_step(self, key: StepKey) -> StepExecution | None:
        """The newest execution of this step in this lap, of kind `run`."""
        with self._reading() as connection:
            row = connection.execute(LAST_STEP, key_values(key)).fetchone()
        return None if row is None else executions.step_of(row)

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""
        with self._reading() as connection:
            return records.get_checkpoint(connection, key)

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        """Store all in one durable transaction. Failures and keys are added, the checkpoint is replaced."""
        with self._writing() as connection:
            records.put_failures(connection, key, failures)
            records.put_checkpoint(connection, key, checkpoint, seen)

    def known_keys(self, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored."""
        with self._reading() as connection:
            return keys.known_keys(connection, space, digests, self._new_keys)

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal; read a page at a time."""
        with self._reading() as connection:
            yield from records.get_failures(connection, key)

    def void_failures(self, key: StepKey, from_ordinal: int) -> None:
        """Forget failures at or past this ordinal: their items are to be read again."""
        with self._writing() as connection:
            records.void_failures(connection, key, from_ordinal)

    def settle_failures(
        self,
        key: StepKey,
        ordinals: Sequence[int],
        state: FailureState = FailureState.REPLAYED,
        note: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Move failures into a state, from the one that it is reached from; others keep theirs."""
        with self._writing() as connection:
            records.settle_failures(connection, key, ordinals, state, note)
            if checkpoint is not None:
                records.put_checkpoint(connection, key, checkpoint)

    def forget(self, key: InstanceKey, what: Forgetting) -> Forgotten:
        """Forget this of an instance that is over. Raises LedgerError if this object does not own it."""
        if key not in self._owned:
            raise not_owned(key.job)
        with self._reading() as connection:
            connection.execute("PRAGMA secure_delete = ON")
        with self._writing() as connection:
            return forget(connection, key, what)

    def shrink(self) -> str:
        """Give the space of what was forgotten back; why that was not done, or nothing."""
        with self._reading() as connection:
            return shrink(connection)

    def load_effects(self, key: StepKey, start: int, end: int) -> Sequence[Effect]:
        """The effects of the items from ordinal `start` up to `end`, by ordinal and index."""
        with self._reading() as connection:
            found = connection.execute(EFFECTS.between, (*key_values(key), start, end)).fetchall()
        return [*map(effect_of, found)]

    def save_effects(self, key: StepKey, effects: Sequence[Effect]) -> None:
        """Store these as they are now, in one durable transaction; what was stored of each is replaced."""
        with self._writing() as connection:
            connection.executemany(EFFECTS.save, [effect_values(key, effect) for effect in effects])

    def last_effects(self, key: StepKey, before: tuple[int, int] | None, limit: int) -> Sequence[Effect]:
        """At most so many effects before this ordinal and index (None: of all), the last first."""
        with self._reading() as connection:
            found = connection.execute(EFFECTS.last, (*key_values(key), *(before or END), limit)).fetchall()
        return [*map(effect_of, found)]

    def load_deaths(self, key: StepKey) -> Mapping[int, Death]:
        """The deaths noted of a step, by ordinal."""
        with self._reading() as connection:
            return deaths_of(connection.execute(DEATHS.select, key_values(key)))

    def note_death(self, key: StepKey, ordinal: int, death: Death) -> None:
        """Note this of the item at an ordinal, in one durable transaction; what was noted of it is replaced."""
        with self._writing() as connection:
            connection.execute(DEATHS.save, death_values(key, ordinal, death))

    def mark_calls(self, run: JobExecution) -> None:
        """Leave a mark of this run beside the file. Raises LedgerError."""
        leave_mark(self._path, run)

    def marked_calls(self, key: InstanceKey) -> CallMark | None:
        """The mark of this instance, whatever has become of the file since."""
        return find_mark(self._path, key)

    def interrupt(self, *, now: bool) -> None:
        """With `now` no statement waits for a lock any more."""
        self._patience.ended = self._patience.ended or now

    def close(self) -> None:
        """Release the file. What is owned stays owned until its context ends."""
        with rows.explaining(self._path):
            self._connection.close()

    @contextlib.contextmanager
    def _own(self, key: InstanceKey) -> Iterator[LockOwnership]:
        with hold(lock_folder(self._path), key, wait_seconds=self._lock_wait_seconds):
            self._owned.add(key)
            self._patience.ended = False
            try:
                yield LockOwnership()
            finally:
                self._owned.discard(key)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._refuse_in_child()
        with rows.explaining(self._path):
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._refuse_in_child()
        with rows.explaining(self._path), transaction(self._connection):
            yield self._connection

    def _refuse_in_child(self) -> None:
        # SQLite's own locks do not survive a fork: using the connection there could damage the file.
        if os.getpid() != self._pid:
            raise LedgerError(
                "the ledger was opened by another process",
                f"opened by process {self._pid}, used by {os.getpid()}",
                "open a SqliteLedger of its own in the forked process",
            )


_MOVE_RUN = (
    "UPDATE batchwright_job_executions SET status = ?, seen_at = ?, error = coalesce(nullif(?, ''), error), "
    "ended_at = CASE WHEN ? THEN NULL ELSE coalesce(ended_at, ?) END"
)

_REQUEST_STOP = (
    "UPDATE batchwright_job_executions SET stop_requested = coalesce(nullif(stop_requested, ''), ?) "  # noqa: S608 - ours
    f"WHERE id = ? AND status IN ({', '.join(repr(status.value) for status in LIVE)})"
)

_SET_OUTCOME = (
    "UPDATE batchwright_step_executions SET seen_at = ?, "  # noqa: S608 - our own column names
    + ", ".join(f"{column} = ?" for column in executions.OUTCOME_COLUMNS)
)


def _open(path: Path, patience: Patience) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_dir() or (path.exists() and path.stat().st_size > 0):
        return _connect(path, patience)
    # One process at a time makes the file: SQLite does not wait for others while it enters WAL mode.
    with hold(lock_folder(path), InstanceKey(f"the ledger {path.name}", ""), wait_seconds=BUSY_SECONDS):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return _connect(path, patience)


def _connect(path: Path, patience: Patience) -> sqlite3.Connection:
    connection = connect(path, patience)
    try:
        records.prepare(connection)
        migrate(connection, rows.COMPONENT, rows.migrations())
    except BaseException:
        connection.close()
        raise
    return connection


def _status(connection: sqlite3.Connection, table: str, number: int) -> Status | None:
    row = connection.execute(f"SELECT status FROM {table} WHERE id = ?", (number,)).fetchone()  # noqa: S608 - our names
    return None if row is None else Status(row[0])


def _refused_step(connection: sqlite3.Connection, number: int, wanted: Status) -> Exception:
    return refused("step execution", number, _status(connection, "batchwright_step_executions", number), wanted)


def _key_of_step(connection: sqlite3.Connection, number: int) -> StepKey:
    return executions.step_of(connection.execute(f"{_STEPS} WHERE id = ?", (number,)).fetchone()).key


def _status_in(target: Status) -> str:
    return f"status IN ({listed(sorted(sources_of(target)))})"

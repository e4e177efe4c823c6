"""What a SQLite ledger tells people: the command line, alarms and dashboards read here.

The one rule: nothing is written, created or upgraded, and no run is ever kept waiting.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchwright.databases import sqlite_records as records
from batchwright.databases.records import failure_columns
from batchwright.databases.sqlite import connect_read_only
from batchwright.databases.sqlite_schema import schema_version
from batchwright.ledgers import execution_rows as executions
from batchwright.ledgers import sqlite_rows as rows
from batchwright.ledgers.effect_rows import EffectStatements, counts_of
from batchwright.ledgers.failure_groups import Cause, group_failures
from batchwright.ledgers.locks import is_held, lock_folder
from batchwright.ledgers.transitions import seen
from batchwright.model.block import Place
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.effect import EffectCount
from batchwright.model.errors import LedgerError, TargetError
from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution, StepExecution
from batchwright.model.failure import Failure, FailureState
from batchwright.model.status import Status, without_owner

"""Failures are read this many at a time, so that a slow reader keeps no transaction open."""

_RUNS = f"SELECT {', '.join(executions.RUN_COLUMNS)} FROM batchwright_job_executions run"  # noqa: S608 - our own column names
_STEPS = f"SELECT {', '.join(executions.STEP_COLUMNS)} FROM batchwright_step_executions"  # noqa: S608 - as above
_OF_LAP = "job = ? AND parameters_hash = ? AND lap = ?"

NEWEST_OF_INSTANCES = (
    f"SELECT {', '.join(executions.RUN_COLUMNS)}, "  # noqa: S608 - as above
    "(SELECT count(*) FROM batchwright_job_executions each WHERE each.job = run.job "
    "AND each.parameters_hash = run.parameters_hash), "
    "(SELECT count(*) FROM batchwright_failures failure WHERE failure.job = run.job "
    "AND failure.parameters_hash = run.parameters_hash AND failure.lap = run.lap "
    f"AND failure.state = '{FailureState.OPEN}') "
    "FROM batchwright_job_executions run WHERE id IN (SELECT max(id) FROM batchwright_job_executions "
    "WHERE kind = 'run' AND (?1 IS NULL OR job = ?1) GROUP BY job, parameters_hash) "
    "AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3"
)
EFFECTS = EffectStatements("batchwright_effects", "?")

ONE_RUN = f"{_RUNS} WHERE id = ?"
STEPS_OF_LAP = (
    f"{_STEPS} WHERE id IN (SELECT max(id) FROM batchwright_step_executions "  # noqa: S608 - as above
    f"WHERE {_OF_LAP} AND kind = 'run' AND run <= ? GROUP BY step, partition)"
)
STEPS_OF_RUN = f"{_STEPS} WHERE run = ?"
FAILURES_OF_LAP = (
    f"SELECT {failure_columns()}, partition FROM batchwright_failures "  # noqa: S608 - as above
    f"WHERE {_OF_LAP} AND (step, partition, ordinal) > (?, ?, ?)"
)
FAILURES_OF_STEP = FAILURES_OF_LAP.replace(
    "(step, partition, ordinal) > (?, ?, ?)", "step = ? AND (partition, ordinal) > (?, ?)"
)
IN_ORDER = " ORDER BY step, partition, ordinal LIMIT ?"
CAUSES_OF_LAP = (
    "SELECT step, phase, error_type, error, state, source, line, byte, detail "  # noqa: S608 - as above
    f"FROM batchwright_failures WHERE {_OF_LAP} ORDER BY step, partition, ordinal"
)


class SqliteHistory:
    """Reads the ledger in this file, also while runs are writing to it.

    An execution whose status is live but whose lock nobody holds reads as LOST. An object is for one thread.

    Raises LedgerError, in one line, if there is no ledger or it is of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open read-only."""
        self._path = Path(path).resolve()
        with rows.opening(self._path):
            if not self._path.exists():
                raise LedgerError(f"there is no ledger {self._path}", "no such file", "run a job first")
            self._connection = _connect(self._path)

    @property
    def address(self) -> str:
        """The path of the file."""
        return str(self._path)

    def jobs(self) -> list[str]:
        """The names of all jobs, sorted."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute("SELECT DISTINCT job FROM batchwright_instances ORDER BY job")]

    def instances(self, *, job: str | None = None, before: int | None = None, limit: int = 20) -> list[InstanceSummary]:
        """Instances by their newest execution of kind `run`, newest first; with `before`, the page behind that run."""
        with self._reading() as connection:
            found = connection.execute(NEWEST_OF_INSTANCES, (job, before, limit)).fetchall()
        return [
            InstanceSummary(self._judged(executions.run_of(run)), every, still_open)
            for *run, every, still_open in found
        ]

    def runs(
        self, *, job: str | None = None, key: InstanceKey | None = None, before: int | None = None, limit: int = 20
    ) -> list[JobExecution]:
        """Executions, of a job or an instance, newest first; with `before`, the page behind that run."""
        condition, values = executions.narrowed(job, key, before, "?")
        with self._reading() as connection:
            found = connection.execute(f"{_RUNS}{condition} ORDER BY id DESC LIMIT ?", (*values, limit)).fetchall()
        return [self._judged(executions.run_of(row)) for row in found]

    def run(self, run: int) -> JobExecution | None:
        """One execution, or None if this ledger has no such number."""
        with self._reading() as connection:
            row = connection.execute(ONE_RUN, (run,)).fetchone()
        return None if row is None else self._judged(executions.run_of(row))

    def steps(self, run: int) -> list[StepExecution]:
        """The newest execution of each step of this run's lap up to it, in the job's order; for a replay its own."""
        return executions.without_partitions(self._steps_of(run))

    def partitions(self, run: int, step: str) -> list[StepExecution]:
        """The newest execution of each partition of a step of this run's lap, up to it."""
        return executions.of_partitions(self._steps_of(run), step)

    def _steps_of(self, run: int) -> list[StepExecution]:
        job_run = self.run(run)
        if job_run is None:
            return []
        with self._reading() as connection:
            if job_run.kind == "run":
                found = connection.execute(STEPS_OF_LAP, (*executions.lap_values(job_run), run)).fetchall()
            else:
                found = connection.execute(STEPS_OF_RUN, (run,)).fetchall()
        steps = [self._judged_step(executions.step_of(row), job_run) for row in found]
        return executions.in_job_order(steps, job_run)

    def failures(self, run: int, *, step: str | None = None, open_only: bool = False) -> Iterator[Failure]:
        """The failures of this run's lap, by step, partition and ordinal; read a page at a time."""
        job_run = self.run(run)
        if job_run is None:
            return
        condition = f" AND state = '{FailureState.OPEN}'" if open_only else ""
        query = (FAILURES_OF_LAP if step is None else FAILURES_OF_STEP) + condition + IN_ORDER

        def fetch(after: tuple[Any, ...], rows: int) -> list[Any]:
            with self._reading() as connection:
                return connection.execute(query, (*executions.lap_values(job_run), *after, rows)).fetchall()

        yield from executions.failures_by_page(fetch, step)

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint that this ledger itself stored under this key."""
        with self._reading() as connection:
            return records.get_checkpoint(connection, key)

    def failure_groups(self, run: int) -> list[FailureGroup]:
        """The same, grouped by cause, most frequent first; payloads are not read."""
        job_run = self.run(run)
        if job_run is None:
            return []
        with self._reading() as connection:
            return group_failures(
                Cause(step, phase, error_type, error, FailureState(state), Place(*place))
                for step, phase, error_type, error, state, *place in connection.execute(
                    CAUSES_OF_LAP, executions.lap_values(job_run)
                )
            )

    def effect_counts(self, run: int) -> list[EffectCount]:
        """How many effects of this run's lap are in which state, by step and state."""
        job_run = self.run(run)
        if job_run is None:
            return []
        with self._reading() as connection:
            return counts_of(connection.execute(EFFECTS.counts, executions.lap_values(job_run)))

    def summary(self) -> Mapping[str, Any]:
        """Path, schema version, sizes, integrity (`ok` or what is damaged), counts of rows, journal mode."""
        with self._reading() as connection:
            return {
                "path": str(self._path),
                "schema_version": schema_version(connection, rows.COMPONENT),
                "size_bytes": self._path.stat().st_size,
                "journal_mode": _one(connection, "PRAGMA journal_mode"),
                "integrity": _one(connection, "PRAGMA quick_check(1)"),
                "instances": _one(connection, "SELECT count(*) FROM batchwright_instances"),
                "executions": _one(connection, "SELECT count(*) FROM batchwright_job_executions"),
                "failures": _one(connection, "SELECT count(*) FROM batchwright_failures"),
            }

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with rows.explaining(self._path):
            yield self._connection

    def _judged(self, run: JobExecution) -> JobExecution:
        if not run.status.live or is_held(lock_folder(self._path), run.key):
            return seen(run)
        # The owner may have closed it and gone between our two looks: then its last word counts.
        with self._reading() as connection:
            row = connection.execute(ONE_RUN, (run.id,)).fetchone()
        again = executions.run_of(row)
        return replace(again, status=without_owner(again.status)) if again.status.live else again

    def _judged_step(self, step: StepExecution, run: JobExecution) -> StepExecution:
        if not step.status.live or (step.run == run.id and run.status.live):
            return step
        owner = run if step.run == run.id else self.run(step.run)
        lost = owner is None or not owner.status.live
        return replace(step, status=Status.LOST) if lost else step


def _connect(path: Path) -> sqlite3.Connection:
    connection = _connect_somehow(path)
    try:
        _refuse_other_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_somehow(path: Path) -> sqlite3.Connection:
    try:
        return connect_read_only(path)
    except TargetError:
        if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK) or _log_size(path) > 0:
            raise
    # In a folder that we cannot write to SQLite cannot share memory with a writer; without a log there is none.
    return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def _log_size(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _refuse_other_version(connection: sqlite3.Connection, path: Path) -> None:
    found, known = schema_version(connection, rows.COMPONENT), rows.migrations()[-1].version
    if found == known and records.prepared(connection):
        return
    if found == 0:
        raise LedgerError(f"{path} is no ledger", "it has no batchwright tables", "check the path")
    mend = "upgrade batchwright" if found > known else "run a job with it, which upgrades it"
    raise LedgerError(f"the ledger {path} is of version {found}", f"this batchwright reads version {known}", mend)


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]

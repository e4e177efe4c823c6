"""What a PostgreSQL ledger tells people: the command line, alarms and dashboards read here.

The one rule: nothing is written, created or upgraded; whether an owner lives is judged by the server's clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from batchwright.databases import postgres_records as records
from batchwright.databases.postgres import durability_warning
from batchwright.databases.postgres_schema import schema_version
from batchwright.databases.postgres_texts import unescaped
from batchwright.databases.records import failure_columns
from batchwright.ledgers import execution_rows as rows
from batchwright.ledgers.effect_rows import EffectStatements, counts_of, effect_of
from batchwright.ledgers.failure_groups import Cause, group_failures
from batchwright.ledgers.postgres_session import COMPONENT, Session, migrations, once_more, opening, run
from batchwright.ledgers.this_process import is_dead
from batchwright.ledgers.transitions import LIVE, seen
from batchwright.model.block import Place
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.effect import Effect, EffectCount
from batchwright.model.errors import LedgerError
from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution, StepExecution
from batchwright.model.failure import Failure, FailureState
from batchwright.model.status import Status, without_owner

"""Failures are read this many at a time, so that a slow reader keeps no transaction open."""

WAIT_SECONDS = 60.0
"""How long one question may take."""

OWNED = "coalesce(lease.owner IS NOT NULL AND lease.lease_until >= now() AND lease.epoch = run.epoch, false)"
"""Whether whoever began a run still has its lease."""

_JOINED = (
    "{schema}.batchwright_job_executions run LEFT JOIN {schema}.batchwright_leases lease "
    "ON lease.job = run.job AND lease.parameters_hash = run.parameters_hash"
)
_RUN_COLUMNS = ", ".join(f"run.{column}" for column in rows.RUN_COLUMNS)
_STEP_COLUMNS = ", ".join(f"step.{column}" for column in rows.STEP_COLUMNS)
_OF_LAP = "job = %s AND parameters_hash = %s AND lap = %s"

RUNS = f"SELECT {_RUN_COLUMNS}, {OWNED}, lease.process FROM {_JOINED}"  # noqa: S608 - our own column names
NEWEST_OF_INSTANCES = (
    f"SELECT {_RUN_COLUMNS}, {OWNED}, lease.process, "  # noqa: S608 - as above
    "(SELECT count(*) FROM {schema}.batchwright_job_executions each WHERE each.job = run.job "
    "AND each.parameters_hash = run.parameters_hash), "
    "(SELECT count(*) FROM {schema}.batchwright_failures failure WHERE failure.job = run.job "
    "AND failure.parameters_hash = run.parameters_hash AND failure.lap = run.lap "
    f"AND failure.state = '{FailureState.OPEN}') "
    f"FROM {_JOINED} WHERE run.id IN (SELECT max(id) FROM {{schema}}.batchwright_job_executions "
    "WHERE kind = 'run' AND (%s::text IS NULL OR job = %s) GROUP BY job, parameters_hash) "
    "AND (%s::bigint IS NULL OR run.id < %s) ORDER BY run.id DESC LIMIT %s"
)
_STEPS = (
    f"SELECT {_STEP_COLUMNS}, run.status = ANY(%s) AND {OWNED}, lease.process FROM {_JOINED} "  # noqa: S608 - as above
    "JOIN {schema}.batchwright_step_executions step ON step.run = run.id WHERE "
)
STEPS_OF_RUN = _STEPS + "run.id = %s"
STEPS_OF_LAP = _STEPS + (  # noqa: S608 - as above
    f"step.id IN (SELECT max(id) FROM {{schema}}.batchwright_step_executions WHERE {_OF_LAP} "  # noqa: S608 - as above
    "AND kind = 'run' AND run <= %s GROUP BY step, partition)"
)
FAILURES_OF_LAP = (
    f"SELECT {failure_columns()}, partition FROM {{schema}}.batchwright_failures "  # noqa: S608 - as above
    f"WHERE {_OF_LAP} AND (step, partition, ordinal) > (%s, %s, %s)"
)
FAILURES_OF_STEP = FAILURES_OF_LAP.replace(
    "(step, partition, ordinal) > (%s, %s, %s)", "step = %s AND (partition, ordinal) > (%s, %s)"
)
IN_ORDER = " ORDER BY step, partition, ordinal LIMIT %s"
CAUSES_OF_LAP = (
    "SELECT step, phase, error_type, error, state, source, line, byte, detail "  # noqa: S608 - as above
    f"FROM {{schema}}.batchwright_failures WHERE {_OF_LAP} ORDER BY step, partition, ordinal"
)
INVALID_INDEXES = (
    "SELECT c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relname LIKE 'batchwright%%' AND NOT (i.indisvalid AND i.indisready)"
)
EFFECTS = EffectStatements("{schema}.batchwright_effects", "%s")
SIZE = (
    "SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relkind = 'r' AND c.relname LIKE 'batchwright%%'"
)


class PostgresHistory:
    """Reads the ledger in this database, also while runs are writing to it.

    An execution whose status is live but whose lease has lapsed, or is somebody else's, or a dead process's of this
    machine, reads as LOST. An object is for one thread.

    Raises LedgerError, in one line and without a password, if there is no ledger or it is of another version.
    """

    def __init__(self, url: str) -> None:
        """Connect; the session is read-only."""
        self._session = Session(url, wait_seconds=WAIT_SECONDS, read_only=True)
        with opening(self._session):
            try:
                self._refuse_other_version()
            except BaseException:
                self._session.close()
                raise

    @property
    def address(self) -> str:
        """The database, without user and password."""
        return self._session.address

    def jobs(self) -> list[str]:
        """The names of all jobs, sorted."""
        return sorted(row[0] for row in self._all("SELECT DISTINCT job FROM {schema}.batchwright_instances"))

    def instances(self, *, job: str | None = None, before: int | None = None, limit: int = 20) -> list[InstanceSummary]:
        """Instances by their newest execution of kind `run`, newest first; with `before`, the page behind that run."""
        found = self._all(NEWEST_OF_INSTANCES, job, job, before, before, limit)
        return [InstanceSummary(_judged_run(run), every, still_open) for *run, every, still_open in found]

    def runs(
        self, *, job: str | None = None, key: InstanceKey | None = None, before: int | None = None, limit: int = 20
    ) -> list[JobExecution]:
        """Executions, of a job or an instance, newest first; with `before`, the page behind that run."""
        condition, values = rows.narrowed(job, key, before, "%s")
        found = self._all(f"{RUNS}{condition} ORDER BY run.id DESC LIMIT %s", *values, limit)
        return [_judged_run(row) for row in found]

    def run(self, run: int) -> JobExecution | None:
        """One execution, or None if this ledger has no such number."""
        found = self._all(f"{RUNS} WHERE run.id = %s", run)
        return _judged_run(found[0]) if found else None

    def steps(self, run: int) -> list[StepExecution]:
        """The newest execution of each step of this run's lap up to it, in the job's order; for a replay its own."""
        return rows.without_partitions(self._steps_of(run))

    def partitions(self, run: int, step: str) -> list[StepExecution]:
        """The newest execution of each partition of a step of this run's lap, up to it."""
        return rows.of_partitions(self._steps_of(run), step)

    def _steps_of(self, run: int) -> list[StepExecution]:
        job_run = self.run(run)
        if job_run is None:
            return []
        live = [status.value for status in LIVE]
        of_lap = job_run.kind == "run"
        values = (*rows.lap_values(job_run), run) if of_lap else (run,)
        steps = [_judged_step(row) for row in self._all(STEPS_OF_LAP if of_lap else STEPS_OF_RUN, live, *values)]
        return rows.in_job_order(steps, job_run)

    def failures(self, run: int, *, step: str | None = None, open_only: bool = False) -> Iterator[Failure]:
        """The failures of this run's lap, by step, partition and ordinal; read a page at a time."""
        job_run = self.run(run)
        if job_run is None:
            return
        condition = f" AND state = '{FailureState.OPEN}'" if open_only else ""
        query = (FAILURES_OF_LAP if step is None else FAILURES_OF_STEP) + condition + IN_ORDER
        lap = rows.lap_values(job_run)
        yield from rows.failures_by_page(lambda after, page: self._all(query, *lap, *after, page), step)

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint that this ledger itself stored under this key."""
        return self._session.patiently(
            lambda connection, _: records.get_checkpoint(connection, self._session.schema, key), until=once_more()
        )

    def failure_groups(self, run: int) -> list[FailureGroup]:
        """The same, grouped by cause, most frequent first; payloads are not read."""
        job_run = self.run(run)
        if job_run is None:
            return []
        return group_failures(
            Cause(step, phase, error_type, error, FailureState(state), Place(*place))
            for step, phase, error_type, error, state, *place in self._all(CAUSES_OF_LAP, *rows.lap_values(job_run))
        )

    def effect_counts(self, run: int) -> list[EffectCount]:
        """How many effects of this run's lap are in which state, by step and state."""
        job_run = self.run(run)
        return [] if job_run is None else counts_of(self._all(EFFECTS.counts, *rows.lap_values(job_run)))

    def summary(self) -> Mapping[str, Any]:
        """Address, versions, size, integrity (`ok` or what is damaged), durability and counts of rows."""
        schema = self._session.schema
        invalid = ", ".join(row[0] for row in self._all(INVALID_INDEXES, schema))
        with self._session.explaining():
            connection = self._session.connection()
            version, durability = schema_version(connection, schema, COMPONENT), durability_warning(connection)
        return {
            "path": self.address,
            "schema": schema,
            "schema_version": version,
            "server_version": self._one("SHOW server_version"),
            "size_bytes": self._one(SIZE, schema),
            "integrity": f"indexes are not valid: {invalid}" if invalid else "ok",
            "durability": durability or "ok",
            "instances": self._one("SELECT count(*) FROM {schema}.batchwright_instances"),
            "executions": self._one("SELECT count(*) FROM {schema}.batchwright_job_executions"),
            "failures": self._one("SELECT count(*) FROM {schema}.batchwright_failures"),
        }

    def close(self) -> None:
        """Let the database go."""
        self._session.close()

    def _all(self, sql: str, *values: Any) -> list[list[Any]]:
        schema = self._session.schema
        found = self._session.patiently(
            lambda connection, _: run(connection, schema, sql, values).fetchall(), until=once_more()
        )
        return [[unescaped(value) for value in row] for row in found]

    def _one(self, sql: str, *values: Any) -> Any:
        return self._all(sql, *values)[0][0]

    def _refuse_other_version(self) -> None:
        connection, schema = self._session.connection(), self._session.schema
        found, known = schema_version(connection, schema, COMPONENT), migrations()[-1].version
        if found == known and records.prepared(connection, schema):
            return
        if found == 0:
            raise LedgerError(f"there is no ledger in {self.address}", f"no schema {schema} of ours", "run a job first")
        mend = "upgrade batchwright" if found > known else "run a job with it, which upgrades it"
        raise LedgerError(f"the ledger {self.address} is of version {found}", f"this batchwright reads {known}", mend)


def ledger_exists(url: str) -> bool:
    """Whether there is a ledger in this database. Raises LedgerError if it cannot be asked."""
    session = Session(url, wait_seconds=WAIT_SECONDS, read_only=True)
    try:
        with opening(session):
            return schema_version(session.connection(), session.schema, COMPONENT) > 0
    finally:
        session.close()


def _judged_run(row: Sequence[Any]) -> JobExecution:
    *columns, owned, process = row
    run = rows.run_of(columns)
    lost = run.status.live and _is_lost(process, owned=owned)
    return replace(run, status=without_owner(run.status)) if lost else seen(run)


def _judged_step(row: Sequence[Any]) -> StepExecution:
    *columns, owned, process = row
    step = rows.step_of(columns)
    return replace(step, status=Status.LOST) if step.status.live and _is_lost(process, owned=owned) else step


def _is_lost(process: str | None, *, owned: bool) -> bool:
    return not owned or is_dead(process or "")


def effects_of(connection: Any, schema: str, sql: str, values: Sequence[object]) -> list[Effect]:
    """The effects that a statement finds."""
    return [effect_of([*map(unescaped, row)]) for row in run(connection, schema, sql, values).fetchall()]

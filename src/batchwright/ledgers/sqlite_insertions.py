"""New executions of jobs and steps as rows of a SQLite ledger.

The one rule: nothing here commits; the caller's transaction does.
"""

import os
import sqlite3

from batchwright.databases.records import COUNTS, key_values, storable
from batchwright.ledgers import execution_rows as executions
from batchwright.ledgers import sqlite_rows as rows
from batchwright.ledgers.transitions import this_host
from batchwright.model.checkpoint import Counts, StepKey
from batchwright.model.execution import JobExecution, RunRequest, StepExecution
from batchwright.model.status import Status

_OF_INSTANCE = "job = ? AND parameters_hash = ?"


def insert_run(connection: sqlite3.Connection, request: RunRequest) -> int:
    """Open its lap and record a new execution, STARTING; its number."""
    key, now = request.key, rows.now()
    connection.execute(
        "INSERT INTO batchwright_instances (job, parameters_hash, lap, created_at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (job, parameters_hash) DO UPDATE SET lap = MAX(lap + ?, excluded.lap)",
        (key.job, key.parameters_hash, request.at_least_lap, now, int(request.next_lap)),
    )
    (lap,) = connection.execute(
        f"SELECT lap FROM batchwright_instances WHERE {_OF_INSTANCE}",  # noqa: S608 - our own column names
        (key.job, key.parameters_hash),
    ).fetchone()
    return _insert(
        connection,
        "batchwright_job_executions",
        {
            "job": key.job,
            "parameters_hash": key.parameters_hash,
            "lap": lap,
            "status": Status.STARTING,
            "started_at": now,
            **executions.request_values(request),
            "host": this_host(),
            "pid": os.getpid(),
            "error": "",
            "seen_at": now,
        },
    )


def insert_step(
    connection: sqlite3.Connection,
    run: JobExecution,
    key: StepKey,
    before: StepExecution | None,
    described: tuple[str, str, str],
) -> int:
    """Record a new execution of a step, RUNNING, with the counts that its lap had `before`; its number."""
    now, counts = rows.now(), before.counts if before else Counts()
    source, target, guarantee = map(storable, described)
    values = {
        "run": run.id,
        "kind": run.kind,
        **dict(zip(("job", "parameters_hash", "lap", "step", "partition"), key_values(key), strict=True)),
        "status": Status.RUNNING,
        "started_at": now,
        **dict(zip(COUNTS, executions.count_values(counts), strict=True)),
        "seconds": 0.0,
        "peak_memory_bytes": 0,
        "error": "",
        "target_identity": storable(before.target_identity) if before else "",
        "source": source,
        "target": target,
        "guarantee": guarantee,
        "seen_at": now,
    }
    return _insert(connection, "batchwright_step_executions", values)


def _insert(connection: sqlite3.Connection, table: str, values: dict[str, object]) -> int:
    made = connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",  # noqa: S608 - our names
        tuple(values.values()),
    )
    return int(made.lastrowid or 0)

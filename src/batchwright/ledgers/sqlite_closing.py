"""Executions in a SQLite ledger that are closed for an owner that is gone.

The one rule: nothing here begins or commits a transaction.
"""

import sqlite3
from collections.abc import Sequence

from batchwright.ledgers import execution_rows as executions
from batchwright.ledgers.transitions import LIVE, closed_as, owner_gone
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.status import Status

LIVE_RUNS = (
    f"SELECT {', '.join(executions.RUN_COLUMNS)} FROM batchwright_job_executions "  # noqa: S608 - our own column names
    f"WHERE job = ? AND parameters_hash = ? AND status IN ({', '.join('?' * len(LIVE))})"
)


def close_lost(connection: sqlite3.Connection, key: InstanceKey) -> None:
    """Close the live runs of an instance, with their steps, as of the last sign of life of each."""
    lost = connection.execute(LIVE_RUNS, (key.job, key.parameters_hash, *LIVE)).fetchall()
    for run in map(executions.run_of, lost):
        error, status = owner_gone(run.pid, run.host), closed_as(run.status)
        (seen_at,) = connection.execute(
            "SELECT max(seen_at) FROM (SELECT seen_at FROM batchwright_job_executions WHERE id = ? "
            "UNION ALL SELECT seen_at FROM batchwright_step_executions WHERE run = ?)",
            (run.id, run.id),
        ).fetchone()
        connection.execute(
            "UPDATE batchwright_step_executions SET status = ?, error = ?, ended_at = seen_at "  # noqa: S608 - our own
            f"WHERE run = ? AND status IN ({listed(LIVE)})",
            (status, error, run.id),
        )
        connection.execute(
            "UPDATE batchwright_job_executions SET status = ?, error = ?, ended_at = ? WHERE id = ? AND status = ?",
            (status, error, seen_at, run.id, run.status),
        )


def listed(statuses: Sequence[Status]) -> str:
    """Statuses as SQL lists them."""
    return ", ".join(f"'{status}'" for status in statuses)

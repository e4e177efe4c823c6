"""What a SQLite ledger forgets, and how it becomes smaller.

The one rule: what is deleted is overwritten (`secure_delete`), and gone from the file after `VACUUM`.
"""

import sqlite3

from batchwright.databases import sqlite_records as records
from batchwright.ledgers.death_rows import DeathStatements
from batchwright.ledgers.effect_rows import EffectStatements
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.forgetting import Forgetting, Forgotten

EFFECTS = EffectStatements("batchwright_effects", "?")

DEATHS = DeathStatements("batchwright_deaths", "?")


def forget(connection: sqlite3.Connection, key: InstanceKey, what: Forgetting) -> Forgotten:
    """Delete this of an instance, inside the caller's transaction."""
    runs = [(run, key.job, key.parameters_hash) for run in what.runs]
    owned = "AND job = ? AND parameters_hash = ?"
    connection.executemany(f"DELETE FROM batchwright_step_executions WHERE run = ? {owned}", runs)  # noqa: S608 - our own
    gone = connection.executemany(f"DELETE FROM batchwright_job_executions WHERE id = ? {owned}", runs)  # noqa: S608 - our own
    failures = [records.forget_failures(connection, key, lap, with_open=what.with_open) for lap in what.failure_laps]
    for log in (EFFECTS, DEATHS):
        connection.execute(log.forget, (key.job, key.parameters_hash, what.checkpoints_below))
    checkpoints = records.forget_laps(connection, key, what.checkpoints_below)
    return Forgotten(max(0, gone.rowcount), sum(failures), checkpoints)


def shrink(connection: sqlite3.Connection) -> str:
    """Rebuild the file and empty its log; why not, if others are at work on it or the disk is full."""
    try:
        connection.execute("VACUUM")
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        return f"the ledger's file is not smaller yet: {error}; prune again later"
    return "the ledger's log is not emptied yet: somebody reads it; prune again later" if busy else ""

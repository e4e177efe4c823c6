"""Keys that were seen, in a SQLite database: beside the checkpoint of the step that saw them.

The one rule: nothing here commits. A key of a lap that this step has not finished counts for that lap only. Lap 0
stands for finished ones whose checkpoints were pruned.
"""

import sqlite3
from collections.abc import Sequence

from batchwright.databases.records import key_values
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.fault_points import reach

KEYS_A_STATEMENT = 500

_KNOWN = (
    "SELECT digest FROM batchwright_keys AS seen WHERE scope = ? AND digest IN ({}) AND (lap IN (0, ?) OR EXISTS ("
    "SELECT 1 FROM batchwright_checkpoints WHERE job = ? AND parameters_hash = ? AND lap = seen.lap AND step = ? "
    "AND partition = ? AND finished))"
)
_REMEMBER = (
    "INSERT INTO batchwright_keys (scope, digest, lap) VALUES (?, ?, ?) "
    "ON CONFLICT (scope, digest) DO UPDATE SET lap = excluded.lap"
)

_FORGET_LAP = (
    "DELETE FROM batchwright_keys WHERE scope = ? AND NOT EXISTS (SELECT 1 FROM batchwright_failures "
    "WHERE job = ? AND parameters_hash = ? AND lap = ? AND step = ? AND partition = ?)"
)


def known_keys(connection: sqlite3.Connection, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
    """Which of these keys are stored, by this lap or by a finished one."""
    job, parameters_hash, lap, step, partition = key_values(space.step)
    known: set[bytes] = set()
    for start in range(0, len(digests), KEYS_A_STATEMENT):
        part = digests[start : start + KEYS_A_STATEMENT]
        sql = _KNOWN.format(", ".join("?" * len(part)))
        values = (space.scope, *part, lap, job, parameters_hash, step, partition)
        known.update(row[0] for row in connection.execute(sql, values))
    return known


def remember_keys(connection: sqlite3.Connection, space: KeySpace, digests: Sequence[bytes]) -> None:
    """Store keys of this lap. In the order of the index, which touches fewer pages."""
    scope, lap = space.scope, space.step.lap
    connection.executemany(_REMEMBER, [(scope, digest, lap) for digest in sorted(digests)])
    reach("K8")


def forget_keys(connection: sqlite3.Connection, space: KeySpace) -> None:
    """Delete all keys of this space."""
    connection.execute("DELETE FROM batchwright_keys WHERE scope = ?", (space.scope,))


def forget_lap(connection: sqlite3.Connection, key: StepKey, *, finished: bool) -> None:
    """A checkpoint is forgotten: keys of its lap alone go, unless failures are left; those across laps stay known."""
    across = KeySpace(key, across_laps=True).scope, key.lap
    if finished:
        connection.execute("UPDATE batchwright_keys SET lap = 0 WHERE scope = ? AND lap = ?", across)
    else:
        connection.execute("DELETE FROM batchwright_keys WHERE scope = ? AND lap = ?", across)
    connection.execute(_FORGET_LAP, (KeySpace(key).scope, *key_values(key)))


def keep_keys(connection: sqlite3.Connection, seen: SeenKeys | None, checkpoint: Checkpoint) -> None:
    """Store what came with a checkpoint; delete the space if that says that it is over."""
    if seen is None:
        return
    remember_keys(connection, seen.space, seen.digests)
    if seen.space.is_over(checkpoint):
        forget_keys(connection, seen.space)

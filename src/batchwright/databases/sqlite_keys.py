"""Keys that were seen, in a SQLite database: beside the checkpoint of the step that saw them.

The one rule: nothing here commits. A key of a lap that this step has not finished counts for that lap only. Lap 0
stands for finished ones whose checkpoints were pruned.

A key is in one of two tables, moved in one transaction:
  new    in its chunk's row of batchwright_new_keys: appended, found by `NewKeys`, which holds a copy in memory
  moved  in batchwright_keys, found by its index. Digests have no order in time, so that each new one changes a page of
         its own there: they are moved `MOST_NEW_KEYS` at once, in the order of the index.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchwright.databases.records import key_values
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.distinct import DIGEST_BYTES, KeySpace, SeenKeys
from batchwright.model.fault_points import reach

KEYS_A_STATEMENT = 500

MOST_NEW_KEYS = 100_000
"""How many keys of a space are held in memory, about 100 bytes each, but for those of the last chunk."""

PAGES_KIB = 16_384
"""How much of the database a connection that looks for keys may hold in memory."""

_COUNTS = (
    "(seen.lap IN (0, ?) OR EXISTS (SELECT 1 FROM batchwright_checkpoints WHERE job = ? AND parameters_hash = ? "
    "AND lap = seen.lap AND step = ? AND partition = ? AND finished))"
)
_KNOWN = f"SELECT digest FROM batchwright_keys AS seen WHERE scope = ? AND digest IN ({{}}) AND {_COUNTS}"  # noqa: S608 - our own words
_MOVED = "SELECT 1 FROM batchwright_keys WHERE scope = ? LIMIT 1"
_MOVE = (
    "INSERT INTO batchwright_keys (scope, digest, lap) VALUES (?, ?, ?) "
    "ON CONFLICT (scope, digest) DO UPDATE SET lap = excluded.lap"
)
_FIRST = "SELECT number, stamp FROM batchwright_new_keys WHERE scope = ? ORDER BY number LIMIT 1"
_THIS = "SELECT number, stamp FROM batchwright_new_keys WHERE scope = ? AND number = ?"
_LAST = "SELECT number, total FROM batchwright_new_keys WHERE scope = ? ORDER BY number DESC LIMIT 1"
_BEHIND = (
    f"SELECT number, stamp, digests, {_COUNTS} FROM batchwright_new_keys AS seen "  # noqa: S608 - our own words
    "WHERE scope = ? AND number > ? ORDER BY number"
)
_APPEND = "INSERT INTO batchwright_new_keys VALUES (?, ?, randomblob(8), ?, ?, ?)"

_TABLES = ("batchwright_keys", "batchwright_new_keys")

_FORGET_LAP = (
    "DELETE FROM {} WHERE scope = ? AND NOT EXISTS (SELECT 1 FROM batchwright_failures "
    "WHERE job = ? AND parameters_hash = ? AND lap = ? AND step = ? AND partition = ?)"
)

Row = tuple[int, bytes]
"""A row of new keys: its number and its stamp."""


@dataclass(slots=True)
class NewKeys:
    """A copy of the new keys of one space, as far as they count, and which rows they are from.

    It is compared with the table before each use: rows may have been rolled back, or moved.
    """

    space: KeySpace | None = None
    first: Row | None = None
    last: Row | None = None
    digests: set[bytes] = field(default_factory=set)

    def bring_up(self, connection: sqlite3.Connection, space: KeySpace) -> set[bytes]:
        """The keys of this space that are in the table now."""
        first = connection.execute(_FIRST, (space.scope,)).fetchone()
        if space != self.space or first != self.first or not self._stands(connection, space):
            if space != self.space:
                connection.execute(f"PRAGMA cache_size = -{PAGES_KIB}")
            self.space, self.first, self.last, self.digests = space, first, None, set()
        after = self.last[0] if self.last else 0
        job, parameters_hash, lap, step, partition = key_values(space.step)
        values = (lap, job, parameters_hash, step, partition, space.scope, after)
        for number, stamp, digests, counts in connection.execute(_BEHIND, values):
            if counts:
                self.digests.update(_apart(digests))
            self.last = number, stamp
        return self.digests

    def _stands(self, connection: sqlite3.Connection, space: KeySpace) -> bool:
        if self.last is None:
            return True
        return bool(connection.execute(_THIS, (space.scope, self.last[0])).fetchone() == self.last)


def known_keys(
    connection: sqlite3.Connection, space: KeySpace, digests: Sequence[bytes], new: NewKeys | None = None
) -> set[bytes]:
    """Which of these keys are stored, by this lap or by a finished one. `new` is a copy from earlier calls."""
    known = (new or NewKeys()).bring_up(connection, space).intersection(digests)
    if connection.execute(_MOVED, (space.scope,)).fetchone() is None:
        return known
    job, parameters_hash, lap, step, partition = key_values(space.step)
    for start in range(0, len(digests), KEYS_A_STATEMENT):
        part = digests[start : start + KEYS_A_STATEMENT]
        sql = _KNOWN.format(", ".join("?" * len(part)))
        values = (space.scope, *part, lap, job, parameters_hash, step, partition)
        known.update(row[0] for row in connection.execute(sql, values))
    return known


def remember_keys(connection: sqlite3.Connection, space: KeySpace, digests: Sequence[bytes]) -> None:
    """Store keys of this lap; those that are new no more are moved."""
    if digests:
        number, total = connection.execute(_LAST, (space.scope,)).fetchone() or (0, 0)
        if total and total + len(digests) > MOST_NEW_KEYS:
            _move(connection, space)
            number = total = 0
        values = (space.scope, number + 1, total + len(digests), space.step.lap, b"".join(digests))
        connection.execute(_APPEND, values)
    reach("K8")


def forget_keys(connection: sqlite3.Connection, space: KeySpace) -> None:
    """Delete all keys of this space."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE scope = ?", (space.scope,))  # noqa: S608 - our own name


def forget_lap(connection: sqlite3.Connection, key: StepKey, *, finished: bool) -> None:
    """A checkpoint is forgotten: keys of its lap alone go, unless failures are left; those across laps stay known."""
    across = KeySpace(key, across_laps=True).scope, key.lap
    for table in _TABLES:
        change = f"UPDATE {table} SET lap = 0" if finished else f"DELETE FROM {table}"  # noqa: S608 - our own name
        connection.execute(f"{change} WHERE scope = ? AND lap = ?", across)
        connection.execute(_FORGET_LAP.format(table), (KeySpace(key).scope, *key_values(key)))


def keep_keys(connection: sqlite3.Connection, seen: SeenKeys | None, checkpoint: Checkpoint) -> None:
    """Store what came with a checkpoint; delete the space if that says that it is over."""
    if seen is None:
        return
    remember_keys(connection, seen.space, seen.digests)
    if seen.space.is_over(checkpoint):
        forget_keys(connection, seen.space)


def _move(connection: sqlite3.Connection, space: KeySpace) -> None:
    """Move the new keys of a space, in the order of the index; of one that is there twice, the later lap holds."""
    laps: dict[bytes, int] = {}
    rows = "SELECT lap, digests FROM batchwright_new_keys WHERE scope = ? ORDER BY number"
    for lap, digests in connection.execute(rows, (space.scope,)):
        laps.update(dict.fromkeys(_apart(digests), lap))
    scope = space.scope
    connection.executemany(_MOVE, ((scope, digest, laps[digest]) for digest in sorted(laps)))
    connection.execute("DELETE FROM batchwright_new_keys WHERE scope = ?", (scope,))


def _apart(digests: bytes) -> list[bytes]:
    return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]

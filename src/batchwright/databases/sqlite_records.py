"""Checkpoint and failure rows in a SQLite database, for targets and for the ledger alike.

The one rule: nothing here commits but `forget_older_laps`. The caller's transaction holds data, checkpoint and failures
together.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from batchwright.databases import sqlite, sqlite_keys
from batchwright.databases.migrations import Migration, numbered_scripts
from batchwright.databases.records import (
    FAILURE,
    KEY,
    MOVED,
    PROGRESS,
    checkpoint_of,
    checkpoint_values,
    failure_of,
    failure_values,
    fenced,
    key_values,
    progress_values,
    storable,
)
from batchwright.databases.sqlite_schema import migrate, schema_version
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.distinct import SeenKeys
from batchwright.model.failure import Failure, FailureState
from batchwright.model.fault_points import reach
from batchwright.model.forgetting import Forgotten

COMPONENT = "records"

IDENTITY_VERSION = 2
"""The first version of the tables that say which database this is."""

_KEYED = " AND ".join(f"{column} = ?" for column in KEY)

_INSERT_CHECKPOINT = (
    f"INSERT INTO batchwright_checkpoints ({', '.join((*KEY, *MOVED))}) "  # noqa: S608 - our own column names
    f"VALUES ({', '.join('?' * (len(KEY) + len(MOVED)))})"
)
_REPLACE_CHECKPOINT = _INSERT_CHECKPOINT.replace("INSERT", "INSERT OR REPLACE", 1)
_AS_BEFORE = f"WHERE {_KEYED} AND ordinal = ? AND commits = ? AND finished = 0"
_MOVE_CHECKPOINT = f"UPDATE batchwright_checkpoints SET {', '.join(f'{column} = ?' for column in MOVED)} {_AS_BEFORE}"  # noqa: S608 - as above
_MOVE_PROGRESS = f"UPDATE batchwright_checkpoints SET {', '.join(f'{column} = ?' for column in PROGRESS)} {_AS_BEFORE}"  # noqa: S608 - as above
_SELECT_CHECKPOINT = f"SELECT {', '.join(MOVED)} FROM batchwright_checkpoints WHERE {_KEYED}"  # noqa: S608 - as above
_INSERT_FAILURE = (
    f"INSERT OR IGNORE INTO batchwright_failures ({', '.join((*KEY, *FAILURE))}) "  # noqa: S608 - as above
    f"VALUES ({', '.join('?' * (len(KEY) + len(FAILURE)))})"
)
_SELECT_FAILURES = (
    f"SELECT {', '.join(('step', *FAILURE))} FROM batchwright_failures "  # noqa: S608 - as above
    f"WHERE {_KEYED} AND ordinal > ? ORDER BY ordinal LIMIT ?"
)
_RAISE_FENCE = (
    f"INSERT INTO batchwright_fences ({', '.join(KEY)}, epoch) VALUES ({', '.join('?' * len(KEY))}, 1) "  # noqa: S608 - as above
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
)
_CHECK_FENCE = f"SELECT 1 FROM batchwright_fences WHERE {_KEYED} AND epoch = ?"  # noqa: S608 - as above
_FORGET_LAPS = (
    "DELETE FROM {0} AS old WHERE job = ? AND parameters_hash = ? AND lap < ? AND (? IS NULL OR step = ?) "
    "AND EXISTS (SELECT 1 FROM {0} AS newer WHERE newer.job = old.job AND newer.parameters_hash = old.parameters_hash "
    "AND newer.step = old.step AND newer.lap > old.lap)"
)
_PAGE = 100


def prepare(connection: sqlite3.Connection) -> None:
    """Create or upgrade the two tables. Raises LedgerError if they are newer than this version of batchwright."""
    migrate(connection, COMPONENT, migrations())


def prepared(connection: sqlite3.Connection) -> bool:
    """Whether the two tables are there. Writes nothing."""
    return schema_version(connection, COMPONENT) > 0


def migrations() -> list[Migration]:
    """The numbered scripts of this component."""
    return numbered_scripts(Path(__file__).parent, "sqlite_[0-9]*_records.sql")


def get_checkpoint(connection: sqlite3.Connection, key: StepKey) -> Checkpoint | None:
    """The checkpoint stored under this key."""
    row = connection.execute(_SELECT_CHECKPOINT, key_values(key)).fetchone()
    return None if row is None else checkpoint_of(row)


def identity(connection: sqlite3.Connection) -> str:
    """Which database this is; empty if it has no tables of ours that say so."""
    if schema_version(connection, COMPONENT) < IDENTITY_VERSION:
        return ""
    row = connection.execute("SELECT id FROM batchwright_identity").fetchone()
    return str(row[0]) if row else ""


def last_lap(connection: sqlite3.Connection, key: StepKey) -> int:
    """The highest lap with a checkpoint of this step; 0 if there is none."""
    (lap,) = connection.execute(
        "SELECT MAX(lap) FROM batchwright_checkpoints WHERE job = ? AND parameters_hash = ? AND step = ?",
        (key.job, key.parameters_hash, key.step),
    ).fetchone()
    return int(lap or 0)


def put_checkpoint(
    connection: sqlite3.Connection, key: StepKey, checkpoint: Checkpoint, seen: SeenKeys | None = None
) -> None:
    """Store a checkpoint, whatever stood there, and the keys that came with it."""
    sqlite_keys.keep_keys(connection, seen, checkpoint)
    connection.execute(_REPLACE_CHECKPOINT, (*key_values(key), *checkpoint_values(checkpoint)))


def move_checkpoint(connection: sqlite3.Connection, key: StepKey, before: Checkpoint | None, after: Checkpoint) -> None:
    """Store `after` if the row still says `before`. Raises FencedError if somebody else has moved it."""
    if before is None:
        try:
            connection.execute(_INSERT_CHECKPOINT, (*key_values(key), *checkpoint_values(after)))
        except sqlite3.IntegrityError as error:
            raise fenced(key) from error
    else:
        expected = (*key_values(key), before.position.ordinal, before.counts.commits)
        if before.state == after.state:
            moved = connection.execute(_MOVE_PROGRESS, (*progress_values(after), *expected))
        else:
            moved = connection.execute(_MOVE_CHECKPOINT, (*checkpoint_values(after), *expected))
        if moved.rowcount != 1:
            raise fenced(key)
    reach("K10")


def raise_fence(connection: sqlite3.Connection, key: StepKey, owned: Callable[[], object]) -> int:
    """Own this step in this target from now on: whoever did before commits nothing any more. The new epoch.

    In a transaction that holds the lock: what `owned` says then is true until it ends. Raises what that raises.
    """
    owned()
    (epoch,) = connection.execute(_RAISE_FENCE, key_values(key)).fetchone()
    return int(epoch)


def check_fence(connection: sqlite3.Connection, key: StepKey, epoch: int) -> None:
    """Raise FencedError if somebody has raised the fence since. Inside the transaction that commits under it."""
    if connection.execute(_CHECK_FENCE, (*key_values(key), epoch)).fetchone() is None:
        raise fenced(key)


def put_failures(connection: sqlite3.Connection, key: StepKey, failures: Sequence[Failure]) -> None:
    """Add failures. One that is already there keeps its state."""
    if failures:
        connection.executemany(_INSERT_FAILURE, [(*key_values(key), *failure_values(failure)) for failure in failures])
        reach("K17")


def get_failures(connection: sqlite3.Connection, key: StepKey) -> Iterator[Failure]:
    """Every failure under this key, by ordinal; read a page at a time, so that the caller may write in between."""
    after = -1
    while page := connection.execute(_SELECT_FAILURES, (*key_values(key), after, _PAGE)).fetchall():
        yield from map(failure_of, page)
        after = page[-1][1]


def void_failures(connection: sqlite3.Connection, key: StepKey, from_ordinal: int) -> None:
    """Forget failures at or past this ordinal."""
    connection.execute(
        f"DELETE FROM batchwright_failures WHERE {_KEYED} AND ordinal >= ?",  # noqa: S608 - as above
        (*key_values(key), from_ordinal),
    )


def settle_failures(
    connection: sqlite3.Connection,
    key: StepKey,
    ordinals: Sequence[int],
    state: FailureState = FailureState.REPLAYED,
    note: str = "",
) -> int:
    """Move failures at these ordinals into a state, from the one that it is reached from; how many were moved."""
    return sum(
        connection.execute(
            f"UPDATE batchwright_failures SET state = ?, note = ? WHERE {_KEYED} AND ordinal = ? AND state = ?",  # noqa: S608 - as above
            (state, storable(note), *key_values(key), ordinal, state.source),
        ).rowcount
        for ordinal in ordinals
    )


def forget_laps(connection: sqlite3.Connection, key: InstanceKey, below: int, step: str | None = None) -> int:
    """Delete checkpoints and fences of laps below this one, but for each step's newest; how many checkpoints."""
    values = (key.job, key.parameters_hash, below, step, step)
    connection.execute(_FORGET_LAPS.format("batchwright_fences"), values)
    forgotten = f"{_FORGET_LAPS.format('batchwright_checkpoints')} RETURNING lap, step, partition, finished"
    gone = connection.execute(forgotten, values).fetchall()
    for lap, name, partition, finished in gone:
        old = StepKey(key.job, key.parameters_hash, lap, name, partition)
        sqlite_keys.forget_lap(connection, old, finished=bool(finished))
    return len(gone)


def forget_failures(
    connection: sqlite3.Connection, key: InstanceKey, lap: int, step: str | None = None, *, with_open: bool
) -> int:
    """Delete the failures of a lap that are not open any more, or all of them; how many."""
    closed = "" if with_open else f" AND state <> '{FailureState.OPEN}'"
    found = connection.execute(
        "DELETE FROM batchwright_failures "  # noqa: S608 - as above
        f"WHERE job = ? AND parameters_hash = ? AND lap = ? AND (? IS NULL OR step = ?){closed}",
        (key.job, key.parameters_hash, lap, step, step),
    )
    return found.rowcount


def forget_before(connection: sqlite3.Connection, key: StepKey, *, with_open: bool) -> Forgotten:
    """Delete what is kept about earlier laps of a step, but for the newest lap that is known of it."""
    instance = InstanceKey(key.job, key.parameters_hash)
    below = min(key.lap, last_lap(connection, key))
    laps = connection.execute(
        "SELECT DISTINCT lap FROM batchwright_failures WHERE job = ? AND parameters_hash = ? AND step = ? AND lap < ?",
        (key.job, key.parameters_hash, key.step, below),
    ).fetchall()
    failures = sum(forget_failures(connection, instance, lap, key.step, with_open=with_open) for (lap,) in laps)
    return Forgotten(failures=failures, checkpoints=forget_laps(connection, instance, below, key.step))


def forget_older_laps(connection: sqlite3.Connection, key: StepKey, *, with_open: bool, pretend: bool) -> Forgotten:
    """Forget the laps before the newest in a transaction of its own; with `pretend` only count."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        forgotten = forget_before(connection, key, with_open=with_open)
        if not pretend:
            sqlite.commit(connection)
    finally:
        sqlite.roll_back(connection)
    return forgotten

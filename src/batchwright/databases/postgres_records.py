"""Checkpoint and failure rows in a PostgreSQL schema, for targets and for the ledger alike.

The one rule: nothing here commits but `forget_older_laps`. The caller's transaction holds data, checkpoint and failures
together.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchwright.databases import postgres_keys
from batchwright.databases.migrations import Migration, numbered_scripts
from batchwright.databases.postgres import begin, commit, driver, quoted, roll_back
from batchwright.databases.postgres_schema import migrate, schema_version
from batchwright.databases.postgres_texts import escaped, unescaped
from batchwright.databases.records import (
    FAILURE,
    KEY,
    MOVED,
    checkpoint_of,
    checkpoint_values,
    failure_columns,
    failure_of,
    failure_values,
    fenced,
    key_values,
    storable,
)
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.failure import Failure, FailureState
from batchwright.model.fault_points import reach
from batchwright.model.forgetting import Forgotten

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

COMPONENT = "records"

IDENTITY_VERSION = 2
"""The first version of the tables that say which database this is."""

_KEYED = " AND ".join(f"{column} = %s" for column in KEY)
_PAGE = 100


def _insert(table: str, columns: Sequence[str]) -> str:
    return (
        f"INSERT INTO {{schema}}.{table} ({', '.join((*KEY, *columns))}) "  # noqa: S608 - our own column names
        f"VALUES ({', '.join(['%s'] * (len(KEY) + len(columns)))})"
    )


_INSERT_CHECKPOINT = _insert("batchwright_checkpoints", MOVED)
_REPLACE_CHECKPOINT = (
    f"{_INSERT_CHECKPOINT} ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET "
    f"{', '.join(f'{column} = excluded.{column}' for column in MOVED)}"
)
_MOVE_CHECKPOINT = (
    f"UPDATE {{schema}}.batchwright_checkpoints SET {', '.join(f'{column} = %s' for column in MOVED)} "  # noqa: S608 - as above
    f"WHERE {_KEYED} AND ordinal = %s AND commits = %s AND NOT finished"
)
_SELECT_CHECKPOINT = f"SELECT {', '.join(MOVED)} FROM {{schema}}.batchwright_checkpoints WHERE {_KEYED}"  # noqa: S608 - as above
_RAISE_FENCE = (
    f"INSERT INTO {{schema}}.batchwright_fences AS fence ({', '.join(KEY)}, epoch) "  # noqa: S608 - as above
    f"VALUES ({', '.join(['%s'] * len(KEY))}, 1) "
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET epoch = fence.epoch + 1 WHERE fence.epoch = %s RETURNING epoch"
)
_SELECT_FENCE = f"SELECT epoch FROM {{schema}}.batchwright_fences WHERE {_KEYED}"  # noqa: S608 - as above
_CHECK_FENCE = f"SELECT 1 FROM {{schema}}.batchwright_fences WHERE {_KEYED} AND epoch = %s FOR SHARE"  # noqa: S608 - as above
_FORGET_LAPS = (
    "DELETE FROM {schema}.{table} AS old WHERE job = %s AND parameters_hash = %s AND lap < %s "
    "AND (%s::text IS NULL OR step = %s) AND EXISTS (SELECT 1 FROM {schema}.{table} AS newer "
    "WHERE newer.job = old.job AND newer.parameters_hash = old.parameters_hash AND newer.step = old.step "
    "AND newer.lap > old.lap)"
)
_INSERT_FAILURE = f"{_insert('batchwright_failures', FAILURE)} ON CONFLICT DO NOTHING"
_SELECT_FAILURES = (
    f"SELECT {failure_columns()} FROM {{schema}}.batchwright_failures "  # noqa: S608 - as above
    f"WHERE {_KEYED} AND ordinal > %s ORDER BY ordinal LIMIT %s"
)


def prepare(connection: "Connection", schema: str) -> None:
    """Create or upgrade the two tables, outside any transaction. Raises LedgerError if they are too new or not ours."""
    migrate(connection, schema, COMPONENT, migrations())


def prepared(connection: "Connection", schema: str) -> bool:
    """Whether the two tables are there. Writes nothing."""
    return schema_version(connection, schema, COMPONENT) > 0


def migrations() -> list[Migration]:
    """The numbered scripts of this component."""
    return numbered_scripts(Path(__file__).parent, "postgres_[0-9]*_records.sql")


def get_checkpoint(connection: "Connection", schema: str, key: StepKey) -> Checkpoint | None:
    """The checkpoint stored under this key."""
    row = _run(connection, _SELECT_CHECKPOINT, schema, key_values(key)).fetchone()
    return None if row is None else checkpoint_of(row)


def settled_checkpoint(connection: "Connection", schema: str, key: StepKey) -> Checkpoint | None:
    """The checkpoint under this key, once no transaction is under way that could still move it. Outside any of ours.

    A killed process, or a cut connection, may leave behind a COMMIT that the server is still at: whoever looks without
    waiting for it sees the row before. The wait ends with `lock_timeout`.
    """
    connection.execute("BEGIN")
    try:
        row = _run(connection, f"{_SELECT_CHECKPOINT} FOR UPDATE", schema, key_values(key)).fetchone()
        if row is None:
            # There is no row to wait for; but a row of the same key waits for whoever is inserting it.
            nothing = (*key_values(key), *checkpoint_values(Checkpoint(Position(0))))
            _run(connection, f"{_INSERT_CHECKPOINT} ON CONFLICT DO NOTHING", schema, nothing)
    finally:
        roll_back(connection)
    return checkpoint_of(row) if row else get_checkpoint(connection, schema, key)


def identity(connection: "Connection", schema: str) -> str:
    """Which database this is; empty if it does not say so, or not to us. Outside any transaction."""
    if schema_version(connection, schema, COMPONENT) < IDENTITY_VERSION:
        return ""
    try:
        row = _run(connection, "SELECT id FROM {schema}.batchwright_identity", schema, ()).fetchone()
    except driver().errors.InsufficientPrivilege:
        return ""
    return str(row[0]) if row else ""


def last_lap(connection: "Connection", schema: str, key: StepKey) -> int:
    """The highest lap with a checkpoint of this step; 0 if there is none."""
    sql = "SELECT max(lap) FROM {schema}.batchwright_checkpoints WHERE job = %s AND parameters_hash = %s AND step = %s"
    row = _run(connection, sql, schema, (key.job, key.parameters_hash, key.step)).fetchone()
    return int(row[0] or 0) if row else 0


def put_checkpoint(connection: "Connection", schema: str, key: StepKey, checkpoint: Checkpoint) -> None:
    """Store a checkpoint, whatever stood there."""
    _run(connection, _REPLACE_CHECKPOINT, schema, (*key_values(key), *checkpoint_values(checkpoint)))


def move_checkpoint(
    connection: "Connection", schema: str, key: StepKey, before: Checkpoint | None, after: Checkpoint
) -> None:
    """Store `after` if the row still says `before`. Raises FencedError if somebody else has moved it."""
    values = checkpoint_values(after)
    if before is None:
        try:
            _run(connection, _INSERT_CHECKPOINT, schema, (*key_values(key), *values))
        except driver().errors.UniqueViolation as error:
            raise fenced(key) from error
    else:
        expected = (before.position.ordinal, before.counts.commits)
        if _run(connection, _MOVE_CHECKPOINT, schema, (*values, *key_values(key), *expected)).rowcount != 1:
            raise fenced(key)
    reach("K10")


def raise_fence(connection: "Connection", schema: str, key: StepKey, owned: Callable[[], object]) -> int:
    """Own this step in this target from now on: whoever did before commits nothing any more. The new epoch.

    Waits, as long as `lock_timeout` allows, for a transaction that has checked the fence and not ended yet. Raises
    FencedError if somebody else raises it meanwhile, and as `owned` does.
    """
    # From where it was seen while it was surely ours: a network that heals delivers statements minutes late, and one of
    # an owner who has been replaced since must not fence off the successor.
    seen = _run(connection, _SELECT_FENCE, schema, key_values(key)).fetchone()
    owned()
    row = _run(connection, _RAISE_FENCE, schema, (*key_values(key), int(seen[0]) if seen else 0)).fetchone()
    if row is None:
        raise fenced(key)
    return int(row[0])


def check_fence(connection: "Connection", schema: str, key: StepKey, epoch: int) -> None:
    """Raise FencedError if somebody has raised the fence since. Inside the transaction that commits under it.

    FOR SHARE holds off whoever wants to raise it until that transaction ends; a plain SELECT, or FOR KEY SHARE, would
    let them through while we can still commit.
    """
    if _run(connection, _CHECK_FENCE, schema, (*key_values(key), epoch)).fetchone() is None:
        raise fenced(key)


def put_failures(connection: "Connection", schema: str, key: StepKey, failures: Sequence[Failure]) -> None:
    """Add failures. One that is already there keeps its state."""
    if failures:
        rows = [(*key_values(key), *map(escaped, failure_values(failure))) for failure in failures]
        with connection.cursor() as cursor:
            cursor.executemany(_in_schema(_INSERT_FAILURE, schema), rows)
        reach("K17")


def get_failures(connection: "Connection", schema: str, key: StepKey) -> Iterator[Failure]:
    """Every failure under this key, by ordinal; read a page at a time, so that the caller may write in between."""
    after = -1
    while page := _run(connection, _SELECT_FAILURES, schema, (*key_values(key), after, _PAGE)).fetchall():
        yield from (failure_of([*map(unescaped, row)]) for row in page)
        after = page[-1][1]


def void_failures(connection: "Connection", schema: str, key: StepKey, from_ordinal: int) -> None:
    """Forget failures at or past this ordinal."""
    sql = f"DELETE FROM {{schema}}.batchwright_failures WHERE {_KEYED} AND ordinal >= %s"  # noqa: S608 - as above
    _run(connection, sql, schema, (*key_values(key), from_ordinal))


def settle_failures(
    connection: "Connection",
    schema: str,
    key: StepKey,
    ordinals: Sequence[int],
    state: FailureState = FailureState.REPLAYED,
    note: str = "",
) -> int:
    """Move failures at these ordinals into a state, from the one that it is reached from; how many were moved."""
    sql = (
        f"UPDATE {{schema}}.batchwright_failures SET state = %s, note = %s "  # noqa: S608 - as above
        f"WHERE {_KEYED} AND ordinal = ANY(%s) AND state = %s"
    )
    values = (state.value, escaped(storable(note)), *key_values(key), list(ordinals), state.source.value)
    return int(_run(connection, sql, schema, values).rowcount)


def forget_laps(connection: "Connection", schema: str, key: InstanceKey, below: int, step: str | None = None) -> int:
    """Delete checkpoints and fences of laps below this one, but for each step's newest; how many checkpoints."""
    values = (key.job, key.parameters_hash, below, step, step)
    _run(connection, _FORGET_LAPS.replace("{table}", "batchwright_fences"), schema, values)
    forgotten = f"{_FORGET_LAPS.replace('{table}', 'batchwright_checkpoints')} RETURNING lap, step, partition, finished"
    gone = _run(connection, forgotten, schema, values).fetchall()
    for lap, name, partition, finished in gone:
        old = StepKey(key.job, key.parameters_hash, lap, name, partition)
        postgres_keys.forget_lap(connection, schema, old, finished=finished)
    return len(gone)


def forget_failures(
    connection: "Connection", schema: str, key: InstanceKey, laps: Sequence[int], step: str | None, *, with_open: bool
) -> int:
    """Delete the failures of these laps that are not open any more, or all of them; how many."""
    closed = "" if with_open else f" AND state <> '{FailureState.OPEN}'"
    sql = (
        "DELETE FROM {schema}.batchwright_failures WHERE job = %s AND parameters_hash = %s AND lap = ANY(%s) "  # noqa: S608 - as above
        f"AND (%s::text IS NULL OR step = %s){closed}"
    )
    return int(_run(connection, sql, schema, (key.job, key.parameters_hash, list(laps), step, step)).rowcount)


def forget_before(connection: "Connection", schema: str, key: StepKey, *, with_open: bool) -> Forgotten:
    """Delete what is kept about earlier laps of a step, but for the newest lap that is known of it."""
    instance = InstanceKey(key.job, key.parameters_hash)
    below = min(key.lap, last_lap(connection, schema, key))
    failures = forget_failures(connection, schema, instance, range(1, below), key.step, with_open=with_open)
    return Forgotten(failures=failures, checkpoints=forget_laps(connection, schema, instance, below, key.step))


def _run(connection: "Connection", sql: str, schema: str, values: Sequence[Any]) -> Any:
    return connection.execute(_in_schema(sql, schema), values)


def _in_schema(sql: str, schema: str) -> bytes:
    return sql.format(schema=quoted(schema).replace("%", "%%")).encode()


def forget_older_laps(
    connection: "Connection", schema: str, key: StepKey, *, with_open: bool, pretend: bool
) -> Forgotten:
    """Forget the laps before the newest in a transaction of its own; with `pretend` only count."""
    begin(connection)
    try:
        forgotten = forget_before(connection, schema, key, with_open=with_open)
        if not pretend:
            commit(connection)
    finally:
        roll_back(connection)
    return forgotten

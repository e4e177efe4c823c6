"""Keys that were seen, in a PostgreSQL schema: beside the checkpoint of the step that saw them.

The one rule: nothing here commits. A key of a lap that this step has not finished counts for that lap only. Lap 0
stands for finished ones whose checkpoints were pruned.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batchwright.databases.postgres import quoted
from batchwright.databases.records import key_values
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.fault_points import reach

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_KNOWN = (
    "SELECT digest FROM {schema}.batchwright_keys AS seen WHERE scope = %s AND digest = ANY(%s) AND (lap IN (0, %s) "
    "OR EXISTS (SELECT 1 FROM {schema}.batchwright_checkpoints AS of_lap WHERE job = %s AND parameters_hash = %s "
    "AND of_lap.lap = seen.lap AND step = %s AND partition = %s AND finished))"
)
_REMEMBER = (
    "INSERT INTO {schema}.batchwright_keys (scope, digest, lap) "
    "SELECT %s, digest, %s FROM unnest(%s::bytea[]) AS digest "
    "ON CONFLICT (scope, digest) DO UPDATE SET lap = excluded.lap"
)
_FORGET = "DELETE FROM {schema}.batchwright_keys WHERE scope = %s"

_FORGET_LAP = (
    "DELETE FROM {schema}.batchwright_keys WHERE scope = %s AND NOT EXISTS "
    "(SELECT 1 FROM {schema}.batchwright_failures "
    "WHERE job = %s AND parameters_hash = %s AND lap = %s AND step = %s AND partition = %s)"
)


def known_keys(connection: "Connection", schema: str, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
    """Which of these keys are stored, by this lap or by a finished one."""
    job, parameters_hash, lap, step, partition = key_values(space.step)
    values = (space.scope, list(digests), lap, job, parameters_hash, step, partition)
    return {bytes(row[0]) for row in _run(connection, _KNOWN, schema, values)} if digests else set()


def remember_keys(connection: "Connection", schema: str, space: KeySpace, digests: Sequence[bytes]) -> None:
    """Store keys of this lap. In the order of the index, which touches fewer pages."""
    if digests:
        _run(connection, _REMEMBER, schema, (space.scope, space.step.lap, sorted(digests)))
    reach("K8")


def forget_keys(connection: "Connection", schema: str, space: KeySpace) -> None:
    """Delete all keys of this space."""
    _run(connection, _FORGET, schema, (space.scope,))


def forget_lap(connection: "Connection", schema: str, key: StepKey, *, finished: bool) -> None:
    """A checkpoint is forgotten: keys of its lap alone go, unless failures are left; those across laps stay known."""
    across = KeySpace(key, across_laps=True).scope, key.lap
    change = "UPDATE {schema}.batchwright_keys SET lap = 0" if finished else "DELETE FROM {schema}.batchwright_keys"
    _run(connection, f"{change} WHERE scope = %s AND lap = %s", schema, across)
    _run(connection, _FORGET_LAP, schema, (KeySpace(key).scope, *key_values(key)))


def keep_keys(connection: "Connection", schema: str, seen: SeenKeys | None, checkpoint: Checkpoint) -> None:
    """Store what came with a checkpoint; delete the space if that says that it is over."""
    if seen is None:
        return
    remember_keys(connection, schema, seen.space, seen.digests)
    if seen.space.is_over(checkpoint):
        forget_keys(connection, schema, seen.space)


def _run(connection: "Connection", sql: str, schema: str, values: Sequence[Any]) -> Any:
    return connection.execute(sql.replace("{schema}", quoted(schema).replace("%", "%%")).encode(), values)

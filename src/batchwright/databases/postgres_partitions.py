"""All partitions of a step in a PostgreSQL database.

The one rule: nothing here writes. Who needs exact sums locks the row of the step as a whole, for its transaction: each
of those who need them sees what the one before has committed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchwright.databases.postgres import quoted
from batchwright.databases.postgres_records import get_failures
from batchwright.databases.postgres_texts import unescaped
from batchwright.databases.records import COUNTS, MOVED, checkpoint_of, key_values
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.failure import Failure

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_OF_STEP = "FROM {schema}.batchwright_checkpoints WHERE job = %s AND parameters_hash = %s AND lap = %s AND step = %s"
_CHECKPOINTS = f"SELECT partition, {', '.join(MOVED)} {_OF_STEP} AND partition > 0 ORDER BY partition"
_OTHERS = (
    f"SELECT {', '.join(f'coalesce(sum({count}), 0)::bigint' for count in COUNTS)} {_OF_STEP} "
    "AND partition > 0 AND partition <> %s"
)
_WITH_FAILURES = f"SELECT DISTINCT partition {_OF_STEP} AND partition > 0 ORDER BY partition".replace(
    "batchwright_checkpoints", "batchwright_failures"
)
_LOCK = f"SELECT 1 {_OF_STEP} AND partition = 0 FOR UPDATE"


@dataclass(frozen=True, slots=True)
class PostgresPartitions:
    """See `ports.partitions.PartitionRows`."""

    connection: "Connection"
    schema: str
    key: StepKey

    def checkpoints(self) -> Mapping[int, Checkpoint]:
        """The checkpoint of each partition that has one."""
        found = self._run(_CHECKPOINTS, key_values(self.key)[:4]).fetchall()
        return {partition: checkpoint_of([*map(unescaped, row)]) for partition, *row in found}

    def elsewhere(self, *, exactly: bool) -> Counts:
        """The counts of all partitions but the sink's own."""
        if exactly:
            self._run(_LOCK, key_values(self.key)[:4])
        return Counts(*self._run(_OTHERS, key_values(self.key)).fetchone())

    def failures(self) -> Iterator[Failure]:
        """The failures of all partitions, by partition and ordinal."""
        for (partition,) in self._run(_WITH_FAILURES, key_values(self.key)[:4]).fetchall():
            for failure in get_failures(self.connection, self.schema, replace(self.key, partition=partition)):
                yield replace(failure, partition=partition)

    def _run(self, sql: str, values: tuple[Any, ...]) -> Any:
        return self.connection.execute(sql.replace("{schema}", quoted(self.schema).replace("%", "%%")).encode(), values)

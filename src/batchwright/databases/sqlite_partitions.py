"""All partitions of a step in a SQLite database.

The one rule: nothing here writes. Whoever asks within a transaction has the only one that writes at that time.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from batchwright.databases.records import COUNTS, MOVED, checkpoint_of, key_values
from batchwright.databases.sqlite_records import get_failures
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.failure import Failure

_OF_STEP = "FROM batchwright_checkpoints WHERE job = ? AND parameters_hash = ? AND lap = ? AND step = ?"
_CHECKPOINTS = f"SELECT partition, {', '.join(MOVED)} {_OF_STEP} AND partition > 0 ORDER BY partition"
_OTHERS = (
    f"SELECT {', '.join(f'coalesce(sum({count}), 0)' for count in COUNTS)} {_OF_STEP} "
    "AND partition > 0 AND partition <> ?"
)
_WITH_FAILURES = f"SELECT DISTINCT partition {_OF_STEP} AND partition > 0 ORDER BY partition".replace(
    "batchwright_checkpoints", "batchwright_failures"
)


@dataclass(frozen=True, slots=True)
class SqlitePartitions:
    """See `ports.partitions.PartitionRows`."""

    connection: sqlite3.Connection
    key: StepKey

    def checkpoints(self) -> Mapping[int, Checkpoint]:
        """The checkpoint of each partition that has one."""
        found = self.connection.execute(_CHECKPOINTS, key_values(self.key)[:4]).fetchall()
        return {partition: checkpoint_of(row) for partition, *row in found}

    def elsewhere(self, *, exactly: bool) -> Counts:
        """The counts of all partitions but the sink's own."""
        del exactly  # within a transaction that writes nobody else commits
        return Counts(*self.connection.execute(_OTHERS, key_values(self.key)).fetchone())

    def failures(self) -> Iterator[Failure]:
        """The failures of all partitions, by partition and ordinal."""
        for (partition,) in self.connection.execute(_WITH_FAILURES, key_values(self.key)[:4]).fetchall():
            for failure in get_failures(self.connection, replace(self.key, partition=partition)):
                yield replace(failure, partition=partition)

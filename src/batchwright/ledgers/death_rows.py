"""Deaths of worker processes as rows and back, and the statements that every database takes for them.

The one rule: a row is an item over which workers died, found by its step's key and its ordinal; it holds the last word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from batchwright.databases.records import KEY, key_values
from batchwright.model.checkpoint import StepKey
from batchwright.model.work import Death

_CONTENT = ("attempts", "code", "digest")


@dataclass(frozen=True, slots=True)
class DeathStatements:
    """What is said to a database. `mark` is its placeholder, `table` the table's name as it takes it."""

    table: str
    mark: str

    @property
    def save(self) -> str:
        """Insert or replace one death: `death_values`."""
        columns = (*KEY, "ordinal", *_CONTENT)
        marks = ", ".join([self.mark] * len(columns))
        changed = ", ".join(f"{column} = excluded.{column}" for column in _CONTENT)
        return (
            f"INSERT INTO {self.table} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 - our own column names
            f"ON CONFLICT ({', '.join((*KEY, 'ordinal'))}) DO UPDATE SET {changed}"
        )

    @property
    def load(self) -> str:
        """The deaths of a step."""
        return f"SELECT ordinal, {', '.join(_CONTENT)} FROM {self.table} WHERE {self._of_step}"  # noqa: S608 - as above

    @property
    def end(self) -> str:
        """Delete the deaths of a step."""
        return f"DELETE FROM {self.table} WHERE {self._of_step}"  # noqa: S608 - as above

    @property
    def forget(self) -> str:
        """Delete the deaths of an instance's laps before one."""
        return (
            f"DELETE FROM {self.table} WHERE job = {self.mark} AND parameters_hash = {self.mark} AND lap < {self.mark}"  # noqa: S608 - as above
        )

    @property
    def _of_step(self) -> str:
        return " AND ".join(f"{column} = {self.mark}" for column in KEY)


def death_values(key: StepKey, ordinal: int, death: Death) -> tuple[Any, ...]:
    """A death as `DeathStatements.save` takes it."""
    return (*key_values(key), ordinal, death.attempts, death.code, death.digest)


def deaths_of(rows: Iterable[Sequence[Any]]) -> dict[int, Death]:
    """Deaths by ordinal from the rows of `DeathStatements.load`."""
    return {ordinal: Death(attempts, code, digest) for ordinal, attempts, code, digest in rows}

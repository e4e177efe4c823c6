"""Deaths of worker processes as rows and back, and the statements that every database takes for them.

The one rule: a row is an item over which workers died, found by its step's key and its ordinal; it holds the last word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from batchwright.databases.records import key_values
from batchwright.ledgers.log_rows import LogStatements
from batchwright.model.checkpoint import StepKey
from batchwright.model.work import Death


@dataclass(frozen=True, slots=True)
class DeathStatements(LogStatements):
    """What is said to a database about deaths. `save` takes `death_values`; `select` gives those of a step."""

    place: ClassVar[tuple[str, ...]] = ("ordinal",)
    content: ClassVar[tuple[str, ...]] = ("attempts", "code", "digest")

    @property
    def end(self) -> str:
        """Delete the deaths of a step."""
        return f"DELETE {self.rows_of_step}"


def death_values(key: StepKey, ordinal: int, death: Death) -> tuple[Any, ...]:
    """A death as `DeathStatements.save` takes it."""
    return (*key_values(key), ordinal, death.attempts, death.code, death.digest)


def deaths_of(rows: Iterable[Sequence[Any]]) -> dict[int, Death]:
    """Deaths by ordinal from the rows of `DeathStatements.select`."""
    return {ordinal: Death(attempts, code, digest) for ordinal, attempts, code, digest in rows}

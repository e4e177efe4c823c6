"""Effects as rows and back, and the statements that every database takes for them.

The one rule: an effect is one row, found by its step's key, its ordinal and its index; the last word about it replaces
the one before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from batchwright.databases.records import key_values, storable
from batchwright.ledgers.log_rows import LogStatements
from batchwright.model.checkpoint import StepKey
from batchwright.model.effect import Effect, EffectCount, EffectState


@dataclass(frozen=True, slots=True)
class EffectStatements(LogStatements):
    """What is said to a database about effects. `save` takes `effect_values`."""

    place: ClassVar[tuple[str, ...]] = ("ordinal", "output_index")
    content: ClassVar[tuple[str, ...]] = ("effect_key", "state", "output", "receipt", "error", "updated_at")

    @property
    def between(self) -> str:
        """The effects of a step from one ordinal up to another."""
        return f"{self.select} AND ordinal >= {self.mark} AND ordinal < {self.mark} ORDER BY ordinal, output_index"

    @property
    def last(self) -> str:
        """The effects of a step before an ordinal and an index, the last first, at most so many."""
        return (
            f"{self.select} AND (ordinal, output_index) < ({self.mark}, {self.mark}) "
            f"ORDER BY ordinal DESC, output_index DESC LIMIT {self.mark}"
        )

    @property
    def counts(self) -> str:
        """How many effects of a lap are in which state."""
        return (
            f"SELECT step, state, count(*) FROM {self.table} WHERE job = {self.mark} AND parameters_hash = {self.mark} "  # noqa: S608 - as above
            f"AND lap = {self.mark} GROUP BY step, state"
        )


END = (2**62, 0)
"""Behind every effect."""


def effect_values(key: StepKey, effect: Effect) -> tuple[Any, ...]:
    """An effect as `EffectStatements.save` takes it."""
    return (
        *key_values(key),
        effect.ordinal,
        effect.index,
        effect.key,
        effect.state.value,
        None if effect.stored_output is None else storable(effect.stored_output),
        None if effect.stored_receipt is None else storable(effect.stored_receipt),
        storable(effect.error),
        datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def effect_of(row: Sequence[Any]) -> Effect:
    """An effect from a row that was asked for."""
    ordinal, index, key, state, output, receipt, error, _updated_at = row
    return Effect(ordinal, index, key, EffectState(state), output, receipt, error)


def counts_of(rows: Iterable[Sequence[Any]]) -> list[EffectCount]:
    """Counts from the rows of `EffectStatements.counts`, by step and state."""
    return [EffectCount(step, EffectState(state), count) for step, state, count in sorted(map(tuple, rows))]

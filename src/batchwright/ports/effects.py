"""The ports of effects outside: who keeps their log, and what a sink needs to make their keys. Part of `ports`.

The one rule: whoever has nothing to do with effects pays nothing for them.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from batchwright.model.checkpoint import StepKey
from batchwright.model.effect import Effect, EffectCount


@runtime_checkable
class EffectLog(Protocol):
    """Keeps what steps do outside, call by call; a ledger is one."""

    def load_effects(self, key: StepKey, start: int, end: int) -> Sequence[Effect]:
        """The effects of the items from ordinal `start` up to `end`, by ordinal and index."""
        ...

    def save_effects(self, key: StepKey, effects: Sequence[Effect]) -> None:
        """Store these as they are now, in one durable transaction; what was stored of each is replaced."""
        ...

    def last_effects(self, key: StepKey, before: tuple[int, int] | None, limit: int) -> Sequence[Effect]:
        """At most so many effects before this ordinal and index (None: of all), the last first."""
        ...


class EffectHistory(Protocol):
    """The readers' side of the log."""

    def effect_counts(self, run: int) -> list[EffectCount]:
        """How many effects of this run's lap are in which state, by step and state."""
        ...


@runtime_checkable
class TakesOrdinals(Protocol):
    """A sink that has to know which item an output comes from: its `write` is given a `NumberedOutput` for each."""

    @property
    def takes_ordinals(self) -> bool:
        """True."""
        ...

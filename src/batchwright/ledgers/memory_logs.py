"""What a ledger in memory keeps beside checkpoints and failures: effects, and deaths of worker processes.

The one rule: it behaves like the durable ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwright.ledgers.memory_records import of_instance
from batchwright.model.checkpoint import InstanceKey, StepKey
from batchwright.model.effect import Effect
from batchwright.model.work import Death


@dataclass(slots=True)
class Logs:
    """By step: effects by ordinal and index, deaths by ordinal."""

    effects: dict[StepKey, dict[tuple[int, int], Effect]] = field(default_factory=dict)
    deaths: dict[StepKey, dict[int, Death]] = field(default_factory=dict)

    def forget(self, instance: InstanceKey, below: int) -> None:
        """Forget laps before one."""
        logs: tuple[dict[StepKey, Any], ...] = (self.effects, self.deaths)
        for log in logs:
            for step in [each for each in log if of_instance(each, instance) and each.lap < below]:
                del log[step]


class KeepsLogs:
    """A ledger that has `Logs`."""

    def __init__(self) -> None:
        """Start empty."""
        self._logs = Logs()

    def load_effects(self, key: StepKey, start: int, end: int) -> Sequence[Effect]:
        """The effects of the items from ordinal `start` up to `end`, by ordinal and index."""
        known = self._logs.effects.get(key, {})
        return [known[place] for place in sorted(known) if start <= place[0] < end]

    def save_effects(self, key: StepKey, effects: Sequence[Effect]) -> None:
        """Store these as they are now, in one durable transaction; what was stored of each is replaced."""
        self._logs.effects.setdefault(key, {}).update({(effect.ordinal, effect.index): effect for effect in effects})

    def last_effects(self, key: StepKey, before: tuple[int, int] | None, limit: int) -> Sequence[Effect]:
        """At most so many effects before this ordinal and index (None: of all), the last first."""
        known = self._logs.effects.get(key, {})
        places = [place for place in sorted(known, reverse=True) if before is None or place < before]
        return [known[place] for place in places[:limit]]

    def load_deaths(self, key: StepKey) -> Mapping[int, Death]:
        """The deaths noted of a step, by ordinal."""
        return dict(self._logs.deaths.get(key, {}))

    def note_death(self, key: StepKey, ordinal: int, death: Death) -> None:
        """Note this of the item at an ordinal; what was noted of it is replaced."""
        self._logs.deaths.setdefault(key, {})[ordinal] = death

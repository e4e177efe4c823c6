"""The port of what is known of items that killed their workers. Part of `ports`.

The one rule: it is written once per death, never per item.
"""

from collections.abc import Mapping
from typing import Protocol

from batchwright.model.checkpoint import StepKey
from batchwright.model.work import Death


class DeathLog(Protocol):
    """Keeps what the deaths of worker processes say of single items; a ledger is one."""

    def load_deaths(self, key: StepKey) -> Mapping[int, Death]:
        """The deaths noted of a step, by ordinal, since its last execution ended as anything but STOPPED."""
        ...

    def note_death(self, key: StepKey, ordinal: int, death: Death) -> None:
        """Note this of the item at an ordinal, in one durable transaction; what was noted of it is replaced."""
        ...

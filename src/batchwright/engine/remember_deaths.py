"""Keep, and recall in the next run, which items killed their worker processes.

The one rule: what a death says of a single item is durable before that item is tried again, so that an item that kills
its workers uses up its attempts, however often the run itself is killed.

The states of such an item, and what the next run knows when this one dies:
  among others  nothing: workers died over many items at once, and the next run divides them anew
  suspected     that it is to be given alone: a worker died over it once, which something else may have done
  attempted     how many attempts it has had; once they are used up, it has failed without being called again
  settled       its failure or its output is committed: what is noted lies before the checkpoint, where nobody looks
What is noted is forgotten when the step ends, unless it was stopped. If another item stands at the ordinal, since a
person has mended the input, it is not believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from batchwright.engine.record_failure import record_digest
from batchwright.model.checkpoint import StepKey
from batchwright.model.work import Death, Work
from batchwright.ports.deaths import DeathLog


@dataclass(frozen=True, slots=True)
class Deaths:
    """The deaths of a step: those that earlier runs have noted, and a place to note more."""

    log: DeathLog
    key: StepKey
    known: Mapping[int, Death]

    def among(self, ordinals: Sequence[int], items: Sequence[Any]) -> Mapping[int, Death]:
        """What is known of the items at these ordinals, by index."""
        if not self.known:
            return {}
        found = ((index, self.known.get(ordinal)) for index, ordinal in enumerate(ordinals))
        return {index: death for index, death in found if death and death.digest == record_digest(items[index])}

    def note(self, work: Work, index: int, death: Death) -> None:
        """Keep that a worker died of this item of a work. Raises what the ledger raises."""
        known = replace(death, digest=record_digest(work.items[index]))
        self.log.note_death(self.key, work.ordinals[index], known)


def recall_deaths(log: DeathLog, key: StepKey) -> Deaths:
    """What is known of a step's items."""
    return Deaths(log, key, log.load_deaths(key))

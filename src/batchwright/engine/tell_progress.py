"""Tell observers how far a step is while a chunk is in work, between two commits.

The one rule: a few times a second at most, and only where the clock was looked at anyway: nothing is done for each
item. What is told is no promise: after a crash these items are done again.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchwright.engine.measure_waits import WaitMeter
from batchwright.engine.read_chunks import Chunk
from batchwright.model.block import Position
from batchwright.model.events import StepMoved
from batchwright.ports import Measures
from batchwright.step import BoundStep

if TYPE_CHECKING:
    from batchwright.engine.run_step import RunContext

TELL_SECONDS = 0.25


@dataclass(slots=True)
class ProgressTeller:
    """Tells of one step. `writing` is the chunk that its writer has in hand; `told` is when it told of it last."""

    bound: BoundStep
    context: "RunContext"
    meter: WaitMeter = field(default_factory=WaitMeter)
    writing: Chunk | None = None
    told: float = field(init=False)

    def __post_init__(self) -> None:
        """What is done at once is told by its commit."""
        self.told = self.context.clock.monotonic()

    def moved(self, chunk: Chunk, index: int, now: float) -> None:
        """The records of the chunk before this index are processed, `now` by the context's clock."""
        if now - self.told < TELL_SECONDS or not self.context.announcer.heard:
            return
        self.told = now
        position = chunk.locate(index)
        part = fraction_of(self.bound, position)
        event = StepMoved(self.context.run, self.bound.step.name, position.ordinal, part, self.meter.waits)
        self.context.announcer.announce(event)

    def called(self, ordinal: int, now: float) -> None:
        """The writer is done with the item at this ordinal."""
        chunk = self.writing
        if chunk is not None and chunk.start <= ordinal < chunk.start + len(chunk):
            self.moved(chunk, ordinal + 1 - chunk.start, now)


def fraction_of(bound: BoundStep, position: Position) -> float | None:
    """How much of the input lies before a position, where its reader knows."""
    return bound.reader.fraction(position) if isinstance(bound.reader, Measures) else None

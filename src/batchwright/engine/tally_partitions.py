"""Add up what is heard of the partitions of a step, so that whoever listens hears of the step as a whole.

The one rule: what is told of a partition never goes back: of two counts of one partition the higher one is the later.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batchwright.engine.announce import Announces
from batchwright.model.checkpoint import Checkpoint, Counts
from batchwright.model.events import ChunkCommitted, Event, ItemFailed, StepMoved

_NOTHING = Counts()


@dataclass(slots=True)
class Tally:
    """Counts of all partitions, heard here or read in the target. Used by all threads."""

    announcer: Announces
    parts: int
    counts: dict[int, Counts] = field(default_factory=dict)
    fractions: dict[int, float] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)
    total: Counts = field(default_factory=Counts)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, number: int, counts: Counts, fraction: float | None) -> None:
        """Take note of how far a partition is."""
        with self.lock:
            before = self.counts.get(number, _NOTHING)
            if counts.read >= before.read:
                # A plan may have thousands of partitions: they are not added up anew for every chunk.
                self.total = self.total + (counts - before)
                self.counts[number] = counts
                if self.reads.get(number, 0) <= counts.read:
                    self.reads.pop(number, None)
                self.fractions[number] = max(fraction or 0.0, self.fractions.get(number, 0.0))

    def move(self, number: int, read: int, fraction: float | None) -> int:
        """Take note of how far the chunk in work is: how many items of all partitions are done, committed or not."""
        with self.lock:
            self.reads[number] = max(read, self.reads.get(number, 0))
            self.fractions[number] = max(fraction or 0.0, self.fractions.get(number, 0.0))
            ahead = ((read, self.counts.get(known, _NOTHING)) for known, read in self.reads.items())
            return self.total.read + sum(max(0, read - counts.read) for read, counts in ahead)

    def read_in(self, checkpoints: Mapping[int, Checkpoint]) -> None:
        """Take note of what the target says of all partitions, whoever works on them."""
        for number, checkpoint in checkpoints.items():
            self.hear(number, checkpoint.counts, 1.0 if checkpoint.finished else None)

    def in_all(self) -> Counts:
        """The counts of the step as a whole, as far as they are known here."""
        with self.lock:
            return self.total

    @property
    def fraction(self) -> float:
        """How much of the input is done."""
        return sum(self.fractions.values()) / self.parts if self.parts else 1.0

    def of(self, number: int) -> "PartitionTeller":
        """Who listens to one partition."""
        return PartitionTeller(self, number)


@dataclass(frozen=True, slots=True)
class PartitionTeller:
    """Passes on what happens in a partition, with the counts of the step as a whole."""

    tally: Tally
    number: int

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return self.tally.announcer.heard

    def announce(self, event: Event) -> None:
        """Pass chunks and failures on. That a partition begins and ends is the step's own affair."""
        tally = self.tally
        if isinstance(event, ChunkCommitted):
            tally.hear(self.number, event.counts, event.fraction)
            tally.announcer.announce(replace(event, counts=tally.in_all(), fraction=tally.fraction))
        elif isinstance(event, StepMoved):
            read = tally.move(self.number, event.read, event.fraction)
            tally.announcer.announce(replace(event, read=read, fraction=tally.fraction))
        elif isinstance(event, ItemFailed):
            failure = replace(event.failure, partition=self.number)
            tally.announcer.announce(replace(event, failure=failure))

"""Where the time of a step goes: whom the thread that runs it waits for. Measured per chunk, never per item."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of one attempt at a step. `processing` is the time of your function, or that of waiting for workers.

    Workers go on while the step reads and writes, with what they were given before.
    """

    reading: float = 0.0
    processing: float = 0.0
    writing: float = 0.0

    @property
    def longest(self) -> str:
        """What is waited for most, with its share, as in `processing 82%`; empty before anything was measured."""
        seconds, name = max((getattr(self, name), name) for name in ("reading", "processing", "writing"))
        total = self.reading + self.processing + self.writing
        return f"{name} {seconds / total:.0%}" if total > 0 else ""

    def __str__(self) -> str:
        """All three shares; empty before anything was measured."""
        total = self.reading + self.processing + self.writing
        if total <= 0:
            return ""
        shares = (f"{name} {getattr(self, name) / total:.0%}" for name in ("reading", "processing", "writing"))
        return ", ".join(shares)

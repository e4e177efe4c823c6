"""Measure whom the thread that runs a step waits for: its reader, its function or workers, its writer.

The one rule: two looks at the clock a chunk, and at the machine's own: what the run's clock is asked decides where slow
work is cut, and must not depend on what is measured.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from batchwright.model.waits import Waits

Part = TypeVar("Part")


@dataclass(slots=True)
class WaitMeter:
    """What was waited for so far, in seconds."""

    reading: float = 0.0
    processing: float = 0.0
    writing: float = 0.0
    _processing_since: float | None = None
    _writing_since: float | None = None

    @property
    def waits(self) -> Waits:
        """The same, as it is now: with the wait that goes on."""
        now = time.perf_counter()
        processing = 0.0 if self._processing_since is None else now - self._processing_since
        writing = 0.0 if self._writing_since is None else now - self._writing_since
        return Waits(self.reading, self.processing + processing, self.writing + writing)

    def read(self, chunks: Iterator[Part]) -> Iterator[Part]:
        """The chunks; the time until each comes is the reader's."""
        while True:
            began = time.perf_counter()
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                self.reading += time.perf_counter() - began
                if self._processing_since is not None:
                    self._processing_since += time.perf_counter() - began
            yield chunk
            del chunk  # nothing here holds on to it while the next one is read

    def process(self, parts: Iterator[Part]) -> Iterator[Part]:
        """The parts; the time until each comes, without the reader's in it, is that of the function or of workers.

        The time until the next one is asked for is the writer's.
        """
        while True:
            self._processing_since = time.perf_counter()
            try:
                part = next(parts)
            except StopIteration:
                return
            finally:
                self.processing += time.perf_counter() - self._processing_since
                self._processing_since = None
            self._writing_since = time.perf_counter()
            try:
                yield part
                del part
            finally:
                self.writing += time.perf_counter() - self._writing_since
                self._writing_since = None

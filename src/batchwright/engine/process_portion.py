"""Process a portion of a chunk, on whatever thread or process it has come to.

The one rule: here is what `process_chunk` does to a whole chunk, no more and no less; where it is done changes nothing.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.call_processor import async_call, processor_for
from batchwright.engine.process_chunk import Pace, process_items
from batchwright.engine.stop import POLL_SECONDS, Stop, pause
from batchwright.engine.tell_time import SystemClock
from batchwright.model.errors import StopRequestedError
from batchwright.model.fork import end_if_forked
from batchwright.model.policy import Retry, Skip
from batchwright.model.processor import ProcessorKind, processor_kind
from batchwright.model.work import Attempted, Death, Outcome, Work
from batchwright.ports import Clock
from batchwright.step import Recipe

FOR_EVER = float("inf")


def _not_kept(_work: Work, _index: int, _death: Death) -> None:
    """Where nobody dies, or nothing is durable."""


@dataclass(frozen=True, slots=True)
class PortionTask:
    """See `Task`. A stop is obeyed between two items; nothing is committed here, so no other moment matters.

    In another process it has a clock and a stop of its own, and makes function and policies by its recipe; with
    `sends_skip`, `skip` goes along and replaces the step's own.
    """

    step: str
    function: Callable[[Any], Any]
    retry: Retry | None
    skip: Skip | None
    item_timeout_seconds: float | None
    clock: Clock
    stop: Stop = field(default_factory=Stop)
    recipe: Recipe | None = None
    keep_death: Callable[[Work, int, Death], None] = _not_kept
    sends_skip: bool = False

    def __reduce__(self) -> tuple[Callable[..., "PortionTask"], tuple[Any, ...]]:
        """How it goes to another process."""
        return _arrived, (self.step, self.recipe, self.item_timeout_seconds, self.skip if self.sends_skip else None)

    def run(self, work: Work) -> Outcome:
        """See `Task`."""
        began = time.monotonic()
        policy = Attempts(self.retry, self.skip, partial(pause, self.clock, self.stop))
        pace = Pace(self.clock, self.stop, chunk_seconds=FOR_EVER)
        try:
            with processor_for(self.function, self.item_timeout_seconds) as processor:
                done = process_items(work.items, processor, policy, pace, self.step)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the step is run
            return Outcome(work.number, broken=error)
        seconds = (time.monotonic() - began) / max(1, len(done.chunk))
        return Outcome(work.number, done.results, done.failed, done.retried, done.ended_by, seconds=seconds)

    async def run_item(self, item: Any) -> Attempted:
        """See `Task`."""
        import asyncio

        call, attempts, process = async_call(self.function, self.item_timeout_seconds), 1, os.getpid()
        while True:
            try:
                result = await call(item)
                end_if_forked(process)
                return Attempted(result, None, attempts)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - a user's SystemExit is an item's failure too
                end_if_forked(process)
                if self.retry is None or not self.retry.allows(error, attempts):
                    return Attempted(None, error, attempts)
            await self._wait(self.retry.wait_seconds(attempts))
            if self.stop.requested is not None:
                return Attempted(None, StopRequestedError(), attempts)
            attempts += 1

    def skips(self, error: BaseException) -> bool:
        """See `Task`."""
        asks_to_stop = isinstance(error, StopRequestedError)
        return self.skip is not None and isinstance(error, self.skip.on) and not asks_to_stop

    def wait_before(self, error: BaseException, attempts: int) -> float | None:
        """See `Task`."""
        if self.retry is None or not self.retry.allows(error, attempts):
            return None
        return self.retry.wait_seconds(attempts)

    def note_death(self, work: Work, index: int, death: Death) -> None:
        """See `Task`."""
        self.keep_death(work, index, death)

    @property
    def stopping(self) -> bool:
        """See `Task`."""
        return self.stop.requested is not None

    def stop_soon(self) -> None:
        """See `Task`."""
        self.stop.request("by the run")

    @property
    def many(self) -> bool:
        """Whether a result is a list of outputs."""
        return processor_kind(self.function) in (ProcessorKind.GENERATOR, ProcessorKind.ASYNC_GENERATOR)

    async def _wait(self, seconds: float) -> None:
        import asyncio

        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0 and self.stop.requested is None:  # noqa: ASYNC110 - signals set no event
            await asyncio.sleep(min(left, POLL_SECONDS))


def _arrived(step: str, recipe: Recipe, item_timeout_seconds: float | None, skips: Skip | None) -> PortionTask:
    function, retry, skip = recipe()
    return PortionTask(step, function, retry, skips or skip, item_timeout_seconds, SystemClock())

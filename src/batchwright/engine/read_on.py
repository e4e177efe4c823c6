"""Read the chunks of a step, and read on where a reader has raised an error.

The one rule: it is opened again at the end of the last chunk, so that nothing is skipped and nothing comes twice. How
often: as the step's `retry` says if it covers the error, else as often as a target is tried if the source is away.
"""

import logging
from collections.abc import Generator
from typing import TYPE_CHECKING

from batchwright.engine.attempt import TRANSIENT_RETRY
from batchwright.engine.commit_chunk import OpenTarget
from batchwright.engine.read_chunks import Chunk, read_chunks
from batchwright.model.block import Position
from batchwright.model.errors import BatchwrightError, ReadError, SourceAwayError, StopRequestedError
from batchwright.model.fault_points import reach
from batchwright.model.policy import Retry
from batchwright.step import BoundStep

if TYPE_CHECKING:
    from batchwright.engine.run_step import RunContext


def read_on(
    bound: BoundStep, context: "RunContext", target: OpenTarget, after: Position | None
) -> Generator[Chunk, None, None]:
    """The chunks of the input from a position on. Raises the reader's last error, and StopRequestedError."""
    step, stop, tries = bound.step, context.stop, 0
    reach("K3")
    while True:
        try:
            for chunk in read_chunks(bound.reader, after, step.chunk_size, context.clock, stop):
                after, tries = chunk.end, 0
                yield chunk
                del chunk
            return
        except Exception as error:
            committed = target.checkpoint.position
            if after == committed:
                # The same place, with what stood before it: the reader that is opened again compares it.
                after = committed
            if stop.requested is not None:
                # What was read before is committed; the next run reads on there, and meets this error if it is one.
                raise StopRequestedError from error
            if isinstance(error, BatchwrightError) and not isinstance(error, ReadError):
                raise
            tries += 1
            policy = _policy(step.retry, error)
            if policy is None or not policy.allows(error, tries):
                error.add_note(f"while reading on after item {after.ordinal if after else 0} of step '{step.name}'")
                raise
            if tries == 1 and policy is TRANSIENT_RETRY:
                logging.getLogger("batchwright").warning("%s; waiting for it", error)
            target.attempts.pause(policy.wait_seconds(tries))
            target.retried += 1


def _policy(given: Retry | None, error: Exception) -> Retry | None:
    """What says how often the reader is opened again after this error."""
    if given is not None and given.covers(error):
        return given
    return TRANSIENT_RETRY if isinstance(error, SourceAwayError) else given

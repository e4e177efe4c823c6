"""Process a step's chunks in order: here, or ahead by the step's workers.

The one rule: what comes out is in the order of the input, whoever has processed it.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from batchwright.engine.commit_chunk import OpenTarget
from batchwright.engine.deduplicate import step_processor
from batchwright.engine.process_ahead import Ahead, process_ahead
from batchwright.engine.process_chunk import Pace, Processed, process_chunk
from batchwright.engine.process_portion import PortionTask
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.remember_deaths import recall_deaths
from batchwright.step import BoundStep, Step

if TYPE_CHECKING:
    from batchwright.engine.run_step import RunContext


def process_chunks(
    bound: BoundStep, context: "RunContext", target: OpenTarget, chunks: Iterator[Chunk]
) -> Generator[Processed, None, None]:
    """The chunks, or as much of each as its time allows, processed in order: here, or ahead by the step's workers."""
    step, policy = bound.step, target.attempts
    if bound.runner is None:
        pace = Pace(context.clock, context.stop)
        with step_processor(step, context.step_key(step.name), target) as processor:
            for read in chunks:
                chunk: Chunk | None = read
                # Nothing here holds on to a chunk while the next one is read: its memory serves that one.
                del read
                while chunk is not None:
                    context.ownership.check()
                    processed = process_chunk(chunk, processor, policy, pace, step.name)
                    done = len(processed.chunk)
                    chunk = chunk.part(done, len(chunk)) if done < len(chunk) else None
                    yield processed
                    del processed
        return
    assert step.process is not None  # noqa: S101 - a step without it has no runner
    deaths = recall_deaths(context.ledger, context.step_key(step.name))
    task = PortionTask(
        step.name,
        step.process,
        step.retry,
        step.skip,
        step.item_timeout_seconds,
        context.clock,
        context.stop,
        bound.recipe,
        deaths.note,
    )
    workers = bound.runner.workers
    ahead = Ahead(step.name, workers, bound.runner.together, items_in_flight(step, workers), task.many, deaths.among)
    with closing(bound.runner.start(task)) as working:
        yield from process_ahead(chunks, working, ahead, policy, (context.clock, context.stop))


def items_in_flight(step: Step[Any, Any], workers: int) -> int:
    """How many items of a step with workers may be read and not committed yet."""
    return step.max_in_flight or max(3 * step.chunk_size, 4 * workers)

"""Process a step's chunks in order: here, or ahead by the step's workers.

The one rule: what comes out is in the order of the input, whoever has processed it.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.call_processor import Processor
from batchwright.engine.commit_chunk import OpenTarget
from batchwright.engine.deduplicate import step_processor
from batchwright.engine.process_ahead import Ahead, process_ahead
from batchwright.engine.process_chunk import Pace, Processed, process_chunk
from batchwright.engine.process_portion import PortionTask
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.remember_deaths import recall_deaths
from batchwright.engine.stop import Stop
from batchwright.ports import Clock
from batchwright.ports.runners import Runner, is_apart
from batchwright.step import BoundStep, Step

if TYPE_CHECKING:
    from batchwright.engine.run_step import RunContext


def process_chunks(
    bound: BoundStep, context: "RunContext", target: OpenTarget, chunks: Iterator[Chunk]
) -> Generator[Processed, None, None]:
    """The chunks, or as much of each as its time allows, processed in order: here, or ahead by the step's workers."""
    step, policy = bound.step, target.attempts
    if bound.runner is None:
        pace = Pace(context.clock, context.stop, moved=target.moved)
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
    task = replace(_task(bound, policy, (context.clock, context.stop)), skip=step.skip)
    ahead = replace(_ahead(bound, bound.runner, task), moved=target.moved)
    if is_apart(bound.runner):
        deaths = recall_deaths(context.ledger, context.step_key(step.name))
        task, ahead = replace(task, keep_death=deaths.note), replace(ahead, deaths=deaths.among)
    with closing(bound.runner.start(task)) as working:
        yield from process_ahead(chunks, working, ahead, policy, (context.clock, context.stop))


@contextmanager
def processing_singly(
    bound: BoundStep, called: Processor, policy: Attempts, waits: tuple[Clock, Stop]
) -> Iterator[Callable[[Chunk], Iterator[Processed]]]:
    """How to process a chunk at a time, in as many parts as its time asks for: for replays and trials.

    Here, as `called` says, whatever the runner; but in its processes if it has some, so that an item that kills its
    process kills no command. What is set aside is the policy's affair there too.
    """
    if bound.runner is None or not is_apart(bound.runner):
        with called as processor:
            yield partial(_parts, processor, policy, Pace(*waits), bound.step.name)
        return
    task = replace(_task(bound, policy, waits), sends_skip=True)
    ahead = _ahead(bound, bound.runner, task)
    with closing(bound.runner.start(task)) as working:
        yield lambda chunk: process_ahead(iter((chunk,)), working, ahead, policy, waits)


def _parts(processor: Processor, policy: Attempts, pace: Pace, step: str, chunk: Chunk) -> Iterator[Processed]:
    done = 0
    while done < len(chunk):
        processed = process_chunk(chunk.part(done, len(chunk)), processor, policy, pace, step)
        done += len(processed.chunk)
        yield processed


def _task(bound: BoundStep, policy: Attempts, waits: tuple[Clock, Stop]) -> PortionTask:
    step = bound.step
    assert step.process is not None  # noqa: S101 - a step without it has no runner
    return PortionTask(
        step.name, step.process, step.retry, policy.skip, step.item_timeout_seconds, *waits, recipe=bound.recipe
    )


def _ahead(bound: BoundStep, runner: Runner, task: PortionTask) -> Ahead:
    most = items_in_flight(bound.step, runner.workers)
    return Ahead(bound.step.name, runner.workers, runner.together, most, task.many)


def items_in_flight(step: Step[Any, Any], workers: int) -> int:
    """How many items of a step with workers may be read and not committed yet."""
    return step.max_in_flight or max(3 * step.chunk_size, 4 * workers)

"""Run a step in partitions: plan once, set workers to work, wait until all partitions are finished, finish the step.

The one rule: the plan is in the target before the first row is, and is never made again in this lap; the step is
finished when the target shows that each partition is.

The states of the step, and what holds in each when this process dies:
  begun       no plan, and no row: the next run makes the plan
  planned     the next run reads the plan and goes on with every partition that is not finished, from its checkpoint;
              workers of other processes may be at it still, and nobody waits for those that are not
  exhausted   all partitions are finished, the step is not: the next run finishes it
  finished    as for any step
"""

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.commit_chunk import OpenTarget, finish_target, require_sound
from batchwright.engine.count_beside import limit_of
from batchwright.engine.recall_checkpoint import ask_for
from batchwright.engine.record_failure import FailureRecorder
from batchwright.engine.restart import identity_of, recall_same_target, require_same_ground
from batchwright.engine.run_step import (
    NOTE_SECONDS,
    RunContext,
    Running,
    check_adapters,
    close_failed,
    close_interrupted,
    finished_status,
    run_step,
)
from batchwright.engine.split_step import parts_of, rows_of
from batchwright.engine.stop import POLL_SECONDS, Stop, pause
from batchwright.engine.tally_partitions import Tally
from batchwright.engine.tell_progress import ProgressTeller
from batchwright.engine.work_apart import Orders, PartitionTask, work_apart
from batchwright.engine.work_partitions import Crew, owning
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import DeclarationError, StopRequestedError
from batchwright.model.events import StepStarted
from batchwright.model.fault_points import reach
from batchwright.model.partition import in_all, plan_of, planned, unfinished
from batchwright.model.result import StepResult
from batchwright.model.status import Status
from batchwright.ports import Scope, Sink
from batchwright.ports.partitions import HasPartitions, Splits
from batchwright.ports.runners import TakesPartitions
from batchwright.step import BoundStep
from batchwright.undivided import check_partitions

GOODBYE_SECONDS = 10.0
"""How long a run that is interrupted waits for its workers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a step, how far each is in the target, and the checkpoint that holds the plan."""

    whole: Checkpoint
    parts: Mapping[int, BoundStep]
    checkpoints: Mapping[int, Checkpoint]


def run_partitions(bound: BoundStep, context: RunContext) -> tuple[StepResult, BaseException | None]:
    """As `run_step`, for a step in partitions. One that was begun as a whole is gone on with as a whole."""
    step, key = bound.step, context.step_key(bound.step.name)
    check_partitions(step, bound.reader)
    check_adapters(bound)
    owning(context.ledger)
    over = f"timeout_seconds={step.timeout_seconds} of step '{step.name}' are over"
    with ExitStack() as stack:
        owned, adopt = context.ownership.check, context.choices.adopt
        scope = Scope(key, context.ledger, context.clock, claims=True, adopt=adopt, owned=owned)
        sink = stack.enter_context(closing(bound.writer.open(scope)))
        stack.enter_context(context.stop.interrupting(sink, writes=True))
        stop = stack.enter_context(context.stop.divided())
        stack.enter_context(stop.deadline(context.clock, step.timeout_seconds, over))
        within = replace(context, stop=stop)
        wait = partial(pause, within.clock, within.stop)
        whole = recall_same_target(bound, key, sink, within.ledger, wait, within.choices)
        if whole is None or whole.finished or plan_of(whole) is not None:
            return _run_plan(bound, within, sink, whole)
    return run_step(bound, context)


def _run_plan(
    bound: BoundStep, context: RunContext, sink: Sink[Any], whole: Checkpoint | None
) -> tuple[StepResult, BaseException | None]:
    plan = None
    if whole is None or not whole.finished:
        plan = _plan(bound, context, sink, whole)
        whole = plan.whole
    assert whole is not None  # noqa: S101 - for the type checker: made above
    running = _begin(bound, context, sink, whole, plan)
    if plan is None:
        _tell_of_finished(running, whole)
        return running.end(finished_status(whole.counts)), None
    crew = Crew(plan.parts, context, Tally(context.announcer, len(plan.parts)), left=context.limit)
    crew.hear(plan.checkpoints)
    crew.done.difference_update(_untold(running, plan.checkpoints))
    try:
        _wait(crew, running)
        found = _look(crew, running)
        if not crew.errors and not unfinished([*plan.parts], found):
            crew.tell(_untold(running, found))
            _finish(running, plan)
            return running.end(finished_status(running.checkpoint.counts)), None
    except KeyboardInterrupt as interrupted:
        close_interrupted(running, interrupted)
        raise
    except StopRequestedError:
        pass
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever ends a step is in its result
        return close_failed(running, error), error
    return _ended_early(crew, running)


def _plan(bound: BoundStep, context: RunContext, sink: Sink[Any], whole: Checkpoint | None) -> Plan:
    """The plan of this lap: that of the target, or a new one, which is in the target when this returns.

    Raises GroundChangedError if the input is not what was split.
    """
    step, key = bound.step, context.step_key(bound.step.name)
    if whole is None:
        whole = planned(_split(bound))
        wait = partial(pause, context.clock, context.stop)
        context.ownership.check()
        ask_for(sink, partial(_keep, sink, whole), step.write_retry, wait)
        reach("K28")
    # For those who only look at the ledger.
    context.ledger.save_checkpoint(key, whole, ())
    require_same_ground(bound, whole, context.choices, sink)
    return Plan(whole, parts_of(bound, plan_of(whole) or ()), rows_of(sink).checkpoints())


def _split(bound: BoundStep) -> Sequence[Any]:
    reader: object = bound.reader
    if not isinstance(reader, Splits) or bound.step.partitions is None:
        raise DeclarationError(f"step '{bound.step.name}' cannot be split", bound.step.source_address)
    return reader.split(bound.step.partitions)


def _keep(sink: Sink[Any], whole: Checkpoint) -> None:
    if not isinstance(sink, HasPartitions):
        raise DeclarationError("partitions need a target that keeps their checkpoints", type(sink).__name__)
    try:
        sink.commit(whole, ())
    except BaseException:
        sink.rollback()
        raise


def _begin(bound: BoundStep, context: RunContext, sink: Sink[Any], whole: Checkpoint, plan: Plan | None) -> Running:
    step, key = bound.step, context.step_key(bound.step.name)
    guarantee = bound.writer.guarantee
    begun = context.ledger.begin_step(context.run, key, step.source_address, step.target_address, guarantee)
    counts = whole.counts if plan is None else in_all(plan.checkpoints.values())
    identity, now = identity_of(sink) or begun.target_identity, context.clock.monotonic()
    standing = replace(whole, counts=counts)
    teller = ProgressTeller(bound, context)
    running = Running(bound, context, sink, begun.id, identity, standing, now, now, counts, teller=teller)
    if context.announcer.heard:
        context.announcer.announce(StepStarted(context.run, step.name, counts, None))
    return running


def _wait(crew: Crew, running: Running) -> None:
    """Wait until the workers have ended, looking on, and show in the ledger how far the step is."""
    context = running.context
    if crew.over:
        return
    looked = time.monotonic()
    with closing(_in_processes(crew, running) if running.bound.again else _in_threads(crew, running)) as working:
        try:
            for _ in working:
                context.ownership.check()
                if time.monotonic() - looked >= NOTE_SECONDS:
                    _look(crew, running)
                    context.ledger.note_progress(running.execution, running.outcome(Status.RUNNING), ())
                    looked = time.monotonic()
        except KeyboardInterrupt:
            context.stop.request("interrupted", now=True)
            raise


def _in_threads(crew: Crew, running: Running) -> Generator[None, None, None]:
    """Work on threads of this process, and come back while they do."""
    context, step = running.context, running.bound.step
    threads = crew.start(1 if context.limit is not None else min(step.workers, len(crew.parts)))
    try:
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(POLL_SECONDS / len(threads))
            yield
    except BaseException as error:
        _end(threads, context.stop, now=isinstance(error, KeyboardInterrupt))
        raise


def _in_processes(crew: Crew, running: Running) -> Generator[None, None, None]:
    """Work in processes of this machine, and come back while they do."""
    context, bound = running.context, running.bound
    runner: object = bound.step.runner
    assert bound.again is not None  # noqa: S101 - for the type checker: asked before
    assert isinstance(runner, TakesPartitions)  # noqa: S101 - the same: it was checked when the step was built
    orders = Orders(
        step=bound.step.name,
        again=bound.again,
        specs=plan_of(running.checkpoint) or (),
        ledger=context.ledger,
        run=context.run,
        key=context.key,
        lap=context.lap,
        secrets=context.secrets,
        max_failures=context.max_failures,
        choices=context.choices,
        heard=context.announcer.heard,
    )
    task = PartitionTask(orders, context.stop, crew.tally)
    return work_apart(crew, task, runner, partial(_look, crew, running))


def _end(threads: Sequence[threading.Thread], stop: Stop, *, now: bool) -> None:
    stop.request("the run has ended", now=now)
    until = time.monotonic() + GOODBYE_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _look(crew: Crew, running: Running) -> Mapping[int, Checkpoint]:
    """Ask the target how far all partitions are, whoever works on them."""
    context = running.context
    # Not the step's own stop: to know how far it came is wanted after one, too.
    wait = context.clock.sleep
    found = ask_for(running.sink, rows_of(running.sink).checkpoints, running.bound.step.write_retry, wait)
    crew.hear(found)
    running.checkpoint = replace(running.checkpoint, counts=in_all(found.values()))
    return found


def _tell_of_finished(running: Running, whole: Checkpoint) -> None:
    """Copy the failures of a step that is finished already into a ledger that does not know them."""
    specs, context = plan_of(whole), running.context
    if specs is None or not whole.counts.failed:
        return
    untold = _untold(running, rows_of(running.sink).checkpoints())
    if untold:
        Crew(parts_of(running.bound, specs), context, Tally(context.announcer, len(specs))).tell(untold)


def _untold(running: Running, checkpoints: Mapping[int, Checkpoint]) -> list[int]:
    """The finished partitions with failures that the ledger does not know: it is new, or a worker died at the end."""
    context, untold = running.context, []
    for number, checkpoint in checkpoints.items():
        if checkpoint.finished and checkpoint.counts.failed:
            last = context.ledger.last_step(replace(context.step_key(running.bound.step.name), partition=number))
            if last is None or last.counts.failed != checkpoint.counts.failed:
                untold.append(number)
    return untold


def _finish(running: Running, plan: Plan) -> None:
    """Judge the failures over everything, and set the finished mark of the step as a whole."""
    context, step, counts = running.context, running.bound.step, running.checkpoint.counts
    require_sound(step.name, counts, limit_of(step, context.max_failures))
    context.ownership.check()
    wait = partial(pause, context.clock, context.stop)
    finish_target(
        OpenTarget(
            step=step.name,
            sink=running.sink,
            undoes=True,
            attempts=Attempts(None, None, wait),
            recorder=FailureRecorder(step.name, running.bound.reader, context.clock, None),
            write_retry=step.write_retry,
            limit=None,
            checkpoint=replace(plan.whole, position=Position(counts.read), counts=counts),
            committed=lambda _, __: None,
            owned=context.ownership.check,
        )
    )


def _ended_early(crew: Crew, running: Running) -> tuple[StepResult, BaseException | None]:
    if crew.errors:
        number, error = crew.errors[0]
        if number:
            error.add_note(f"in partition {number} of {len(crew.parts)}")
        if isinstance(error, KeyboardInterrupt):
            close_interrupted(running, error)
            raise error
        return close_failed(running, error), error
    return running.end(Status.STOPPED, running.context.stop.requested or ""), None

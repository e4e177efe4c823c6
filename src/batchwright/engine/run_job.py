"""Run a job: own its instance, decide which lap, run its steps in order, close the execution.

The one rule: a lap that is complete is never done again unless somebody says so; "complete" is the targets' word.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

from batchwright.engine.check_calls import mark_calls
from batchwright.engine.check_start import choices_for
from batchwright.engine.close_lost import close_lost
from batchwright.engine.compensate_lap import compensated
from batchwright.engine.drive import drive
from batchwright.engine.plan_run import look_back, plan_run
from batchwright.engine.recall_results import recorded_results
from batchwright.engine.record_failure import describe_error
from batchwright.engine.restart import require_finished, require_same_addresses
from batchwright.engine.run_partitions import run_partitions
from batchwright.engine.run_step import RunContext, run_step
from batchwright.engine.set_up_run import RunOptions, Surroundings, context_of
from batchwright.engine.split_step import failures_in
from batchwright.engine.stop import Stop, pause
from batchwright.engine.take_over import take_over
from batchwright.job import Job, ordered_steps
from batchwright.model.errors import (
    BatchwrightError,
    FencedError,
    StopRequestedError,
)
from batchwright.model.events import JobFinished, JobStarted
from batchwright.model.failure import FailureState
from batchwright.model.fault_points import reach
from batchwright.model.result import Failures, JobResult, StepResult
from batchwright.model.status import Status
from batchwright.ports import Scope
from batchwright.step import BoundStep

Outcome = tuple[JobResult, BaseException | None]

Wanted = tuple[BoundStep, RunContext]
StepEnd = tuple[StepResult, BaseException | None]

JobInWork = Generator[Wanted, StepEnd, Outcome]
"""A job that asks for one step after the other to be run, with what came of it for an answer."""


def run_job(job: Job, bound: Mapping[str, BoundStep], options: RunOptions, around: Surroundings) -> Outcome:
    """Run a job to its end, or as far as it goes: its result, and the first error that ended a step.

    Raises AlreadyRunningError, AbandonedError, GroundChangedError and ConfirmationError before anything is recorded. A
    stop that comes before that, while a target is waited for, leaves no execution: its result is that of run 0.
    """
    return drive(job_in_work(job, bound, options, around), lambda begun: _run_step(*begun))


def _run_step(bound: BoundStep, context: RunContext) -> StepEnd:
    return run_step(bound, context) if bound.step.partitions is None else run_partitions(bound, context)


def job_in_work(job: Job, bound: Mapping[str, BoundStep], options: RunOptions, around: Surroundings) -> JobInWork:
    """The same for whoever runs the steps himself: is told what came of each."""
    try:
        return (yield from _run_owned(job, bound, options, around))
    except StopRequestedError:
        result = never_begun(job, around.ledger.address, around.stop)
        around.announcer.announce(JobFinished(result.run, result))
        return result, None


def never_begun(job: Job, ledger: str, stop: Stop) -> JobResult:
    """The result of a run that was stopped before it was recorded."""
    steps = tuple(StepResult(step.name, None) for step in job.steps)
    nothing = Failures(lambda: iter(()), 0)
    return JobResult(job.name, 0, 0, Status.STOPPED, steps, nothing, error=stop.requested or "", ledger=ledger)


def _run_owned(job: Job, bound: Mapping[str, BoundStep], options: RunOptions, around: Surroundings) -> JobInWork:
    reach("K1")
    ledger = around.ledger
    with ledger.own(job.key) as ownership:
        reach("K2")
        standing = look_back(job, bound, options, around, ownership)
        if standing.context is not None and standing.lap.complete:
            context = replace(standing.context, warnings=standing.warnings)
            result = _already_complete(job, bound, context, around)
            if result is not None:
                around.announcer.announce(JobFinished(context.run, result))
                return result, None
        request = plan_run(job, bound, options, standing)
        if standing.leaves_lap:
            close_lost(standing.last, bound, ledger, around.clock, ownership)
        execution = ledger.begin_run(request)
        mark_calls(bound, execution, ledger)
        context = replace(context_of(job, execution, options, around, ownership), warnings=standing.warnings)
        resumed = standing.last is not None and not standing.lap.begins
        return (yield from _execute(job, bound, context, around, resumed=resumed))


def _already_complete(
    job: Job, bound: Mapping[str, BoundStep], context: RunContext, around: Surroundings
) -> JobResult | None:
    """Nothing to do; or None where a target that does not show its finished mark is to be adopted: it is gone on with.

    Raises GroundChangedError if it is not to be adopted, and if an input has changed since.
    """
    found = [(step.name, _completed(bound[step.name], context)) for step in ordered_steps(job)]
    results = {name: result for name, result in found if result is not None}
    if len(results) < len(found):
        return None
    result = _result(job, context, results, around, _status(results))
    return replace(result, already_complete=True)


def _execute(
    job: Job, bound: Mapping[str, BoundStep], context: RunContext, around: Surroundings, *, resumed: bool
) -> JobInWork:
    ledger, started = context.ledger, context.clock.monotonic()
    ledger.move_run(context.run, Status.RUNNING)
    guarantees = tuple((name, step.promise) for name, step in bound.items())
    around.announcer.announce(
        JobStarted(context.run, job.name, context.lap, job.parameters, guarantees, ledger.address, resumed)
    )
    try:
        with _stoppable(job, context, around):
            results, error = yield from _run_steps(job, bound, context)
        text = next((result.error for result in results.values() if result.error), "")
        text = text or (_status(results) is Status.STOPPED and context.stop.requested) or ""
        seconds = context.clock.monotonic() - started
        result = replace(_result(job, context, results, around, _status(results)), seconds=seconds, error=text)
        result = _reported(result, around) if result.leaves_failures else result
        # After the failure file: a run that the ledger calls complete is not gone on with, so nobody would write it.
        reach("K22")
        _conclude(result, context, error)
    except BaseException as ended:
        _break_off(job, context, around, ended)
        raise
    result = compensated(job, context, result, error)
    around.announcer.announce(JobFinished(context.run, result))
    return result, error


@contextmanager
def _stoppable(job: Job, context: RunContext, around: Surroundings) -> Iterator[None]:
    """Let the run be stopped by its deadline, by whoever asks in the ledger, and out of the ledger's waits."""
    over = f"timeout_seconds={context.timeout_seconds} of job '{job.name}' are over"
    with ExitStack() as stack:
        stack.enter_context(context.stop.interrupting(context.ledger))
        stack.enter_context(context.stop.deadline(context.clock, context.timeout_seconds, over))
        stack.enter_context(around.watched(context.run))
        yield


def _conclude(result: JobResult, context: RunContext, error: BaseException | None) -> None:
    """Close the run in the ledger. What goes wrong there is a note on the error that ended a step, if there is one."""
    try:
        context.ledger.move_run(context.run, result.status, result.error)
    except BatchwrightError as second:
        if error is None:
            raise
        error.add_note(f"and then: {second}")


def _break_off(job: Job, context: RunContext, around: Surroundings, ended: BaseException) -> None:
    """Close a run that an error goes through. Who is fenced neither writes nor asks: the work is somebody else's."""
    interrupted = isinstance(ended, KeyboardInterrupt | GeneratorExit)
    text = context.stop.requested or "interrupted" if interrupted else describe_error(ended, job.secrets)
    status = Status.STOPPED if interrupted else Status.FAILED
    results = {step.name: StepResult(step.name, None) for step in job.steps}
    try:
        if not isinstance(ended, FencedError):
            context.ledger.move_run(context.run, status, text)
            results = recorded_results(job, context)
    except BatchwrightError as second:
        ended.add_note(f"and then: {second}")
    result = _result(job, context, results, around, status)
    around.announcer.announce(JobFinished(context.run, replace(result, error=text)))


def _run_steps(
    job: Job, bound: Mapping[str, BoundStep], context: RunContext
) -> Generator[Wanted, StepEnd, tuple[dict[str, StepResult], BaseException | None]]:
    """Run each step whose predecessors are complete; a step that fails holds back only those that follow it."""
    take_over(bound, context)
    before = job.predecessors()
    results: dict[str, StepResult] = {}
    first: BaseException | None = None
    for step in ordered_steps(job):
        _require_ownership(context, first)
        ready = all(_complete(results[name]) for name in before[step.name])
        stopped = context.stop.requested or any(result.status is Status.STOPPED for result in results.values())
        if stopped or not ready:
            results[step.name] = StepResult(step.name, None)
            continue
        try:
            last = context.ledger.last_step(context.step_key(step.name))
            complete = _completed(bound[step.name], context) if last is not None and last.status.complete else None
            if complete is not None:
                results[step.name] = complete
                continue
            results[step.name], error = yield bound[step.name], context
        except StopRequestedError:
            # It had not begun yet.
            results[step.name], error = StepResult(step.name, None), None
        except Exception as raised:  # noqa: BLE001 - whatever stands in a step's way is in its result
            error = raised
            results[step.name] = StepResult(step.name, Status.FAILED, error=describe_error(raised, context.secrets))
        first = first or error
    _require_ownership(context, first)
    return {step.name: results[step.name] for step in job.steps}, first


def _require_ownership(context: RunContext, first: BaseException | None) -> None:
    """Whoever is fenced touches nothing more, neither targets nor ledger."""
    try:
        context.ownership.check()
    except FencedError as fenced:
        seen, before = (first, first.__cause__) if isinstance(first, FencedError) else (fenced, first)
        if before is not None:
            seen.add_note(f"before that: {describe_error(before, context.secrets)}")
        raise seen from before


def _completed(bound: BoundStep, context: RunContext) -> StepResult | None:
    """The result of a step that is complete already, by its target's word; None if it is not, and to be adopted."""
    name, key = bound.step.name, context.step_key(bound.step.name)
    choices = choices_for(name, context)
    last = context.ledger.last_step(key)
    if last is not None:
        require_same_addresses(bound, last, choices)
    with closing(bound.writer.open(Scope(key, context.ledger, context.clock, adopt=choices.adopt))) as sink:
        checkpoint, changed = require_finished(bound, sink, partial(pause, context.clock, context.stop), choices)
        # A step that has set items aside is complete without failures once each is replayed or ignored.
        some = checkpoint is not None and checkpoint.counts.failed
        still_open = some and any(failure.state is FailureState.OPEN for failure in failures_in(sink, checkpoint))
    if checkpoint is None:
        return None
    counts = checkpoint.counts
    status = Status.COMPLETED_WITH_FAILURES if still_open else Status.COMPLETED
    left = f"step '{name}' is left finished as it is, though {changed}" if changed and name not in context.kept else ""
    return StepResult(
        name,
        status,
        counts,
        guarantee=bound.writer.guarantee,
        already_complete=True,
        before=counts,
        warning=left,
    )


def _reported(result: JobResult, around: Surroundings) -> JobResult:
    """With the failure file. All steps have ended: a file that cannot be written is no reason to fail the run."""
    try:
        return replace(result, failure_file=around.report(result.run))
    except (OSError, BatchwrightError) as error:
        warning = f"the failure file could not be written; {error}; the failures are in the ledger"
        return replace(result, warnings=(*result.warnings, warning))


def _complete(result: StepResult) -> bool:
    return result.status is not None and result.status.complete


def _status(results: Mapping[str, StepResult]) -> Status:
    statuses = [result.status for result in results.values()]
    if Status.FAILED in statuses:
        return Status.FAILED
    if None in statuses or Status.STOPPED in statuses:
        return Status.STOPPED
    return Status.COMPLETED_WITH_FAILURES if Status.COMPLETED_WITH_FAILURES in statuses else Status.COMPLETED


def _result(
    job: Job, context: RunContext, results: Mapping[str, StepResult], around: Surroundings, status: Status
) -> JobResult:
    failed = sum(result.counts.failed for result in results.values())
    return JobResult(
        job=job.name,
        run=context.run,
        lap=context.lap,
        status=status,
        steps=tuple(results.values()),
        failures=Failures(lambda: around.failures(context.run), failed),
        ledger=context.ledger.address,
        warnings=(*_warnings(job, context), *(step.warning for step in results.values() if step.warning)),
    )


def _warnings(job: Job, context: RunContext) -> tuple[str, ...]:
    if context.max_failures is None:
        return context.warnings
    return context.warnings + tuple(
        f"max_failures does nothing for step '{step.name}': it has no skip= and stops at the first failure"
        for step in job.steps
        if step.skip is None
    )

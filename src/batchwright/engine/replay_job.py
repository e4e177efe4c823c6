"""Replay a run: own its instance, take up the failures of its steps in order, close the execution.

The one rule: only the newest lap is replayed. What failed in an earlier one may have gone in since, in a later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from batchwright.engine.check_replay import require_target_there
from batchwright.engine.close_lost import close_lost
from batchwright.engine.record_failure import describe_error
from batchwright.engine.replay_failures import Chosen, close_failures, rehearse, replay_failures, replay_warnings
from batchwright.engine.replay_partitions import added_up, replayed_parts
from batchwright.engine.reread_items import Items
from batchwright.engine.run_step import RunContext
from batchwright.engine.set_up_run import Surroundings, context_in
from batchwright.engine.take_over import steps_from
from batchwright.job import Job, ordered_steps
from batchwright.model.errors import BatchwrightError, FencedError, NotReplayableError
from batchwright.model.execution import JobExecution, RunRequest
from batchwright.model.failure import FailureState
from batchwright.model.failure_filter import FailureFilter
from batchwright.model.replay_result import Replayed, ReplayResult
from batchwright.model.status import Status
from batchwright.ports import Ownership
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What the caller asks of a replay. See `batchwright.replay`."""

    step: str | None = None
    where: FailureFilter = field(default_factory=FailureFilter)
    items: Items = Items.SAME
    ignore: str | None = None
    reopen: bool = False
    dry_run: bool = False
    accepted: bool = False

    @property
    def taken(self) -> FailureState:
        """The state of the failures that are taken up."""
        return FailureState.IGNORED if self.reopen else FailureState.OPEN

    @property
    def kind(self) -> str:
        """The kind of the execution that is recorded."""
        return "reopen" if self.reopen else "replay" if self.ignore is None else "ignore"


def replay_job(
    job: Job, bound: Mapping[str, BoundStep], execution: JobExecution, options: ReplayOptions, around: Surroundings
) -> ReplayResult:
    """Replay the failures of a run's lap, or ignore or reopen them, as `options` say.

    Raises NotReplayableError if no step's target can be replayed into, or the run is of an earlier lap, and
    GroundChangedError, before anything is recorded, for tables that lack what was committed to them.
    """
    waiting = _waiting(job, execution, options, around)
    if not waiting:
        return ReplayResult(0, dry_run=options.dry_run)
    warnings = tuple(text for name in waiting for text in replay_warnings(bound[name]) if options.kind == "replay")
    with around.ledger.own(execution.key) as ownership:
        _require_newest_lap(execution, around)
        for name in waiting:
            key = execution.key.step(execution.lap, name)
            require_target_there(bound[name], key, around.ledger, around.clock, around.stop)
        if options.dry_run:
            context = replace(context_in(job, execution, around, ownership), run=0)
            taken_up = _each_step(bound, context, waiting, options)
            return ReplayResult(0, taken_up.done, taken_up.refused, warnings=warnings, dry_run=True)
        taken_up, run = _recorded(job, bound, execution, (waiting, options), (around, ownership))
    if taken_up.refused and not taken_up.done:
        raise NotReplayableError(taken_up.refused[0])
    stale = _followers(job, [step.step for step in taken_up.done if step.replayed])
    return ReplayResult(run, taken_up.done, taken_up.refused, stale, around.stop.requested or "", warnings)


@dataclass(frozen=True, slots=True)
class _TakenUp:
    done: tuple[Replayed, ...]
    refused: tuple[str, ...]


def _waiting(job: Job, execution: JobExecution, options: ReplayOptions, around: Surroundings) -> list[str]:
    """The steps with failures to take up, in order."""
    names = [step.name for step in ordered_steps(job)]
    if options.step is not None and options.step not in names:
        raise NotReplayableError(f"job '{job.name}' has no step '{options.step}'", f"its steps are {', '.join(names)}")
    found = around.failures(execution.id)
    chosen = options.where.chosen(failure for failure in found if failure.state is options.taken)
    steps = {failure.step for failure in chosen if options.step in (None, failure.step)}
    return [name for name in names if name in steps]


def _require_newest_lap(execution: JobExecution, around: Surroundings) -> None:
    last = around.ledger.last_run(execution.key)
    if last is not None and last.lap != execution.lap:
        raise NotReplayableError(
            f"run {execution.id} is of lap {execution.lap}, which was begun again since",
            f"the newest run is {last.id}, of lap {last.lap}",
            f"replay run {last.id}",
        )


def _recorded(
    job: Job,
    bound: Mapping[str, BoundStep],
    execution: JobExecution,
    asked: tuple[Sequence[str], ReplayOptions],
    around: tuple[Surroundings, Ownership],
) -> tuple[_TakenUp, int]:
    """Take the failures up in an execution of its own; its number."""
    (waiting, options), (surroundings, ownership) = asked, around
    ledger, stop = surroundings.ledger, surroundings.stop
    names = tuple(step.name for step in ordered_steps(job))
    request = RunRequest(execution.key, execution.parameters, names, execution.origin, options.kind)
    close_lost(ledger.last_run(execution.key), bound, ledger, surroundings.clock, ownership)
    begun = ledger.begin_run(request)
    ledger.move_run(begun.id, Status.RUNNING)
    context = replace(context_in(job, execution, surroundings, ownership), run=begun.id)
    try:
        with stop.interrupting(ledger), surroundings.watched(begun.id):
            taken_up = _each_step(bound, context, waiting, options)
    except BaseException as error:
        _close_broken_off(context, error)
        raise
    left = taken_up.refused or any(step.still_open for step in taken_up.done)
    ended = Status.COMPLETED_WITH_FAILURES if left else Status.COMPLETED
    ledger.move_run(begun.id, Status.STOPPED if stop.requested else ended, stop.requested or "")
    return taken_up, begun.id


def _each_step(
    bound: Mapping[str, BoundStep], context: RunContext, waiting: Sequence[str], options: ReplayOptions
) -> _TakenUp:
    done, refused, take_up = [], [], _taking_up(options)
    for name in waiting:
        if context.stop.requested is not None:
            break
        try:
            in_parts = [take_up(*part) for part in replayed_parts(bound[name], context, options.taken)]
            done.append(added_up(name, in_parts))
        except NotReplayableError as error:
            refused.append(str(error))
    return _TakenUp(tuple(done), tuple(refused))


def _taking_up(options: ReplayOptions) -> Callable[[BoundStep, RunContext], Replayed]:
    """What is done with the failures of one step."""

    def ignore(bound: BoundStep, context: RunContext) -> Replayed:
        moved = close_failures(bound, context, options.where, FailureState.IGNORED, options.ignore or "")
        return Replayed(bound.step.name, ignored=moved)

    def reopen(bound: BoundStep, context: RunContext) -> Replayed:
        return Replayed(bound.step.name, reopened=close_failures(bound, context, options.where, FailureState.OPEN))

    def again(bound: BoundStep, context: RunContext) -> Replayed:
        look = rehearse if options.dry_run else replay_failures
        return look(bound, context, Chosen(options.where, options.items, options.accepted))

    return {"ignore": ignore, "reopen": reopen, "replay": again}[options.kind]


def _close_broken_off(context: RunContext, error: BaseException) -> None:
    if isinstance(error, FencedError):
        return  # the run is somebody else's to close
    interrupted = isinstance(error, KeyboardInterrupt)
    text = context.stop.requested or "interrupted" if interrupted else describe_error(error, context.secrets)
    try:
        context.ledger.move_run(context.run, Status.STOPPED if interrupted else Status.FAILED, text)
    except BatchwrightError as second:
        error.add_note(f"and then: {second}")


def _followers(job: Job, changed: Sequence[str]) -> tuple[str, ...]:
    """The steps that come after these, directly or not."""
    return tuple(step for step in steps_from(job, changed) if step not in changed)

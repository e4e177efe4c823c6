"""Undo what the steps of a lap did outside: the last effect first, each once, as `compensate=` says.

The one rule: no compensation begins before its intent is durable, and none before the end of the one before it is.

The states of a lap that is rolled back, and what holds in each when the process dies:
  over                 STOPPED, FAILED or complete: nothing is undone; it can be gone on with, or rolled back
  COMPENSATING         some effects are undone, one may be or not: it is undone again, under the same key. The lap is
                       never gone on with; rolled back again, it goes on here
  COMPENSATION_FAILED  the same, closed: a compensation failed, or was stopped
  COMPENSATED          every effect that its step can compensate is undone, for good
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchwright.engine.attempt import Attempts, attempt_again
from batchwright.engine.record_failure import describe_error
from batchwright.engine.run_step import RunContext
from batchwright.engine.stop import pause
from batchwright.job import Job, ordered_steps
from batchwright.model.checkpoint import StepKey
from batchwright.model.effect import STANDING, Effect, EffectState, keepable_receipt
from batchwright.model.errors import BatchwrightError, FencedError, StopRequestedError
from batchwright.model.fault_points import reach
from batchwright.model.result import JobResult, StepUndone
from batchwright.model.status import Status
from batchwright.ports import Ledger
from batchwright.step import Step

PAGE = 100

_UNKNOWN = (EffectState.INTENT, EffectState.FAILED)


@dataclass(frozen=True, slots=True)
class Compensated:
    """How far a lap was undone. `stopped` says who or what stopped it; `error` what failed."""

    status: Status
    steps: tuple[StepUndone, ...]
    error: str = ""
    stopped: str = ""

    def told(self) -> Iterator[str]:
        """What a person should read of it."""
        for step in self.steps:
            left = f", {step.left:,} are left" if step.left else ""
            yield f"step '{step.step}': {step.compensated:,} effects are undone{left}"
        if self.error:
            yield f"the rollback failed: {self.error}"


def compensate_lap(job: Job, context: RunContext) -> Compensated:
    """Undo the effects of a run's lap, over its steps in reverse order. The caller owns the instance.

    A compensation that fails, after its step's `retry`, ends it there. Raises FencedError, with nothing more written.
    """
    ledger, error = context.ledger, None
    ledger.move_run(context.run, Status.COMPENSATING)
    try:
        for step in compensable_steps(job):
            error = _undo_step(step, context)
            if error is not None:
                break
    except BaseException as ended:
        _break_off(context, ended)
        raise
    stopped = context.stop.requested or "" if isinstance(error, StopRequestedError) else ""
    text = f"the rollback was stopped: {stopped}" if stopped else describe_error(error, job.secrets) if error else ""
    status = Status.COMPENSATED if error is None else Status.COMPENSATION_FAILED
    ledger.move_run(context.run, status, text)
    return Compensated(status, undone(job, context), "" if stopped else text, stopped)


def compensated(job: Job, context: RunContext, result: JobResult, error: BaseException | None) -> JobResult:
    """The result of a run, rolled back if it failed and its job says so; a stop leaves it to be gone on with."""
    if result.status is not Status.FAILED or job.on_failure is None:
        return result
    if isinstance(error, FencedError) or context.stop.requested is not None:
        return result
    undone = compensate_lap(job, context)
    return replace(result, status=undone.status, warnings=(*result.warnings, *undone.told()))


def compensable_steps(job: Job) -> list[Step[Any, Any]]:
    """The steps whose effects can be undone, in the order in which they are."""
    return [step for step in reversed(ordered_steps(job)) if step.compensate is not None]


def is_undone(step: Step[Any, Any], context: RunContext) -> bool:
    """Whether a step has made effects, and none of them is left."""
    return step.compensate is not None and tally(context.ledger, context.step_key(step.name)).left == 0


def undone(job: Job, context: RunContext) -> tuple[StepUndone, ...]:
    """How many effects of each step that can compensate are undone by now, and how many are left."""
    return tuple(tally(context.ledger, context.step_key(step.name)) for step in compensable_steps(job))


def tally(ledger: Ledger, key: StepKey) -> StepUndone:
    """How many effects of a step are undone by now, and how many are left."""
    counts = dict.fromkeys(EffectState, 0)
    for effect in _newest_first(ledger, key):
        counts[effect.state] += 1
    left = sum(counts[state] for state in STANDING)
    return StepUndone(key.step, counts[EffectState.COMPENSATED], left, counts[EffectState.FAILED])


def _undo_step(step: Step[Any, Any], context: RunContext) -> BaseException | None:
    """Undo the effects of a step; the error that ended it, with a note on which effect it was."""
    key, ledger = context.step_key(step.name), context.ledger
    ended: list[Effect] = []
    for effect in _newest_first(ledger, key):
        context.ownership.check()
        if context.stop.requested is not None:
            ledger.save_effects(key, ended)
            return StopRequestedError()
        try:
            wanted = _wanted(step, effect, context.secrets)
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything
            ledger.save_effects(key, ended)
            return _noted(error, "asking for", step, effect)
        if wanted.state in (EffectState.FAILED, EffectState.COMPENSATED):
            # Nothing to undo; that it is known now is worth keeping.
            ended += [wanted] if wanted != effect else []
            continue
        intent = replace(wanted, state=EffectState.COMPENSATING, error="")
        ledger.save_effects(key, [*ended, intent])
        reach("K26")
        failed = _compensate(step, intent, context)
        if failed is not None:
            if not isinstance(failed, StopRequestedError):
                ledger.save_effects(key, [replace(intent, error=describe_error(failed, context.secrets))])
            return _noted(failed, "undoing", step, effect)
        reach("K27")
        ended = [replace(intent, state=EffectState.COMPENSATED)]
    ledger.save_effects(key, ended)
    return None


def _newest_first(ledger: Ledger, key: StepKey) -> Iterator[Effect]:
    before: tuple[int, int] | None = None
    while page := ledger.last_effects(key, before, PAGE):
        yield from page
        before = (page[-1].ordinal, page[-1].index)


def _wanted(step: Step[Any, Any], effect: Effect, secrets: Sequence[str]) -> Effect:
    """The effect with what is known of it now: a call whose outcome is not known is asked for where one can ask."""
    ask = getattr(step.write, "ask", None)
    if effect.state not in _UNKNOWN or ask is None:
        return effect
    receipt = ask(effect.key)
    if receipt is None:
        return replace(
            effect, state=EffectState.FAILED, error=effect.error or "it was not made: asked when rolled back"
        )
    return replace(effect, state=EffectState.DONE, stored_receipt=keepable_receipt(receipt, secrets), error="")


def _compensate(step: Step[Any, Any], effect: Effect, context: RunContext) -> BaseException | None:
    compensate = step.compensate
    assert compensate is not None  # noqa: S101 - for the type checker: only such steps come here
    try:
        compensate(effect)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's SystemExit is a compensation that failed, too
        policy = Attempts(step.retry, None, partial(pause, context.clock, context.stop))
        try:
            return attempt_again(compensate, effect, error, policy).error
        except StopRequestedError as stopping:
            return stopping
    return None


def _noted(error: BaseException, verb: str, step: Step[Any, Any], effect: Effect) -> BaseException:
    if not isinstance(error, StopRequestedError):
        error.add_note(f"while {verb} the effect of item {effect.ordinal + 1} of step '{step.name}', key {effect.key}")
    return error


def _break_off(context: RunContext, ended: BaseException) -> None:
    """Close a rollback that an error goes through. Whoever is fenced writes nothing."""
    if isinstance(ended, FencedError):
        return
    interrupted = isinstance(ended, KeyboardInterrupt)
    text = context.stop.requested or "interrupted" if interrupted else describe_error(ended, context.secrets)
    try:
        context.ledger.move_run(context.run, Status.COMPENSATION_FAILED, f"the rollback ended: {text}")
    except BatchwrightError as second:
        ended.add_note(f"and then: {second}")

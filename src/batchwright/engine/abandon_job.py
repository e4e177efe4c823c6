"""Give up a lap that was not finished: it is never gone on with, and nobody still commits to it.

The one rule: the mark comes before the cleaning up. A process killed in between leaves a lap that is abandoned and a
stage that the next `abandon` removes; the other way round it would leave work that looks as if it could be gone on with
and cannot.

The states, and what holds in each when the process dies:
  over        STOPPED, FAILED, COMPENSATION_FAILED, or a live run with an owner that is gone: it can be gone on with
  closed      whose owner was gone is FAILED, as any next owner would have closed it, and its targets were asked what it
              had not reported (see `close_lost`): it can still be gone on with
  abandoned   final; stages and staging tables may still be there, and old processes may believe that they own it
  cleaned up  each begun step is claimed once more, which fences old processes, and what it staged is removed
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from batchwright.engine.close_lost import close_lost
from batchwright.engine.compensate_lap import tally
from batchwright.engine.record_failure import error_text
from batchwright.engine.split_step import standing_in
from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.errors import DamagedOutputError, GroundChangedError, NotResumableError
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.partition import plan_of
from batchwright.model.status import Status, sources_of
from batchwright.ports import Clock, Discards, Ledger, Scope, Sink
from batchwright.step import BoundStep

_Claiming = Callable[[StepKey], Scope]
"""What a step is opened for by whoever gives it up."""


@dataclass(frozen=True, slots=True)
class StepLeft:
    """What a step of abandoned work leaves in its target.

    `removed` is what was cleaned up of it, `problem` why something was not. What it had staged, nobody has seen.
    """

    step: str
    target: str
    outputs: int
    finished: bool
    removed: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AbandonResult:
    """What became of work that was given up. `already` says that it had been abandoned before."""

    run: int
    job: str
    already: bool
    steps: tuple[StepLeft, ...]


def abandon_job(
    run: JobExecution, bound: Mapping[str, BoundStep], ledger: Ledger, clock: Clock, unbuilt: str = ""
) -> AbandonResult:
    """Abandon the newest run of an instance and clean up after its steps; `unbuilt` says why they are not at hand.

    Raises AlreadyRunningError, and NotResumableError for a run that is not the newest or is complete.
    """
    with ledger.own(run.key) as ownership:
        claiming = partial(Scope, store=ledger, clock=clock, claims=True, owned=ownership.check)
        close_lost(_newest(run, ledger), bound, ledger, clock, ownership)
        last = ledger.last_run(run.key) or run
        already = last.status is Status.ABANDONED
        if not already:
            if last.status not in sources_of(Status.ABANDONED):
                raise NotResumableError(
                    f"run {last.id} of job '{last.job}' is {last.status}",
                    "only work that was not finished is given up",
                    "to do it anew: --again",
                )
            ledger.move_run(last.id, Status.ABANDONED)
        return AbandonResult(last.id, last.job, already, tuple(_clean_up(last, bound, ledger, claiming, unbuilt)))


def _newest(run: JobExecution, ledger: Ledger) -> JobExecution:
    """The newest run of the instance, which must be this one, and not one whose rollback died."""
    last = ledger.last_run(run.key)
    if last is None or last.id != run.id:
        raise NotResumableError(
            f"run {run.id} of job '{run.job}' is not the newest of its work",
            f"that is run {last.id}, {last.status}" if last else "the ledger has none",
            "abandon that one",
        )
    if last.status is Status.COMPENSATING:
        raise NotResumableError(
            f"run {last.id} of job '{last.job}' is rolled back in part, by a process that is gone",
            "given up, what is left of its effects could not be undone any more",
            f"finish that: batchwright rollback {last.id}",
        )
    return last


def _clean_up(
    run: JobExecution, bound: Mapping[str, BoundStep], ledger: Ledger, claiming: _Claiming, unbuilt: str
) -> Iterator[StepLeft]:
    for name in run.steps:
        key = run.key.step(run.lap, name)
        last = ledger.last_step(key)
        if last is None:
            continue
        if name not in bound or last.status.complete:
            why = unbuilt or "the job has no such step any more"
            problem = "" if last.status.complete else f"not looked at: {why}; {_LAST_REPORT}"
            yield StepLeft(name, last.target, last.counts.outputs, last.status.complete, problem=problem)
            continue
        yield _left_by(bound[name], last, claiming(key), ledger)


def _left_by(bound: BoundStep, last: StepExecution, scope: Scope, ledger: Ledger) -> StepLeft:
    """Claim the step, so that an old owner commits nothing more, and remove what it staged."""
    key, checkpoint, removed, problem = scope.key, None, "", ""
    if last.target != bound.step.target_address:
        problem = f"not looked at: the step writes to {bound.step.target_address} now"
    else:
        try:
            with closing(bound.writer.open(scope)) as sink:
                checkpoint = _recalled(sink)
                _fence_partitions(bound, scope, checkpoint)
                checkpoint = standing_in(sink, checkpoint)
                if isinstance(sink, Discards) and not (checkpoint and checkpoint.finished):
                    removed = sink.discard()
        except Exception as error:  # noqa: BLE001 - a target that is gone keeps no work from being given up
            problem = f"not cleaned up: {error_text(error, bound.step.secrets)}; {_LAST_REPORT}"
    outputs = checkpoint.counts.outputs if checkpoint else last.counts.outputs
    finished = checkpoint is not None and checkpoint.finished
    if bound.step.compensate is not None:
        outputs = tally(ledger, key).left
    unseen = bound.hides_until_finished and not finished and not problem
    return StepLeft(key.step, last.target, 0 if removed or unseen else outputs, finished, removed, problem)


def _fence_partitions(bound: BoundStep, scope: Scope, checkpoint: Checkpoint | None) -> None:
    """Claim each partition, too: workers outlive the run that they have joined. A new claim the closed run refuses."""
    if checkpoint is None or checkpoint.finished:
        return
    for number in range(1, len(plan_of(checkpoint) or ()) + 1):
        with closing(bound.writer.open(replace(scope, key=replace(scope.key, partition=number)))) as sink:
            _recalled(sink)


_LAST_REPORT = "its count is that of its last report; abandon it once more when that is mended"


def _recalled(sink: Sink[object]) -> Checkpoint | None:
    try:
        return sink.recall()
    except (DamagedOutputError, GroundChangedError):
        return None  # what cannot be gone on with can be given up

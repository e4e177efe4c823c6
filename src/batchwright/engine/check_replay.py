"""Which steps take their failed items later, and which undo what they did: known before any of it is tried.

Before a replay is recorded its targets are asked whether they hold what was committed to them: the failures of tables
stand beside the rows, and a target that is gone would have none to replay, and say that all is well.

The one rule: nothing is written; a target that cannot be asked now is asked by whoever replays.
"""

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

from batchwright.engine.recall_checkpoint import ask
from batchwright.engine.restart import Choices, require_same_addresses, require_same_target
from batchwright.engine.stop import Stop, pause
from batchwright.job import Job
from batchwright.model.checkpoint import StepKey
from batchwright.model.distinct import Distinct
from batchwright.model.errors import GroundChangedError, NotReplayableError, StopRequestedError
from batchwright.model.execution import ADDS, ATOMIC, COMPENSATES, REPLAYS, SECRETS
from batchwright.ports import Amends, Clock, Ledger, Replays, Scope, Settles, Sink
from batchwright.step import BoundStep


def describe_abilities(job: Job, bound: Mapping[str, BoundStep], ledger: Ledger, clock: Clock) -> dict[str, Any]:
    """What an operator can do about a run of this job, for its definition; the names of its secrets among it."""
    replayable = []
    for name, step in bound.items():
        with closing(step.writer.open(Scope(job.key.step(1, name), ledger, clock))) as sink:
            if not why_not(step, sink):
                replayable.append(name)
    compensable = [step.name for step in job.steps if step.compensate is not None]
    adding = [name for name, step in bound.items() if getattr(step.writer, "adds_again", False)]
    atomic = {step.name: step.atomic for step in job.steps if step.atomic}
    return {
        REPLAYS: replayable,
        COMPENSATES: compensable,
        SECRETS: list(job.secret_names),
        ADDS: adding,
        ATOMIC: atomic,
    }


def require_replayable(bound: BoundStep, sink: Sink[Any]) -> None:
    """Raise NotReplayableError for a step that takes no items after it was finished."""
    why = why_not(bound, sink)
    if why:
        step = bound.step
        found = f"its failures are not in {step.target_address}: {why}"
        mend = "mend the input or the code and run the job anew with --again, or close them with --ignore REASON"
        raise NotReplayableError(f"step '{step.name}' cannot be replayed", found, mend)


def require_target_there(bound: BoundStep, key: StepKey, ledger: Ledger, clock: Clock, stop: Stop) -> None:
    """Raise GroundChangedError for tables that are gone, are others, or lack what was committed to them.

    A stop ends the waiting for one that cannot be reached: whoever replays sees it, too.
    """
    with closing(bound.writer.open(Scope(key, ledger, clock))) as sink:
        if not isinstance(sink, Settles):
            return
        last = ledger.last_step(key)
        if last is not None:
            require_same_addresses(bound, last)
        try:
            found = ask(sink, bound.step.write_retry, partial(pause, clock, stop))
            require_same_target(bound, last, found, sink, key, Choices())
        except StopRequestedError:
            return
        except GroundChangedError as error:
            mend = "bring the target back and replay again, or run the job anew with --again"
            raise GroundChangedError(error.wrong, error.found, mend) from error


def why_not(bound: BoundStep, sink: Sink[Any]) -> str:
    """Why a step takes no items after it was finished, in words; empty: it does."""
    if bound.step.atomic:
        return "it is atomic, and publishes everything at once, or nothing"
    if not isinstance(sink, Replays | Amends):
        return "that takes no items after it was finished"
    if isinstance(sink, Amends) and not getattr(sink, "amendable", True):
        return "it is a set of files, which is published as a whole"
    if isinstance(bound.step.process, Distinct) and not isinstance(sink, Settles):
        return "which keys it has seen is kept with its chunks, and only tables take chunks later"
    return ""

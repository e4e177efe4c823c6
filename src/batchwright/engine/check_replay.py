"""Which steps take their failed items later, and which undo what they did: known before any of it is tried.

The one rule: nothing is written; a target that cannot be asked now is asked by whoever replays.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from batchwright.job import Job
from batchwright.model.distinct import Distinct
from batchwright.model.errors import NotReplayableError
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

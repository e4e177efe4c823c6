"""Find out whether this ledger is one that does not remember what its work has called outside.

The one rule: what a call did is kept in the ledger and nowhere else. So where targets, or the mark that a run leaves
beside its ledger, know of work that the ledger does not, calls may have been made, and a person decides.

  the receiver honours keys         nothing is asked: in the same lap the calls are made again without effect
  the receiver can be asked         each call that the ledger does not know is asked for before it is made
  neither, or a plain function      refused: --adopt makes them again, under the same keys; --again --yes under others
Work without parameters could be tonight's or last night's: there a mark is a reason to ask whatever the receiver does.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing

from batchwright.engine.run_step import RunContext
from batchwright.job import Job, ordered_steps
from batchwright.model.errors import ADOPT, BEGIN_AGAIN, ConfirmationError, GroundChangedError
from batchwright.model.execution import JobExecution
from batchwright.model.guarantee import Guarantee
from batchwright.ports import Ledger, Scope, Settles
from batchwright.ports.call_marks import CallMark, MarksCalls
from batchwright.step import BoundStep


def calls_outside(step: BoundStep) -> bool:
    """Whether what a step did is known to the ledger alone, and cannot be done again unnoticed."""
    return getattr(step.writer, "logs_effects", False) or step.writer.guarantee is Guarantee.AT_LEAST_ONCE


def mark_calls(bound: Mapping[str, BoundStep], run: JobExecution, ledger: Ledger) -> None:
    """Leave a mark beside the ledger before any step of a run calls outside."""
    if isinstance(ledger, MarksCalls) and any(map(calls_outside, bound.values())):
        ledger.mark_calls(run)


def forgotten_mark(job: Job, last: JobExecution | None, ledger: Ledger) -> CallMark | None:
    """The mark of a run that called outside, and that this ledger does not know: it was lost, or restored."""
    if job.origin is not None and job.origin.is_script:
        return None
    mark = ledger.marked_calls(job.key) if isinstance(ledger, MarksCalls) else None
    return mark if mark is not None and (last is None or last.started_at < mark.started_at) else None


def require_remembered(
    job: Job, bound: Mapping[str, BoundStep], context: RunContext, mark: CallMark | None, *, confirmed: bool | None
) -> None:
    """Raise unless each step whose calls the ledger may have forgotten may be run: GroundChangedError.

    Where the work is begun again, `confirmed` says whether somebody has said yes to that, and ConfirmationError is
    raised if not; None: it is not begun again. `context` is that of the lap that is not known.
    """
    for name in _doubtful(job, bound, context, mark):
        step = bound[name].step
        by_key = getattr(bound[name].writer, "logs_effects", False)
        known = f"a run called outside that started {mark.started_at:%Y-%m-%d %H:%M:%S} UTC" if mark else ""
        found = known or f"the targets know lap {context.lap} of this work"
        this = f"step '{name}': this ledger does not know what {step.target_address} was called for"
        if confirmed is None:
            keys = ", under the same keys" if by_key else ""
            raise GroundChangedError(
                this,
                f"{found}, and the ledger knows nothing of it: it is new, or was restored",
                f"restore the ledger; or {ADOPT}: it is called again{keys}; or {BEGIN_AGAIN} and --yes",
            )
        if not confirmed:
            raise ConfirmationError(
                this,
                f"{found}; beginning again calls for all of it{', under other keys' if by_key else ''}",
                "say yes with --yes (run(…, yes=True) in Python), or restore the ledger",
            )


def _doubtful(job: Job, bound: Mapping[str, BoundStep], context: RunContext, mark: CallMark | None) -> Iterator[str]:
    waiting = _unfinished(bound, context)
    for name, before in _all_before(job).items():
        step = bound.get(name)
        if step is None or not calls_outside(step) or waiting.intersection(before):
            continue  # what it follows is not finished: it has not begun
        last = context.ledger.last_step(context.step_key(name))
        either = mark is not None and not job.identifiable
        if (step.writer.guarantee is Guarantee.AT_LEAST_ONCE or either) and not (last and last.status.complete):
            yield name


def _unfinished(bound: Mapping[str, BoundStep], context: RunContext) -> set[str]:
    """The steps whose targets say that they are not finished in the lap."""
    found = set()
    for name, step in bound.items():
        with closing(step.writer.open(Scope(context.step_key(name), context.ledger, context.clock))) as sink:
            checkpoint = sink.recall() if isinstance(sink, Settles) else None
            if isinstance(sink, Settles) and not (checkpoint and checkpoint.finished):
                found.add(name)
    return found


def _all_before(job: Job) -> dict[str, set[str]]:
    """Every step that comes before each, directly or not."""
    direct, found = job.predecessors(), dict[str, set[str]]()
    for step in ordered_steps(job):
        before = direct[step.name]
        found[step.name] = set(before).union(*(found[name] for name in before))
    return {name: found[name] for name in direct}

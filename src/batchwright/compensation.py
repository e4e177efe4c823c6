"""Roll a run back: undo what its lap did outside.

The one rule: whoever rolls back owns the work, as whoever runs it does: nothing is undone while it is being done.
"""

from contextlib import closing
from pathlib import Path

from batchwright.engine.announce import Announcer
from batchwright.engine.close_lost import close_lost
from batchwright.engine.compensate_lap import compensable_steps, compensate_lap, undone
from batchwright.engine.run_step import RunContext
from batchwright.engine.stop import watched
from batchwright.job import Job
from batchwright.launch import Stop, SystemClock, bind
from batchwright.model.errors import CompensationFailedError, LedgerError, NotCompensableError
from batchwright.model.execution import JobExecution
from batchwright.model.result import RollbackResult
from batchwright.model.status import Status, sources_of
from batchwright.opening import asking, open_history, open_ledger
from batchwright.operations import built_again
from batchwright.ports import History, Ledger, Ownership

_PAGE = 100


def rollback(
    number: int,
    *,
    ledger: Ledger | str | Path | None = None,
    job: Job | None = None,
    stop: Stop | None = None,
    check: bool = True,
) -> RollbackResult:
    """Undo what the lap of a run did outside: newest first, over its steps in reverse order, each effect once.

    Steps say with `compensate=` how. After a crash or a failure, rolling back again goes on where it was; a lap that is
    rolled back is never gone on with, only begun anew. The job is built again from its file; one that was built by hand
    has to be given. `stop` lets other threads stop it between two effects.

    Raises CompensationFailedError, with the result on it, when a compensation fails (`check=False` returns the result
    instead), AlreadyRunningError for work that is under way, NotCompensableError if there is nothing that could be
    undone, and OriginError where the job cannot be built again.
    """
    kept, close = open_ledger(ledger, None)
    try:
        with closing(open_history(kept)) as history:
            named = history.run(number)
            if named is None:
                raise LedgerError(f"there is no run {number} in {kept.address}", "", "see batchwright list")
            result = _roll_back(named, built_again(named, job), kept, history, stop or Stop())
    finally:
        if close:
            kept.close()
    if check and result.error:
        raise CompensationFailedError(result)
    return result


def require_compensable(run: JobExecution, job: Job) -> None:
    """Raise NotCompensableError, with the reason, for a run that cannot be rolled back, whoever asks."""
    this = f"run {run.id} of job '{run.job}'"
    if not compensable_steps(job):
        raise NotCompensableError(
            f"{this} cannot be rolled back",
            "none of its steps has compensate=",
            "what steps wrote to databases and files stays: remove it there, or by a job that does",
        )
    if run.status is not Status.COMPENSATED and run.status not in sources_of(Status.COMPENSATING):
        raise NotCompensableError(
            f"{this} cannot be rolled back", f"it is {run.status}", "only a run that is over can be"
        )


def _roll_back(named: JobExecution, job: Job, ledger: Ledger, history: History, stop: Stop) -> RollbackResult:
    with ledger.own(named.key) as ownership:
        close_lost(ledger.last_run(named.key), bind(job, durable=ledger.durable), ledger, SystemClock(), ownership)
        run = _newest_of_lap(history, named)
        require_compensable(run, job)
        context = _context(run, job, ledger, ownership, stop)
        kept = _kept(history, run, job)
        if run.status is Status.COMPENSATED:
            return RollbackResult(run.id, run.job, run.status, undone(job, context), kept, already=True)
        with stop.interrupting(ledger), watched(stop, asking(ledger, run.id)):
            done = compensate_lap(job, context)
    return RollbackResult(run.id, run.job, done.status, done.steps, kept, error=done.error, stopped=done.stopped)


def _newest_of_lap(history: History, named: JobExecution) -> JobExecution:
    """The run that stands for the lap: its newest. A run that is no newer tells nothing of what came after it."""
    before: int | None = None
    while page := history.runs(key=named.key, before=before, limit=_PAGE):
        found = next((run for run in page if run.kind == "run" and run.lap == named.lap), None)
        if found is not None:
            return found
        before = page[-1].id
    return named


def _kept(history: History, run: JobExecution, job: Job) -> tuple[str, ...]:
    undoing = {step.name for step in compensable_steps(job)}
    wrote = {step.key.step for step in history.steps(run.id) if step.counts.outputs}
    called = {count.step for count in history.effect_counts(run.id)}
    return tuple(sorted((wrote | called) - undoing))


def _context(run: JobExecution, job: Job, ledger: Ledger, ownership: Ownership, stop: Stop) -> RunContext:
    return RunContext(
        run=run.id,
        key=run.key,
        lap=run.lap,
        ledger=ledger,
        clock=SystemClock(),
        stop=stop,
        announcer=Announcer(()),
        ownership=ownership,
        secrets=job.secrets,
    )


__all__ = ["RollbackResult", "require_compensable", "rollback"]

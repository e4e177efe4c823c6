"""What an operator does about runs that are over: go on with one, or give it up.

The one rule: what is done is decided by the newest run of the work, under its ownership; a run's number only says which
work is meant.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict, Unpack

from batchwright.engine.abandon_job import AbandonResult, StepLeft, abandon_job
from batchwright.job import Job
from batchwright.launch import Stop, SystemClock, bind, open_history, open_ledger, run
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import (
    AbandonedError,
    AlreadyRunningError,
    BatchwrightError,
    GroundChangedError,
    LedgerError,
    NotResumableError,
    OriginError,
)
from batchwright.model.execution import JobExecution
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.origins import rebuild
from batchwright.ports import History, Ledger, Observer

INTERRUPTED = frozenset({Status.FAILED, Status.STOPPED, Status.LOST})
"""What can be gone on with."""

_PAGE = 20


class RunSettings(TypedDict, total=False):
    """What `run` may be told about how to go on, all optional."""

    observers: Sequence[Observer]
    check: bool
    limit: int | None
    max_failures: int | str | None
    stop: Stop | None
    timeout_seconds: float | None


def resume(
    number: int,
    *,
    ledger: Ledger | str | Path | None = None,
    job: Job | None = None,
    **settings: Unpack[RunSettings],
) -> JobResult:
    """Go on with the work of a run that failed, was stopped, or lost its process: its job is built again from its file.

    A job that was built by hand has to be given. Everything else is as for `run`. Raises AlreadyRunningError for work
    that is under way, NotResumableError for work that is complete, AbandonedError, OriginError where the job cannot be
    built again, and GroundChangedError where its function has become other work.
    """
    kept, close = open_ledger(ledger, None)
    try:
        with closing(open_history(kept)) as history:
            execution = interrupted_run(history, number)
        return run(built_again(execution, job), ledger=kept, **settings)
    finally:
        if close:
            kept.close()


def abandon(number: int, *, ledger: Ledger | str | Path | None = None, job: Job | None = None) -> AbandonResult:
    """Give up the work of a run that failed, was stopped or lost its process: it is never gone on with.

    What its steps have staged and not published is removed, and nothing else: the result says what they leave behind.
    A job that cannot be built again is given up all the same, and nothing is removed. Abandoning twice is harmless.
    Raises AlreadyRunningError for work that is under way, NotResumableError for work that is complete.
    """
    kept, close = open_ledger(ledger, None)
    try:
        with closing(open_history(kept)) as history:
            execution = history.run(number)
        if execution is None:
            raise _no_such_run(number, kept.address)
        bound, unbuilt = {}, ""
        try:
            bound = bind(built_again(execution, job), durable=kept.durable)
        except BatchwrightError as error:
            if job is not None:
                raise
            unbuilt = str(error)
        return abandon_job(execution, bound, kept, SystemClock(), unbuilt)
    finally:
        if close:
            kept.close()


def interrupted_run(history: History, number: int) -> JobExecution:
    """The newest run of the work that this run is of, if it can be gone on with.

    Raises LedgerError for an unknown number, AlreadyRunningError, AbandonedError and NotResumableError.
    """
    named = history.run(number)
    if named is None:
        raise _no_such_run(number, history.address)
    newest = newest_run(history, named.key) or named
    if newest.status in INTERRUPTED:
        return newest
    this = f"run {newest.id} of job '{newest.job}'"
    if newest.status.live:
        raise AlreadyRunningError(newest.job, f"process {newest.pid} on {newest.host}", newest.started_at)
    again = "begin it anew with --again (run(…, again=True) in Python)"
    if newest.status is Status.ABANDONED:
        raise AbandonedError(f"{this} was abandoned", "it cannot be gone on with", again)
    raise NotResumableError(f"{this} is {newest.status}", "there is nothing to go on with", again)


def newest_run(history: History, key: InstanceKey) -> JobExecution | None:
    """The newest execution of kind `run` of an instance, its status as a reader sees it."""
    before: int | None = None
    while page := history.runs(key=key, before=before, limit=_PAGE):
        found = next((execution for execution in page if execution.kind == "run"), None)
        if found is not None:
            return found
        before = page[-1].id
    return None


def built_again(execution: JobExecution, given: Job | None) -> Job:
    """The job of an execution: the one given, else built from its origin. Raises OriginError, GroundChangedError."""
    if given is None and (execution.origin is None or not execution.origin.path):
        raise OriginError(
            f"run {execution.id} has no job function to build it from again",
            "it was started with run(Job(…)) or run(Step(…))",
            "run it again from Python, with the same parameters",
        )
    job = given or rebuild(execution)
    require_same_work(job, execution)
    return job


def require_same_work(job: Job, execution: JobExecution) -> None:
    """Raise GroundChangedError unless this job is the work of the execution."""
    if job.key != execution.key:
        raise GroundChangedError(
            f"run {execution.id} is other work than {job!r}",
            f"it is job '{execution.job}' with the parameters {dict(execution.parameters)!r}; a default, a name or "
            "what identifies the work has changed since",
            "change it back, or run the job with those parameters given",
        )


def _no_such_run(number: int, address: str) -> LedgerError:
    return LedgerError(f"there is no run {number} in {address}", "", "see batchwright list")


__all__ = ["AbandonResult", "RunSettings", "StepLeft", "abandon", "interrupted_run", "newest_run", "resume"]

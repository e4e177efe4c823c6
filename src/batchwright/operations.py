"""What an operator does about runs that are over: go on with one, give it up, forget it.

The one rule: what is done is decided by the newest run of the work, under its ownership; a run's number only says which
work is meant.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

from batchwright.engine.abandon_job import AbandonResult, StepLeft, abandon_job
from batchwright.engine.announce import Announcer
from batchwright.engine.foresee_run import Foreseen, foresee_run
from batchwright.engine.prune_ledger import PruneResult, PruneRule, instances_of, prune_ledger
from batchwright.engine.record_failure import error_text
from batchwright.engine.set_up_run import RunOptions
from batchwright.engine.try_job import StepTrial, Trial, TrialOptions, try_job
from batchwright.engine.where_it_stands import StepStanding, where_it_stands
from batchwright.job import Job
from batchwright.launch import Stop, SystemClock, bind, open_history, open_ledger, run, surroundings
from batchwright.ledgers.call_marks import find_mark
from batchwright.ledgers.memory import MemoryLedger
from batchwright.ledgers.remembered import RememberedLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import (
    AbandonedError,
    AlreadyRunningError,
    BatchwrightError,
    DeclarationError,
    GroundChangedError,
    LedgerError,
    NotResumableError,
    OriginError,
)
from batchwright.model.execution import JobExecution
from batchwright.model.forgetting import Forgotten
from batchwright.model.policy import parse_limit
from batchwright.model.result import JobResult
from batchwright.model.status import Status, status_now
from batchwright.origins import rebuild
from batchwright.places import forget_report, report_place
from batchwright.ports import History, Ledger, Observer, Scope
from batchwright.ports.pruning import ForgetfulLedger, ForgetsLaps

INTERRUPTED = frozenset({Status.FAILED, Status.STOPPED, Status.LOST})
"""What can be gone on with."""

_PAGE = 20

BEGIN_ANEW = "begin it anew with --again (run(…, again=True) in Python)"


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
            execution = run_to_abandon(history, number)
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


def prune(
    *,
    keep: int | None = None,
    before: datetime | None = None,
    job: str | None = None,
    with_failures: bool = False,
    ledger: Ledger | str | Path | None = None,
    dry_run: bool = False,
) -> PruneResult:
    """Forget runs beyond the `keep` newest of each job, or that ended `before`; where both are given, both must be so.

    Unfinished work is left alone. Of each instance the newest run stays, so that it still says that it is complete;
    failures that are open stay, and with them their run, unless `with_failures`. Failure files go with their runs. What
    is deleted is really gone from the ledger's file. Killed in between, the next call does the rest. Raises LedgerError
    for a ledger of one's own that cannot forget, and DeclarationError if neither `keep` nor `before` is given.
    """
    if keep is None and before is None:
        raise DeclarationError("prune: nothing says what may go", "", "give keep= or before=")
    if keep is not None and keep < 1:
        raise DeclarationError("prune: keep must be at least 1", f"got {keep}")
    kept, close = open_ledger(ledger, None)
    try:
        forgetful = _forgetful(kept)
        files = partial(_remove_files, kept, dry_run=dry_run)
        rule = PruneRule(keep, before, with_failures)
        with closing(open_history(kept)) as history:
            result = prune_ledger(history, None if dry_run else forgetful, rule, files, job)
        problem = "" if dry_run or not result.instances else forgetful.shrink()
        return replace(result, problems=(problem,)) if problem else result
    finally:
        if close:
            kept.close()


def prune_targets(
    job: str,
    *,
    ledger: Ledger | str | Path | None = None,
    with_failures: bool = False,
    dry_run: bool = False,
    build: Callable[[JobExecution], Job] = rebuild,
) -> PruneResult:
    """Forget what the targets of a job keep about laps before the newest: checkpoints, fences, failures not open.

    Each instance's job is built again by `build`; where that cannot be, its targets are left alone and the result says
    so. The newest lap's rows stay: they are what says that it is finished.
    """
    kept, close = open_ledger(ledger, None)
    result = PruneResult()
    try:
        with closing(open_history(kept)) as history:
            for key in instances_of(history, job):
                newest = newest_run(history, key)
                if newest is not None and newest.lap > 1:
                    result = _prune_targets_of(newest, kept, build, result, with_open=with_failures, pretend=dry_run)
    finally:
        if close:
            kept.close()
    return result


def _prune_targets_of(
    newest: JobExecution,
    ledger: Ledger,
    build: Callable[[JobExecution], Job],
    result: PruneResult,
    **how: bool,
) -> PruneResult:
    forgotten = Forgotten()
    try:
        job = build(newest)
        require_same_work(job, newest)
        with ledger.own(newest.key):
            for name, bound in bind(job, durable=ledger.durable).items():
                scope = Scope(newest.key.step(newest.lap, name), ledger, SystemClock())
                with closing(bound.writer.open(scope)) as sink:
                    if isinstance(sink, ForgetsLaps):
                        forgotten += sink.forget_laps(**how)
    except AlreadyRunningError:
        return replace(result, busy=(*result.busy, newest.job))
    except Exception as error:  # noqa: BLE001 - one target that cannot be reached keeps no other from being pruned
        result = replace(result, problems=(*result.problems, f"run {newest.id}: {error_text(error)}"))
    if forgotten == Forgotten():
        return result
    return replace(result, forgotten=result.forgotten + forgotten, instances=result.instances + 1)


def _forgetful(ledger: Ledger) -> ForgetfulLedger:
    if not isinstance(ledger, ForgetfulLedger):
        raise LedgerError(f"the ledger {ledger.address} cannot forget", f"it is a {type(ledger).__name__}")
    return ledger


def _remove_files(ledger: Ledger, runs: Sequence[JobExecution], *, dry_run: bool) -> int:
    """Remove the failure files of runs, as far as they are theirs; how many."""
    if not ledger.durable:
        return 0
    files = 0
    for run_ in runs:
        source = Path(run_.origin.path) if run_.origin else None
        files += forget_report(report_place(ledger.address, source), run_.id, run_.job, pretend=dry_run)
    return files


def standing(run_: JobExecution, history: History, job: Job | None) -> tuple[StepStanding, ...]:
    """Where the steps of interrupted work stand, and the place at which each goes on; a job tells more than none."""
    bound = {} if job is None else bind(job, durable=False)
    return where_it_stands(run_, bound, history, MemoryLedger(), SystemClock())


def dry_run(job: Job, *, limit: int | None = None, max_failures: int | str | None = None) -> Trial:
    """What a run of this job would do, from the start of each step's input, or for its first `limit` items.

    Nothing is written: no ledger, no table, no file; a run of the same work may be under way, finished or interrupted.
    Targets are looked at as far as they can be without writing. The job's functions do run, with whatever they do
    outside. `would_fail` on the result says whether an error would end a step.
    """
    if limit is not None and limit < 1:
        raise DeclarationError("limit must be at least 1", f"got {limit}")
    parse_limit(max_failures)
    return try_job(job, bind(job, durable=True), TrialOptions(limit, max_failures), SystemClock())


def foresee(job: Job, place: Path | str, history: History | None, options: RunOptions) -> Foreseen:
    """What a run with these options would make of what earlier ones left in the ledger of this history, and in targets.

    `place` is that of the ledger, which may not be there. Nothing is written or waited for. Raises AlreadyRunningError
    while the work is under way.
    """
    newest = None if history is None else newest_run(history, job.key)
    if newest is not None and newest.status.live:
        raise AlreadyRunningError(newest.job, f"process {newest.pid} on {newest.host}", newest.started_at)
    stop, announcer = Stop(), Announcer(())
    mark = find_mark(place.resolve(), job.key) if isinstance(place, Path) else None
    stop.request("nothing is waited for in a dry run")
    around = surroundings(RememberedLedger(history, newest, mark), announcer, stop, job.name, Path.cwd())
    try:
        return foresee_run(job, bind(job, durable=True), options, around)
    finally:
        announcer.close()


def run_to_abandon(history: History, number: int) -> JobExecution:
    """A run as it may be given up. Raises LedgerError for an unknown number, NotResumableError for that of a replay."""
    named = history.run(number)
    if named is None:
        raise _no_such_run(number, history.address)
    if named.kind == "run":
        return named
    newest = newest_run(history, named.key)
    what = "is a replay" if named.kind == "replay" else "has ignored or reopened failures"
    raise NotResumableError(
        f"run {number} of job '{named.job}' {what}: what it has not done is still open, and nothing of it is given up",
        f"the newest run of its work is {newest.id}, {newest.status}" if newest else "",
        f"to give that up: batchwright abandon {newest.id}"
        if newest and newest.status in INTERRUPTED
        else f"see batchwright failures {newest.id if newest else number}",
    )


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
    is_script = newest.origin is not None and newest.origin.is_script
    again = "begin it anew with resumable(…, again=True)" if is_script else BEGIN_ANEW
    if newest.status is Status.ABANDONED:
        raise AbandonedError(f"{this} was abandoned", "it cannot be gone on with", again)
    if newest.status in (Status.COMPENSATION_LOST, Status.COMPENSATION_FAILED):
        finish = f"finish that: batchwright rollback {newest.id}"
        raise NotResumableError(f"{this} was rolled back in part", f"it is {newest.status}", finish)
    open_failures = next(history.failures(newest.id, open_only=True), None) is not None
    status = status_now(newest.status, open_failures=open_failures)
    raise NotResumableError(f"{this} is {status}", "there is nothing to go on with", again)


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
    if given is None and execution.origin is not None and execution.origin.is_script:
        raise OriginError(
            f"run {execution.id} was a loop, which is no job that could be built again",
            "",
            f"run its script again: {execution.origin}",
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


__all__ = [
    "AbandonResult",
    "Foreseen",
    "PruneResult",
    "RunOptions",
    "RunSettings",
    "StepLeft",
    "StepStanding",
    "StepTrial",
    "Trial",
    "abandon",
    "dry_run",
    "foresee",
    "interrupted_run",
    "newest_run",
    "prune",
    "prune_targets",
    "resume",
    "run_to_abandon",
    "standing",
]

"""Run a job: the composition root, the only place that picks defaults and puts the parts together."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from batchwright.engine.announce import Announcer
from batchwright.engine.run_job import never_begun, run_job
from batchwright.engine.set_up_run import RunOptions, Surroundings
from batchwright.engine.stop import Stop, pause, watched
from batchwright.engine.tell_time import SystemClock
from batchwright.job import Job, one_step_job
from batchwright.model.errors import (
    DeclarationError,
    JobFailedError,
    LedgerError,
    NotReplayableError,
    SourceError,
    StopRequestedError,
)
from batchwright.model.execution import JobExecution
from batchwright.model.failure import Failure
from batchwright.model.failure_filter import FailureFilter
from batchwright.model.policy import parse_limit
from batchwright.model.processor import ProcessorKind
from batchwright.model.replay_result import ReplayResult
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.model.timeouts import check_seconds
from batchwright.opening import another_ledger, asking, open_history, open_ledger, open_patiently
from batchwright.origins import load_function, rebuild
from batchwright.places import ledger_path, ledger_place, report_failures, report_place, without_password
from batchwright.ports import Ledger, Observer, Reader, Writer
from batchwright.ports.runners import Runner, is_apart
from batchwright.readers.iterables import is_one_shot, iterable_reader
from batchwright.step import BoundStep, Recipe, Step, publishing_writer
from batchwright.writers.functions import function_writer

if TYPE_CHECKING:
    from batchwright.engine.reread_items import Items

FROM_NEEDS_AGAIN = "say --from STEP --again (run(…, from_step=…, again=True) in Python)"


def run(  # noqa: PLR0913 - the public call: everything but the job is optional
    work: Job | Step[Any, Any],
    *,
    ledger: Ledger | str | Path | None = None,
    observers: Sequence[Observer] = (),
    check: bool = True,
    again: bool = False,
    yes: bool = False,
    limit: int | None = None,
    max_failures: int | str | None = None,
    stop: Stop | None = None,
    timeout_seconds: float | None = None,
    accept_input: bool = False,
    adopt: bool = False,
    from_step: str | None = None,
) -> JobResult:
    """Run a job, or a single step, to its end; after a crash or a stop, go on from the last committed chunk.

    A finished job with the same parameters does nothing; `again` begins it anew, and `yes` confirms that rows may be
    added a second time. `ledger` is a path, the address of a PostgreSQL database, or a Ledger; by default it is
    `.batchwright/ledger.db` near the job's source file. `limit` stops each step after so many items, to be gone on with
    later. `max_failures` replaces the limits of the steps that skip. `stop` lets other threads stop the run at a chunk
    boundary; `timeout_seconds`, instead of the job's own, does so after that time. What has changed since the work was
    begun is refused, unless `accept_input` goes on with the input as it is now, or `adopt` with the targets and the
    declaration as they are. With `from_step`, `again` begins only that step and those after it. One run, one thread.

    Raises JobFailedError, with the result on it, when a step fails (`check=False` returns the result instead), and
    AlreadyRunningError or another ConfigurationError when nothing could be started.
    """
    caller = sys._getframe(1)  # noqa: SLF001 - the ledger's place follows the caller's file
    job = _job_to_run(work, caller.f_globals.get("__name__"))
    _check_call(job, limit, max_failures, None if again else from_step, timeout_seconds)
    source = Path(job.origin.path if job.origin and job.origin.path else caller.f_code.co_filename)
    stop = stop or Stop()
    try:
        kept, close = open_patiently(ledger, source, partial(pause, SystemClock(), stop))
    except StopRequestedError:
        return never_begun(job, without_password(ledger_place(source, cast("str | Path | None", ledger))), stop)
    announcer = Announcer(observers)
    try:
        around = surroundings(kept, announcer, stop, job.name, source)
        options = RunOptions(again, yes, limit, max_failures, timeout_seconds, accept_input, adopt, from_step)
        result, error = run_job(job, _bound_to_run(job, kept), options, around)
    finally:
        announcer.close()
        if close:
            kept.close()
    if check and result.status in (Status.FAILED, Status.COMPENSATED, Status.COMPENSATION_FAILED):
        raise JobFailedError(result, error) from error
    return result


def replay(  # noqa: PLR0913 - the public call: everything but the run is optional
    run: int,
    *,
    ledger: Ledger | str | Path | None = None,
    step: str | None = None,
    where: Sequence[str] = (),
    job: Job | None = None,
    accept_changed: bool = False,
    yes: bool = False,
    stored: bool = False,
    ignore: str | None = None,
    reopen: bool = False,
    dry_run: bool = False,
    stop: Stop | None = None,
) -> ReplayResult:
    """Give the open failures of a run to their steps again, and close those whose items go in.

    Each goes in once into tables and files; a function that is killed in between is called with it again. `where`
    chooses failures by terms such as `error_type=ValueError` or `line=10..20`. Items are read again where they stand,
    and replayed if they are what failed then; with `accept_changed` also where they stand nearby now and else, with
    `yes`, what stands in their place; with `stored` what failed then, as far as it was kept. `ignore` closes the
    failures without trying them, and keeps this text as the reason; `reopen` opens ignored ones. With `dry_run` nothing
    is called or written.

    The job is rebuilt from where it came from; one that was built by hand has to be given. `stop` lets other threads
    stop it at a chunk boundary.

    Raises NotReplayableError where the job cannot be rebuilt, no step's target takes items later, or a later lap was
    begun, GroundChangedError for tables that are gone, and FilterError for terms that cannot be meant.
    """
    from batchwright.engine.replay_job import ReplayOptions, replay_job

    _check_ignore(ignore, reopen=reopen)
    items, accepted = _items(accept_changed=accept_changed, stored=stored), yes and (accept_changed or stored)
    options = ReplayOptions(step, FailureFilter(where), items, ignore, reopen, dry_run, accepted)
    stop = stop or Stop()
    try:
        kept, close = open_patiently(ledger, None, partial(pause, SystemClock(), stop))
    except StopRequestedError:
        return ReplayResult(0, (), stopped=stop.requested or "")
    try:
        with closing(open_history(kept)) as history:
            if (execution := history.run(run)) is None:
                raise LedgerError(f"there is no run {run} in {kept.address}", "", "see batchwright status")
        replayed = _job_of(execution, job)
        around = surroundings(kept, Announcer(()), stop, replayed.name, Path.cwd())
        return replay_job(replayed, bind(replayed, durable=kept.durable), execution, options, around)
    finally:
        if close:
            kept.close()


def bind(job: Job, *, durable: bool) -> dict[str, BoundStep]:
    """Each step with its source and target behind the ports, in listed order.

    Raises SourceError for an iterator that can be read only once, under a ledger that is durable, and DeclarationError
    for a function that its runner's processes cannot get at.
    """
    return {step.name: _bound(job, step, durable=durable) for step in job.steps}


def _bound(job: Job, step: Step[Any, Any], *, durable: bool) -> BoundStep:
    bound = BoundStep(step, _reader(step, durable=durable), _writer(step), _runner(step))
    if is_apart(bound.runner):
        from batchwright.recipes import recipe_for

        bound = replace(bound, recipe=recipe_for(job, step))
    if step.partitions is not None and is_apart(step.runner):
        from batchwright.recipes import job_again

        bound = replace(bound, again=_BoundAgain(job_again(job, step), step.name, bound.recipe))
    return bound


@dataclass(frozen=True, slots=True)
class _BoundAgain:
    """A step of a job that is built again, in another process."""

    job: Callable[[], Job]
    step: str
    recipe: Recipe | None

    def __call__(self) -> BoundStep:
        """Build it, under a ledger that is durable. Raises what its reader and writer raise when they are built."""
        step = next(step for step in self.job().steps if step.name == self.step)
        return BoundStep(step, _reader(step, durable=True), _writer(step), _runner(step), self.recipe)


def _job_to_run(work: Job | Step[Any, Any], caller: object) -> Job:
    if caller == "__mp_main__":
        raise DeclarationError(
            "run was called while a worker process loads the script",
            "the call stands at the top of it",
            'put it below if __name__ == "__main__":',
        )
    return one_step_job(work) if isinstance(work, Step) else work


def _check_call(
    job: Job, limit: int | None, max_failures: int | str | None, from_step: str | None, timeout_seconds: float | None
) -> None:
    check_seconds("timeout_seconds", timeout_seconds)
    if not isinstance(job, Job):
        raise DeclarationError(
            "run takes a Job or a Step", f"got {type(job).__name__}", "write run(Job.of(function, …))"
        )
    if limit is not None and limit < 1:
        raise DeclarationError("limit must be at least 1", f"got {limit}")
    if from_step is not None:
        raise DeclarationError(
            f"running again from step '{from_step}' on begins a new lap", "again is not given", FROM_NEEDS_AGAIN
        )
    parse_limit(max_failures)


def _bound_to_run(job: Job, ledger: Ledger) -> dict[str, BoundStep]:
    """As `bind`. Raises DeclarationError, too, if processes would have to share a ledger that lives in this one."""
    bound = bind(job, durable=ledger.durable)
    step = next((name for name, step in bound.items() if step.again is not None), None)
    if step is not None and not ledger.durable:
        raise DeclarationError(
            f"step '{step}': its partitions cannot be worked on in other processes",
            f"the ledger is in memory ({ledger.address})",
            "keep it in a file or a server, or write workers= instead of runner=",
        )
    return bound


def surroundings(ledger: Ledger, announcer: Announcer, stop: Stop, job: str, source: Path) -> Surroundings:
    """What a run of this job works with; `source` is the file whose neighbour the ledger is."""
    beside = report_place(ledger.address, source) if ledger.durable else None
    return Surroundings(
        ledger=ledger,
        clock=SystemClock(),
        stop=stop,
        announcer=announcer,
        failures=lambda run: _failures_of(ledger, run),
        report=lambda run: report_failures(beside, run, job, _failures_of(ledger, run)),
        watched=lambda run: watched(stop, asking(ledger, run)),
        ledgers=lambda: another_ledger(ledger),
    )


def _reader(step: Step[Any, Any], *, durable: bool) -> Reader[Any]:
    if isinstance(step.read, Reader):
        return step.read
    if durable and is_one_shot(step.read):
        raise SourceError(
            f"step '{step.name}': read is an iterator that can be read only once",
            f"got {type(step.read).__name__}; after a crash nothing could be read again",
            "pass the function that makes it, as in read=rows instead of read=rows()",
        )
    return iterable_reader(step.read, step.chunk_size, one_shot=not durable)


def _writer(step: Step[Any, Any]) -> Writer[Any]:
    if step.atomic:
        return publishing_writer(step)
    return step.write if isinstance(step.write, Writer) else function_writer(step.write)


def _runner(step: Step[Any, Any]) -> Runner | None:
    if step.process is None:
        return None
    if step.runner is not None or step.workers == 1 or step.partitions is not None:
        return step.runner
    if step.processor_kind in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR):
        from batchwright.runners.event_loop import EventLoop

        return EventLoop(step.workers)
    from batchwright.runners.threads import Threads

    return Threads(step.workers)


def _failures_of(ledger: Ledger, run: int) -> Iterator[Failure]:
    with closing(open_history(ledger)) as history:
        yield from history.failures(run)


def _check_ignore(reason: str | None, *, reopen: bool) -> None:
    if reason is not None and (reopen or not reason.strip()):
        raise DeclarationError(
            "replay: ignore is the reason why failures are closed",
            "got it together with reopen" if reopen else "got an empty text",
            'write ignore="test data, agreed with accounting"',
        )


def _items(*, accept_changed: bool, stored: bool) -> "Items":
    if accept_changed and stored:
        raise DeclarationError("replay: accept_changed and stored exclude each other", "got both", "choose one")
    from batchwright.engine.reread_items import Items

    return Items.STORED if stored else Items.CHANGED if accept_changed else Items.SAME


def _job_of(execution: JobExecution, given: Job | None) -> Job:
    job = given or rebuild(execution)
    if given is not None and given.key != execution.key:
        raise NotReplayableError(
            f"run {execution.id} is other work than {given!r}",
            f"it is job '{execution.job}' with the parameters {dict(execution.parameters)!r}",
            "give the same job with the same parameters",
        )
    return job


__all__ = [
    "ReplayResult",
    "Stop",
    "SystemClock",
    "bind",
    "ledger_path",
    "ledger_place",
    "load_function",
    "open_history",
    "open_ledger",
    "rebuild",
    "replay",
    "run",
    "surroundings",
]

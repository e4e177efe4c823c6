"""Run a job: the composition root, the only place that picks defaults and puts the parts together."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from batchwright.engine.announce import Announcer
from batchwright.engine.record_failure import describe_error
from batchwright.engine.replay_failures import Replayed, replay_failures
from batchwright.engine.run_job import RunOptions, Surroundings, never_begun, run_job
from batchwright.engine.run_step import RunContext
from batchwright.engine.stop import Stop, pause, watched
from batchwright.job import Job, one_step_job, ordered_steps
from batchwright.model.errors import (
    BatchwrightError,
    DeclarationError,
    FencedError,
    JobFailedError,
    LedgerError,
    NotReplayableError,
    SourceError,
    StopRequestedError,
)
from batchwright.model.execution import RunRequest
from batchwright.model.failure import Failure, FailureState
from batchwright.model.policy import parse_limit
from batchwright.model.processor import ProcessorKind
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.model.timeouts import check_seconds
from batchwright.opening import asking, open_history, open_ledger, open_patiently
from batchwright.origins import load_function, rebuild
from batchwright.places import ledger_path, ledger_place, report_failures, report_place, without_password
from batchwright.ports import History, Ledger, Observer, Reader, Writer
from batchwright.ports.runners import Runner
from batchwright.readers.iterables import is_one_shot, iterable_reader
from batchwright.step import BoundStep, Step, publishing_writer
from batchwright.writers.functions import function_writer


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did: its own run number (0 if there was nothing to do), and per step how many failures it closed.

    `stale` names steps that follow a replayed one: what they made does not hold the replayed items yet. `stopped` says
    why it ended before its time: what it has not tried is still open, and the next replay goes on with it.
    """

    run: int
    steps: tuple[Replayed, ...]
    refused: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    stopped: str = ""

    @property
    def replayed(self) -> int:
        """Failures closed."""
        return sum(step.replayed for step in self.steps)

    @property
    def still_open(self) -> int:
        """Failures tried and left open."""
        return sum(step.still_open for step in self.steps)


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
) -> JobResult:
    """Run a job, or a single step, to its end; after a crash or a stop, go on from the last committed chunk.

    A finished job with the same parameters does nothing; `again` begins it anew, and `yes` confirms that rows may be
    added a second time. `ledger` is a path, the address of a PostgreSQL database, or a Ledger; by default it is
    `.batchwright/ledger.db` near the job's source file. `limit` stops each step after so many items, to be gone on with
    later. `max_failures` replaces the limits of the steps that skip. `stop` lets other threads stop the run at a chunk
    boundary; `timeout_seconds`, instead of the job's own, does so after that time. What has changed since the work was
    begun is refused, unless `accept_input` goes on with the input as it is now, or `adopt` with the targets and the
    declaration as they are. One run belongs to one thread.

    Raises JobFailedError, with the result on it, when a step fails (`check=False` returns the result instead), and
    AlreadyRunningError or another ConfigurationError when nothing could be started.
    """
    caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001 - the ledger's place follows the caller's file
    job = one_step_job(work) if isinstance(work, Step) else work
    _check_call(job, limit, max_failures)
    check_seconds("timeout_seconds", timeout_seconds)
    source = Path(job.origin.path if job.origin and job.origin.path else caller)
    stop = stop or Stop()
    try:
        kept, close = open_patiently(ledger, source, partial(pause, SystemClock(), stop))
    except StopRequestedError:
        return never_begun(job, without_password(ledger_place(source, cast("str | Path | None", ledger))), stop)
    announcer = Announcer(observers)
    try:
        around = _surroundings(kept, announcer, stop, job.name, source)
        options = RunOptions(again, yes, limit, max_failures, timeout_seconds, accept_input, adopt)
        result, error = run_job(job, bind(job, durable=kept.durable), options, around)
    finally:
        announcer.close()
        if close:
            kept.close()
    if check and result.status is Status.FAILED:
        raise JobFailedError(result, error) from error
    return result


def replay(
    run: int,
    *,
    ledger: Ledger | str | Path | None = None,
    step: str | None = None,
    job: Job | None = None,
    stop: Stop | None = None,
) -> ReplayResult:
    """Give the open failures of a run to their steps again, each item once, into transactional targets.

    The job is rebuilt from where it came from; one that was built by hand has to be given. `stop` lets other threads
    stop it at a chunk boundary.

    Raises NotReplayableError where it cannot be rebuilt, or where no step's target is transactional.
    """
    stop = stop or Stop()
    try:
        kept, close = open_patiently(ledger, None, partial(pause, SystemClock(), stop))
    except StopRequestedError:
        return ReplayResult(0, (), stopped=stop.requested or "")
    try:
        with closing(open_history(kept)) as history:
            return _replay(run, kept, history, _Wanted(step, job, stop))
    finally:
        if close:
            kept.close()


def bind(job: Job, *, durable: bool) -> dict[str, BoundStep]:
    """Each step with its source and target behind the ports, in listed order.

    Raises SourceError for an iterator that can be read only once, under a ledger that is durable.
    """
    return {
        step.name: BoundStep(step, _reader(step, durable=durable), _writer(step), _runner(step)) for step in job.steps
    }


def _check_call(job: Job, limit: int | None, max_failures: int | str | None) -> None:
    if not isinstance(job, Job):
        raise DeclarationError(
            "run takes a Job or a Step", f"got {type(job).__name__}", "write run(Job.of(function, …))"
        )
    if limit is not None and limit < 1:
        raise DeclarationError("limit must be at least 1", f"got {limit}")
    parse_limit(max_failures)


def _surroundings(ledger: Ledger, announcer: Announcer, stop: Stop, job: str, source: Path) -> Surroundings:
    beside = report_place(ledger.address, source) if ledger.durable else None
    return Surroundings(
        ledger=ledger,
        clock=SystemClock(),
        stop=stop,
        announcer=announcer,
        failures=lambda run: _failures_of(ledger, run),
        report=lambda run: report_failures(beside, run, job, _failures_of(ledger, run)),
        watched=lambda run: watched(stop, asking(ledger, run)),
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
    if step.runner is not None or step.workers == 1:
        return step.runner
    if step.processor_kind in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR):
        from batchwright.runners.event_loop import EventLoop

        return EventLoop(step.workers)
    from batchwright.runners.threads import Threads

    return Threads(step.workers)


def _failures_of(ledger: Ledger, run: int) -> Iterator[Failure]:
    with closing(open_history(ledger)) as history:
        yield from history.failures(run)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the caller asks of a replay."""

    step: str | None
    job: Job | None
    stop: Stop


def _replay(run: int, ledger: Ledger, history: History, wanted: _Wanted) -> ReplayResult:
    only, given, stop = wanted.step, wanted.job, wanted.stop
    execution = history.run(run)
    if execution is None:
        raise LedgerError(f"there is no run {run} in {ledger.address}", "", "see batchwright status")
    job = given or rebuild(execution)
    if given is not None and given.key != execution.key:
        raise NotReplayableError(
            f"run {run} is other work than {given!r}",
            f"it is job '{execution.job}' with the parameters {dict(execution.parameters)!r}",
            "give the same job with the same parameters",
        )
    names = [step.name for step in ordered_steps(job)]
    if only is not None and only not in names:
        raise NotReplayableError(f"job '{job.name}' has no step '{only}'", f"its steps are {', '.join(names)}")
    waiting = {f.step for f in history.failures(run, step=only, open_only=True) if f.state is FailureState.OPEN}
    if not waiting:
        return ReplayResult(0, ())
    bound = bind(job, durable=ledger.durable)
    with ledger.own(execution.key) as ownership:
        request = RunRequest(execution.key, execution.parameters, tuple(names), execution.origin, "replay")
        begun = ledger.begin_run(request)
        ledger.move_run(begun.id, Status.RUNNING)
        announcer = Announcer(())
        context = RunContext(
            begun.id, execution.key, execution.lap, ledger, SystemClock(), stop, announcer, ownership, job.secrets
        )
        done, refused = [], []
        try:
            with stop.interrupting(ledger), watched(stop, asking(ledger, begun.id)):
                for name in names:
                    if name in waiting and stop.requested is None:
                        try:
                            done.append(replay_failures(bound[name], context))
                        except NotReplayableError as error:
                            refused.append(str(error))
        except BaseException as error:
            _close_broken_off(ledger, begun.id, error, job, stop)
            raise
        still_open = sum(step.still_open for step in done)
        ended = Status.COMPLETED_WITH_FAILURES if still_open or refused else Status.COMPLETED
        ledger.move_run(begun.id, Status.STOPPED if stop.requested else ended, stop.requested or "")
    if refused and not done:
        raise NotReplayableError(refused[0])
    changed = [step.step for step in done if step.replayed]
    return ReplayResult(begun.id, tuple(done), tuple(refused), _followers(job, changed), stop.requested or "")


def _close_broken_off(ledger: Ledger, run: int, error: BaseException, job: Job, stop: Stop) -> None:
    if isinstance(error, FencedError):
        return  # the run is somebody else's to close
    interrupted = isinstance(error, KeyboardInterrupt)
    text = stop.requested or "interrupted" if interrupted else describe_error(error, job.secrets)
    try:
        ledger.move_run(run, Status.STOPPED if interrupted else Status.FAILED, text)
    except BatchwrightError as second:
        error.add_note(f"and then: {second}")


def _followers(job: Job, changed: Sequence[str]) -> tuple[str, ...]:
    """The steps that come after these, directly or not."""
    before, reached = job.predecessors(), set(changed)
    for step in ordered_steps(job):
        if reached.intersection(before[step.name]):
            reached.add(step.name)
    return tuple(step.name for step in job.steps if step.name in reached and step.name not in changed)


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
]

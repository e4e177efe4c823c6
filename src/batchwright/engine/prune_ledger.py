"""Forget what is long over, so that the ledger does not grow for ever.

The one rule: what stays of a piece of work says the same as before: complete or abandoned, what it counted, what is
open. So of each instance the newest run stays, with the newest execution of each of its steps and the checkpoints of
its lap.

Only instances whose newest run is over for good are touched, each under its ownership, each in one transaction of the
ledger, its failure files before it. A process that is killed leaves instances pruned whole or not at all, and at most a
failure file less than the ledger could still explain. The next `prune` does the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import AlreadyRunningError
from batchwright.model.execution import JobExecution
from batchwright.model.failure import FailureState
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.model.status import Status
from batchwright.ports import History
from batchwright.ports.pruning import ForgetfulLedger

PAGE = 100

OVER = frozenset({Status.COMPLETED, Status.COMPLETED_WITH_FAILURES, Status.ABANDONED, Status.COMPENSATED})
"""An instance whose newest run has one of these is never gone on with."""


@dataclass(frozen=True, slots=True)
class PruneRule:
    """Which runs may go: those beyond the `keep` newest of their job, and those that ended `before`; both, if both.

    `with_failures` lets failures go that are still open.
    """

    keep: int | None = None
    before: datetime | None = None
    with_failures: bool = False


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What was forgotten, or would be, of how many instances. `busy` names work that was under way and left alone.

    `problems` say what could not be done.
    """

    forgotten: Forgotten = field(default_factory=Forgotten)
    instances: int = 0
    files: int = 0
    busy: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def prune_ledger(
    history: History,
    ledger: ForgetfulLedger | None,
    rule: PruneRule,
    remove_files: Callable[[Sequence[JobExecution]], int],
    job: str | None = None,
) -> PruneResult:
    """Prune every instance, or those of one job. Without a ledger nothing is changed: the result is what would be."""
    result = PruneResult()
    for name in history.jobs() if job is None else [job]:
        oldest_kept = _oldest_kept(history, name, rule.keep)
        for key in instances_of(history, name):
            result = _prune_instance(_Pruning(history, ledger, rule, remove_files, oldest_kept), key, result)
    return result


@dataclass(frozen=True, slots=True)
class _Pruning:
    """What the pruning of one job's instances needs. Of runs from `oldest_kept` on none goes."""

    history: History
    ledger: ForgetfulLedger | None
    rule: PruneRule
    remove_files: Callable[[Sequence[JobExecution]], int]
    oldest_kept: int | None

    def may_go(self, run: JobExecution) -> bool:
        """Whether a run is old enough."""
        beyond = self.oldest_kept is None or run.id < self.oldest_kept
        before = self.rule.before
        return beyond and (before is None or (run.ended_at is not None and run.ended_at < before))


def _prune_instance(pruning: _Pruning, key: InstanceKey, result: PruneResult) -> PruneResult:
    plan = _plan(pruning, key)  # looked at without owning it: most have nothing to forget
    if plan is None:
        return result
    if pruning.ledger is None:
        return _added(result, plan.estimate, pruning.remove_files(plan.files))
    try:
        with pruning.ledger.own(key):
            plan = _plan(pruning, key)
            if plan is None:
                return result
            files = pruning.remove_files(plan.files)
            return _added(result, pruning.ledger.forget(key, plan.what), files)
    except AlreadyRunningError:
        return replace(result, busy=(*result.busy, key.job))


def _added(result: PruneResult, forgotten: Forgotten, files: int) -> PruneResult:
    total = result.forgotten + forgotten
    return replace(result, forgotten=total, instances=result.instances + 1, files=result.files + files)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What goes of an instance; how much that is, without checkpoints; the runs whose failure files go with it."""

    what: Forgetting
    estimate: Forgotten
    files: Sequence[JobExecution]


def _plan(pruning: _Pruning, key: InstanceKey) -> _Plan | None:
    """None: nothing goes, or the instance is not over."""
    history, rule = pruning.history, pruning.rule
    runs = list(_runs(history, key))
    newest = next((run for run in runs if run.kind == "run"), None)
    if newest is None or newest.status not in OVER or any(map(_is_unfinished, runs)):
        return None
    old = _old_laps(pruning, runs)
    open_laps = {lap for lap, run in old.items() if not rule.with_failures and _failures(history, run, still_open=True)}
    kept = {newest.id} | _runs_of_last_steps(history, runs, newest)
    held = open_laps - {newest.lap}
    going = [run for run in runs if pruning.may_go(run) and run.id not in kept and run.lap not in held]
    removable = None if rule.with_failures else False
    failures = sum(_failures(history, run, still_open=removable) for run in old.values())
    if not (going or failures):
        return None
    gone = {run.id for run in going}
    below = min(run.lap for run in runs if run.id not in gone)
    files = [run for run in runs if run.lap not in open_laps and (run.id in gone or run.lap in old)]
    what = Forgetting(tuple(sorted(gone)), tuple(sorted(old)), below, rule.with_failures)
    return _Plan(what, Forgotten(len(gone), failures), files)


def _is_unfinished(run: JobExecution) -> bool:
    return run.status.live or run.status in (Status.LOST, Status.COMPENSATION_LOST)


def _old_laps(pruning: _Pruning, runs: Sequence[JobExecution]) -> dict[int, JobExecution]:
    """Laps of which every run may go, each with one of its runs."""
    young = {run.lap for run in runs if not pruning.may_go(run)}
    return {run.lap: run for run in runs if run.lap not in young}


def _runs_of_last_steps(history: History, runs: Sequence[JobExecution], newest: JobExecution) -> set[int]:
    """The runs of the newest executions of the steps of the last lap: they say what its targets have to show."""
    last = next(run for run in runs if run.lap == newest.lap)
    return {step.run for run in (last, newest) for step in history.steps(run.id)}


def _failures(history: History, run: JobExecution, *, still_open: bool | None) -> int:
    """How many failures a lap has: those that are open, those that are not, or, for None, all."""
    found = history.failures(run.id, open_only=still_open is True)
    return sum(1 for failure in found if still_open is not False or failure.state is not FailureState.OPEN)


def _oldest_kept(history: History, job: str, keep: int | None) -> int | None:
    """The oldest of the newest runs that stay; None: no run stays for being new."""
    newest = history.runs(job=job, limit=keep) if keep else []
    return newest[-1].id if newest else None


def instances_of(history: History, job: str) -> Iterator[InstanceKey]:
    """The instances of a job, read a page at a time."""
    before: int | None = None
    while page := history.instances(job=job, before=before, limit=PAGE):
        before = page[-1].run.id
        yield from (each.run.key for each in page)


def _runs(history: History, key: InstanceKey) -> Iterator[JobExecution]:
    before: int | None = None
    while page := history.runs(key=key, before=before, limit=PAGE):
        yield from page
        before = page[-1].id

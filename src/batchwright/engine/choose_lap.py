"""Which lap of an instance a run works in, and whether it begins it, goes on with it or finds it complete.

The one rule: what the targets have seen finished is never taken for new. Where this ledger knows nothing of it (it is
new, was lost, or was restored from a backup), work that has parameters is complete; work without them, which begins
anew each time it was finished, could be either, and a person says which.

  the ledger's last run     the targets' highest lap     a job with parameters      one without
  none, or an older lap     unfinished                   goes on there              goes on there
  none, or an older lap     finished                     is complete                refused: --adopt or --again
  unfinished, this lap      any                          goes on                    goes on
  complete, this lap        finished                     is complete                begins the next lap
  with --again              any                          begins behind it           begins behind it
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from batchwright.engine.recall_checkpoint import ask, ask_for
from batchwright.engine.restart import Choices
from batchwright.job import Job
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import ADOPT, BEGIN_AGAIN, AbandonedError, GroundChangedError, RolledBackError
from batchwright.model.execution import JobExecution
from batchwright.model.guarantee import Guarantee
from batchwright.model.status import Status
from batchwright.ports import Clock, Ledger, Scope, Settles
from batchwright.ports.call_marks import CallMark
from batchwright.step import BoundStep

ROLLED_BACK = frozenset({Status.COMPENSATING, Status.COMPENSATED, Status.COMPENSATION_FAILED})
"""What is not gone on with: its effects are undone, or some are."""


@dataclass(frozen=True, slots=True)
class Lap:
    """The lap to work in: `begins` it, or goes on with it; `complete` as the ledger says; `number` at the least.

    `unknown`: others know this lap, and the ledger does not. `behind` is a lap that is so, and is left behind.
    """

    number: int
    begins: bool
    complete: bool = False
    unknown: bool = False
    behind: int = 0


def choose_lap(job: Job, last: JobExecution | None, known_to: "Surveyed", choices: Choices, *, again: bool) -> Lap:
    """The lap for a run. Raises AbandonedError, RolledBackError, GroundChangedError for a lap of unknown standing."""
    if again:
        highest = known_to.laps()[0]
        return Lap(highest + 1, begins=True, behind=0 if last is not None and highest <= last.lap else highest)
    if last is not None and last.status is Status.ABANDONED:
        raise AbandonedError(
            f"job '{job.name}' was abandoned with these parameters",
            f"run {last.id}; {known_to.left_by(last)}",
            BEGIN_AGAIN,
        )
    if last is not None and last.status in ROLLED_BACK:
        raise _rolled_back(job, last)
    if last is not None and not last.status.complete and not choices.adopt:
        return Lap(last.lap, begins=False)
    highest, finished = known_to.laps()
    if last is not None and highest <= last.lap:
        complete = last.status.complete
        begins = complete and not job.identifiable
        return Lap(last.lap + 1, begins=True) if begins else Lap(last.lap, begins=False, complete=complete)
    if finished and not job.identifiable and not choices.adopt:
        raise _unknown_and_finished(job, last, highest, known_to.called_again())
    return Lap(max(1, highest), begins=True, unknown=highest > 0)


def _rolled_back(job: Job, last: JobExecution) -> RolledBackError:
    whole = last.status is Status.COMPENSATED
    return RolledBackError(
        f"job '{job.name}' was rolled back with these parameters",
        f"run {last.id}; what it did outside is undone" if whole else f"run {last.id}, in part: it is {last.status}",
        BEGIN_AGAIN if whole else f"finish that: batchwright rollback {last.id}; then {BEGIN_AGAIN}",
    )


def _unknown_and_finished(
    job: Job, last: JobExecution | None, highest: int, called_again: Sequence[str]
) -> GroundChangedError:
    but = f", but for {', '.join(called_again)}, which is called for all of it again" if called_again else ""
    seen = "knows nothing of it" if last is None else f"has seen lap {last.lap}"
    return GroundChangedError(
        f"job '{job.name}' is finished in its targets, and this ledger has not seen it",
        f"the targets show lap {highest} finished, the ledger {seen}: it is new, or was restored",
        f"{ADOPT}: it is complete{but}; or {BEGIN_AGAIN}; "
        "with a parameter that says which work it is, this is not asked",
    )


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The targets of a job, asked only if it comes to that, and waited for while they cannot be reached."""

    bound: Mapping[str, BoundStep]
    key: InstanceKey
    ledger: Ledger
    clock: Clock
    pause: Callable[[float], None]
    mark: CallMark | None = None

    def laps(self) -> tuple[int, bool]:
        """The highest lap that transactional targets, or a mark, know of; whether it is finished in all targets."""
        laps: dict[str, int] = {}
        for name, step in self.bound.items():
            with closing(step.writer.open(Scope(self.key.step(1, name), self.ledger, self.clock))) as sink:
                if isinstance(sink, Settles):
                    laps[name] = ask_for(sink, sink.last_lap, step.step.write_retry, self.pause)
        highest = max(laps.values(), default=0)
        if self.mark is not None and self.mark.lap > highest:
            return self.mark.lap, False
        return highest, highest > 0 and all(self._finished(name, highest) for name in laps)

    def called_again(self) -> list[str]:
        """The steps that a ledger without memory of them runs again, and that may then do twice what they did."""
        twice = Guarantee.AT_LEAST_ONCE
        return [step.step.target_address for step in self.bound.values() if step.writer.guarantee is twice]

    def left_by(self, run: JobExecution) -> str:
        """What a run that was given up has left where others see it, in words."""
        left = []
        for name, step in self.bound.items():
            last = self.ledger.last_step(run.key.step(run.lap, name))
            seen = last is not None and (last.status.complete or not step.hides_until_finished)
            if last is not None and seen and last.counts.outputs:
                left.append(step.step.target_address)
        return f"clean up first what it wrote to {', '.join(left)}" if left else "nothing of it is to be seen"

    def _finished(self, name: str, lap: int) -> bool:
        scope = Scope(self.key.step(lap, name), self.ledger, self.clock)
        with closing(self.bound[name].writer.open(scope)) as sink:
            checkpoint = ask(sink, self.bound[name].step.write_retry, self.pause)
        return checkpoint is not None and checkpoint.finished

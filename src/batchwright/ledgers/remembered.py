"""A ledger in memory that knows of one piece of work what a history knows: for whoever asks what a run would do.

The one rule: what is written to it reaches nobody.
"""

from dataclasses import replace

from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.effect import STANDING, Effect, EffectState
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.status import Status
from batchwright.ports import History
from batchwright.ports.call_marks import CallMark

_STORED = {Status.LOST: Status.RUNNING, Status.COMPENSATION_LOST: Status.COMPENSATING}
"""What stands in a ledger where readers see that the owner is gone."""


class RememberedLedger(MemoryLedger):
    """The newest run of an instance, its steps and their checkpoints; of effects, only that there are some left."""

    def __init__(self, history: History | None, newest: JobExecution | None, mark: CallMark | None = None) -> None:
        """Read what there is to know; `mark` is what stands beside the ledger."""
        super().__init__()
        self._mark = mark
        if history is None or newest is None:
            return
        key = newest.key
        self._laps[key] = newest.lap
        self._keep_run(replace(newest, status=_STORED.get(newest.status, newest.status)))
        for step in history.steps(newest.id):
            for known in (*history.partitions(newest.id, step.key.step), step):
                self._remember(known, history)
        self._remember_effects(key, newest, history)

    def mark_calls(self, run: JobExecution) -> None:
        """Nothing is left anywhere."""

    def marked_calls(self, key: InstanceKey) -> CallMark | None:  # noqa: ARG002 - the port gives it: it is of one instance
        """What stands beside the ledger."""
        return self._mark

    def _remember(self, step: StepExecution, history: History) -> None:
        self._steps[step.id] = replace(step, status=_STORED.get(step.status, step.status))
        if (checkpoint := history.load_checkpoint(step.key)) is not None:
            self._checkpoints[step.key] = checkpoint

    def _remember_effects(self, key: InstanceKey, newest: JobExecution, history: History) -> None:
        for count in history.effect_counts(newest.id):
            if count.count and count.state in STANDING:
                self.save_effects(key.step(newest.lap, count.step), [Effect(0, 0, "", EffectState.DONE)])

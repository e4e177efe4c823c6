"""A ledger in memory that knows of one piece of work what a history knows: for whoever asks what a run would do.

The one rule: what is written to it reaches nobody.
"""

from dataclasses import replace

from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.effect import Effect, EffectState
from batchwright.model.execution import JobExecution, StepExecution
from batchwright.model.status import Status
from batchwright.ports import History

_STORED = {Status.LOST: Status.RUNNING, Status.COMPENSATION_LOST: Status.COMPENSATING}
"""What stands in a ledger where readers see that the owner is gone."""

_LEFT = frozenset({EffectState.DONE, EffectState.INTENT, EffectState.COMPENSATING})


class RememberedLedger(MemoryLedger):
    """The newest run of an instance, its steps and their checkpoints; of effects, only that there are some left."""

    def __init__(self, history: History | None, newest: JobExecution | None) -> None:
        """Read what there is to know."""
        super().__init__()
        if history is None or newest is None:
            return
        key = newest.key
        self._laps[key] = newest.lap
        self._keep_run(replace(newest, status=_STORED.get(newest.status, newest.status)))
        for step in history.steps(newest.id):
            for known in (*history.partitions(newest.id, step.key.step), step):
                self._remember(known, history)
        self._remember_effects(key, newest, history)

    def _remember(self, step: StepExecution, history: History) -> None:
        self._steps[step.id] = replace(step, status=_STORED.get(step.status, step.status))
        if (checkpoint := history.load_checkpoint(step.key)) is not None:
            self._checkpoints[step.key] = checkpoint

    def _remember_effects(self, key: InstanceKey, newest: JobExecution, history: History) -> None:
        for count in history.effect_counts(newest.id):
            if count.count and count.state in _LEFT:
                self.save_effects(key.step(newest.lap, count.step), [Effect(0, 0, "", EffectState.DONE)])

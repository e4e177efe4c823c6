"""The readers' side of the durable record.

The one rule: whoever reads it writes nothing, and may read while others are at work.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution, StepExecution
from batchwright.model.failure import Failure
from batchwright.ports.effects import EffectHistory


class History(EffectHistory, Protocol):
    """The readers' side of the durable record: for the command line, alarms and dashboards. Writes nothing."""

    @property
    def address(self) -> str:
        """Where it is kept, for people."""
        ...

    def jobs(self) -> list[str]:
        """The names of all jobs, sorted."""
        ...

    def instances(self, *, job: str | None = None, before: int | None = None, limit: int = 20) -> list[InstanceSummary]:
        """Instances by their newest execution of kind `run`, newest first; with `before`, the page behind that run."""
        ...

    def runs(
        self,
        *,
        job: str | None = None,
        key: InstanceKey | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> list[JobExecution]:
        """Executions, of a job or an instance, newest first; with `before`, the page behind that run.

        One whose owner is gone reads as LOST.
        """
        ...

    def run(self, run: int) -> JobExecution | None:
        """One execution."""
        ...

    def steps(self, run: int) -> list[StepExecution]:
        """The newest execution of kind `run` of each step of its lap up to this run, in order; for a replay its own.

        A step in partitions is listed as a whole.
        """
        ...

    def partitions(self, run: int, step: str) -> list[StepExecution]:
        """The newest execution of each partition of a step of this run's lap, up to it; those that have one."""
        ...

    def failures(self, run: int, *, step: str | None = None, open_only: bool = False) -> Iterator[Failure]:
        """The failures of this run's lap, by step and ordinal."""
        ...

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint that this ledger itself stored under this key."""
        ...

    def failure_groups(self, run: int) -> list[FailureGroup]:
        """The same, grouped by cause, most frequent first."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """Facts about the record itself: schema version, sizes, integrity; for `doctor`."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...

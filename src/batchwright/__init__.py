"""Batch processing: kill it anywhere, run it again, every good row is in exactly once.

The one rule: a module is loaded when a name of it is first used, so that a script pays for what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchwright.compensation import rollback
    from batchwright.flow.distinct import distinct
    from batchwright.job import Job
    from batchwright.launch import Stop, replay, run
    from batchwright.loops import Loop, resumable
    from batchwright.model.drop import DROP, Drop, NonIdentifying, Secret
    from batchwright.model.effect import Effect
    from batchwright.model.errors import (
        AlreadyRunningError,
        BatchwrightError,
        ConfigurationError,
        FailureLimitError,
        ItemsFailed,
        JobFailedError,
        NotPublishedError,
        WorkerDiedError,
    )
    from batchwright.model.failure import Failure
    from batchwright.model.idempotency import once
    from batchwright.model.policy import Retry, Skip
    from batchwright.model.publication import Unpublished
    from batchwright.model.replay_result import ReplayResult
    from batchwright.model.result import JobResult, RollbackResult, StepResult
    from batchwright.model.status import Status
    from batchwright.operations import AbandonResult, PruneResult, Trial, abandon, dry_run, prune, prune_targets, resume
    from batchwright.step import Step
    from batchwright.writers.functions import each

__all__ = [
    "DROP",
    "AbandonResult",
    "AlreadyRunningError",
    "BatchwrightError",
    "ConfigurationError",
    "Drop",
    "Effect",
    "Failure",
    "FailureLimitError",
    "ItemsFailed",
    "Job",
    "JobFailedError",
    "JobResult",
    "Loop",
    "NonIdentifying",
    "NotPublishedError",
    "PruneResult",
    "ReplayResult",
    "Retry",
    "RollbackResult",
    "Secret",
    "Skip",
    "Status",
    "Step",
    "StepResult",
    "Stop",
    "Trial",
    "Unpublished",
    "WorkerDiedError",
    "abandon",
    "distinct",
    "dry_run",
    "each",
    "once",
    "prune",
    "prune_targets",
    "replay",
    "resumable",
    "resume",
    "rollback",
    "run",
]

_MODULES = {
    "AbandonResult": "operations",
    "AlreadyRunningError": "model.errors",
    "BatchwrightError": "model.errors",
    "ConfigurationError": "model.errors",
    "DROP": "model.drop",
    "Drop": "model.drop",
    "Effect": "model.effect",
    "Failure": "model.failure",
    "FailureLimitError": "model.errors",
    "ItemsFailed": "model.errors",
    "Job": "job",
    "JobFailedError": "model.errors",
    "JobResult": "model.result",
    "Loop": "loops",
    "NonIdentifying": "model.drop",
    "NotPublishedError": "model.errors",
    "PruneResult": "operations",
    "ReplayResult": "model.replay_result",
    "Retry": "model.policy",
    "RollbackResult": "model.result",
    "Secret": "model.drop",
    "Skip": "model.policy",
    "Status": "model.status",
    "Step": "step",
    "StepResult": "model.result",
    "Stop": "launch",
    "Trial": "operations",
    "Unpublished": "model.publication",
    "WorkerDiedError": "model.errors",
    "abandon": "operations",
    "distinct": "flow.distinct",
    "dry_run": "operations",
    "each": "writers.functions",
    "once": "model.idempotency",
    "prune": "operations",
    "prune_targets": "operations",
    "replay": "launch",
    "resumable": "loops",
    "resume": "operations",
    "rollback": "compensation",
    "run": "launch",
}


def __getattr__(name: str) -> Any:
    """The public name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})

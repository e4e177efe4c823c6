"""Batch processing: kill it anywhere, run it again, every good row is in exactly once."""

from batchwright.compensation import rollback
from batchwright.flow.distinct import distinct
from batchwright.job import Job
from batchwright.launch import ReplayResult, Stop, replay, run
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
from batchwright.model.result import JobResult, RollbackResult, StepResult
from batchwright.model.status import Status
from batchwright.operations import AbandonResult, PruneResult, Trial, abandon, dry_run, prune, prune_targets, resume
from batchwright.resumable import Loop, resumable
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

"""The statuses of an execution and the only transitions between them.

Every change of status is a compare-and-set that this table allows. LOST and COMPENSATION_LOST are derived by
readers, never stored.
"""

from enum import StrEnum


class Status(StrEnum):
    """The status of a job's or a step's execution."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_FAILURES = "COMPLETED_WITH_FAILURES"
    ABANDONED = "ABANDONED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"
    LOST = "LOST"
    COMPENSATION_LOST = "COMPENSATION_LOST"

    @property
    def complete(self) -> bool:
        """Whether the work was done to its end, with or without failures."""
        return self in (Status.COMPLETED, Status.COMPLETED_WITH_FAILURES)

    @property
    def live(self) -> bool:
        """Whether a process should be at work on it."""
        return self in (Status.STARTING, Status.RUNNING, Status.STOPPING, Status.COMPENSATING)


_ENDS = frozenset({Status.STOPPED, Status.FAILED, Status.COMPLETED, Status.COMPLETED_WITH_FAILURES})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.STARTING: frozenset({Status.RUNNING, Status.STOPPED, Status.FAILED}),
    Status.RUNNING: _ENDS | {Status.STOPPING},
    Status.STOPPING: _ENDS,
    Status.STOPPED: frozenset({Status.ABANDONED, Status.COMPENSATING}),
    Status.FAILED: frozenset({Status.ABANDONED, Status.COMPENSATING}),
    Status.COMPLETED: frozenset({Status.COMPENSATING}),
    Status.COMPLETED_WITH_FAILURES: frozenset({Status.COMPENSATING}),
    Status.COMPENSATING: frozenset({Status.COMPENSATED, Status.COMPENSATION_FAILED}),
    Status.COMPENSATION_FAILED: frozenset({Status.COMPENSATING, Status.ABANDONED}),
    Status.COMPENSATED: frozenset(),
    Status.ABANDONED: frozenset(),
}


def status_now(status: Status, *, open_failures: bool) -> Status:
    """What a lap's status has become since: complete without failures once each is replayed or ignored."""
    return Status.COMPLETED if status is Status.COMPLETED_WITH_FAILURES and not open_failures else status


def without_owner(status: Status) -> Status:
    """What a live status reads as once its owner is gone. A rollback is not gone on with by a run."""
    return Status.COMPENSATION_LOST if status is Status.COMPENSATING else Status.LOST


def sources_of(target: Status) -> frozenset[Status]:
    """The statuses from which `target` may be reached."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)

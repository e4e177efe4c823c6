"""What every ledger does alike when a status changes: which changes are refused, and how the dead are closed.

The one rule: a change that touches no row is explained, never passed over.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime

from batchwright.model.errors import BatchwrightError, FencedError, LedgerError
from batchwright.model.execution import OWNER_GONE, JobExecution
from batchwright.model.status import Status

LIVE = tuple(status for status in Status if status.live)
"""The statuses of an execution that a process should be at work on."""

_OF_THE_OWNER = frozenset(
    {
        Status.RUNNING,
        Status.STOPPING,
        Status.STOPPED,
        Status.FAILED,
        Status.COMPLETED,
        Status.COMPLETED_WITH_FAILURES,
    }
)


def refused(what: str, number: int, found: Status | None, wanted: Status) -> BatchwrightError:
    """Why execution `number` (of a `what`: "run", "step execution") could not become `wanted`.

    A FencedError if somebody else has closed an execution that the caller thinks it is still at work on.
    """
    if found is None:
        return LedgerError(f"there is no {what} {number} in this ledger", "", "check the number")
    if wanted in _OF_THE_OWNER and not found.live:
        return FencedError(
            f"{what} {number} is already closed as {found}",
            f"it was to become {wanted}; another process closed it, or it was closed twice",
            "look who else runs this job with this ledger",
        )
    return LedgerError(f"{what} {number} is {found} and cannot become {wanted}")


def closed_as(status: Status) -> Status:
    """What a live execution becomes whose owner is gone."""
    return Status.COMPENSATION_FAILED if status is Status.COMPENSATING else Status.FAILED


def owner_gone(pid: int, host: str) -> str:
    """The error of an execution that its owner never closed."""
    return f"{OWNER_GONE} (pid {pid}, host {host})"


def not_owned(job: str) -> LedgerError:
    """The refusal of a `begin_run` by somebody who does not own the instance."""
    return LedgerError(
        f"job '{job}': a run can only be begun by the owner of its instance",
        "this ledger object does not own it",
        "call begin_run inside `with ledger.own(key):`",
    )


def stop_request(who: str) -> str:
    """What is stored of a request to stop: who made it, and when."""
    return f"{who} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def this_host() -> str:
    """The name under which this machine stands in the ledger."""
    return os.uname().nodename


def seen(run: JobExecution) -> JobExecution:
    """The execution as readers see it: one at work that was asked to stop is STOPPING, which nobody has to write."""
    asked = run.stop_requested and run.status in (Status.STARTING, Status.RUNNING)
    return replace(run, status=Status.STOPPING) if asked else run

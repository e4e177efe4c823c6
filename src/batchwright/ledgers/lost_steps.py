"""Executions of steps that were closed for an owner that is gone: the only closed ones of which more is noted.

The one rule: only who owns the work now knows that nobody is at it any more.
"""

from collections.abc import Collection

from batchwright.ledgers.transitions import not_owned
from batchwright.model.checkpoint import InstanceKey, StepKey
from batchwright.model.errors import LedgerError
from batchwright.model.execution import OWNER_GONE, StepExecution
from batchwright.model.status import Status


def require_lost(found: StepExecution | None, number: int, owned: Collection[InstanceKey | StepKey]) -> StepExecution:
    """The execution of a step. Raises LedgerError unless it was closed for a dead owner, and its instance is owned."""
    if found is None or not (found.status is Status.FAILED and found.error.startswith(OWNER_GONE)):
        raise LedgerError(
            f"step execution {number} was not closed for an owner that is gone",
            "there is none" if found is None else f"it is {found.status}",
        )
    if InstanceKey(found.key.job, found.key.parameters_hash) not in owned:
        raise not_owned(found.key.job)
    return found

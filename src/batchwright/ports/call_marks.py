"""What is left beside a ledger of runs that call outside.

The one rule: it is durable before the first call, and it is not in the ledger: whoever loses that, or restores an older
one, still finds it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from batchwright.model.checkpoint import InstanceKey
from batchwright.model.execution import JobExecution


@dataclass(frozen=True, slots=True)
class CallMark:
    """The newest run of an instance that has called outside: its lap, and when it started."""

    lap: int
    started_at: datetime


@runtime_checkable
class MarksCalls(Protocol):
    """A ledger that leaves such marks."""

    def mark_calls(self, run: JobExecution) -> None:
        """Leave a mark of this run, durably, in the place of that of an earlier one. Raises LedgerError."""
        ...

    def marked_calls(self, key: InstanceKey) -> CallMark | None:
        """The mark of this instance. Never raises: one that cannot be read says nothing."""
        ...

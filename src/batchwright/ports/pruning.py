"""The ports of pruning: what a ledger and a target can forget.

The one rule: each call is one transaction; whoever is killed in it has forgotten nothing.
"""

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from batchwright.model.checkpoint import InstanceKey
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.ports import Ownership


@runtime_checkable
class ForgetfulLedger(Protocol):
    """A ledger that can forget what is over. All ledgers of ours can."""

    def own(self, key: InstanceKey) -> AbstractContextManager[Ownership]:
        """Own this instance while the context lasts. Raises AlreadyRunningError."""
        ...

    def forget(self, key: InstanceKey, what: Forgetting) -> Forgotten:
        """Forget this of an instance. Only for the owner: raises LedgerError for anybody else."""
        ...

    def shrink(self) -> str:
        """Give the space of what was forgotten back, so that it is really gone; why that was not done, or nothing."""
        ...


@runtime_checkable
class ForgetsLaps(Protocol):
    """A sink whose target keeps rows about earlier laps of its step."""

    def forget_laps(self, *, with_open: bool, pretend: bool) -> Forgotten:
        """Delete what the target keeps about laps before this one: checkpoints and fences, failures that are not open.

        The newest lap that the target knows always stays: it is how a ledger that is new learns what was done. With
        `pretend` nothing is deleted.
        """
        ...

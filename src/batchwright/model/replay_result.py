"""What a replay leaves in the caller's hands: what became of the failures of each step."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a step's failures. `changed` of those still open were not tried: another item stands there now.

    `unaccepted` are those of them that would be tried, with a yes. `reasons` says of the first few that stay open,
    and of all unaccepted ones, why they do. With `dry_run` nothing was done: `replayed` would be tried.
    """

    step: str
    replayed: int = 0
    still_open: int = 0
    changed: int = 0
    ignored: int = 0
    reopened: int = 0
    reasons: tuple[str, ...] = ()
    unaccepted: int = 0


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did: its own run number (0 if there was nothing to do), and what became of each step's failures.

    `stale` names steps that follow a replayed one: what they made does not hold the replayed items yet, and they are
    run again `from_step` on, the first of them. `stopped` says why it ended before all were tried; empty: it did not.
    """

    run: int
    steps: tuple[Replayed, ...] = ()
    refused: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    stopped: str = ""
    warnings: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def replayed(self) -> int:
        """Failures closed, since their items went in."""
        return sum(step.replayed for step in self.steps)

    @property
    def still_open(self) -> int:
        """Failures tried, or looked at, and left open."""
        return sum(step.still_open for step in self.steps)

    @property
    def ignored(self) -> int:
        """Failures closed without being tried."""
        return sum(step.ignored for step in self.steps)

    @property
    def reopened(self) -> int:
        """Ignored failures that are open again."""
        return sum(step.reopened for step in self.steps)

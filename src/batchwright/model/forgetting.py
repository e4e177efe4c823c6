"""What is to be forgotten of an instance that is over, and how much that was.

The one rule: an instance is never forgotten whole; what says that it is over stays.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What a ledger forgets of one instance: these runs with their steps; the failures of these laps that are not open,
    or all of them `with_open`; and checkpoints of laps before one, but for each step's newest.
    """  # noqa: D205 - one sentence

    runs: tuple[int, ...] = ()
    failure_laps: tuple[int, ...] = ()
    checkpoints_below: int = 0
    with_open: bool = False


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many records were forgotten."""

    executions: int = 0
    failures: int = 0
    checkpoints: int = 0

    def __add__(self, other: "Forgotten") -> "Forgotten":
        """The sum, field by field."""
        return Forgotten(
            self.executions + other.executions, self.failures + other.failures, self.checkpoints + other.checkpoints
        )

"""A clock for processes that are killed: it moves a step each time that it is looked at, and when somebody spends time.

The one rule: how often a job passes a fault point must not depend on how fast the machine is.
"""

from datetime import UTC, datetime

from batchwright import launch

STEP_SECONDS = 0.001
"""What each look takes; a chunk of a step looks a handful of times."""


class SteppingClock:
    """Belongs to the thread that runs the job; processors on other threads spend while that one waits for them."""

    def __init__(self, start: float = 0.0) -> None:
        self._seconds = start
        self.stands_still = False

    def now(self) -> datetime:
        """The machine's wall clock: what it says is compared nowhere."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """A step later than the last time."""
        self.spend(STEP_SECONDS)
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Wait for nobody."""
        self.spend(seconds)

    def spend(self, seconds: float) -> None:
        """Let time pass."""
        if not self.stands_still:
            self._seconds += seconds


CLOCK = SteppingClock()
"""One a process: a child that is forked has it as it was before anything ran."""


def run_by_it() -> None:
    """From now on jobs run by this clock, in this process."""
    launch.SystemClock = lambda: CLOCK

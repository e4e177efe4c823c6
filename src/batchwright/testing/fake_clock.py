"""A clock for tests. The one rule: it moves only when it is told to, or when somebody sleeps."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands at a moment; `advance` and `sleep` move it on at once. `slept` lists every wait."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Stand at `start`, which must be aware."""
        self._start = start
        self._seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The moment at which it stands."""
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        """Seconds since it was made."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Move on at once, and remember the wait."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._seconds += seconds

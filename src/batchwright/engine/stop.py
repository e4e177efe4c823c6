"""Stopping: a request that is obeyed at the next chunk boundary, and waits that end when it comes."""

from batchwright.model.errors import StopRequestedError
from batchwright.ports import Clock

POLL_SECONDS = 0.05


class Stop:
    """A request to stop, which any thread or signal handler may make. The first reason holds."""

    def __init__(self) -> None:
        """Not requested."""
        self._reason: str | None = None

    def request(self, reason: str) -> None:
        """Ask the run to stop at the next chunk boundary."""
        # No lock: a signal handler may interrupt a thread that holds it, and one assignment is atomic.
        if self._reason is None:
            self._reason = reason

    @property
    def requested(self) -> str | None:
        """The reason, or None."""
        return self._reason


def pause(clock: Clock, stop: Stop, seconds: float) -> None:
    """Wait. Raises StopRequestedError as soon as a stop is requested."""
    until = clock.monotonic() + seconds
    while True:
        if stop.requested is not None:
            raise StopRequestedError
        left = until - clock.monotonic()
        if left <= 0:
            return
        clock.sleep(min(left, POLL_SECONDS))

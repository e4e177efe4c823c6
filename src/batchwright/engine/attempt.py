"""Try again what failed: one item, or one chunk, as often as its policy allows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchwright.model.guarantee import Fault
from batchwright.model.policy import Retry, Skip
from batchwright.model.work import Attempted

TRANSIENT_RETRY = Retry(attempts=10, delay_seconds=0.1, max_delay_seconds=5.0)
"""What passing database errors get where a step has no `write_retry`."""


def _never(_failed: int) -> bool:
    """There is no limit to be passed."""
    return False


@dataclass(frozen=True, slots=True)
class Attempts:
    """A step's policies for single items, and how to wait.

    `over` says whether with so many failures that are not committed yet the limit is passed; where there is none to be
    passed before the end, never.
    """

    retry: Retry | None
    skip: Skip | None
    pause: Callable[[float], None]
    over: Callable[[int], bool] = _never

    def skips(self, error: BaseException) -> bool:
        """Whether an item that failed for good with this error is set aside."""
        return self.skip is not None and isinstance(error, self.skip.on)


def attempt_again(call: Callable[[Any], Any], item: Any, error: BaseException, policy: Attempts) -> Attempted:
    """Call again after a first error, while the policy allows it. Raises StopRequestedError out of a wait."""
    attempts = 1
    while policy.retry is not None and policy.retry.allows(error, attempts):
        policy.pause(policy.retry.wait_seconds(attempts))
        attempts += 1
        try:
            return Attempted(call(item), None, attempts)
        except KeyboardInterrupt:
            raise
        except BaseException as again:  # noqa: BLE001 - a user's SystemExit is an item's failure too
            error = again
    return Attempted(None, error, attempts)


def tries_again(given: Retry | None, error: BaseException, fault: Fault, tries: int) -> bool:
    """Whether a chunk is written again after this error: as the step's `write_retry` says, else if it passes."""
    if given is not None:
        return given.allows(error, tries)
    return fault is Fault.TRANSIENT and TRANSIENT_RETRY.allows(error, tries)


def wait_seconds(given: Retry | None, tries: int) -> float:
    """How long to wait before a chunk is written again."""
    return (given or TRANSIENT_RETRY).wait_seconds(tries)

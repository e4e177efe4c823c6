"""Try again what failed: one item, as often as its policy allows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchwright.model.policy import Retry, Skip


@dataclass(frozen=True, slots=True)
class Attempts:
    """A step's policies for single items, and how to wait."""

    retry: Retry | None
    skip: Skip | None
    pause: Callable[[float], None]

    def skips(self, error: BaseException) -> bool:
        """Whether an item that failed for good with this error is set aside."""
        return self.skip is not None and isinstance(error, self.skip.on)


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of trying again: a result, or the last error; and how many attempts were made in all."""

    result: Any
    error: BaseException | None
    attempts: int


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

"""Ask a target for its checkpoint, waiting for one that is locked or cannot be reached.

The one rule: what the target says is never guessed; who cannot be asked is asked again, as long as passing errors are
retried, and then the step fails.
"""

from collections.abc import Callable
from typing import Any

from batchwright.engine.attempt import tries_again, wait_seconds
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.policy import Retry
from batchwright.ports import Explains, Sink


def ask(sink: Sink[Any], retry: Retry | None, pause: Callable[[float], None]) -> Checkpoint | None:
    """The target's checkpoint. Raises the last error, in our words, and StopRequestedError out of a wait."""
    tries = 0
    while True:
        try:
            return sink.recall()
        except Exception as error:  # noqa: BLE001 - it is raised below, unless it passes
            tries += 1
            # A sink may have put a driver's error into our words already.
            cause = error.__cause__ or error
            if not tries_again(retry, cause, sink.classify(cause), tries):
                raise (sink.explain(error) if isinstance(sink, Explains) else error) from error.__cause__
            pause(wait_seconds(retry, tries))

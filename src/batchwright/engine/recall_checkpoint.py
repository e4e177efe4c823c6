"""Ask a target for its checkpoint, or what else it knows, waiting for one that is locked or cannot be reached.

The one rule: what the target says is never guessed; who cannot be asked is asked again, as long as passing errors are
retried, and then the step fails.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from batchwright.engine.attempt import tries_again, wait_seconds
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import ConfigurationError
from batchwright.model.guarantee import Fault
from batchwright.model.policy import Retry
from batchwright.ports import Explains, Sink

Answer = TypeVar("Answer")


def ask(sink: Sink[Any], retry: Retry | None, pause: Callable[[float], None]) -> Checkpoint | None:
    """The target's checkpoint. Raises the last error, in our words, and StopRequestedError out of a wait."""
    return ask_for(sink, sink.recall, retry, pause)


def ask_for(
    sink: Sink[Any], question: Callable[[], Answer], retry: Retry | None, pause: Callable[[float], None]
) -> Answer:
    """The answer to a question to the target. Raises the last error, in our words, and StopRequestedError."""
    tries = 0
    while True:
        try:
            return question()
        except Exception as error:  # noqa: BLE001 - it is raised below, unless it passes
            tries += 1
            # A sink may have put a driver's error into our words already. Who is turned away is turned away again.
            cause = error if isinstance(error, ConfigurationError) else error.__cause__ or error
            fault = sink.classify(cause)
            if fault is Fault.TRANSIENT:
                pause(0)
            if not tries_again(retry, cause, fault, tries):
                raise (sink.explain(error) if isinstance(sink, Explains) else error) from error.__cause__
            pause(wait_seconds(retry, tries))

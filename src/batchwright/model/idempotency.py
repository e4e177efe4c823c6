"""Keys under which a call to the outside may be made again: `once`.

The one rule: which step is being run is known in a context variable alone: a user's function is called with an item and
nothing else, on whatever thread, and several runs may go on in one process.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import ConfigurationError

_running_step: ContextVar[StepKey] = ContextVar("the step that is being run")


def once(name: str) -> str:
    """An idempotency key for a call to the outside: the same text whenever this lap of this step asks for this name.

    It depends on the job, its parameters, the lap, the step and the name, and on nothing else: not on the run, the
    process or the order of calls. Name what the call is for, `once(f"mail {invoice.id}")`, and give the key to a
    receiver that does nothing the second time. For functions that a step calls, async ones and generators too, and for
    threads that they start with `asyncio.to_thread`. Raises ConfigurationError elsewhere, and for an empty name.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError("once needs a name", f"got {name!r}", 'say what the call is for: once(f"mail {id}")')
    key = _running_step.get(None)
    if key is None:
        raise ConfigurationError(
            f"once({name!r}) was called outside a step",
            "this thread is not running one",
            "call it in a function of the step, and hand the key to threads of your own",
        )
    parts = ("once", key.job, key.parameters_hash, str(key.lap), key.step, name)
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


@contextmanager
def running_step(key: StepKey) -> Iterator[None]:
    """Let `once` know which step is being run by this thread, and by the tasks that it starts."""
    token = _running_step.set(key)
    try:
        yield
    finally:
        _running_step.reset(token)

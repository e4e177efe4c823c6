"""How worker processes end, in words, and as the error of the item that they ended over.

The one rule: a death that an earlier run has noted gives the same error as one that was seen.
"""

import signal

from batchwright.model.errors import WorkerDiedError
from batchwright.model.work import Death
from batchwright.ports.runners import Task


def error_of(task: Task, death: Death) -> BaseException:
    """The error of an item over which a worker ended like this."""
    if death.code is None:
        limit = task.item_timeout_seconds
        over = "the step's time for an item" if limit is None else f"item_timeout_seconds={limit:g}"
        return TimeoutError(f"the item took longer than {over}; its process was ended")
    mend = "mend what it does with this item, or set such items aside with skip=Skip(on=WorkerDiedError)"
    return WorkerDiedError(task.step, death.code, f"it {in_words(death.code)} while it processed the item", mend)


def in_words(code: int) -> str:
    """How a process ended: by itself, or by a signal."""
    if code >= 0:
        return f"ended itself with exit code {code}"
    try:
        name = signal.Signals(-code)
    except ValueError:
        return f"was ended by signal {-code}"
    hint = ", as the system does where memory is short" if name == signal.SIGKILL else ""
    return f"was ended by {name.name} ({signal.strsignal(name)}{hint})"

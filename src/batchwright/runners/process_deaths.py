"""How worker processes end, as the error of the item that they ended over.

The one rule: a death that an earlier run has noted gives the same error as one that was seen.
"""

from batchwright.model.errors import WorkerDiedError
from batchwright.model.exits import in_words
from batchwright.model.work import Death
from batchwright.ports.runners import Task


def error_of(task: Task, death: Death) -> BaseException:
    """The error of an item over which a worker ended like this."""
    if death.code is None:
        limit = task.item_timeout_seconds
        over = "the step's time for an item" if limit is None else f"item_timeout_seconds={limit:g}"
        return TimeoutError(f"the item took longer than {over}; its process was ended")
    mend = "mend what it does with this item, or set such items aside with skip=Skip(on=batchwright.WorkerDiedError)"
    return WorkerDiedError(task.step, death.code, f"it {in_words(death.code)} while it processed the item", mend)

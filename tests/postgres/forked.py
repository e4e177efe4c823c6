"""A process of its own that does some work against a server, and may be killed in it.

The one rule: the work runs in a fork, so whatever a test has planted is in it, too.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import suppress

from batchwright.testing.crash_points import crash_after, crash_at
from batchwright.writers import postgres_rows


def started(work: Callable[[], bool], kill: str | None) -> int:
    """How a process ends that does this work, or is killed in it: 0 if it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        code = 70
        with suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            postgres_rows.COPY_ROWS = 3
            if kill is not None:
                point, _, times = kill.partition(":")
                crash_after(int(times)) if point == "line" else crash_at(point, int(times))
            code = 0 if work() else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

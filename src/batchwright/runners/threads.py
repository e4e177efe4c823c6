"""A runner on threads, for functions that wait: for a network, a disk, a program.

The one rule: a thread works on one piece of work at a time, and takes the next as soon as it is free. Threads do not
make a function faster that keeps Python busy; `Processes` does.
"""

import contextlib
import contextvars
import queue
import threading
from dataclasses import dataclass

from batchwright.model.timeouts import check_count
from batchwright.model.work import Outcome, Work
from batchwright.ports.runners import Task, Workers

JOIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Threads:
    """So many threads; they are started as they are needed and end with the step.

    The function is called by several of them at once: whatever it shares must be safe for that.
    """

    workers: int
    together: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_count("Threads: workers", self.workers)

    def start(self, task: Task) -> Workers:
        """Threads for one step."""
        return ThreadWorkers(task, self.workers)


class ThreadWorkers:
    """See `Workers`. One queue in, one queue out."""

    def __init__(self, task: Task, count: int) -> None:
        """Start nothing yet."""
        self._task, self._count = task, count
        self._given: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def submit(self, work: Work) -> None:
        """See `Workers`."""
        self._busy += 1
        if self._busy > len(self._threads) < self._count:
            self._start_one()
        self._given.put(work)

    def collect(self, timeout_seconds: float) -> Outcome | None:
        """See `Workers`."""
        try:
            outcome = self._done.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        self._busy -= 1
        return outcome

    def cancel(self) -> None:
        """See `Workers`."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._given.get_nowait()
                self._busy -= 1

    def close(self) -> None:
        """See `Workers`. A thread cannot be ended: each is waited for until its item is done."""
        self.cancel()
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(JOIN_SECONDS)  # in small steps: a signal must get through

    def _start_one(self) -> None:
        context = contextvars.copy_context()
        name = f"batchwright-worker-{len(self._threads) + 1}"
        thread = threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            self._done.put(self._task.run(work))

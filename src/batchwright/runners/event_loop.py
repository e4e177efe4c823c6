"""A runner on one event loop, for async functions that wait: hundreds of items at once on a single thread.

The one rule: a fixed number of coroutines take items one after the other; a task per item would cost more than most
items do. Whatever the function raises stays with its item, so that nothing ends the loop.
"""

import contextlib
import contextvars
import queue
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from batchwright.model.failure import Phase
from batchwright.model.timeouts import check_count
from batchwright.model.work import Attempted, Outcome, SetAside, Work
from batchwright.ports.runners import Task, Workers


@dataclass(frozen=True, slots=True)
class EventLoop:
    """So many items at once. The function has to be async; all calls share one thread and one loop."""

    workers: int
    together: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_count("EventLoop: workers", self.workers)

    def start(self, task: Task) -> Workers:
        """A loop, on a thread of its own, for one step."""
        return EventLoopWorkers(task, self.workers)


@dataclass(slots=True)
class _InWork:
    """A piece of work of which some items are not done yet."""

    work: Work
    began: float
    left: int
    ran: list[Attempted | None] = field(default_factory=list)


class EventLoopWorkers:
    """See `Workers`."""

    def __init__(self, task: Task, count: int) -> None:
        """Start the loop."""
        import asyncio

        self._task, self._count = task, count
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._items: deque[tuple[_InWork, int]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._coroutines: list[asyncio.Task[None]] = []
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop.run_forever,), name="batchwright-event-loop", daemon=True
        )
        self._thread.start()

    def submit(self, work: Work) -> None:
        """See `Workers`."""
        self._loop.call_soon_threadsafe(self._feed, work)

    def collect(self, timeout_seconds: float) -> Outcome | None:
        """See `Workers`."""
        try:
            return self._done.get(timeout=timeout_seconds)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """See `Workers`. What waits for something else is cancelled there."""
        import asyncio

        if self._loop.is_running():
            with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile
                asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()

    def close(self) -> None:
        """See `Workers`."""
        self.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _feed(self, work: Work) -> None:
        """Take a piece of work in; runs on the loop."""
        entry = _InWork(work, self._loop.time(), len(work.items), [None] * len(work.items))
        self._items.extend((entry, index) for index in range(len(work.items)))
        for _ in range(min(len(self._idle), len(work.items))):
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(None)
        while len(self._coroutines) < min(self._count, len(self._items)):
            self._coroutines.append(self._loop.create_task(self._work()))

    async def _work(self) -> None:
        import asyncio

        while not self._closing:
            if not self._items:
                waiting = self._loop.create_future()
                self._idle.append(waiting)
                await waiting
                continue
            entry, index = self._items.popleft()
            try:
                entry.ran[index] = await self._task.run_item(entry.work.items[index])
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - it is no item's, such as one of `Retry(when=…)`: it ends the step
                self._done.put(Outcome(entry.work.number, broken=error))
                continue
            entry.left -= 1
            if not entry.left:
                self._done.put(_outcome(entry, self._loop.time(), self._task))

    async def _cancel_all(self) -> None:
        import asyncio

        self._closing = True
        self._items.clear()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _outcome(entry: _InWork, now: float, task: Task) -> Outcome:
    """What came of the items, up to the first whose error ends the step."""
    results: list[Any] = []
    failed: dict[int, SetAside] = {}
    retried, ended_by = 0, None
    for index, ran in enumerate(entry.ran):
        assert ran is not None  # noqa: S101 - none is left
        retried += ran.attempts - 1
        if ran.error is None:
            results.append(ran.result)
        elif task.skips(ran.error):
            failed[index] = SetAside(ran.error, Phase.PROCESS, ran.attempts)
        else:
            ended_by = ran.error
            break
    seconds = (now - entry.began) / max(1, len(entry.ran))
    return Outcome(entry.work.number, results, failed, retried, ended_by, seconds=seconds)

"""Hand facts to observers, each on a thread of its own behind a bounded queue.

The one rule: an observer, however slow or broken, never harms the run; and it always gets the final event.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from batchwright.model.events import Event, JobFinished
from batchwright.model.fault_points import reach
from batchwright.ports import Observer

QUEUE_LENGTH = 1_000
MUTED_AFTER = 3
CLOSE_SECONDS = 5.0

_log = logging.getLogger("batchwright")


class Announces(Protocol):
    """Takes note of what is committed."""

    @property
    def heard(self) -> bool:
        """Whether anybody listens, so that events need be made."""
        ...

    def announce(self, event: Event) -> None:
        """Pass an event on. Never waits."""
        ...


class Announcer:
    """Delivers events to every observer."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Start a thread per observer."""
        self._feeds = [_Feed(observer) for observer in observers]

    @property
    def heard(self) -> bool:
        """Whether anybody listens, so that events need be made."""
        return bool(self._feeds)

    def announce(self, event: Event) -> None:
        """Queue an event. Never waits: on a full queue it is dropped, unless it is the final one."""
        for feed in self._feeds:
            feed.put(event)

    def close(self) -> None:
        """Wait a bounded time until every observer has what is queued."""
        for feed in self._feeds:
            feed.close()


class _Feed:
    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._name = getattr(observer, "__qualname__", type(observer).__qualname__)
        self._events: deque[Event | None] = deque()
        self._ready = threading.Condition()
        self._thread = threading.Thread(target=self._deliver, name=f"batchwright-observer-{self._name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        with self._ready:
            if len(self._events) < QUEUE_LENGTH or isinstance(event, JobFinished):
                self._events.append(event)
                self._ready.notify()

    def close(self) -> None:
        with self._ready:
            self._events.append(None)
            self._ready.notify()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.warning("observer %s did not end within %s seconds", self._name, CLOSE_SECONDS)

    def _deliver(self) -> None:
        errors = 0
        while True:
            with self._ready:
                while not self._events:
                    self._ready.wait()
                event = self._events.popleft()
            if event is None:
                return
            if errors >= MUTED_AFTER and not isinstance(event, JobFinished):
                continue
            try:
                self._observer(event)
                reach("K19")
                errors = 0
            except BaseException:  # noqa: BLE001 - an observer may do anything, SystemExit too, and the run goes on
                errors += 1
                end = "; it is muted from now on" if errors == MUTED_AFTER else ""
                _log.exception("observer %s failed at %s%s", self._name, type(event).__name__, end)

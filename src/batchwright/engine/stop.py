"""Stopping: a request that is obeyed at the next chunk boundary, deadlines that make one, waits that end with it.

The one rule: a request only sets a value, so that a signal handler may make it; what it has to end (a reader's
statement, a wait for a lock) is ended from the run's watch, again and again until the run is over.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from batchwright.model.errors import ChunkTimeoutError, StopRequestedError
from batchwright.ports import Clock, Interruptible

POLL_SECONDS = 0.05

ASK_SECONDS = 0.8
"""How often a run looks into its ledger whether somebody else asks it to stop."""

GOODBYE_SECONDS = 2.0
"""How long the end of a run waits for its watch, which may be asking a ledger that does not answer."""


class Stop:
    """A request to stop, which any thread or signal handler may make. The first reason holds."""

    def __init__(self, heard: Callable[[str], None] | None = None, above: "Stop | None" = None) -> None:
        """Not requested. `heard` is called once, with the reason, by whoever asks first; it must not take a lock.

        What is asked of the one `above` is asked of this one too, but not the other way round.
        """
        self._above = above
        self._below: list[Stop] = []
        self._reason: str | None = None
        self._now = False
        self._heard = heard
        self._open: list[_Opened] = []
        self._deadlines: tuple[_Deadline, ...] = ()
        self._chunk: _Deadline | None = None

    def request(self, reason: str, *, now: bool = False) -> None:
        """Ask the run to stop at the next chunk boundary; with `now` at once, and the chunk in work is undone."""
        # No lock: a signal handler may interrupt a thread that holds it, and one assignment is atomic.
        self._now = self._now or now
        if self._reason is None:
            self._reason = reason
            if self._heard is not None:
                self._heard(reason)

    @property
    def requested(self) -> str | None:
        """The reason, or None. A deadline that has passed is one."""
        for deadline in self._deadlines:
            if self._reason is None and deadline.passed:
                self.request(deadline.reason)
        if self._above is not None and self._above.requested is not None:
            self.request(self._above.requested, now=self._above.now)
        return self._reason

    @property
    def now(self) -> bool:
        """Whether not even the chunk in work is waited for."""
        return self._now

    @property
    def late(self) -> bool:
        """Whether the time of the chunk that is being written is over."""
        chunk = self._chunk
        return chunk is not None and chunk.passed

    @contextmanager
    def divided(self) -> Iterator["Stop"]:
        """One of the same kind for a part of the work, which can be stopped alone; while the context lasts."""
        made = Stop(above=self)
        # Several threads divide one stop: a list changes in one step, a tuple that is built anew loses theirs.
        self._below.append(made)
        try:
            yield made
        finally:
            self._below.remove(made)

    @contextmanager
    def deadline(self, clock: Clock, seconds: float | None, reason: str) -> Iterator[None]:
        """A context that, once it has lasted so long, requests the stop."""
        if seconds is None:
            yield
            return
        made = _Deadline(clock, clock.monotonic() + seconds, reason)
        self._deadlines = (*self._deadlines, made)
        try:
            yield
        finally:
            self._deadlines = tuple(deadline for deadline in self._deadlines if deadline is not made)

    @contextmanager
    def chunk_deadline(self, clock: Clock, seconds: float) -> Iterator[None]:
        """A context in which a chunk is written: once it has lasted so long, what writes is interrupted."""
        self._chunk = _Deadline(clock, clock.monotonic() + seconds, "")
        try:
            yield
        finally:
            self._chunk = None

    def chunk_committed(self) -> None:
        """What is committed is not late any more."""
        self._chunk = None

    @contextmanager
    def interrupting(self, opened: object, *, writes: bool = False) -> Iterator[None]:
        """While the context lasts, what is open is interrupted when a stop, or for what `writes` a late chunk, asks."""
        if not isinstance(opened, Interruptible):
            yield
            return
        entry = _Opened(opened, writes)
        self._open.append(entry)
        try:
            yield
        finally:
            self._open.remove(entry)

    def press(self) -> None:
        """Interrupt what would keep the run from stopping. For any thread but the run's own; to be called again."""
        stopping, late = self.requested is not None, self.late
        for entry in tuple(self._open):
            overdue = late and entry.writes
            if stopping or overdue:
                entry.adapter.interrupt(now=self._now or overdue)
        for stop in tuple(self._below):
            stop.press()


@dataclass(frozen=True, slots=True)
class _Deadline:
    clock: Clock
    at: float
    reason: str

    @property
    def passed(self) -> bool:
        return self.clock.monotonic() >= self.at


@dataclass(frozen=True, eq=False, slots=True)
class _Opened:
    adapter: Interruptible
    writes: bool


def pause(clock: Clock, stop: Stop, seconds: float) -> None:
    """Wait. Raises StopRequestedError as soon as one is requested, ChunkTimeoutError when the chunk's time is over."""
    until = clock.monotonic() + seconds
    while True:
        if stop.requested is not None:
            raise StopRequestedError
        if stop.late:
            raise ChunkTimeoutError
        left = until - clock.monotonic()
        if left <= 0:
            return
        clock.sleep(min(left, POLL_SECONDS))


@contextmanager
def watched(stop: Stop, asking: AbstractContextManager[Callable[[], str]]) -> Iterator[None]:
    """Watch over a run from threads of its own: press what a stop has to end, and ask who wants one.

    What `asking` gives names who wants the run to stop; empty: nobody. It is entered, called about once a second and
    left on its own thread, and must not raise.
    """
    ended = threading.Event()
    # Two threads: a ledger that does not answer must not keep a statement of the work from being interrupted.
    threads = [
        threading.Thread(target=_press, args=(stop, ended), name="batchwright-stop", daemon=True),
        threading.Thread(target=_ask, args=(stop, asking, ended), name="batchwright-stop-requests", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(GOODBYE_SECONDS)


def _press(stop: Stop, ended: threading.Event) -> None:
    while not ended.wait(POLL_SECONDS):
        stop.press()


def _ask(stop: Stop, asking: AbstractContextManager[Callable[[], str]], ended: threading.Event) -> None:
    with asking as asked:
        while stop.requested is None and not ended.wait(ASK_SECONDS):
            if who := asked():
                stop.request(f"stopped by {who}")

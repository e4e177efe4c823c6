"""SIGINT, SIGTERM and SIGHUP while a job runs: the first asks it to stop at a clean place, the second ends it now.

SIGQUIT and SIGUSR1 show where every thread is, and the job goes on.
The end of the grace time is a second signal. The one rule: a handler takes no lock. Python runs it only between two of
its own instructions, so a thread learns of signals too, by the descriptor that the interpreter's C code writes to: it
ends the statement of a database that the main thread waits for.
"""

import contextlib
import faulthandler
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from batchwright.engine.stop import POLL_SECONDS, Stop
from batchwright.model.errors import BatchwrightError

GRACE_SECONDS = 25.0
"""Less than the 30 seconds that Kubernetes and most supervisors leave between SIGTERM and SIGKILL."""

UNWIND_SECONDS = 1.0

SHOWS = (signal.SIGQUIT, signal.SIGUSR1)

STANDARD_ERROR = 2

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedAtOnce(KeyboardInterrupt):
    """The second signal: nothing more is committed."""

    def __init__(self, exit_code: int) -> None:
        """129, 130 or 143."""
        self.exit_code = exit_code
        super().__init__("stopped at once")


class Signals:
    """What came. `exit_code` is that of the first signal, or None."""

    def __init__(self, stop: Stop, grace_seconds: float) -> None:
        """Nothing came yet."""
        self._stop, self._grace = stop, grace_seconds
        self._handled, self._seen = 0, 0
        self._at_once = self._over = False
        self._unwinds_until = 0.0
        self.exit_code: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler, in the main thread. Raises StoppedAtOnce from the second signal on.

        Not twice within a second: what cleans up after the first must not be broken off by what came with it.
        """
        del frame
        if self._over:
            return
        self._request(number)
        self._handled += 1
        if (self._at_once or self._handled > 1) and time.monotonic() >= self._unwinds_until:
            self._unwinds_until = time.monotonic() + UNWIND_SECONDS
            raise StoppedAtOnce(_exit_code(number))

    @property
    def unwinding(self) -> bool:
        """Whether StoppedAtOnce was raised. Any error that comes of it is its doing, for it may be raised anywhere."""
        return self._unwinds_until > 0

    def notice(self, reason: str) -> str:
        """What to say of a request to stop."""
        if reason == _reason(signal.SIGINT):
            return "stopping at the end of this chunk; press Ctrl-C again to stop at once"
        if self.exit_code is None:
            return f"stopping at the end of this chunk: {reason}"
        return f"stopping at the end of this chunk, in {self._grace:g} seconds at the latest: {reason}"

    def watch(self, descriptor: int) -> None:
        """Read the numbers of signals as they come, until the other end is closed. On a thread of its own."""
        ends: float | None = None
        while True:
            ready, _, _ = select.select([descriptor], [], [], None if ends is None else POLL_SECONDS)
            came = os.read(descriptor, 1024) if ready else b""
            if ready and not came:
                return
            for number in came:
                if number in STOPS:
                    self._see(number)
            if self._seen and ends is None:
                ends = time.monotonic() + self._grace
            if ends is not None and time.monotonic() >= ends and not self._at_once:
                self._end_grace()
            self._stop.press()

    def end(self) -> None:
        """Whatever comes from now on comes too late."""
        self._over = True

    def _request(self, number: int) -> None:
        if self.exit_code is None:
            self.exit_code = _exit_code(number)
        self._stop.request(_reason(number))

    def _see(self, number: int) -> None:
        self._request(number)
        self._seen += 1
        if self._seen > 1:
            self._stop_now(number)

    def _stop_now(self, number: int) -> None:
        self._at_once = True
        self._stop.request(_reason(number), now=True)

    def _end_grace(self) -> None:
        number = (self.exit_code or 0) - _BASE
        self._stop_now(number)
        main = threading.main_thread().ident
        if main is not None and not self._over:
            signal.pthread_kill(main, number)  # the handler ends what the main thread does, or waits for


@contextlib.contextmanager
def signals_stop(stop: Stop, grace_seconds: float = GRACE_SECONDS) -> Iterator[Signals]:
    """While the context lasts, signals stop the job; then the handlers from before are back.

    A signal that was ignored when it began stays ignored: SIGHUP under nohup. Outside the main thread, where Python
    takes no handlers, it does nothing.
    """
    signals = Signals(stop, grace_seconds)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before: dict[signal.Signals, Any] = {}
    end_watch = _watch(signals)
    try:
        before.update((number, signal.signal(number, signals)) for number in heard)
        with _stacks_shown():
            yield signals
    except Exception as error:
        if signals.unwinding and not isinstance(error, BatchwrightError):
            raise StoppedAtOnce(signals.exit_code or 0) from error  # raised inside a lock's own code, it leaves another
        raise
    finally:
        signals.end()
        end_watch()  # before the handlers go: it may be about to send a signal
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _stacks_shown() -> Iterator[None]:
    """While the context lasts, `SHOWS` write the stacks of all threads to standard error; those in other use don't."""
    shown = [number for number in SHOWS if signal.getsignal(number) is signal.SIG_DFL]
    for number in shown:
        faulthandler.register(number, file=STANDARD_ERROR, all_threads=True)
    try:
        yield
    finally:
        for number in shown:
            faulthandler.unregister(number)


def _watch(signals: Signals) -> Callable[[], None]:
    """Start the thread; what comes back ends it."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    before = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    watch = threading.Thread(target=signals.watch, args=(ours,), name="batchwright-signals", daemon=True)
    watch.start()

    def end() -> None:
        signal.set_wakeup_fd(before)
        os.close(theirs)
        watch.join()
        os.close(ours)

    return end


_BASE = 128


def _exit_code(number: int) -> int:
    return _BASE + number


def _reason(number: int) -> str:
    return f"stopped by {signal.Signals(number).name}"


def show_past_buffers(text: str) -> None:
    """Write a line to standard error with the operating system's own call, if anybody listens."""
    with contextlib.suppress(OSError):  # nobody listens; the run stops all the same
        os.write(2, f"{text}\n".encode())

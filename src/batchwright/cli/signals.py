"""SIGINT and SIGTERM while a job runs: the first asks it to stop at a clean place, the second ends it now.

The one rule: a handler takes no lock and writes with the operating system's own call.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from batchwright.engine.stop import Stop

NOTICE = "stopping at the end of this chunk; press Ctrl-C again to stop at once"

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StoppedAtOnce(KeyboardInterrupt):
    """The second signal: nothing more is committed."""

    def __init__(self, exit_code: int) -> None:
        """130 or 143."""
        self.exit_code = exit_code
        super().__init__("stopped at once")


class Signals:
    """What came. `exit_code` is that of the first signal, or None."""

    def __init__(self, stop: Stop, show: Callable[[str], bool]) -> None:
        """`show` says whether it shows the notice; it is called from the handler and must not take a lock."""
        self._stop, self._show = stop, show
        self.exit_code: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        del frame
        if self.exit_code is not None:
            raise StoppedAtOnce(_EXIT_CODES[signal.Signals(number)])
        self.exit_code = _EXIT_CODES[signal.Signals(number)]
        self._stop.request(f"stopped by {signal.Signals(number).name}")
        if not self._show(NOTICE):
            _write_past_buffers(NOTICE)


@contextlib.contextmanager
def signals_stop(stop: Stop, show: Callable[[str], bool]) -> Iterator[Signals]:
    """While the context lasts, signals stop the job; then the handlers from before are back.

    Outside the main thread, where Python takes no handlers, it does nothing.
    """
    signals = Signals(stop, show)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before: dict[signal.Signals, Any] = {number: signal.signal(number, signals) for number in _EXIT_CODES}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_past_buffers(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens; the run stops all the same
        os.write(2, f"{text}\n".encode())

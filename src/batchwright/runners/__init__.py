"""Where a step's items are processed: threads, an event loop, other processes. Named by technology."""

from batchwright.runners.event_loop import EventLoop
from batchwright.runners.threads import Threads

__all__ = ["EventLoop", "Threads"]

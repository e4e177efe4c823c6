"""Where a step's items are processed: threads, an event loop, other processes. Named by technology."""

from typing import TYPE_CHECKING, Any

from batchwright.runners.event_loop import EventLoop
from batchwright.runners.threads import Threads

if TYPE_CHECKING:
    from batchwright.runners.processes import Processes

__all__ = ["EventLoop", "Processes", "Threads"]


def __getattr__(name: str) -> Any:
    """Load what costs something when it is asked for."""
    if name == "Processes":
        from batchwright.runners.processes import Processes

        return Processes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Measure how much memory this process has held."""

import resource
import sys


def peak_memory_bytes() -> int:
    """The most memory this process has held. On Linux `ru_maxrss` is inherited from the parent, VmHWM is not."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - not a path of the user's
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

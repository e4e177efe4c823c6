"""Which process this is, so that another one on the same machine can tell that it is dead.

The one rule: what cannot be told is taken for alive.
"""

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_STARTED_FIELD = 19
"""Where in /proc/<pid>/stat, behind the name, the time of the process's start stands."""


def process_mark() -> str:
    """This boot of this machine, this namespace of process numbers, this process and its start; empty if unknown."""
    started = _started(os.getpid())
    try:
        return f"{_BOOT.read_text().strip()} {_NAMESPACE.readlink()} {os.getpid()} {started}" if started else ""
    except OSError:
        return ""


def is_dead(mark: str) -> bool:
    """Whether the process of this mark ran here, since the machine was last started, and is gone."""
    ours = process_mark().split()
    theirs = mark.split()
    if not ours or len(theirs) != len(ours) or ours[:2] != theirs[:2]:
        return False
    return _started(int(theirs[2])) != theirs[3]


def _started(pid: int) -> str:
    """When a process started, in ticks; empty if there is none that still runs."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # Killed, and not yet buried by its parent: nothing of it runs any more.
    buried = state in "ZX" and len(list(Path(f"/proc/{pid}/task").glob("*"))) <= 1
    return "" if buried else rest[_STARTED_FIELD - 1]

"""Which processes a process has started, as /proc tells it.

The one rule: it only looks. Where there is no /proc, nobody has any.
"""

from pathlib import Path


def children_of(pid: int, *, deep: bool = True) -> set[int]:
    """Its children; with `deep` theirs, too."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
        if not deep:
            break
    return family - {pid}


def is_alive(pid: int) -> bool:
    """Whether it runs; one that is dead and not buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

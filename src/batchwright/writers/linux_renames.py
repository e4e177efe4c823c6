"""Two names exchanged in one step, which the standard library has no word for: `renameat2` of Linux.

The one rule: whether it works is found out by doing it, with two empty folders in the very file system.
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100

_RENAME_EXCHANGE = 2


def exchange(first: Path, second: Path) -> None:
    """Let each of two names stand for what the other one did; nobody ever finds one of them gone. Raises OSError."""
    # Looked up at each call: there are few, and a C library without it must not fail at import.
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(first))
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(first), None, str(second))


def can_exchange(folder: Path) -> bool:
    """Whether the system and the file system of this folder can. Two empty folders come and go in it."""
    probes = (folder / ".probe-1", folder / ".probe-2")
    try:
        for probe in probes:
            probe.mkdir(exist_ok=True)
        exchange(*probes)
    except OSError:
        return False
    finally:
        for probe in probes:
            with contextlib.suppress(OSError):
                probe.rmdir()
    return True

"""A folder as far as crashes go: a new or changed name in it lasts only once the folder itself is synced.

The one rule: a file system that cannot sync folders is no error, one that fails to is.
"""

import errno
import os
from pathlib import Path

_NO_SYNC_OF_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP})


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where its file system knows how to. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)

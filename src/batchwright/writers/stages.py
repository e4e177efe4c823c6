"""A stage: the locked file beside a target that holds outputs until they are published.

The one rule: after any error while writing or syncing, a stage is poisoned. Whether pages that failed to reach the disk
got there later cannot be found out by asking again, so nothing is retried: the next run goes back to the last length
that is known to be durable.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, DamagedOutputError, TargetError, WriteError
from batchwright.model.folder import sync_folder

TAIL_BYTES = 4096
"""So much before the committed length is hashed, to see whether somebody else has changed the stage."""

_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


class Stage:
    """`.{name}.{key digest}.stage` in the target's folder, mode 0600, locked from `open` to `close`.

    A symbolic link as target is followed: the file that it points at is replaced, the link stays. The lock belongs to
    this process and dies with it; children made by fork let go of it. Errors of the disk arrive as WriteError.
    """

    amends: bool = True
    """Whether outputs may be added to the target once it is published."""

    def __init__(self, target: Path, key: StepKey) -> None:
        """Touch nothing yet."""
        self.named: Path = target
        self.target: Path = Path(os.path.realpath(target))
        self.path: Path = self.target.with_name(f".{self.target.name}.{key.digest}.stage")
        self.poisoned: bool = False
        self._job = key.job
        self._descriptor = -1
        self._folder_synced = False

    def open(self, *, create: bool) -> bool:
        """Open and lock it. False: it is not there and was not to be created.

        Raises AlreadyRunningError if somebody else holds it, TargetError or WriteError if it cannot be opened.
        """
        if self._descriptor >= 0:
            return True
        try:
            if create:
                _make_folders(self.target.parent)
            descriptor = self._locked(create=create)
        except OSError as error:
            raise _unopened(self.target, error) from error
        if descriptor is None:
            return False
        self._descriptor = descriptor
        _let_go_in_children(self)
        return True

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Open it for reading alone, and without the lock, as long as the context lasts; if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if self._descriptor >= 0:
                _refuse_what_is_not_ours(self._descriptor, self.path)
            yield
        finally:
            self.let_go()

    def check_target(self) -> None:
        """Raise TargetError if the target cannot be published. Writes nothing."""
        refuse_target(self.named)

    def append(self, data: bytes, at: int) -> None:
        """Write all of `data` at this offset."""
        with self._poisoning("written"):
            write_all(self._descriptor, data, at)

    def sync(self) -> None:
        """Make it durable, the first time with its name in the folder. Raises DamagedOutputError if it was taken."""
        with self._poisoning("synced"):
            os.fsync(self._descriptor)
            if not self._folder_synced:
                sync_folder(self.path.parent)
                self._folder_synced = True
            if not _is_at(self._descriptor, self.path):
                raise DamagedOutputError(
                    f"{self.path} is no longer the file that is being written",
                    "somebody removed or replaced it",
                    "run the job again: it goes on from what is left, or says what is missing",
                )

    def truncate(self, length: int) -> None:
        """Cut off, durably, what is past this length."""
        with self._poisoning("truncated"):
            if self.size() != length:
                os.ftruncate(self._descriptor, length)
                os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove it while it is ours. Never raises: what stays is begun anew by whoever opens it next."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.close()

    def changed(self, state: Mapping[str, Any]) -> str:
        """How it differs from what a checkpoint's state says of it, in words; what is behind its end is no difference.

        Empty if it does not differ. Its target may have been published already: then it is gone.
        """
        length = state["length"]
        if self._descriptor < 0:
            return f"{self.path} is gone, {length:,} bytes of it are committed" if length else ""
        return content_changed(self._descriptor, self.path, length, state["tail"])

    def size(self) -> int:
        """Bytes in it."""
        return os.fstat(self._descriptor).st_size

    def tail(self, length: int) -> bytes:
        """The last 4 KiB, or what there is, before this length."""
        return tail_of(self._descriptor, length)

    def prepare(self) -> str:
        """Give it the mode that the target has, or a new file would have; make it durable; its SHA-256."""
        with self._poisoning("synced"):
            os.fchmod(self._descriptor, mode_for(self.target))
        self.sync()
        return file_digest(self.path)

    def replace_target(self) -> None:
        """Put it in the target's place in one step. Not durable before the folder is synced."""
        with self._poisoning("renamed"):
            self.path.replace(self.target)

    def sync_target(self) -> None:
        """Make the new name durable."""
        with self._poisoning("published"):
            sync_folder(self.target.parent)

    def target_holds(self, state: Mapping[str, Any]) -> bool:
        """Whether the target is, byte for byte, what was prepared."""
        return not self.target_changed(state) and file_digest(self.target) == state["sha256"]

    def target_changed(self, state: Mapping[str, Any]) -> str:
        """How the target differs from what was published, in words, as far as its size tells; empty if it does not."""
        size = self.target.stat().st_size if self.target.is_file() else None
        if size == state["length"]:
            return ""
        return "it is gone" if size is None else f"it holds {size:,} bytes instead of {state['length']:,}"

    def clear(self) -> None:
        """Let go of it, once its target is published: nothing of it is left."""
        self.close()

    def remove(self) -> None:
        """Remove it and let go of it: what it holds is never published."""
        with self._poisoning("removed"):
            self.path.unlink(missing_ok=True)
            sync_folder(self.path.parent)
        self.close()

    def refuse_if_poisoned(self) -> None:
        """Raise WriteError after an earlier error."""
        if self.poisoned:
            raise WriteError(
                f"{self.target} takes no more outputs in this run", "an earlier write to it failed", "run the job again"
            )

    def close(self) -> None:
        """Let go of the lock. Never raises: whatever counts was synced before."""
        if self._descriptor >= 0:
            # Unlocked by name, since a child that was forked just now may still have a copy of the descriptor.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.let_go()

    def let_go(self) -> None:
        """Close it without unlocking: what a child does with the copy that it has inherited."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def _locked(self, *, create: bool) -> int | None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        for _ in range(10):
            try:
                descriptor = os.open(self.path, flags, 0o600)
            except FileNotFoundError:
                if create:
                    raise
                return None
            try:
                _refuse_what_is_not_ours(descriptor, self.path)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its owner may have published it between our open and our lock; then this is the target by now.
                if _is_at(descriptor, self.path):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise AlreadyRunningError(self._job, f"another process holds {self.path}", None)

    @contextlib.contextmanager
    def _poisoning(self, done: str, path: Path | None = None) -> Iterator[None]:
        self.refuse_if_poisoned()
        try:
            yield
        except OSError as error:
            self.poisoned = True
            raise write_error(path or self.path, done, error) from error
        except BaseException:
            self.poisoned = True
            raise


def refuse_target(path: str | os.PathLike[str]) -> None:
    """Raise TargetError if this cannot become a published file. Writes nothing."""
    target = Path(os.path.realpath(path))
    try:
        found = target.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unopened(target, error) from error
    else:
        if not stat.S_ISREG(found.st_mode):
            kind = "it is a directory" if stat.S_ISDIR(found.st_mode) else "it is a device, pipe or socket"
            raise TargetError(f"{path} cannot be written as a file", kind, "name a file")
        if not os.access(target, os.W_OK):
            raise TargetError(f"{path} cannot be written", "the file is read-only", "change its mode or name another")
    refuse_folder(path, target.parent)


def write_error(path: Path, done: str, error: OSError) -> WriteError:
    """An error of the disk in our words: the path, the cause and, where it matters, the space that is free."""
    free = _free_space(path.parent) if error.errno in _DISK_TROUBLE else ""
    return WriteError(
        f"{path} could not be {done}",
        f"{os.strerror(error.errno) if error.errno else error}{free}",
        "mend that and run the job again: it goes on from its last checkpoint",
    )


def write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write all of `data` at this offset, however little of it each call takes."""
    os.lseek(descriptor, at, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def tail_of(descriptor: int, length: int) -> bytes:
    """The last 4 KiB, or what there is, before this length."""
    start = max(0, length - TAIL_BYTES)
    return os.pread(descriptor, length - start, start)


def content_changed(descriptor: int, path: Path, length: int, tail: str) -> str:
    """How a file differs from what was committed of it, so many bytes with a tail of this digest; or nothing."""
    size = os.fstat(descriptor).st_size
    if size < length:
        return f"{path} holds {size:,} bytes, {length:,} are committed"
    if digest(tail_of(descriptor, length)) != tail:
        return f"somebody has changed {path} between bytes {max(0, length - TAIL_BYTES):,} and {length:,}"
    return ""


def digest(data: bytes) -> str:
    """The SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content. Raises WriteError if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise write_error(path, "read", error) from error


def _make_folders(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        sync_folder(parent.parent)


def _refuse_what_is_not_ours(descriptor: int, path: Path) -> None:
    """A name that can be guessed may have been taken: by a pipe, or by a second name of somebody's file."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise TargetError(f"{path} is not a stage of ours", "it is a special file or a hard link", "remove it")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _let_go_in_children(stage: Stage) -> None:
    reference = weakref.ref(stage)

    def let_go() -> None:
        inherited = reference()
        if inherited is not None:
            inherited.let_go()
            inherited.poisoned = True

    os.register_at_fork(after_in_child=let_go)


def mode_for(target: Path, new: int = 0o666) -> int:
    """The mode of what is there, or else that of what is created with mode `new` under the process's mask."""
    try:
        return stat.S_IMODE(target.stat().st_mode) & 0o777
    except FileNotFoundError:
        # The mask can only be read by setting it; meanwhile another thread creates files that are too private.
        mask = os.umask(0o077)
        os.umask(mask)
        return new & ~mask


def refuse_folder(path: str | os.PathLike[str], folder: Path) -> None:
    """Raise TargetError if nothing can be created in a folder, or in the one that it would be created in."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    if not there.is_dir():
        raise TargetError(f"{path} cannot be written", f"{there} is not a folder", "name a path in a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise TargetError(
            f"{path} cannot be written", f"the folder {there} is read-only", "change its mode or the path"
        )


def _unopened(target: Path, error: OSError) -> BatchwrightError:
    if error.errno in _DISK_TROUBLE:
        return write_error(target, "opened", error)
    return TargetError(
        f"{target} cannot be written",
        f"{error.filename or target.parent}: {os.strerror(error.errno) if error.errno else error}",
        "name a path that can be written",
    )


def _free_space(folder: Path) -> str:
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
    return f", {found.f_bavail * found.f_frsize:,} bytes are free there"

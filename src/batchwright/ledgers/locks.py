"""One owner for each instance, and for each partition at work: a lock of the system on a file beside the ledger.

The one rule: the lock lives exactly as long as the process that took it. Lock files are never removed: a process that
waits on a file already unlinked would own nothing.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from batchwright.ledgers.transitions import this_host
from batchwright.model.checkpoint import InstanceKey, StepKey
from batchwright.model.errors import AlreadyRunningError, LedgerError

WAIT_SECONDS = 0.5
"""How long a start waits for a lock: somebody who only looks holds it for an instant, and the killed die slowly."""

_PAUSE_SECONDS = 0.01

Owned = InstanceKey | StepKey
"""What is owned: an instance, or a partition of a step."""


def lock_folder(ledger: Path) -> Path:
    """Where the locks of the ledger at this path are."""
    return ledger.parent / "locks"


class LockOwnership:
    """Ownership by a lock that lives as long as this process: nobody can take it away."""

    def check(self) -> None:
        """Do nothing: who asks still lives, and so owns."""


@dataclass(eq=False, slots=True)
class _Held:
    descriptor: int | None


# The one piece of state in a module: hooks for fork belong to the process and cannot be taken back.
_held: set[_Held] = set()


@contextlib.contextmanager
def hold(folder: Path, key: Owned, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold this lock while the context lasts; threads of one process exclude each other too.

    Raises AlreadyRunningError if somebody else holds it, LedgerError if the folder cannot hold locks.
    """
    held = _Held(_acquire(folder, key, wait_seconds))
    _held.add(held)
    try:
        _describe_holder(folder, key)
        yield
    finally:
        _release(held, folder, key)


@contextlib.contextmanager
def own_partition(folder: Path, key: StepKey) -> Iterator[LockOwnership]:
    """Own a partition, whatever the lap: there is one lap at a time. Raises AlreadyRunningError at once."""
    with hold(folder, replace(key, lap=0), wait_seconds=0):
        yield LockOwnership()


def is_held(folder: Path, key: Owned) -> bool:
    """Whether somebody holds the lock of this instance. Writes nothing; True where it cannot be told."""
    try:
        descriptor = os.open(_lock_file(folder, key), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # Shared, so that two who look do not take each other for an owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(folder: Path, key: Owned, wait_seconds: float) -> int:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(_lock_file(folder, key), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        _lock(descriptor, folder, key, wait_seconds)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, folder: Path, key: Owned, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _already_running(folder, key) from None
            time.sleep(_PAUSE_SECONDS)
        except OSError as error:
            raise _unusable(folder, error) from error
        else:
            return


def _release(held: _Held, folder: Path, key: Owned) -> None:
    if held.descriptor is None:
        return  # we are a forked child: the lock is our parent's
    # Still ours: after the close it may be the next owner's.
    with contextlib.suppress(OSError):
        _holder_file(folder, key).unlink()
    _close(held)


def _close(held: _Held) -> None:
    # Closed, not unlocked: unlocking would free the lock for every process that shares the open file.
    descriptor, held.descriptor = held.descriptor, None
    _held.discard(held)
    if descriptor is not None:
        os.close(descriptor)


def _close_in_child() -> None:
    for held in list(_held):
        _close(held)


os.register_at_fork(after_in_child=_close_in_child)


def _describe_holder(folder: Path, key: Owned) -> None:
    holder = {"job": key.job, "host": this_host(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat()}
    file = _holder_file(folder, key)
    part = file.with_suffix(".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(holder, stream)
        part.replace(file)
    except OSError as error:
        raise _unusable(folder, error) from error


def _already_running(folder: Path, key: Owned) -> AlreadyRunningError:
    try:
        holder = json.loads(_holder_file(folder, key).read_text("utf-8"))
        where = f"process {holder['pid']} on {holder['host']}"
        since = datetime.fromisoformat(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):
        # It has taken the lock this instant and not yet said who it is.
        return AlreadyRunningError(key.job, "another process", None)
    return AlreadyRunningError(key.job, where, since)


def _unusable(folder: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"the ledger cannot be used: no lock can be taken in {folder}",
        error.strerror or str(error),
        "mend that, or name another ledger with --ledger PATH or BATCHWRIGHT_LEDGER",
    )


def _lock_file(folder: Path, key: Owned) -> Path:
    return folder / f"{key.digest}.lock"


def _holder_file(folder: Path, key: Owned) -> Path:
    return folder / f"{key.digest}.json"

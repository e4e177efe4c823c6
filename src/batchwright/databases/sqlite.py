"""SQLite for readers, writers and ledgers: connect, transactions, and what an error means.

The one rule: a commit that was acknowledged is durable. A file that we create is in WAL mode; any other keeps its
journal mode; either way `synchronous` is raised to the level that is durable in that mode, and read back.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from batchwright.model.errors import BatchwrightError, ConfigurationError, TargetError, WriteError
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault

SCHEME = "sqlite:///"

BUSY_SECONDS = 5.0
"""How long one statement waits for somebody else's lock."""

_SLICE_SECONDS = 0.1
"""How long SQLite itself waits: nothing interrupts that, and no signal handler runs meanwhile."""

_ROLLBACK_JOURNALS = ("delete", "truncate", "persist")

_MAGIC = b"SQLite format 3\0"

_SHORTEST_DATABASE_BYTES = 512

_TRANSIENT = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")

_REFUSED = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE")

_EXPLANATIONS: tuple[tuple[tuple[str, ...], type[BatchwrightError], str, str], ...] = (
    (_TRANSIENT, WriteError, "database {} is locked by another process", "wait for it, or end it"),
    (("SQLITE_FULL",), WriteError, "the disk of database {} is full", "free some space and run it again"),
    (("SQLITE_READONLY",), TargetError, "database {} cannot be written", "change its permissions, or the path"),
    (
        ("SQLITE_NOTADB", "SQLITE_CORRUPT"),
        TargetError,
        "{} is not a sound SQLite database",
        "restore it or name another",
    ),
    (("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"), TargetError, "database {} cannot be opened", "check the path"),
    (("SQLITE_IOERR",), WriteError, "the disk of database {} failed", "check the disk and run it again"),
)


def database_path(url: str) -> Path:
    """The file that `sqlite:///shop.db` (relative) or `sqlite:////data/shop.db` (absolute) names.

    Raises ConfigurationError for anything else.
    """
    if not isinstance(url, str) or not url.startswith(SCHEME) or len(url) == len(SCHEME):
        scheme = url.split("://", 1)[0] if isinstance(url, str) and "://" in url else None
        raise ConfigurationError(
            "a database must be named by an address that starts with sqlite:///",
            f"got an address that starts with {scheme}://" if scheme else f"got {str(url)[:60]!r}",
            "write sqlite:///shop.db for a relative path, sqlite:////data/shop.db for an absolute one",
        )
    return Path(unquote(url[len(SCHEME) :]))


@dataclass(slots=True)
class Patience:
    """How long a statement waits for somebody else's lock. Another thread may end it, for good."""

    seconds: float = BUSY_SECONDS
    ended: bool = False


class Connection(sqlite3.Connection):
    """Waits for locks in Python, not in C: signal handlers run meanwhile, and another thread can end the wait."""

    patience: Patience

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As sqlite3 has it; on a lock tried again until the patience is over."""
        try:
            return super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if not self._may_wait(error, sql):
                raise
        deadline = time.monotonic() + self.patience.seconds - _SLICE_SECONDS
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if time.monotonic() >= deadline or not self._may_wait(error, sql):
                    raise

    def _may_wait(self, error: sqlite3.OperationalError, sql: str) -> bool:
        # Inside a transaction only COMMIT waits for others; what else is busy there stays so until it is rolled back.
        busy = (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY")
        return busy and not self.patience.ended and (sql == "COMMIT" or not self.in_transaction)


def connect(path: Path, patience: Patience | None = None) -> Connection:
    """A connection for writing, in autocommit mode, durable. Creates the file, but not its folder.

    Raises TargetError if the file cannot be opened for writing or is no database.
    """
    created, existed = check_place(path), path.exists()
    if not created:
        _require_database(path)
    connection: Connection | None = None
    try:
        connection = _connected(str(path), patience)
        _make_durable(connection, created=created)
        _refuse_read_only(connection, path)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if not existed:
            _remove_if_empty(path)
        raise explained(error, path) from error
    return connection


def connect_read_only(path: Path, patience: Patience | None = None) -> Connection:
    """A connection that cannot write, in autocommit mode. Raises TargetError if there is no such database."""
    if not path.exists():
        raise TargetError(
            f"there is no database {path}", "no such file", "check the path, or run the step that makes it"
        )
    check_place(path)
    connection: Connection | None = None
    try:
        connection = _connected(f"{path.resolve().as_uri()}?mode=ro", patience, uri=True)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise explained(error, path) from error
    return connection


def interrupt(connection: sqlite3.Connection | None) -> None:
    """End the statement that is running, from another thread. Never raises: one that is over is not interrupted."""
    with contextlib.suppress(sqlite3.Error):
        if connection is not None:
            connection.interrupt()


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One write transaction: committed at the end of the block, rolled back on any error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        commit(connection)
    except BaseException:
        roll_back(connection)
        raise


def commit(connection: sqlite3.Connection) -> None:
    """Commit, refusing to if SQLite has rolled the transaction back by itself (it does so on a full disk)."""
    if not connection.in_transaction:
        raise WriteError("SQLite rolled the transaction back by itself", "the disk may be full", "free some space")
    reach("K11")
    connection.execute("COMMIT")


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo what is open. Never raises: what cannot be rolled back was never committed."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def in_transaction(connection: sqlite3.Connection) -> bool:
    """Whether a transaction is open: SQLite ends some by itself."""
    return connection.in_transaction


def refusal(connection: sqlite3.Connection, write: Callable[[], object], *, undoes: bool = True) -> Exception | None:
    """Write, and give the error if the database refuses a row, with all of it undone. Any other error is raised."""
    # A trigger's RAISE(FAIL), or a constraint with ON CONFLICT FAIL, leaves half a statement behind.
    if undoes:
        connection.execute("SAVEPOINT batchwright_rows")
    refused = None
    try:
        write()
    except Exception as error:
        if classify(error) is not Fault.REFUSED or not connection.in_transaction:
            raise
        if undoes:
            connection.execute("ROLLBACK TO batchwright_rows")
        # Its traceback would hold these frames, and they the chunk, until the garbage collector comes.
        refused = error.with_traceback(None)
    if undoes:
        connection.execute("RELEASE batchwright_rows")
    return refused


def classify(error: BaseException) -> Fault:
    """What an error from a statement means for the chunk. Errors of COMMIT are judged by `classify_commit`."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(_TRANSIENT):
            return Fault.TRANSIENT
        if name.startswith(_REFUSED) or isinstance(error, sqlite3.IntegrityError):
            return Fault.REFUSED
        # Without a code the error is the module's own word about a value that it could not bind.
        if not name and isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return Fault.REFUSED if "binding" in str(error).lower() else Fault.FATAL
        return Fault.FATAL
    return Fault.REFUSED if isinstance(error, OverflowError | UnicodeError) else Fault.FATAL


def classify_commit(error: BaseException) -> Fault:
    """What an error from COMMIT means: anything but a lock or a deferred constraint leaves it in doubt."""
    fault = classify(error)
    return Fault.DOUBTFUL if fault is Fault.FATAL and isinstance(error, sqlite3.Error) else fault


def repeats_a_key(error: BaseException) -> bool:
    """Whether a row was refused because its key is there already."""
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


def explained(error: sqlite3.Error, path: Path) -> BatchwrightError:
    """A driver's error in our words: what is wrong with which file, and what to do."""
    name = getattr(error, "sqlite_errorname", "") or ""
    found = str(error)
    if name.startswith("SQLITE_FULL"):
        found = free_space(path)
    elif name.startswith("SQLITE_CANTOPEN") and not os.access(path.parent, os.W_OK):
        found = f"the folder {path.parent} is read-only"
    for codes, kind, wrong, mend in _EXPLANATIONS:
        if name.startswith(codes):
            return kind(wrong.format(path), found, mend)
    return WriteError(f"database {path} refused a statement", found)


def free_space(path: Path) -> str:
    """How much space is left where this file is, in words."""
    folder = path if path.is_dir() else path.parent
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        return str(error)
    return f"{stat.f_bavail * stat.f_frsize / 1_000_000:,.1f} MB free in {folder}"


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def check_place(path: Path) -> bool:
    """Whether the file has yet to be created. Raises TargetError for a folder, a device or a missing parent."""
    if path.is_dir():
        raise TargetError(f"database {path} is a folder", "", "name a file in it")
    if path.exists() and not path.is_file():
        raise TargetError(f"database {path} is not a regular file", "it is a device or a pipe", "name another file")
    if not path.parent.is_dir():
        raise TargetError(
            f"database {path} cannot be created", f"there is no folder {path.parent}", "create it, or change the path"
        )
    return not path.exists() or path.stat().st_size == 0


def _require_database(path: Path) -> None:
    """Raise TargetError for a file of something else: SQLite takes a short one for empty, and overwrites it."""
    # A longer one it judges itself; and it must: to close a file of which this process has a connection open, in
    # whatever thread, takes that connection's locks away, and another process would then delete the log under it.
    if path.stat().st_size >= _SHORTEST_DATABASE_BYTES:
        return
    try:
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC))
    except OSError:
        return  # what cannot be read is explained by whoever opens it
    if begins != _MAGIC:
        raise TargetError(
            f"{path} is not a sound SQLite database", f"it begins with {begins!r}", "restore it or name another"
        )


def _connected(database: str, patience: Patience | None, *, uri: bool = False) -> Connection:
    patience = patience or Patience()
    connection = sqlite3.connect(
        database,
        uri=uri,
        timeout=min(_SLICE_SECONDS, patience.seconds),
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    connection.patience = patience
    return connection


def _make_durable(connection: sqlite3.Connection, *, created: bool) -> None:
    mode = str(connection.execute("PRAGMA journal_mode = WAL" if created else "PRAGMA journal_mode").fetchone()[0])
    # In the rollback-journal modes FULL can lose the last commit: the journal's deletion is not synced.
    level = "EXTRA" if mode in _ROLLBACK_JOURNALS else "FULL"
    connection.execute(f"PRAGMA synchronous = {level}")
    if int(connection.execute("PRAGMA synchronous").fetchone()[0]) < (3 if level == "EXTRA" else 2):
        raise WriteError("SQLite did not take PRAGMA synchronous", f"journal mode {mode}")
    connection.execute("PRAGMA foreign_keys = ON")


def _refuse_read_only(connection: sqlite3.Connection, path: Path) -> None:
    file = path.resolve()
    if not os.access(file, os.W_OK):
        connection.close()
        raise TargetError(f"database {path} cannot be written", "the file is read-only", "change its permissions")


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()

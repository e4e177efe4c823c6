"""A SQLite ledger's schema, place of locks and clock, and how SQLite's errors read when the file is a ledger.

The one rule: an error names the ledger, and the way to another one.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from batchwright.databases.migrations import Migration, numbered_scripts
from batchwright.databases.sqlite import explained
from batchwright.ledgers.ledger_errors import OTHER_LEDGER, as_ledger_error
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, LedgerError, TargetError

COMPONENT = "ledger"


def migrations() -> list[Migration]:
    """The numbered scripts of the ledger's own tables."""
    return numbered_scripts(Path(__file__).parent, "sqlite_[0-9]*_ledger.sql")


def now() -> str:
    """The present, in a form that sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Raise SQLite's errors in our words: WriteError for a lock or a failing disk, else LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        found = explained(error, path)
        raise (as_ledger_error(found) if isinstance(found, TargetError) else found) from error


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Raise whatever goes wrong while a ledger is opened as a LedgerError that names the way out."""
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be opened", f"{error.strerror}: {error.filename}", OTHER_LEDGER
        ) from error
    except sqlite3.Error as error:
        raise as_ledger_error(explained(error, path)) from error
    except AlreadyRunningError as error:
        raise LedgerError(f"the ledger {path} is being created by {error.where}", "", OTHER_LEDGER) from error
    except BatchwrightError as error:
        raise as_ledger_error(error) from error

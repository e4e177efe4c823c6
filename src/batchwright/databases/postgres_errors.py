"""What PostgreSQL's errors mean: by SQLSTATE, and in our words.

The one rule: at COMMIT only a plain ERROR from the server says that nothing was committed; all else is in doubt.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from batchwright.model.errors import BatchwrightError, TargetError, WriteError
from batchwright.model.guarantee import Fault

_TRANSIENT = (
    "40001", "40P01", "55P03",  # serialisation failure, deadlock, lock time-out
    "53300", "57P03", "55006",  # too many connections, starting up, object in use
    "08", "57P01", "57P02", "57P05", "25P03", "25P04",  # the connection is gone: nothing was committed
)  # fmt: skip

_REFUSED = (
    "22", "23", "44000",  # data, constraints, views WITH CHECK OPTION
    "21000", "54000",  # two rows where one may be, a row too large for an index
    "P0001", "P0004",  # a trigger's RAISE, ASSERT
    "42804",  # a value of a type that its column does not take: the driver goes by the value
)  # fmt: skip

_EXPLANATIONS: tuple[tuple[tuple[str, ...], type[BatchwrightError], str, str], ...] = (
    (("28",), TargetError, "{} does not let us in", "check user, password and pg_hba.conf"),
    (("3D000",), TargetError, "there is no database {}", "create it, or change the address"),
    (
        ("42501",),
        TargetError,
        "{}: a privilege is missing",
        "let its owner GRANT it; docs/how-to/postgres.md lists what is needed",
    ),
    (("25006",), TargetError, "{} cannot be written", "if it is a standby, name the primary"),
    (("53100",), WriteError, "the disk of {} is full", "free some space and run it again"),
    (("53300",), WriteError, "{} has no connection left for us", "wait, or raise its max_connections"),
    (("53",), WriteError, "{} has run out of something", "look at the server's log and run it again"),
    (("55P03",), WriteError, "{}: a lock is held by somebody else", "wait for them, or raise lock_timeout"),
    (
        ("57014",),
        WriteError,
        "{}: a statement was cancelled",
        "make chunks smaller, or raise statement_timeout: ?options=-c%20statement_timeout%3D10min",
    ),
    (("40",), WriteError, "{}: the transaction collided with another", "run it again"),
    (
        ("42P05", "26000"),
        TargetError,
        "{}: a prepared statement is not that of this session",
        "if a pooler stands before the server, put it into session mode, or connect without it",
    ),
    (("3F000",), TargetError, "{}: there is no such schema", "create it, or change the address"),
    (("42",), TargetError, "{} refused a statement", "mend the SQL, or the table"),
    (("57P", "08", "25P"), WriteError, "the connection to {} was lost", "run it again: it goes on"),
)  # fmt: skip

_TURNED_AWAY = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("authentication failed", "28000"),
    ("permission denied for database", "42501"),
    ("is not permitted to log in", "28000"),
    ("too many", "53300"),
    ("remaining connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("not accepting", "57P03"),
    ('role "', "28000"),
    ('database "', "3D000"),
)
"""libpq gives no SQLSTATE when connecting fails, only the server's words. First match; the last two are the vaguest."""


def classify(error: BaseException) -> Fault:
    """What an error from a statement means for the chunk. Errors of COMMIT are judged by `classify_commit`."""
    if isinstance(error, BatchwrightError):
        # `connect` explains; a server that cannot be reached now is the one thing of ours that passes.
        passing = isinstance(error, WriteError) and is_connection_failure(error.__cause__)
        return Fault.TRANSIENT if passing else Fault.FATAL
    if not is_driver_error(error):
        return Fault.REFUSED if isinstance(error, OverflowError | UnicodeError) else Fault.FATAL
    state = sqlstate(error)
    if state:
        if state.startswith(_TRANSIENT):
            return Fault.TRANSIENT
        return Fault.REFUSED if state.startswith(_REFUSED) else Fault.FATAL
    if is_connection_failure(error):
        return Fault.TRANSIENT
    # Without a code it is the driver's own word about values: NUL in a text, an integer too large, an unknown type, one
    # that is missing.
    about_values = any(word in str(error) for word in ("adapt", "parameter"))
    refused = _named(error, "DataError") or (_named(error, "ProgrammingError") and about_values)
    return Fault.REFUSED if refused else Fault.FATAL


def classify_commit(error: BaseException) -> Fault:
    """What an error from COMMIT means: only the server's own ERROR says for sure that nothing was committed."""
    if not is_driver_error(error):
        return classify(error)
    severity = getattr(getattr(error, "diag", None), "severity_nonlocalized", None)
    if severity == "ERROR" and sqlstate(error) != "40003":
        return classify(error)
    return Fault.DOUBTFUL


def is_connection_failure(error: BaseException | None) -> bool:
    """Whether the connection is gone, or was never made."""
    if not is_driver_error(error):
        return False
    state = sqlstate(error)
    if state:
        return state.startswith(("08", "57P", "25P03", "25P04"))
    return _named(error, "OperationalError") or _named(error, "InterfaceError")


def explained(error: BaseException, shown: str, secrets: tuple[str, ...] = ()) -> BatchwrightError:
    """A driver's error in our words: what is wrong with which database, and what to do. Without any secret."""
    found = words(error)
    for secret in secrets:
        found = found.replace(secret, "***")
    state = sqlstate(error) or next((code for phrase, code in _TURNED_AWAY if phrase in found), "")
    for states, kind, wrong, mend in _EXPLANATIONS:
        if state.startswith(states):
            return kind(wrong.format(shown), found, mend)
    if is_connection_failure(error) or isinstance(error, OSError):
        return WriteError(f"{shown} cannot be reached", found, "check host, port and network, then run it again")
    return WriteError(f"{shown} refused a statement", found)


@contextmanager
def in_our_words(shown: str, secrets: tuple[str, ...]) -> Iterator[None]:
    """For calls outside a chunk, whose errors the engine does not ask a sink to explain."""
    try:
        yield
    except Exception as error:
        if is_driver_error(error):
            raise explained(error, shown, secrets) from error
        raise


def is_cancelled(error: BaseException | None) -> bool:
    """Whether the statement was ended before its time, by us or by a time-out."""
    return is_driver_error(error) and sqlstate(error) == "57014"


def sqlstate(error: Any) -> str:
    """The five characters of the error's code; empty if it has none."""
    return str(getattr(error, "sqlstate", "") or "")


def repeats_a_key(error: BaseException) -> bool:
    """Whether a row was refused because its key is there already."""
    return sqlstate(error) == "23505"


def row_free_words(error: BaseException) -> str:
    """What the server said, without any value of a row."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    name = getattr(getattr(error, "diag", None), "constraint_name", None)
    code = sqlstate(error)
    # Only a constraint's message is known to have names in it and no values.
    return (
        " ".join(str(primary).split()) if primary and code.startswith("23") else f"SQLSTATE {code} {name or ''}".strip()
    )


def words(error: BaseException) -> str:
    """What the server said, on one line, without the SQL around it."""
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    detail = getattr(diagnosis, "message_detail", None)
    text = f"{primary} ({detail})" if primary and detail else str(primary or error)
    return " ".join(text.split())


def is_driver_error(error: BaseException | None) -> bool:
    """Whether psycopg has raised it."""
    return _named(error, "Error")


def _named(error: BaseException | None, name: str) -> bool:
    """Whether it is of this class of psycopg's, without importing psycopg: if it is not loaded, nothing is."""
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, getattr(psycopg, name))

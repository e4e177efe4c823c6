"""A ledger's connection to PostgreSQL: reopened when it breaks, with no wait longer than a lease.

The one rule: an error leaves here in our words, and never with a password.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from batchwright.databases import postgres_records as records
from batchwright.databases.migrations import Migration, numbered_scripts
from batchwright.databases.postgres import (
    DEFAULT_SCHEMA,
    Database,
    bound_silence,
    close,
    connect,
    database_of,
    hurry,
    quoted,
    transaction,
)
from batchwright.databases.postgres_errors import classify, explained, is_connection_failure
from batchwright.databases.postgres_schema import migrate
from batchwright.databases.postgres_texts import escaped
from batchwright.ledgers.ledger_errors import as_ledger_error
from batchwright.model.errors import BatchwrightError, LedgerError, TargetError
from batchwright.model.guarantee import Fault

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

Result = TypeVar("Result")

COMPONENT = "ledger"

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 1.0

HURRIED_MILLISECONDS = 100

_ANSWER_SECONDS = 1.0
"""How much longer than `wait_seconds` an answer is waited for."""

_CONNECT_SECONDS, _LEAST_CONNECT_SECONDS = 10, 2
"""How long reaching the server may take; less than two seconds libpq does not know."""

_BOUNDED = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, false), set_config('lock_timeout', %s, false), "
    "set_config('statement_timeout', %s, false), set_config('default_transaction_isolation', 'read committed', false)"
)


class Session:
    """One connection, opened when it is first needed and anew after it broke. For one thread and one process.

    `wait_seconds` bounds every statement, every wait for a lock and every idle transaction on the server; the server
    then ends the session of a frozen process, whose locks would keep its successor waiting. A server that is silent for
    a little longer than that is taken for gone.
    """

    def __init__(self, url: str, *, wait_seconds: float, read_only: bool = False) -> None:
        """Open nothing yet. Raises ConfigurationError for an address that is none."""
        self.database: Database = database_of(url)
        self.wait_seconds = wait_seconds
        self._read_only = read_only
        self._pid = os.getpid()
        self._connection: Connection | None = None
        self._hurried = False
        self._soon = False
        self._lost: Exception | None = None

    @property
    def address(self) -> str:
        """The database without user and password, with the schema where it is another than usual."""
        schema = self.database.schema
        return self.database.shown + ("" if schema == DEFAULT_SCHEMA else f"?records_schema={schema}")

    @property
    def schema(self) -> str:
        """The schema's name."""
        return self.database.schema

    def connection(self) -> "Connection":
        """The connection. Raises LedgerError in a process forked from the one that opened it."""
        if os.getpid() != self._pid:
            raise LedgerError(
                "the ledger was opened by another process",
                f"opened by process {self._pid}, used by {os.getpid()}",
                "open a PostgresLedger of its own in the forked process",
            )
        if self._connection is None or self._connection.closed or self._connection.broken:
            self._connection = self._connect()
        return self._connection

    @property
    def opened(self) -> "Connection | None":
        """The connection if there is one. For other threads, which open none."""
        return self._connection

    def hurry(self) -> None:
        """From now on wait for locks no longer than it takes to find out that they are held."""
        if not self._hurried:
            self.connection().execute(f"SET lock_timeout = '{HURRIED_MILLISECONDS}ms'".encode())
            self._hurried = True

    def run(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Run one statement; `{schema}` in it is the schema."""
        return run(self.connection(), self.schema, sql, values)

    def patiently(self, work: Callable[["Connection", int], Result], *, until: Callable[[], bool]) -> Result:
        """Do some work, again after passing errors as long as `until` does not say that it is over.

        The work is told how many earlier tries may have been committed nevertheless. Raises WriteError or LedgerError.
        """
        doubts, pause = 0, _FIRST_PAUSE_SECONDS
        while True:
            if self._soon and self._lost is not None:
                raise self._lost
            try:
                return work(self.connection(), doubts)
            except Exception as error:
                passing = classify(error) is Fault.TRANSIENT
                self._lost = self.explained(error) if passing and self._soon else None
                if not passing or self._soon or until():
                    raise self.explained(error) from error
                doubts += _may_be_committed(error)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def explained(self, error: Exception) -> Exception:
        """A driver's error in our words; any other as it is."""
        if isinstance(error, BatchwrightError):
            return as_ledger_error(error) if isinstance(error, TargetError) else error
        if not is_driver_error(error):
            return error
        found = explained(error, self.address, self.database.secrets)
        return as_ledger_error(found) if isinstance(found, TargetError) else found

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise a driver's errors in our words."""
        try:
            yield
        except Exception as error:
            found = self.explained(error)
            if found is error:
                raise
            raise found from error

    def give_up_soon(self) -> None:
        """Until it is closed try nothing again, and wait for no server that is silent. From any thread."""
        self._soon = True
        if (connection := self._connection) is not None:
            hurry(connection)

    def close(self) -> None:
        """Let it go. Never raises. In a forked process the parent's connection is left alone."""
        if self._connection is not None and os.getpid() == self._pid:
            close(self._connection)
        self._connection, self._soon, self._lost = None, False, None

    def _connect(self) -> "Connection":
        patience = 0 if self._soon else min(_CONNECT_SECONDS, round(self.wait_seconds))
        connect_seconds = max(_LEAST_CONNECT_SECONDS, patience)
        connection = connect(self.database, read_only=self._read_only, connect_seconds=connect_seconds)
        self._hurried = False
        try:
            # A statement that waits for a lock has to fail for the lock's sake: that says what is the matter.
            bounds = (self.wait_seconds, self.wait_seconds / 2, self.wait_seconds)
            connection.execute(_BOUNDED, [f"{max(1, round(1000 * bound))}ms" for bound in bounds])
            bound_silence(connection, self.wait_seconds + _ANSWER_SECONDS)
        except BaseException:
            close(connection)
            raise
        return connection


def once_more() -> Callable[[], bool]:
    """An end of patience after one more try: a connection that was cut is found out when it is used."""
    tries = iter((False,))
    return lambda: next(tries, True)


@contextlib.contextmanager
def opening(session: Session) -> Iterator[None]:
    """Raise whatever goes wrong while a ledger is opened as a LedgerError that names the way out."""
    try:
        with session.explaining():
            yield
    except BatchwrightError as error:
        raise as_ledger_error(error) from error


def prepare(session: Session) -> None:
    """Create or upgrade the tables of a ledger. Raises LedgerError if they are too new, or not ours to create."""
    connection = session.connection()
    records.prepare(connection, session.schema)
    migrate(connection, session.schema, COMPONENT, migrations())


def migrations() -> list[Migration]:
    """The numbered scripts of the ledger's own tables."""
    return numbered_scripts(Path(__file__).parent, "postgres_[0-9]*_ledger.sql")


def run(connection: "Connection", schema: str, sql: str, values: Sequence[Any] = ()) -> Any:
    """Run one statement; `{schema}` in it is the schema."""
    return connection.execute(in_schema(sql, schema), [escaped(value) for value in values])


def in_schema(sql: str, schema: str) -> bytes:
    """The statement with the schema's quoted name."""
    return sql.replace("{schema}", quoted(schema).replace("%", "%%")).encode()


def is_driver_error(error: BaseException | None) -> bool:
    """Whether psycopg raised it, without importing psycopg."""
    return type(error).__module__.partition(".")[0] == "psycopg"


def _may_be_committed(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, BatchwrightError) else error
    return is_connection_failure(cause)


__all__ = [
    "COMPONENT",
    "Session",
    "in_schema",
    "is_driver_error",
    "migrations",
    "once_more",
    "opening",
    "prepare",
    "run",
    "transaction",
]

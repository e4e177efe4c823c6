"""PostgreSQL for readers, writers and ledgers: connect, transactions, and how long anything may wait.

The one rule: every wait has an end, and no password leaves this module: addresses and error texts are without it.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote

from batchwright.databases.postgres_errors import classify, explained
from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import ConfigurationError, WriteError
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

SCHEMES = ("postgresql://", "postgres://")

DEFAULT_SCHEMA = "batchwright"
"""Where our own tables live, unless the address says `?records_schema=…`."""

STATEMENT_SECONDS = 60
"""How long one statement of a writer may take; a reader's may take longer."""

LOCK_SECONDS = 10
"""How long one statement waits for somebody else's lock."""

PUBLISHING_SECONDS = 6 * 60 * 60
"""How long the one statement may take that publishes what an atomic step has staged."""

IDLE_SECONDS = 20
"""How long a transaction may stay open with nothing happening in it: a frozen owner must not block its successor."""

ANSWER_SECONDS = 10
"""How much longer than the server's own bound of a statement we wait for its answer; at most as long as that again."""

LEAST_ANSWER_SECONDS = 2

_SCHEMA, _LEASE = "records_schema", "lease_seconds"
"""Parameters of an address that are ours, not libpq's."""

_CONNECTION_DEFAULTS = {
    "application_name": "batchwright",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_CHOSEN_BY_THE_USER = ("client", "user", "database", "database user")
"""The sources of a setting that somebody has meant: the address's `options`, ALTER ROLE, ALTER DATABASE."""


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database by its address. Shown and compared without user, password and options."""

    shown: str
    schema: str = field(compare=False)
    url: str = field(repr=False, compare=False)
    secrets: tuple[str, ...] = field(repr=False, compare=False)
    lease_seconds: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """The address without anything secret."""
        return self.shown


@runtime_checkable
class Vouches(Protocol):
    """A ledger that can show, inside a transaction of somebody else, that a step's work is still ours."""

    def voucher(self, place: Database, key: StepKey) -> "Callable[[Connection], None] | None":
        """What to call with a connection, inside the transaction that is to commit only for the owner.

        It holds the ownership to the end of that transaction, or raises FencedError. None: `place` is not the
        database and schema that the ledger is in, or nothing is owned.
        """
        ...


def try_connecting(database: Database) -> None:
    """Raise ConfigurationError or TargetError for what no waiting mends; a server that is away now may come back."""
    try:
        close(connect(database))
    except ConfigurationError:
        raise
    except Exception as error:
        if classify(error) is not Fault.TRANSIENT:
            raise


def voucher_of(store: object, database: Database, key: StepKey) -> "Callable[[Connection], None] | None":
    """The word of a step's store that the work is still ours, where it is in the same database."""
    if not isinstance(store, Vouches):
        return None
    return store.voucher(database, key)


def is_postgres(url: object) -> bool:
    """Whether this is the address of a PostgreSQL database."""
    return isinstance(url, str) and url.startswith(SCHEMES)


def database_of(url: str) -> Database:
    """The database that `postgresql://user:password@host:5432/shop?options` names.

    All of libpq's parameters are understood; those missing come from libpq's environment variables. Two are ours:
    `records_schema` names the schema of checkpoints and failures, `lease_seconds` says how long an owner may be silent
    where this is the ledger. Raises ConfigurationError for any other address.
    """
    if not is_postgres(url):
        raise ConfigurationError(
            "a PostgreSQL database must be named by an address that starts with postgresql://",
            f"got an address that starts with {str(url).split('://', 1)[0][:20]}://" if "://" in str(url) else "",
            "write postgresql://user@host:5432/database",
        )
    rest, _, query = url.split("://", 1)[1].partition("?")
    authority, _, path = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    schema = parameters.pop(_SCHEMA, DEFAULT_SCHEMA)
    if not schema or "\0" in schema:
        raise ConfigurationError(f"{_SCHEMA} must name a schema", "got nothing", f"?{_SCHEMA}=batchwright")
    lease_seconds = _seconds(parameters.pop(_LEASE, None))
    place = _place(hosts, unquote(path), parameters)
    kept = "&".join(part for part in query.split("&") if part and part.partition("=")[0] not in (_SCHEMA, _LEASE))
    password = login.partition(":")[2]
    secrets = {password, unquote(password), parameters.get("password", ""), parameters.get("sslpassword", "")}
    url = f"postgresql://{rest}" + (f"?{kept}" if kept else "")
    return Database(place, schema, url, tuple(sorted(secrets - {""})), lease_seconds)


def connect(
    database: Database,
    *,
    read_only: bool = False,
    statement_seconds: int = STATEMENT_SECONDS,
    connect_seconds: int | None = None,
) -> "Connection":
    """A connection in autocommit mode, in which no wait is without end.

    What the address's `options`, the role or the database set for a time-out holds, unless it is 0. `connect_seconds`
    goes before what the address says of reaching the server.
    Raises ConfigurationError without psycopg, TargetError if the server turns us away for good, and WriteError (which
    `classify` knows as transient) if it cannot be reached now.
    """
    psycopg = driver()
    from batchwright.databases.postgres_connection import connect_bounded

    named = set(dict(parse_qsl(database.url.partition("?")[2], keep_blank_values=True)))
    given: dict[str, Any] = {name: value for name, value in _CONNECTION_DEFAULTS.items() if name not in named}
    if connect_seconds is not None:
        given["connect_timeout"] = connect_seconds
    connection: Connection | None = None
    try:
        connection = connect_bounded(database.url, **given)
        _bound(connection, statement_seconds)
        if read_only:
            connection.execute("SET default_transaction_read_only = on")
    except psycopg.ProgrammingError as error:
        # libpq quotes parts of an address that it cannot read: nothing of it may be shown, nor chained.
        raise ConfigurationError(
            f"the address of {database} cannot be used",
            without_secrets(str(error), database) if error.sqlstate else "libpq cannot read it",
            "percent-encode special characters in user and password, and check the names of its options",
        ) from None
    except (psycopg.Error, OSError) as error:
        if connection is not None:
            connection.close()
        raise explained(error, database.shown, database.secrets) from error
    else:
        return connection


def driver() -> Any:
    """The driver, psycopg 3. Raises ConfigurationError where it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise ConfigurationError(
            "PostgreSQL needs the driver psycopg", str(error), "pip install 'batchwright[postgres]'"
        ) from error
    return psycopg


@contextlib.contextmanager
def transaction(connection: "Connection") -> Iterator["Connection"]:
    """One transaction: committed at the end of the block, rolled back on any error."""
    begin(connection)
    try:
        yield connection
        commit(connection)
    except BaseException:
        roll_back(connection)
        raise


def begin(connection: "Connection") -> None:
    """Begin a transaction."""
    connection.execute("BEGIN")


def commit(connection: "Connection") -> None:
    """Commit. Raises WriteError if there was nothing to commit: PostgreSQL's COMMIT of a failed transaction is silent.

    What any other error means is for `classify_commit` to say.
    """
    if not usable(connection):
        raise WriteError("the transaction is not open any more", "an error inside it was passed over", "report this")
    reach("K11")
    answer = connection.execute("COMMIT").statusmessage
    if answer != "COMMIT":
        raise WriteError("PostgreSQL rolled the transaction back by itself", f"it answered {answer}", "run it again")


def roll_back(connection: "Connection") -> None:
    """Undo what is open. Never raises: what cannot be rolled back was never committed. Closes what is broken."""
    try:
        if in_transaction(connection):
            connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - the server undoes what a closed connection leaves behind
        close(connection)


def close(connection: "Connection") -> None:
    """Let a connection go. Never raises."""
    with contextlib.suppress(Exception):
        connection.close()


def interrupt(connection: "Connection | None") -> None:
    """End the statement that is running, from another thread, or the wait for a server that does not answer at all.

    Never raises: a statement that is over is not interrupted.
    """
    with contextlib.suppress(Exception):
        if connection is not None and not connection.closed:
            from batchwright.databases import postgres_connection

            postgres_connection.interrupt(connection)


def hurry(connection: "Connection") -> None:
    """Wait for no server that is silent any more, on this connection. From any thread."""
    from batchwright.databases import postgres_connection

    postgres_connection.hurry(connection)


def bound_silence(connection: "Connection", seconds: float) -> None:
    """How long the server may be silent on this connection before it counts as gone."""
    from batchwright.databases import postgres_connection

    postgres_connection.bound_silence(connection, seconds)


def executing(connection: "Connection | None") -> bool:
    """Whether a statement is running. For any thread; the answer may be over when it comes."""
    with contextlib.suppress(Exception):
        return connection is not None and connection.info.transaction_status == 1  # 1: ACTIVE
    return False


def publishing_time(connection: "Connection") -> None:
    """Let the open transaction move all rows of a step in one statement, where nobody has chosen another time-out."""
    connection.execute(
        "SELECT set_config('statement_timeout', %s, true) FROM pg_settings WHERE name = 'statement_timeout' "
        "AND setting = %s",
        [f"{PUBLISHING_SECONDS}s", str(STATEMENT_SECONDS * 1_000)],
    )


def in_transaction(connection: "Connection") -> bool:
    """Whether a transaction is open, sound or failed."""
    return not connection.closed and connection.info.transaction_status != 0  # 0: IDLE


def usable(connection: "Connection") -> bool:
    """Whether a transaction is open in which statements still work."""
    return not connection.closed and connection.info.transaction_status == 2  # noqa: PLR2004 - INTRANS


def without_secrets(text: str, database: Database) -> str:
    """The text with every secret of the address masked."""
    for secret in database.secrets:
        text = text.replace(secret, "***")
    return text


def durability_warning(connection: "Connection") -> str:
    """What makes an acknowledged commit less than durable on this server, in words; empty if nothing does."""
    rows = connection.execute(
        "SELECT name FROM pg_settings WHERE setting = 'off' AND name IN ('fsync', 'synchronous_commit', "
        "'full_page_writes') ORDER BY name"
    ).fetchall()
    if not rows:
        return ""
    return f"a power cut can lose committed chunks: this server runs with {', '.join(f'{row[0]}=off' for row in rows)}"


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def _place(hosts: str, name: str, parameters: dict[str, str]) -> str:
    """Host, port and database as one comparable address."""
    host = parameters.get("host") or parameters.get("hostaddr") or hosts or os.environ.get("PGHOST", "")
    port = parameters.get("port") or ("" if hosts else os.environ.get("PGPORT", ""))
    name = parameters.get("dbname") or name or os.environ.get("PGDATABASE", "")
    return f"postgresql://{quote(unquote(host), safe=':,[]')}{f':{port}' if port else ''}/{name}"


def _bound(connection: "Connection", statement_seconds: int) -> None:
    """Give every time-out of the session an end, where nobody has given it one."""
    ours = {
        "statement_timeout": f"{statement_seconds}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "client_connection_check_interval": "5s",
    }
    rows = connection.execute(
        "SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s)", [list(ours)]
    ).fetchall()
    chosen = {name: setting for name, setting, source in rows if source in _CHOSEN_BY_THE_USER and setting != "0"}
    wanted = [(name, ours[name]) for name, _, _ in rows if name not in chosen]
    calls = ", ".join(["set_config(%s, %s, false)"] * len(wanted))
    if wanted:
        connection.execute(f"SELECT {calls}", [part for pair in wanted for part in pair])
    seconds = int(chosen["statement_timeout"]) / 1000 if "statement_timeout" in chosen else statement_seconds
    bound_silence(connection, seconds + min(ANSWER_SECONDS, max(seconds, LEAST_ANSWER_SECONDS)))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"{_LEASE} must be a number of seconds above 0", f"got {text[:20]!r}", f"?{_LEASE}=30")
    return seconds

"""Forward migration of our own tables in a PostgreSQL schema: numbered scripts, all in one transaction.

The one rule: a schema that is newer than this version of batchwright is refused, never touched; and where we may not
create, we say which GRANTs are missing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchwright.databases.migrations import Migration, check_version
from batchwright.databases.postgres import driver, quoted, transaction
from batchwright.model.errors import LedgerError

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_ONE_AT_A_TIME = 0x62617463  # the key of an advisory lock: "batc"

_HAS_VERSIONS = (
    "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relname = 'batchwright_schema'"
)


def schema_version(connection: "Connection", schema: str, component: str) -> int:
    """The version of a component's tables; 0 if they are not there. Writes nothing.

    Raises LedgerError if they are there and we may not look at them.
    """
    if not connection.execute(_HAS_VERSIONS, [schema]).fetchone():
        return 0
    try:
        row = connection.execute(
            f"SELECT version FROM {quoted(schema)}.batchwright_schema WHERE component = %s",  # noqa: S608 - quoted
            [component],
        ).fetchone()
    except driver().errors.InsufficientPrivilege as error:
        raise _not_granted(connection, schema, error) from error
    return int(row[0]) if row else 0


def migrate(connection: "Connection", schema: str, component: str, migrations: Sequence[Migration]) -> None:
    """Bring a component's tables to the newest version. Safe to be killed in, safe to be called by several at once.

    Raises LedgerError if the tables are newer than the newest migration, or if we may not create them.
    """
    newest = migrations[-1].version
    if schema_version(connection, schema, component) == newest:
        return
    try:
        with transaction(connection):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
            # Somebody else may have been faster while we waited for the lock.
            found = schema_version(connection, schema, component)
            check_version(component, found, newest)
            _create_schema(connection, schema)
            for migration in migrations:
                if migration.version > found:
                    connection.execute(migration.script.replace("{schema}", quoted(schema)).encode())
            connection.execute(
                f"INSERT INTO {quoted(schema)}.batchwright_schema VALUES (%s, %s) "  # noqa: S608 - quoted
                "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                [component, newest],
            )
    except driver().errors.InsufficientPrivilege as error:
        raise _not_granted(connection, schema, error) from error


def _create_schema(connection: "Connection", schema: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [schema]).fetchone():
        connection.execute(f"CREATE SCHEMA {quoted(schema)}".encode())
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {quoted(schema)}.batchwright_schema "
        "(component text PRIMARY KEY, version bigint NOT NULL)".encode()
    )


def _not_granted(connection: "Connection", schema: str, error: Exception) -> LedgerError:
    user, name = quoted(connection.info.user), quoted(schema)
    return LedgerError(
        f"the batchwright tables in schema {name} cannot be used by {user}",
        str(error).partition("\n")[0],
        f"let an owner of the database say: CREATE SCHEMA {name} AUTHORIZATION {user}; or, where the tables are there: "
        f"GRANT USAGE ON SCHEMA {name} TO {user}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} "
        f"TO {user}; see docs/how-to/postgres.md",
    )

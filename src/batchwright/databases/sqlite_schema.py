"""Forward migration of our own tables in a SQLite file: numbered scripts, one transaction each.

The one rule: a file that is newer than this version of batchwright is refused, never touched.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from batchwright.databases.migrations import Migration, check_version
from batchwright.databases.sqlite import transaction


def schema_version(connection: sqlite3.Connection, component: str) -> int:
    """The version of a component's tables; 0 if they are not there. Writes nothing."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'batchwright_schema'").fetchone():
        return 0
    row = connection.execute("SELECT version FROM batchwright_schema WHERE component = ?", (component,)).fetchone()
    return int(row[0]) if row else 0


def migrate(connection: sqlite3.Connection, component: str, migrations: Sequence[Migration]) -> None:
    """Bring a component's tables to the newest version. Safe to be killed in, safe to be called by several at once.

    Raises LedgerError if the tables are newer than the newest migration.
    """
    newest = migrations[-1].version
    found = schema_version(connection, component)
    check_version(component, found, newest)
    for migration in migrations:
        if migration.version > found:
            _apply(connection, component, migration)


def _apply(connection: sqlite3.Connection, component: str, migration: Migration) -> None:
    with transaction(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS batchwright_schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        # Somebody else may have been faster while we waited for the lock.
        if schema_version(connection, component) >= migration.version:
            return
        for statement in _statements(migration.script):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO batchwright_schema VALUES (?, ?) "
            "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
            (component, migration.version),
        )


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement

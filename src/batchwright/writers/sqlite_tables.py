"""The table that rows go into: created from the first rows, or checked before the first row is written."""

import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from batchwright.databases.sqlite import quoted
from batchwright.model.errors import TargetError
from batchwright.writers.rows import sql_types
from batchwright.writers.table_options import newer_rows, require_columns


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, the key that an upsert goes by, and the columns with their SQL types where known.

    With a `version` column an upsert leaves a row alone that has a version as high, or higher.
    """

    name: str
    key: tuple[str, ...]
    typed_columns: tuple[tuple[str, str | None], ...]
    version: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names; empty until the first rows are seen."""
        return tuple(name for name, _ in self.typed_columns)

    def on_conflict(self) -> str:
        """The clause that makes an insert an upsert."""
        others = [quoted(name) for name in self.columns if name not in self.key]
        if not others:
            return f" ON CONFLICT ({', '.join(map(quoted, self.key))}) DO NOTHING"
        updates = ", ".join(f"{name} = excluded.{name}" for name in others)
        newer = newer_rows(quoted(self.name), quoted(self.version)) if self.version else ""
        return f" ON CONFLICT ({', '.join(map(quoted, self.key))}) DO UPDATE SET {updates}{newer}"

    def insert_statement(self, rows: int, conflict: str | None) -> str:
        """The statement that inserts so many rows, with this ON CONFLICT clause; None: the one that makes an upsert."""
        clause = self.on_conflict() if conflict is None else conflict
        marks = ", ".join([f"({', '.join('?' * len(self.columns))})"] * rows)
        names = ", ".join(map(quoted, self.columns))
        return f"INSERT INTO {quoted(self.name)} ({names}) VALUES {marks}{clause}"  # noqa: S608 - quoted names

    def ready(
        self, connection: sqlite3.Connection, columns: tuple[str, ...], values: list[Any], *, checks: bool
    ) -> "Table":
        """The table with its columns known, created in the open transaction if it was missing, to hold these values.

        Raises TargetError for a column or key that is not there; `checks` asks for a unique index on the key.
        """
        table = self if self.typed_columns else replace(self, typed_columns=tuple((name, None) for name in columns))
        require_columns(table.name, table.columns, table.key, table.version)
        existing = connection.execute(f"PRAGMA table_info({quoted(table.name)})").fetchall()
        if not existing:
            _create(connection, table, values)
        else:
            _check_columns(table, [row[1] for row in existing])
            if checks:
                _check_key(connection, table, {row[1] for row in existing if row[5]})
        return table


def column_types(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """The declared type of each column of a table; empty if there is no such table."""
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()}


def _create(connection: sqlite3.Connection, table: Table, values: list[Any]) -> None:
    found = sql_types(values, table.columns)
    definitions = []
    for name, given in table.typed_columns:
        kind = found.get(name) if given is None else given
        if kind is None:
            named = ", ".join(f'"{known}": "{found.get(known, "TEXT")}"' for known in table.columns)
            raise TargetError(
                f"table '{table.name}' cannot be created: column '{name}' has only None in the first chunk",
                "its type is unknown",
                f"name all columns with their types, as in columns={{{named}}}, or create the table",
            )
        required = " NOT NULL" if name in table.key else ""
        definitions.append(f"{quoted(name)} {kind}{required}".replace("  ", " "))
    if table.key:
        definitions.append(f"PRIMARY KEY ({', '.join(map(quoted, table.key))})")
    connection.execute(f"CREATE TABLE {quoted(table.name)} ({', '.join(definitions)})")


def _check_columns(table: Table, existing: list[str]) -> None:
    known = {name.lower() for name in existing}
    for name in table.columns:
        if name.lower() not in known:
            from difflib import get_close_matches  # slow to load

            near = get_close_matches(name, existing, 1)
            raise TargetError(
                f"table '{table.name}' has no column '{name}'",
                f"its columns are {', '.join(existing)}",
                f"did you mean '{near[0]}'?" if near else "rename it in the processor, or add the column",
            )


def _check_key(connection: sqlite3.Connection, table: Table, primary: set[str]) -> None:
    key = {name.lower() for name in table.key}
    unique = [{name.lower() for name in primary}]
    for index in connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall():
        if index[2] and not index[4]:
            columns = connection.execute(f"PRAGMA index_info({quoted(index[1])})").fetchall()
            unique.append({str(column[2]).lower() for column in columns})
    if key not in unique:
        raise TargetError(
            f"table '{table.name}' has no unique index on {', '.join(table.key)}",
            "an upsert needs one to find the row to update",
            f"CREATE UNIQUE INDEX ON {table.name} ({', '.join(table.key)}), or change key=",
        )

"""The PostgreSQL table that rows go into: created from the first rows, or checked before the first row is written.

The one rule: what the server knows about the table is read once, and everything that would stop a later row is said
before the first one.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchwright.databases.postgres import quoted
from batchwright.model.errors import TargetError
from batchwright.writers.postgres_values import Column, sql_types
from batchwright.writers.table_options import newer_rows, require_columns

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_CREATING = 0x7461626C  # half the key of an advisory lock: "tabl"

_TABLE = """
SELECT c.oid, c.relkind IN ('r', 'p') AND NOT pg_catalog.row_security_active(c.oid),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)
"""

_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attidentity = 'a' OR a.attgenerated <> '',
       CASE t.typtype WHEN 'd' THEN t.typbasetype WHEN 'e' THEN 25 ELSE a.atttypid END::bigint
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_UNIQUE = """
SELECT pg_catalog.array_agg(a.attname::text)
FROM pg_catalog.pg_index i
JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place) ON k.place <= i.indnkeyatts
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, the key that an upsert goes by, and the columns with their SQL types where the user names them.

    The rest is known when it is `ready`: what the columns are, whether COPY may write to it, whether temporary tables
    may be made beside it.
    """

    name: str
    key: tuple[str, ...]
    typed_columns: tuple[tuple[str, str | None], ...]
    version: str = ""
    columns: tuple[Column, ...] = ()
    copies: bool = False
    stages: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names; empty until the first rows are seen."""
        return tuple(name for name, _ in self.typed_columns)

    @property
    def quoted_name(self) -> str:
        """The table's name for SQL: `sales.people` is a table in a schema."""
        return qualified(self.name)

    @property
    def quoted_columns(self) -> str:
        """The columns for SQL."""
        return ", ".join(map(quoted, self.names))

    def on_conflict(self) -> str:
        """The clause that makes an insert an upsert."""
        key = ", ".join(map(quoted, self.key))
        others = [quoted(name) for name in self.names if name not in self.key]
        if not others:
            return f" ON CONFLICT ({key}) DO NOTHING"
        newer = newer_rows(self.quoted_name, quoted(self.version)) if self.version else ""
        return f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}{newer}"

    def ready(self, connection: "Connection", columns: tuple[str, ...], values: list[Any]) -> "Table":
        """The table as it is, created in the open transaction if it was missing, to hold these values.

        Raises TargetError for a column that is not there, or a key without a unique index.
        """
        table = self if self.typed_columns else replace(self, typed_columns=tuple((name, None) for name in columns))
        require_columns(table.name, table.names, table.key, table.version)
        found = connection.execute(_TABLE, [table.quoted_name]).fetchone()
        if found is None:
            # Another process may be creating it: whoever comes second finds it there.
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_CREATING, table.quoted_name])
            found = connection.execute(_TABLE, [table.quoted_name]).fetchone() or _create(connection, table, values)
        return _known(connection, table, found)


def qualified(name: str) -> str:
    """A table's name, quoted: `people`, `sales.people`, or with quotes of its own where a name has a dot in it."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^".]+)', name)
    return ".".join(quoted(given.replace('""', '"') or plain) for given, plain in parts)


def found_table(connection: "Connection", name: str) -> tuple[int, str] | None:
    """The id and the schema of the table that a name for SQL means now; None if there is none."""
    row = connection.execute(
        "SELECT c.oid, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = pg_catalog.to_regclass(%s)",
        [name],
    ).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def column_types(connection: "Connection", oid: int) -> dict[str, str]:
    """The type of each column of a table, as SQL spells it."""
    return {name: kind for name, kind, _, _ in connection.execute(_COLUMNS, [oid]).fetchall()}


def existing_columns(connection: "Connection", table: Table) -> Collection[str]:
    """The names of the columns that the table has; none if it is not there."""
    found = found_table(connection, table.quoted_name)
    return column_types(connection, found[0]) if found else ()


def missing_tables(connection: "Connection", names: Sequence[str]) -> list[str]:
    """Those of these names that mean no table now."""
    return [name for name in names if found_table(connection, qualified(name)) is None]


def _known(connection: "Connection", table: Table, found: Sequence[Any]) -> Table:
    oid, copies, stages = found
    rows = connection.execute(_COLUMNS, [oid]).fetchall()
    existing = {name: (Column(name, kind, base), fixed) for name, kind, fixed, base in rows}
    for name in table.names:
        if name not in existing:
            _refuse_column(table, name, list(existing))
    columns = tuple(existing[name][0] for name in table.names)
    # COPY would write into a column that is GENERATED ALWAYS AS IDENTITY; INSERT refuses to.
    copies = copies and not any(existing[name][1] for name in table.names)
    if table.key:
        _check_key(connection, table, oid)
    return replace(table, columns=columns, copies=copies, stages=stages)


def _create(connection: "Connection", table: Table, values: list[Any]) -> Sequence[Any]:
    untyped = any(given is None for _, given in table.typed_columns)
    found = sql_types(values, table.names) if untyped else {}
    definitions = []
    for name, given in table.typed_columns:
        kind = found.get(name) if given is None else given
        if kind is None:
            raise TargetError(
                f"table '{table.name}' cannot be created: column '{name}' has only None in the first chunk",
                "its type is unknown",
                f'name the types, as in columns={{"{name}": "text", …}}, or create the table',
            )
        definitions.append(f"{quoted(name)} {kind}")
    if table.key:
        definitions.append(f"PRIMARY KEY ({', '.join(map(quoted, table.key))})")
    connection.execute(f"CREATE TABLE {table.quoted_name} ({', '.join(definitions)})".encode())
    created: Sequence[Any] | None = connection.execute(_TABLE, [table.quoted_name]).fetchone()
    assert created is not None  # noqa: S101 - for the type checker: it is there now
    return created


def _refuse_column(table: Table, name: str, existing: list[str]) -> None:
    from difflib import get_close_matches  # slow to load

    near = get_close_matches(name, existing, 1) or [known for known in existing if known.lower() == name.lower()]
    raise TargetError(
        f"table '{table.name}' has no column '{name}'",
        f"its columns are {', '.join(existing)}",
        f"did you mean '{near[0]}'?" if near else "rename it in the processor, or add the column",
    )


def _check_key(connection: "Connection", table: Table, oid: int) -> None:
    unique = [set(row[0]) for row in connection.execute(_UNIQUE, [oid]).fetchall()]
    if set(table.key) not in unique:
        raise TargetError(
            f"table '{table.name}' has no unique index on {', '.join(table.key)}",
            "an upsert needs one, neither partial nor deferrable, to find the row to update",
            f"CREATE UNIQUE INDEX ON {table.quoted_name} ({', '.join(map(quoted, table.key))}), or change key=",
        )

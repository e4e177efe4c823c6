"""Rows into a table of a SQL database, exactly once: which database, its address says.

The one rule: the checkpoint row lives in the target, and its word goes before the ledger's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from batchwright.databases.postgres import database_of, is_postgres
from batchwright.model.errors import DeclarationError
from batchwright.ports import Writer
from batchwright.writers.duplicate_keys import Duplicates, check_policy

Row = Any
"""A dict, a dataclass, or (with `columns=`) a tuple."""

_UPSERT = (
    "of equal keys the last one wins, and which is the last depends on the order",
    'if no key comes twice, write unique_keys=True; else name a column that says which row is newer: version="…"',
)
_STATEMENT = (
    "what the statement leaves behind may depend on the order",
    "if it does not, as where each output adds to a sum, write execute(…, commutes=True)",
)


def insert(
    database: str,
    table: str,
    *,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    on_conflict: Literal["fail", "ignore"] = "fail",
) -> Writer[Row]:
    """Insert each output as a row. Exactly once.

    `database` is `sqlite:///file.db` or `postgresql://user@host/database`. A missing table is created from the first
    chunk that has outputs; `columns` names all its columns, or maps them to SQL types; without, they are those of the
    first row. In SQLite decimals, dates and UUIDs are stored as text, exactly. What a row lacks is NULL. A row that has
    another column, or is none, or breaks a constraint is that item's failure;
    with `on_conflict="ignore"` one that breaks a unique constraint is passed over and counts as written.
    """
    if on_conflict not in ("fail", "ignore"):
        raise DeclarationError("insert: on_conflict must be 'fail' or 'ignore'", f"got {on_conflict!r}")
    conflict = " ON CONFLICT DO NOTHING" if on_conflict == "ignore" else ""
    if is_postgres(database):
        return _to_postgres(database, (table, (), _typed(columns)), conflict, adds_again=on_conflict == "fail")
    return _to_sqlite(database, (table, (), _typed(columns)), conflict, adds_again=on_conflict == "fail")


def upsert(  # noqa: PLR0913 - the public call: everything but the table and its key is optional
    database: str,
    table: str,
    *,
    key: str | Sequence[str],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    duplicates: Duplicates | None = None,
    unique_keys: bool = False,
    version: str | None = None,
) -> Writer[Row]:
    """Insert each output as a row, or update the row that has the same key. Exactly once; of equal keys the last wins.

    `database` is `sqlite:///file.db` or `postgresql://user@host/database`. A missing table is created from the first
    chunk that has outputs, with `key` as its primary key; an existing one needs a unique index on `key`. `duplicates`
    says what happens to rows with one key *within a chunk*: the last or the first is written and counts for all of
    them, or with "fail" all but the first are failures.

    `version` names a column: of rows with one key the one with the highest version stays, whatever the order in which
    they are written; of equal versions the one that was first. `unique_keys=True` is your word that no key comes twice
    in the input; a second row within a chunk is a failure. A step in partitions needs one of these two.
    """
    policy = _check_order(duplicates, version, unique_keys=unique_keys)
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not all(isinstance(name, str) and name for name in keys):
        raise DeclarationError("upsert: key must name one or more columns", f"got {key!r}", 'write key="id"')
    to = _to_postgres if is_postgres(database) else _to_sqlite
    order = () if unique_keys or version else _UPSERT
    return to(database, (table, keys, _typed(columns), version or ""), None, duplicates=policy, order_matters=order)


def execute(database: str, sql: str, *, commutes: bool = False) -> Writer[Mapping[str, Any] | Sequence[Any]]:
    """Execute one statement for each output, with the output as its parameters. Exactly once.

    A dict fills named parameters, a tuple those without a name; they are written as the driver wants them: `:total` and
    `?` for SQLite, `%(total)s` and `%s` for PostgreSQL. A row that breaks a constraint is that item's failure.
    `commutes=True` is your word that the order of the outputs does not matter, as where each adds to a sum; a step in
    partitions needs it.
    """
    order = () if commutes else _STATEMENT
    if is_postgres(database):
        return _to_postgres(database, None, "", sql=sql, adds_again=True, order_matters=order)
    return _to_sqlite(database, None, None, sql=sql, adds_again=True, order_matters=order)


def _check_order(duplicates: Duplicates | None, version: str | None, *, unique_keys: bool) -> Duplicates:
    """Which of the rows of a chunk that have one key is written. Raises DeclarationError for what cannot be meant."""
    check_policy(duplicates or "last")
    if version is not None and (not isinstance(version, str) or not version):
        raise DeclarationError("upsert: version must name a column", f"got {version!r}", 'write version="updated_at"')
    if version is not None and (unique_keys or duplicates is not None):
        other = "unique_keys" if unique_keys else "duplicates"
        raise DeclarationError(f"upsert: version and {other} say what becomes of equal keys twice", "", "leave one out")
    if unique_keys and duplicates not in (None, "fail"):
        raise DeclarationError(
            "upsert: unique_keys=True says that no key comes twice", f"got duplicates={duplicates!r}", "leave it out"
        )
    return duplicates or ("fail" if unique_keys else "last")


def statements_of_a_body(database: str) -> tuple[Writer[Any], Callable[[Any], bool]]:
    """A database into which the body of a loop writes by itself, and how to see whether a transaction is open there."""
    sql = "(the statements of a loop's body)"
    if is_postgres(database):
        from batchwright.databases import postgres

        return _to_postgres(database, None, "", sql=sql), postgres.in_transaction
    from batchwright.databases import sqlite

    return _to_sqlite(database, None, None, sql=sql), sqlite.in_transaction


def _to_sqlite(database: str, table: tuple[Any, ...] | None, conflict: str | None, **options: Any) -> Writer[Any]:
    from batchwright.writers.sqlite import SqlWriter
    from batchwright.writers.sqlite_tables import Table

    return SqlWriter(database, Table(*table) if table else None, conflict, **options)


def _to_postgres(database: str, table: tuple[Any, ...] | None, conflict: str | None, **options: Any) -> Writer[Any]:
    from batchwright.writers.postgres import PostgresWriter
    from batchwright.writers.postgres_tables import Table as PostgresTable

    return PostgresWriter(database_of(database), PostgresTable(*table) if table else None, conflict, **options)


def _typed(columns: Sequence[str] | Mapping[str, str] | None) -> tuple[tuple[str, str | None], ...]:
    if columns is None:
        return ()
    if isinstance(columns, Mapping):
        return tuple(columns.items())
    return tuple((name, None) for name in columns)

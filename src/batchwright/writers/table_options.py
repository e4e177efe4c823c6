"""How rows are written into a table, in words: what a restart compares.

The one rule: equal declarations give equal words, whatever the database.
"""

from collections.abc import Mapping, Sequence

from batchwright.model.errors import TargetError


def table_options(
    columns: Sequence[str] | None, key: Sequence[str], conflict: str | None, duplicates: str, version: str = ""
) -> Mapping[str, str]:
    """The way of writing, the key and the columns, as far as they are declared; no columns: a statement of its own."""
    if columns is None:
        return {"writing": "a statement of its own"}
    told = {"columns": ", ".join(columns)} if columns else {}
    if key:
        told |= {"version": version} if version else {}
        return {"writing": f"upsert by {', '.join(key)}", "duplicates": duplicates, **told}
    return {"writing": "insert, conflicts ignored" if conflict else "insert", **told}


def newer_rows(table: str, version: str) -> str:
    """What of an upsert's clause keeps the row with the higher version; both names are quoted."""
    return f" WHERE {table}.{version} IS NULL OR excluded.{version} > {table}.{version}"


def require_columns(table: str, columns: Sequence[str], key: Sequence[str], version: str) -> None:
    """Raise TargetError if the rows lack a column of the key, or that of the version."""
    wanted = [("key", name) for name in key] + ([("version", version)] if version else [])
    for word, name in wanted:
        if name not in columns:
            raise TargetError(
                f"table '{table}': the {word} column '{name}' is missing from the rows",
                f"they have {', '.join(columns)}",
                f"change {word}=, or let the processor add it",
            )

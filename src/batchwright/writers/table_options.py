"""How rows are written into a table, in words: what a restart compares.

The one rule: equal declarations give equal words, whatever the database.
"""

from collections.abc import Mapping, Sequence


def table_options(
    columns: Sequence[str] | None, key: Sequence[str], conflict: str | None, duplicates: str
) -> Mapping[str, str]:
    """The way of writing, the key and the columns, as far as they are declared; no columns: a statement of its own."""
    if columns is None:
        return {"writing": "a statement of its own"}
    told = {"columns": ", ".join(columns)} if columns else {}
    if key:
        return {"writing": f"upsert by {', '.join(key)}", "duplicates": duplicates, **told}
    return {"writing": "insert, conflicts ignored" if conflict else "insert", **told}

"""The user's part of the main case, the same for both sides: a table and a function a row.

The one rule: nothing here knows who calls it.
"""

from typing import Any

RATE = 1.19

COLUMNS = ("id", "name", "email", "amount", "day")

TABLE = "CREATE TABLE sales (id INTEGER PRIMARY KEY, name TEXT, email TEXT, amount REAL, day TEXT)"

CHECKED_TABLE = TABLE.replace("amount REAL", "amount REAL CHECK (amount >= 0)")


def sale_dict(row: dict[str, str]) -> dict[str, Any]:
    """A row as a dict."""
    return {
        "id": int(row["id"]),
        "name": row["name"].strip(),
        "email": row["email"].strip().lower(),
        "amount": float(row["amount"]) * RATE,
        "day": row["day"],
    }


def sale_tuple(row: dict[str, str]) -> tuple[Any, ...]:
    """A row as a tuple."""
    return (
        int(row["id"]),
        row["name"].strip(),
        row["email"].strip().lower(),
        float(row["amount"]) * RATE,
        row["day"],
    )


PROCESSES = {"dicts": sale_dict, "tuples": sale_tuple}

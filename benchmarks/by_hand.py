"""What a user writes without the framework: the loops that everything is measured against.

The one rule: the same work for the same durability, in the way that the standard library's documentation shows it.
"""

import csv
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sales import COLUMNS, TABLE

UPSERT = f"INSERT INTO sales ({', '.join(COLUMNS)}) VALUES ({{values}}) ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in COLUMNS[1:]
)
VALUES = {"dicts": ", ".join(f":{column}" for column in COLUMNS), "tuples": ", ".join("?" * len(COLUMNS))}

CHECKPOINT = (
    "INSERT INTO checkpoint (step, done, failed) VALUES ('load', ?, ?) "
    "ON CONFLICT (step) DO UPDATE SET done = excluded.done, failed = excluded.failed"
)


def load_sales(path: str, database: str, process: Callable[[Any], Any], shape: str, chunk_size: int) -> None:
    """CSV to SQLite: `csv.DictReader`, one `try` an item, `executemany`, a durable transaction a chunk."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    connection.execute("CREATE TABLE checkpoint (step TEXT PRIMARY KEY, done INTEGER, failed INTEGER)")
    upsert = UPSERT.format(values=VALUES[shape])
    done = 0
    sales: list[Any] = []
    failures: list[tuple[int, str]] = []
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            done += 1
            try:
                sales.append(process(row))
            except ValueError as error:
                failures.append((done, str(error)))
            if done % chunk_size == 0:
                _commit(connection, upsert, sales, (done, len(failures)))
                sales = []
    _commit(connection, upsert, sales, (done, len(failures)))
    connection.close()


def count_items(items: Iterable[int], process: Callable[[int], int], write: Callable[[Sequence[int]], None]) -> None:
    """The loop around nothing: one `try` an item, one call a thousand."""
    outputs: list[int] = []
    failures = []
    for item in items:
        try:
            outputs.append(process(item))
        except ValueError as error:
            failures.append((item, error))
        if len(outputs) == 1_000:
            write(outputs)
            outputs = []
    if outputs:
        write(outputs)


def _commit(connection: sqlite3.Connection, upsert: str, sales: list[Any], checkpoint: tuple[int, int]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(upsert, sales)
    connection.execute(CHECKPOINT, checkpoint)
    connection.execute("COMMIT")


def loop_with_a_checkpoint(database: str, items: int, chunk_size: int) -> None:
    """A loop that inserts row by row: a savepoint an item, and every so often a commit with the number that is done."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE numbers (n INTEGER)")
    connection.execute("CREATE TABLE checkpoint (done INTEGER)")
    connection.execute("INSERT INTO checkpoint VALUES (0)")
    connection.execute("BEGIN IMMEDIATE")
    for number in range(items):
        connection.execute("SAVEPOINT item")
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        connection.execute("RELEASE item")
        if (number + 1) % chunk_size == 0:
            connection.execute("UPDATE checkpoint SET done = ?", (number + 1,))
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE checkpoint SET done = ?", (items,))
    connection.execute("COMMIT")
    connection.close()

"""Statements executed in SQLite for rows: a user's own one by one, inserts of ours many at once.

The one rule: a row that is refused leaves no trace, and its neighbours stay.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from batchwright.databases import sqlite
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.writers.rows import storable_parameters

_ANY_TRIGGER = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' LIMIT 1"


def write_singly(
    connection: sqlite3.Connection,
    sql: str,
    rows: Sequence[Any],
    errors: dict[int, BaseException],
) -> None:
    """Execute for each row, in order. Those refused are undone to a savepoint, and their errors kept by index."""
    for index, row in enumerate(rows):
        try:
            parameters = storable_parameters(row)
        except (ValueError, TypeError) as error:
            errors[index] = error
            continue
        connection.execute("SAVEPOINT batchwright_row")
        try:
            connection.execute(sql, parameters)
        except Exception as error:
            if sqlite.classify(error) is not Fault.REFUSED or not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO batchwright_row")
            errors[index] = error
            reach("K18")
        connection.execute("RELEASE batchwright_row")


def write_group(
    connection: sqlite3.Connection,
    statement: Callable[[int], str],
    values: list[Any],
    indexes: Sequence[int],
    errors: dict[int, BaseException],
) -> None:
    """Write some rows in one statement; if it is refused, one by one, without those that are to blame."""
    if sqlite.refusal(connection, partial(connection.execute, statement(len(indexes)), values)) is None:
        return
    reach("K18")
    width, single, start = len(values) // len(indexes), statement(1), 0
    # A single row's statement is undone by itself, but not what a trigger did before its RAISE(FAIL); a trigger of
    # any table, since a row may cascade.
    undoes = connection.execute(_ANY_TRIGGER).fetchone() is not None
    rows = [values[first : first + width] for first in range(0, len(values), width)]
    while start < len(rows):
        waiting = iter(rows[start:])
        error = sqlite.refusal(connection, partial(connection.executemany, single, waiting), undoes=undoes)
        if error is None:
            return
        # `executemany` takes row after row: the last one that it took is to blame.
        blamed = len(rows) - len(list(waiting)) - 1
        if blamed < start:
            raise error
        if undoes:
            connection.executemany(single, rows[start:blamed])
        errors[indexes[blamed]] = error
        start = blamed + 1

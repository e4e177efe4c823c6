"""A user's own statement, executed in SQLite for one row after another.

The one rule: a row that is refused leaves no trace, and its neighbours stay.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from batchwright.databases import sqlite
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.writers.rows import storable_parameters


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

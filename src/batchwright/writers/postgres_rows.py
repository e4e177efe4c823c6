"""A chunk's rows into a PostgreSQL table: by COPY where that is faster, and down to the row that is refused.

The one rule: the transaction stays usable. Whatever may be refused is tried inside a savepoint, and nothing of a
refused attempt stays.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from batchwright.databases.postgres import quoted
from batchwright.databases.postgres_errors import classify, sqlstate
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.writers.postgres_tables import Table
from batchwright.writers.postgres_values import parameter_values

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

COPY_ROWS = 80
"""From so many rows on COPY is faster than a statement with all values in it."""

MAX_PARAMETERS = 65_535

TRUSTED_HINTS = 16
"""How many refused rows of a chunk are found by the line that the server names. If most are bad, halves are cheaper."""

LONGEST_MERGE_RUN = 64
"""How many chunks are merged before COPY straight into the target is tried again, where keys mostly exist."""

UNIQUE_VIOLATION = "23505"

Row = tuple[Any, ...]


class RowWriter:
    """Writes rows into one table through one connection. `conflict` is the ON CONFLICT clause, empty for none.

    With such a clause, COPY goes straight into the target as long as no key exists; if one does, through a temporary
    table from which the rows are merged, for a while.
    """

    def __init__(self, table: Table, conflict: str) -> None:
        """Know nothing yet of the keys that exist."""
        self.table = table
        self._conflict = conflict
        self._statements: dict[int, str] = {}
        # A connection may write to several tables, each of which needs one of its own.
        self._staging = f"pg_temp.batchwright_staging_{crc32(table.quoted_name.encode()):08x}"
        self._staging_exists = False
        self._staging_used = False
        self._merges_left = 0
        self._merge_run = 0

    def end_transaction(self) -> None:
        """Its commit has emptied the temporary table. After a rollback there has to be a new RowWriter."""
        self._staging_used = False

    def write(self, connection: "Connection", rows: Sequence[Row], *, binary: bool) -> dict[int, BaseException]:
        """Write rows in order; the errors of those that were refused, by index. All others are written."""
        errors: dict[int, BaseException] = {}
        parts = [(0, len(rows))]
        while parts:
            start, end = parts.pop()
            if start == end:
                continue
            error, hint = self._try(connection, rows[start:end], binary=binary)
            if error is None:
                continue
            reach("K18")
            if end - start == 1:
                errors[start] = error
            elif hint is not None and len(errors) < TRUSTED_HINTS:
                at = start + hint
                parts += [(at + 1, end), (at, at + 1), (start, at)]
            else:
                middle = (start + end) // 2
                parts += [(middle, end), (start, middle)]
        return errors

    def _try(
        self, connection: "Connection", rows: Sequence[Row], *, binary: bool
    ) -> tuple[BaseException | None, int | None]:
        """Write all rows or none; then the error, and which row is to blame, if that can be told.

        Raises what is not the rows' fault.
        """
        merges = self._merges(len(rows))
        if merges and not self._staging_exists:
            self._create_staging(connection)
        connection.execute("SAVEPOINT batchwright_rows")
        try:
            if merges:
                self._write_to_existing(connection, rows, binary=binary)
            elif self._copies(len(rows)):
                _copy(connection, self._target, rows, self.table if binary else None)
            else:
                self._insert(connection, rows)
            connection.execute("RELEASE batchwright_rows")
        except Exception as error:
            if classify(error) is not Fault.REFUSED:
                raise
            hint = _line_of(error, len(rows))
            connection.execute("ROLLBACK TO batchwright_rows")
            # Its traceback would hold these frames, and they the chunk, until the garbage collector comes.
            return error.with_traceback(None), hint
        return None, None

    def _copies(self, rows: int) -> bool:
        return self.table.copies and rows >= COPY_ROWS

    def _merges(self, rows: int) -> bool:
        return bool(self._conflict) and self.table.stages and self._copies(rows)

    @property
    def _target(self) -> str:
        return f"{self.table.quoted_name} ({self.table.quoted_columns})"

    def _write_to_existing(self, connection: "Connection", rows: Sequence[Row], *, binary: bool) -> None:
        """COPY as if no key existed; merge if one does, and then for longer and longer before COPY is tried again."""
        types = self.table if binary else None
        if self._merges_left == 0:
            try:
                _copy(connection, self._target, rows, types)
            except Exception as error:
                if sqlstate(error) != UNIQUE_VIOLATION:
                    raise
                self._merge_run = min(max(1, self._merge_run * 2), LONGEST_MERGE_RUN)
                self._merges_left = self._merge_run
                connection.execute("ROLLBACK TO batchwright_rows")
            else:
                self._merge_run = 0
                return
        self._merges_left -= 1
        if self._staging_used:
            connection.execute(f"TRUNCATE {self._staging}")
        self._staging_used = True
        columns = self.table.quoted_columns
        _copy(connection, f"{self._staging} ({columns})", rows, types)
        connection.execute(
            f"INSERT INTO {self._target} SELECT {columns} FROM {self._staging}{self._conflict}".encode()  # noqa: S608 - quoted
        )

    def _create_staging(self, connection: "Connection") -> None:
        columns = ", ".join(f"{quoted(column.name)} {column.kind}" for column in self.table.columns)
        connection.execute(f"DROP TABLE IF EXISTS {self._staging}")
        connection.execute(f"CREATE TEMPORARY TABLE {self._staging} ({columns}) ON COMMIT DELETE ROWS".encode())
        self._staging_exists = True

    def _insert(self, connection: "Connection", rows: Sequence[Row]) -> None:
        size = max(1, min(COPY_ROWS, MAX_PARAMETERS // len(self.table.names)))
        for start in range(0, len(rows), size):
            group = rows[start : start + size]
            connection.execute(self._statement(len(group)).encode(), [value for row in group for value in row])

    def _statement(self, rows: int) -> str:
        if rows not in self._statements:
            marks = ", ".join([f"({', '.join(['%s'] * len(self.table.names))})"] * rows)
            target, conflict = self._target.replace("%", "%%"), self._conflict.replace("%", "%%")
            self._statements[rows] = f"INSERT INTO {target} VALUES {marks}{conflict}"  # noqa: S608 - quoted
        return self._statements[rows]


def _copy(connection: "Connection", target: str, rows: Sequence[Row], types: Table | None) -> None:
    """COPY rows, in binary if the table is given for its types. An error of the driver's own knows its row."""
    options = " WITH (FORMAT binary)" if types else ""
    written = 0
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN{options}".encode()) as copy:
        if types:
            copy.set_types([column.oid for column in types.columns])
        write_row = copy.write_row
        try:
            for written, row in enumerate(rows):  # noqa: B007 - asked for when a row fails
                write_row(row)
        except Exception as error:
            error.__dict__["batchwright_row"] = written
            raise


def _line_of(error: BaseException, rows: int) -> int | None:
    """The row that COPY's error names. Only a hint: what is refused is found out by writing it alone."""
    hint: int | None = getattr(error, "batchwright_row", None)
    if hint is None:
        context = getattr(getattr(error, "diag", None), "context", None) or ""
        found = re.search(r"^COPY .*?, \D*(\d+)", context, re.MULTILINE)
        hint = int(found.group(1)) - 1 if found else None
    return hint if hint is not None and 0 <= hint < rows else None


def execute_all(connection: "Connection", sql: str, rows: Sequence[Any]) -> dict[int, BaseException]:
    """Execute a statement for each row, in order; the errors of those refused. All others have taken effect."""
    errors: dict[int, BaseException] = {}
    parameters: list[tuple[int, Any]] = []
    for index, row in enumerate(rows):
        try:
            parameters.append((index, parameter_values(row)))
        except (ValueError, TypeError) as error:
            errors[index] = error
    parts = [(0, len(parameters))]
    while parts:
        start, end = parts.pop()
        if start == end:
            continue
        refusal = _try_all(connection, sql, [row for _, row in parameters[start:end]])
        if refusal is None:
            continue
        reach("K18")
        if end - start == 1:
            errors[parameters[start][0]] = refusal
        else:
            middle = (start + end) // 2
            parts += [(middle, end), (start, middle)]
    return errors


def _try_all(connection: "Connection", sql: str, rows: Sequence[Any]) -> BaseException | None:
    """Execute for all rows or for none; then the error of one that was refused."""
    connection.execute("SAVEPOINT batchwright_rows")
    try:
        with connection.cursor() as cursor:
            cursor.executemany(sql.encode(), rows)
        connection.execute("RELEASE batchwright_rows")
    except Exception as error:
        if classify(error) is not Fault.REFUSED:
            raise
        connection.execute("ROLLBACK TO batchwright_rows")
        # Its traceback would hold these frames, and they the chunk, until the garbage collector comes.
        return error.with_traceback(None)
    return None

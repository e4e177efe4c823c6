"""The statements that every log of a step takes: a table of which a row says one thing about one place of the step.

The one rule: a row is found by its step's key and its place; the last word about a place replaces the one before.
"""

from dataclasses import dataclass
from typing import ClassVar

from batchwright.databases.records import KEY


@dataclass(frozen=True, slots=True)
class LogStatements:
    """What is said to a database. `mark` is its placeholder, `table` the table's name as it takes it."""

    table: str
    mark: str

    place: ClassVar[tuple[str, ...]]
    content: ClassVar[tuple[str, ...]]

    @property
    def save(self) -> str:
        """Insert or replace one row: key, place and content."""
        columns = (*KEY, *self.place, *self.content)
        marks = ", ".join([self.mark] * len(columns))
        changed = ", ".join(f"{column} = excluded.{column}" for column in self.content)
        return (
            f"INSERT INTO {self.table} ({', '.join(columns)}) VALUES ({marks}) "  # noqa: S608 - our own column names
            f"ON CONFLICT ({', '.join((*KEY, *self.place))}) DO UPDATE SET {changed}"
        )

    @property
    def forget(self) -> str:
        """Delete the rows of an instance's laps before one."""
        return (
            f"DELETE FROM {self.table} WHERE job = {self.mark} AND parameters_hash = {self.mark} AND lap < {self.mark}"  # noqa: S608 - as above
        )

    @property
    def rows_of_step(self) -> str:
        """The table and the rows of a step in it, for what is selected or deleted."""
        return f"FROM {self.table} WHERE {' AND '.join(f'{column} = {self.mark}' for column in KEY)}"

    @property
    def select(self) -> str:
        """The places and contents of a step's rows."""
        return f"SELECT {', '.join((*self.place, *self.content))} {self.rows_of_step}"

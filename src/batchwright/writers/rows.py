"""Rows for SQL: from what a processor gives to what a driver takes, a chunk at a time.

The one rule: nothing is converted silently into something else. NaN, which SQLite would store as NULL, is refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from batchwright.model.errors import TargetError

_PLAIN = frozenset({int, str, bytes, type(None), bool})

_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any], str], ...] = (
    (datetime, lambda value: value.isoformat(sep=" "), "TEXT"),
    (date, date.isoformat, "TEXT"),
    (time, time.isoformat, "TEXT"),
    # As text: SQLite's NUMERIC would take a detour over binary floating point.
    (Decimal, str, "TEXT"),
    (UUID, str, "TEXT"),
    (str, str, "TEXT"),
    (bool, int, "INTEGER"),
    (int, int, "INTEGER"),
    (float, float, "REAL"),
    (bytes | bytearray | memoryview, bytes, "BLOB"),
)


def columns_of(rows: Sequence[Any]) -> tuple[str, ...]:
    """The columns of all rows, in order of appearance. Raises TargetError for rows without names."""
    if all(isinstance(row, Mapping) for row in rows):
        return tuple(dict.fromkeys(chain.from_iterable(rows)))
    first = rows[0]
    if is_dataclass(first):
        return tuple(field.name for field in fields(first))
    raise TargetError(
        "rows for a table must be dicts or dataclasses, or tuples together with columns=",
        f"got {type(first).__name__}",
        "let the processor return dicts",
    )


def tuples_of(rows: Sequence[Any], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Each row as a tuple in the order of `columns`; what a dict lacks is None.

    Raises TargetError for a column that is not among them, and for tuples of another length.
    """
    if type(rows[0]) is dict:
        getter = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
        try:
            found = list(map(getter, rows))
            if sum(map(len, rows)) == len(rows) * len(columns):
                return found
        except (KeyError, TypeError):
            pass  # some row is not like the others: look at each
    return [_tuple_of(row, columns) for row in rows]


def bindable(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], dict[int, Exception]]:
    """Rows whose every value the driver can store, and the errors of those that have one it cannot, by index.

    A refused row stays in the list, so that indexes hold.
    """
    kinds = set(map(type, chain.from_iterable(rows)))
    if kinds <= _PLAIN:
        return rows, {}
    if kinds <= _PLAIN | {float} and not any(value != value for value in chain.from_iterable(rows)):  # noqa: PLR0124
        return rows, {}
    errors: dict[int, Exception] = {}
    converted = []
    for index, row in enumerate(rows):
        try:
            converted.append(tuple(map(_convert, row)))
        except (ValueError, TypeError) as error:
            errors[index] = error
            converted.append(row)
    return converted, errors


def sql_types(rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...]) -> dict[str, str]:
    """The SQLite type of each column, from the values in it: "" where they differ, absent where all are None."""
    types = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        kinds = {_sql_type(value) for value in values if value is not None}
        if kinds:
            types[column] = "REAL" if kinds == {"INTEGER", "REAL"} else kinds.pop() if len(kinds) == 1 else ""
    return types


def _tuple_of(row: Any, columns: tuple[str, ...]) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        if not row.keys() <= set(columns):
            unknown = ", ".join(str(name) for name in row if name not in columns)
            raise TargetError(
                f"a row has a column that the table was not begun with: {unknown}",
                f"the columns are {', '.join(columns)}",
                "drop it in the processor, or name all columns with columns= and begin again",
            )
        return tuple(map(row.get, columns))
    if is_dataclass(row):
        return attrgetter(*columns)(row) if len(columns) > 1 else (getattr(row, columns[0]),)
    if isinstance(row, tuple) and len(row) == len(columns):
        return row
    raise TargetError(
        f"a row does not fit the {len(columns)} columns {', '.join(columns)}",
        f"got {type(row).__name__}" + (f" of {len(row)} values" if isinstance(row, tuple) else ""),
        "let the processor return dicts with these names",
    )


def _convert(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        if math.isnan(value):
            raise ValueError("NaN cannot be stored: SQLite would make it NULL; write None if that is meant")
        return value
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"the decimal {value} cannot be stored")
    for known, convert, _ in _CONVERSIONS:
        if isinstance(value, known):
            return convert(value)
    if isinstance(value, Enum):
        return _convert(value.value)
    raise TypeError(f"a value of type {kind.__name__} cannot be stored in SQLite; convert it in the processor")


def _sql_type(value: Any) -> str:
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return _sql_type(value.value)
    return next((sql for known, _, sql in _CONVERSIONS if isinstance(value, known)), "")

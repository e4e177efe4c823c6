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
from operator import attrgetter, itemgetter, ne
from typing import Any
from uuid import UUID

from batchwright.model.errors import TargetError

_PLAIN = frozenset({int, str, bytes, type(None), bool})

_FLOAT = frozenset({float})

_PLAIN_OR_FLOAT = _PLAIN | _FLOAT

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
        columns = tuple(dict.fromkeys(chain.from_iterable(rows)))
        if not columns:
            raise TargetError("a table cannot be begun with empty rows", "got {}", "let the processor return DROP")
        return columns
    first = next(row for row in rows if not isinstance(row, Mapping))
    if is_dataclass(first):
        return tuple(field.name for field in fields(first))
    raise TargetError(
        "rows for a table must be dicts or dataclasses, or tuples together with columns=",
        f"got {type(first).__name__}",
        "let the processor return dicts",
    )


def flat_values(rows: Sequence[Any], columns: tuple[str, ...]) -> list[Any]:
    """All values of all rows in one list, row after row, in the order of `columns`; what a dict lacks is None.

    Raises TargetError for a column that is not among them, and for tuples of another length.
    """
    kinds = set(map(type, rows))
    if len(kinds) == 1 and (values := _alike(rows, columns, kinds.pop())) is not None:
        return values
    return list(chain.from_iterable(_tuple_of(row, columns) for row in rows))


def bindable(values: list[Any], width: int) -> tuple[list[Any], dict[int, Exception]]:
    """The same values as the driver can store them, and the errors of rows that have one it cannot, by row.

    A refused row's values stay in the list, so that indexes hold.
    """
    if all(_storable(values[column::width]) for column in range(width)):
        return values, {}
    errors: dict[int, Exception] = {}
    converted: list[Any] = []
    for index, start in enumerate(range(0, len(values), width)):
        row = values[start : start + width]
        try:
            converted.extend(map(_convert, row))
        except (ValueError, TypeError) as error:
            errors[index] = error
            converted[start:] = row
    return converted, errors


def storable_parameters(row: Any) -> Any:
    """A statement's parameters as the driver can store them. Raises ValueError or TypeError for one that it cannot."""
    if isinstance(row, Mapping):
        return {name: _convert(value) for name, value in row.items()}
    return tuple(map(_convert, row)) if isinstance(row, tuple | list) else row


def sql_types(values: list[Any], columns: tuple[str, ...]) -> dict[str, str]:
    """The SQLite type of each column, from the values in it: "" where they differ, absent where all are None."""
    types = {}
    for index, column in enumerate(columns):
        kinds = {_sql_type(value) for value in values[index :: len(columns)] if value is not None}
        if kinds:
            types[column] = "REAL" if kinds == {"INTEGER", "REAL"} else kinds.pop() if len(kinds) == 1 else ""
    return types


def _alike(rows: Sequence[Any], columns: tuple[str, ...], kind: type) -> list[Any] | None:
    """The values of rows of one type, without looking at each; None if some row is not like the others."""
    if issubclass(kind, tuple):
        return list(chain.from_iterable(rows)) if set(map(len, rows)) == {len(columns)} else None
    if kind is dict:
        if sum(map(len, rows)) != len(rows) * len(columns):
            return None
        getter: Callable[[Any], Any] = itemgetter(*columns)
    elif is_dataclass(kind):
        getter = attrgetter(*columns)
    else:
        return None
    found = map(getter, rows)
    try:
        return list(chain.from_iterable(found) if len(columns) > 1 else found)
    except KeyError:
        return None


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


def _storable(column: list[Any]) -> bool:
    """Whether the driver stores all of a column's values as they are, told without a look at each of them in Python."""
    kinds = set(map(type, column))
    if kinds <= _PLAIN:
        return True
    # A sum is NaN if one of its parts is; and NaN is the one value that differs from itself.
    return kinds <= _PLAIN_OR_FLOAT and (
        (kinds == _FLOAT and math.isfinite(sum(column))) or not any(map(ne, column, column))
    )


def _convert(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Enum):
        # First of all: a member may be a str or an int too, and then str() gives its name.
        return _convert(value.value)
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN cannot be stored: SQLite would make it NULL; write None if that is meant")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"the decimal {value} cannot be stored")
    for known, convert, _ in _CONVERSIONS:
        if isinstance(value, known):
            return convert(value)
    raise TypeError(f"a value of type {kind.__name__} cannot be stored in SQLite; convert it in the processor")


def _sql_type(value: Any) -> str:
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return _sql_type(value.value)
    return next((sql for known, _, sql in _CONVERSIONS if isinstance(value, known)), "")

"""Rows for SQL: from what a processor gives to what a driver takes, a chunk at a time.

The one rule: nothing is converted silently into something else, and a row that does not fit is refused alone. NaN,
which SQLite would store as NULL, is refused.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from itertools import chain
from operator import attrgetter, itemgetter, ne
from typing import Any
from uuid import UUID

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


def settled(rows: Sequence[Any], existing: Collection[str], alike: Callable[[str], str] = str.lower) -> tuple[str, ...]:
    """The columns for a table: those of the first row that it can take as it is, or, if it has none yet, of the first.

    Where it can take no row they are those of the first all the same: the table says what is wrong with them. `alike`
    makes names equal that are the same to the database.
    """
    return (columns_of(rows, existing, alike) if existing else ()) or columns_of(rows)


def columns_of(
    rows: Sequence[Any], known: Collection[str] = (), alike: Callable[[str], str] = str.lower
) -> tuple[str, ...]:
    """The columns of the first row that names any, and only those `known`, if any are; empty if none does."""
    names = set(map(alike, known))
    for row in rows:
        if isinstance(row, Mapping):
            found = tuple(row) if all(isinstance(name, str) for name in row) else ()
        else:
            found = names_of(type(row))
        if found and (not names or names.issuperset(map(alike, found))):
            return found
    return ()


def flat_values(rows: Sequence[Any], columns: tuple[str, ...]) -> tuple[list[Any], dict[int, BaseException]]:
    """All values of all rows in one list, row after row, in the order of `columns`; what a dict lacks is None.

    With them come the errors of rows that do not fit, by row; in the list these are all None.
    """
    kinds = set(map(type, rows))
    if columns and len(kinds) == 1 and (values := _alike(rows, columns, kinds.pop())) is not None:
        return values, {}
    errors: dict[int, BaseException] = {}
    flat: list[Any] = []
    for index, row in enumerate(rows):
        try:
            flat.extend(_tuple_of(row, columns))
        except Exception as error:  # noqa: BLE001 - whatever a row's own methods raise is its failure
            errors[index] = error
            flat.extend([None] * len(columns))
    return flat, errors


def no_row(output: Any) -> TypeError:
    """The error of an output that is no row at all."""
    if output is None:
        return TypeError("None is no output; return DROP to drop an item")
    return TypeError(
        f"a row must be a dict or a dataclass, or a tuple together with columns=; got {type(output).__name__}"
    )


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


def without_key(values: list[Any], columns: tuple[str, ...], key: Sequence[str]) -> dict[int, Exception]:
    """The errors of rows that lack their key, by row: SQLite would make one up, perhaps that of another row."""
    errors: dict[int, Exception] = {}
    for name in key if set(key) <= set(columns) else ():
        found = values[columns.index(name) :: len(columns)]
        if None in found:
            lacking = ValueError(f"the row has no {name}, which is its key; set it in the processor, or return DROP")
            errors |= dict.fromkeys((index for index, value in enumerate(found) if value is None), lacking)
    return errors


def storable_parameters(row: Any) -> Any:
    """A statement's parameters as the driver can store them. Raises ValueError or TypeError for one that it cannot."""
    if isinstance(row, Mapping):
        return {name: _convert(value) for name, value in row.items()}
    if isinstance(row, tuple | list):
        return tuple(map(_convert, row))
    require_parameters(row)
    return row


def require_parameters(row: Any) -> None:
    """Raise TypeError for what can be no statement's parameters."""
    if row is None:
        raise no_row(row)
    if not isinstance(row, Mapping | Sequence) or isinstance(row, str | bytes):
        raise TypeError(f"the parameters of a statement must be a dict, a tuple or a list; got {type(row).__name__}")


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
    elif is_dataclass(kind) and set(columns).issuperset(names_of(kind)):
        getter = attrgetter(*columns)
    else:
        return None
    found = map(getter, rows)
    try:
        return list(chain.from_iterable(found) if len(columns) > 1 else found)
    except (KeyError, AttributeError):
        return None


def _tuple_of(row: Any, columns: tuple[str, ...]) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        if not row:
            raise empty_row()
        refuse_unknown(row, columns)
        return tuple(map(row.get, columns))
    if columns and _is_record(row):
        refuse_unknown(names_of(type(row)), columns)
        return attrgetter(*columns)(row) if len(columns) > 1 else (getattr(row, columns[0]),)
    if columns and isinstance(row, tuple):
        if len(row) == len(columns):
            return row
        raise ValueError(f"the row has {len(row)} values for the {len(columns)} columns {', '.join(columns)}")
    raise no_row(row)


def _is_record(row: Any) -> bool:
    return is_dataclass(row) and not isinstance(row, type)


def empty_row() -> ValueError:
    """The error of a row without names."""
    return ValueError("a row must not be empty; return DROP to drop an item")


def names_of(kind: Any) -> tuple[str, ...]:
    """The names of the fields of a dataclass; none of anything else."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def refuse_unknown(row: Iterable[Any], columns: Sequence[str]) -> None:
    """Raise ValueError for a row with a name that is not among the columns, TypeError for one that is no text."""
    odd = next((name for name in row if not isinstance(name, str)), "")
    if odd != "":
        raise TypeError(f"the names in a row must be texts; got {odd!r}")
    unknown = [name for name in row if name not in columns]
    if unknown:
        raise ValueError(
            f"the row has {', '.join(unknown)}, and the columns are {', '.join(columns)}, those of the first row or of "
            "columns=; drop it in the processor; to write it, begin again (--again) with columns= naming them all"
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

"""Values for PostgreSQL: from what a processor gives to what each column takes, a column at a time.

The one rule: nothing is converted silently into something else. NaN, a wrong kind of timestamp, an integer that does
not fit are refused, row by row; whether a text is a number is for the server to say.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import ne
from typing import Any
from uuid import UUID

from batchwright.model.errors import TargetError
from batchwright.writers.rows import require_parameters

BOOL, BYTEA, INT8, INT2, INT4, TEXT, FLOAT8 = 16, 17, 20, 21, 23, 25, 701
BPCHAR, VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UUID_OID = 1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950
JSON = frozenset({114, 3802})

_NATURAL: dict[int, frozenset[type]] = {
    BOOL: frozenset({bool}),
    BYTEA: frozenset({bytes}),
    INT2: frozenset({int}),
    INT4: frozenset({int}),
    INT8: frozenset({int}),
    TEXT: frozenset({str}),
    VARCHAR: frozenset({str}),
    BPCHAR: frozenset({str}),
    FLOAT8: frozenset({float, int}),
    NUMERIC: frozenset({Decimal, int}),
    DATE: frozenset({date}),
    TIME: frozenset({time}),
    TIMESTAMP: frozenset({datetime}),
    TIMESTAMPTZ: frozenset({datetime}),
    UUID_OID: frozenset({UUID}),
}
"""The Python types whose every value goes into a column of this type as it is, in COPY's binary format too."""

_BITS = {INT2: 16, INT4: 32, INT8: 64}

_SQL_TYPES: tuple[tuple[Any, str], ...] = (
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double precision"),
    (Decimal, "numeric"),
    (datetime, "timestamp"),
    (date, "date"),
    (time, "time"),
    (timedelta, "interval"),
    (UUID, "uuid"),
    (str, "text"),
    (bytes | bytearray | memoryview, "bytea"),
    (dict | list, "jsonb"),
)

_AS_TEXT: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (bool, lambda value: "true" if value else "false"),
    (float, lambda value: str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)),  # noqa: PLR2004 - every integer below is exact
    (int, int.__repr__),
    (Decimal | UUID, str),
    (datetime | date | time, lambda value: value.isoformat()),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an existing table. `oid` says what its binary form is; `kind` is its type as SQL spells it."""

    name: str
    kind: str
    oid: int


def column_values(
    values: list[Any], columns: Sequence[Column], misfits: Mapping[int, BaseException]
) -> tuple[list[list[Any]], bool, dict[int, BaseException]]:
    """The values of each column as the driver can send them, whether all may go in binary, and the errors by row.

    `values` are those of all rows, row after row; `misfits` the errors of some. What was refused is None.
    """
    width = len(columns)
    errors = dict(misfits)
    stored, binary = [], True
    for index, column in enumerate(columns):
        given = values[index::width]
        if not _natural(given, column.oid):
            given = _converted(given, column, errors)
            binary = binary and _natural(given, column.oid)
        stored.append(given)
    return stored, binary, errors


def parameter_values(row: Any) -> Any:
    """A statement's parameters as the driver takes them. Raises ValueError for NaN, TypeError for what can be none."""
    if isinstance(row, dict):
        return {name: _parameter(value) for name, value in row.items()}
    if isinstance(row, tuple | list):
        return tuple(map(_parameter, row))
    require_parameters(row)
    return row


def sql_types(values: list[Any], columns: Sequence[str]) -> dict[str, str]:
    """The SQL type of each column, from the values in it; absent where all are None.

    Raises TargetError where no one type holds them all.
    """
    types = {}
    for index, column in enumerate(columns):
        kinds = {_sql_type(value) for value in values[index :: len(columns)] if value is not None}
        if kinds:
            types[column] = _one_type(kinds, column)
    return types


def _natural(given: list[Any], oid: int) -> bool:
    """Whether a column's values all go as they are, told without a look at each of them in Python where that can be."""
    kinds = set(map(type, given))
    some_none = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return True
    if not kinds <= _NATURAL.get(oid, frozenset()):
        return False
    return _fits([value for value in given if value is not None] if some_none else given, kinds, oid)


def _fits(given: list[Any], kinds: set[type], oid: int) -> bool:
    """Whether values of the right types are in their type's range too."""
    if oid in _BITS:
        # The driver's binary format takes an integer that is too large, and cuts it.
        limit = 1 << (_BITS[oid] - 1)
        return bool(-limit <= min(given) and max(given) < limit)
    if float in kinds:
        return not any(map(ne, given, given))  # NaN is the one value that differs from itself
    if Decimal in kinds:
        return all(value.is_finite() for value in given if type(value) is Decimal)
    if datetime in kinds:
        return all((value.tzinfo is None) is (oid == TIMESTAMP) for value in given)
    return True


def _converted(given: list[Any], column: Column, errors: dict[int, BaseException]) -> list[Any]:
    stored: list[Any] = []
    for row, value in enumerate(given):
        try:
            stored.append(None if value is None else _stored(value, column))
        except (ValueError, TypeError, RecursionError) as error:
            errors.setdefault(row, error)
            stored.append(None)
    return stored


def _stored(value: Any, column: Column) -> Any:
    """One value: as it is where its column takes that, else as a text for the server to read."""
    if isinstance(value, Enum):
        return _stored(value.value, column)
    _refuse_nan(value)
    if isinstance(value, datetime):
        _refuse_other_timestamps(value, column)
    if isinstance(value, str) or type(value) in _NATURAL.get(column.oid, frozenset()):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(value, column)
    if column.oid in JSON and isinstance(value, dict | list):
        return json.dumps(value, allow_nan=False)
    convert = next((convert for known, convert in _AS_TEXT if isinstance(value, known)), None)
    # Without one it is a list for an array, or something else that the driver knows.
    return value if convert is None else convert(value)


def _bytes(value: bytes | bytearray | memoryview, column: Column) -> bytes:
    if column.oid != BYTEA:
        raise TypeError(f"bytes cannot be stored in column {column.name} of type {column.kind}")
    return bytes(value)


def _parameter(value: Any) -> Any:
    if isinstance(value, Enum):
        return _parameter(value.value)
    _refuse_nan(value)
    return value


def _refuse_nan(value: Any) -> None:
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - only NaN does
        raise ValueError("NaN is not stored: every sum over it would be NaN; write None if that is meant")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"the decimal {value} cannot be stored")


def _refuse_other_timestamps(value: datetime, column: Column) -> None:
    """The server would drop an offset, or add the one of its session."""
    if column.oid == TIMESTAMPTZ and value.tzinfo is None:
        raise ValueError(f"column {column.name} is timestamp with time zone; {value} has none: give it one")
    if column.oid == TIMESTAMP and value.tzinfo is not None:
        raise ValueError(f"column {column.name} is timestamp without time zone; {value} has one: remove it")


def _sql_type(value: Any) -> str:
    if isinstance(value, Enum) and not isinstance(value, str | int):
        return _sql_type(value.value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "timestamptz"
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return "numeric"
    return next((sql for known, sql in _SQL_TYPES if isinstance(value, known)), "")


def _one_type(kinds: set[str], column: str) -> str:
    if len(kinds) == 1 and "" not in kinds:
        return kinds.pop()
    if kinds <= {"bigint", "numeric"}:
        return "numeric"
    if kinds <= {"bigint", "double precision"}:
        return "double precision"
    raise TargetError(
        f"the type of column '{column}' cannot be told from the first chunk",
        f"it has values of {', '.join(sorted(kind or 'an unknown type' for kind in kinds))}",
        f'name the types, as in columns={{"{column}": "text", …}}, or create the table',
    )

r"""CSV files: a header line, then one row an output; fields quoted where needed, `\n` line ends.

The one rule: the columns are those of the first row (or of `columns=`) and never change after.
They are kept with the checkpoint, so that a restart does not settle them again.
"""

import codecs
import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from batchwright.model.errors import TargetError
from batchwright.ports import Writer
from batchwright.writers.rows import columns_of, empty_row, names_of, no_row, refuse_unknown
from batchwright.writers.staged_files import StagedFile
from batchwright.writers.text_files import ByteEncoding, check_encoding, one_by_one, raise_unless_data

CsvRow = Any
"""A dict, a dataclass, or (with `columns=`) a tuple or list."""

_PLAIN = frozenset({str, int, float, bool, type(None)})

_NO_CELL = (bytes, bytearray, memoryview, list, tuple, dict, set, frozenset)


def csv_file(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    header: bool = True,
) -> Writer[CsvRow]:
    """Write each output as a row. Exactly once; the file appears when the step is complete.

    Outputs are dicts or dataclasses, or, with `columns`, tuples. Without `columns` they are those of the first row. A
    column that a row lacks is left empty, as is None. A row with a column that is not among them, or that does not fit
    otherwise, holds bytes or a collection, or cannot be encoded is that item's failure. Without outputs the file holds
    the header if `columns` are given, else nothing. An existing file is replaced and its mode kept; a symbolic link is
    followed.

    Raises TargetError for options that cannot be meant.
    """
    check_encoding(encoding)
    _check_delimiter(delimiter)
    form = CsvForm(None if columns is None else _checked_columns(columns), delimiter, encoding, header)
    return StagedFile(os.fspath(path), "csv", lambda: CsvEncoder(form))


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written."""

    columns: tuple[str, ...] | None
    delimiter: str
    encoding: str
    header: bool


class CsvEncoder:
    """Rows as lines of CSV. Columns begun with a chunk are settled when it is committed."""

    def __init__(self, form: CsvForm) -> None:
        """Begin with the columns declared, or with none."""
        self._form = form
        self._encoding = ByteEncoding(form.encoding)
        self._columns = form.columns
        self._begun: tuple[str, ...] = ()
        self._parts: list[bytes] = []

    @property
    def form(self) -> str:
        """Delimiter, encoding, header and declared columns."""
        name = codecs.lookup(self._form.encoding).name
        declared = "" if self._form.columns is None else f" of {', '.join(self._form.columns)}"
        return f"CSV {name} {self._form.delimiter!r} {'with' if self._form.header else 'without'} header{declared}"

    def add(self, outputs: Sequence[CsvRow]) -> Mapping[int, BaseException]:
        """Encode rows; the errors of those that do not fit, by index."""
        columns = self._columns or self._begun or _named(outputs)
        data, errors = self._encoded(outputs, columns)
        if len(errors) < len(outputs):
            self._begun = columns
        self._parts.append(data)
        return errors

    def take(self) -> bytes:
        """The chunk's lines. From the first chunk that has any the columns are settled."""
        self._columns = self._begun or self._columns
        chunk = b"".join(self._parts)
        self.drop()
        return chunk

    def drop(self) -> None:
        """Forget the chunk, and the columns that were begun with it."""
        self._begun = ()
        self._parts = []

    def head(self) -> bytes:
        """The byte order mark, if the encoding has one, and the header line, if there is one."""
        if not self._form.header or not self._columns:
            return self._encoding.mark
        return self._encoding.mark + self._encoding.encode(_text([self._columns], self._form.delimiter))

    def state(self) -> Mapping[str, Any]:
        """The columns."""
        return {"columns": None if self._columns is None else list(self._columns)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the columns from a checkpoint, or those declared."""
        columns = state.get("columns")
        self._columns = self._form.columns if columns is None else tuple(columns)

    def _encoded(self, rows: Sequence[CsvRow], columns: tuple[str, ...]) -> tuple[bytes, dict[int, BaseException]]:
        if not rows:
            return b"", {}
        try:
            return self._encoding.encode(_text(_cells(rows, columns), self._form.delimiter)), {}
        except Exception as error:  # noqa: BLE001 - asked again below, row by row
            raise_unless_data(error)
        kept, errors = one_by_one(rows, lambda row: self._encode_one(row, columns))
        return b"".join(kept), errors

    def _encode_one(self, row: CsvRow, columns: tuple[str, ...]) -> bytes:
        return self._encoding.encode(_text([_cells_of(row, columns)], self._form.delimiter))


def _text(rows: Iterable[Sequence[Any]], delimiter: str) -> str:
    """Rows as CSV. Raises TypeError for a cell that has no place in it."""
    rows = _plain(list(rows))
    text = _joined(rows, delimiter, "\n")
    if "\r" not in text:
        return text
    # The csv module quotes the characters of its own line end only; a bare \r would be a line end to many readers.
    return "".join(_joined([row], delimiter, "\r\n")[:-2] + "\n" for row in rows)


def _joined(rows: Iterable[Sequence[Any]], delimiter: str, line_end: str) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return buffer.getvalue()


def _plain(rows: list[Sequence[Any]]) -> list[Sequence[Any]]:
    kinds = set(map(type, chain.from_iterable(rows)))
    if kinds <= _PLAIN:
        return rows
    for kind in kinds:
        if issubclass(kind, _NO_CELL):
            raise TypeError(f"a cell of a CSV file cannot hold a {kind.__name__}; convert it in the processor")
    if any(issubclass(kind, Enum) for kind in kinds):
        return [[value.value if isinstance(value, Enum) else value for value in row] for row in rows]
    return rows


def _cells(rows: Sequence[CsvRow], columns: tuple[str, ...]) -> Iterable[Sequence[Any]]:
    """Each row's values in the order of the columns: at once if the rows are alike, else one by one."""
    kinds = set(map(type, rows))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is dict and set(map(len, rows)) == {len(columns)}:
        try:
            return list(map(_getter(itemgetter, columns), rows))
        except KeyError:
            pass  # a column is missing somewhere: look at each row
    elif columns and kind in (tuple, list) and set(map(len, rows)) == {len(columns)}:
        return rows
    elif kind is not None and is_dataclass(kind) and names_of(kind) == columns:
        return map(_getter(attrgetter, columns), rows)
    return [_cells_of(row, columns) for row in rows]


def _getter(get: Callable[..., Any], columns: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(columns) > 1:
        getter: Callable[[Any], tuple[Any, ...]] = get(*columns)
        return getter
    single = get(columns[0])
    return lambda row: (single(row),)


def _cells_of(row: CsvRow, columns: tuple[str, ...]) -> Sequence[Any]:
    if isinstance(row, tuple | list):
        if not columns:
            raise no_row(row)
        if len(row) != len(columns):
            raise ValueError(f"the row has {len(row)} values, the file has {len(columns)} columns")
        return row
    if is_dataclass(row) and not isinstance(row, type):
        row = {name: getattr(row, name) for name in names_of(type(row))}
    if not isinstance(row, Mapping):
        raise no_row(row)
    if not row:
        raise empty_row()
    refuse_unknown(row, columns)
    return [row.get(column) for column in columns]


def _named(rows: Sequence[CsvRow]) -> tuple[str, ...]:
    """The columns of the first row that names any; empty if none does: then no row fits."""
    return _checked_columns(columns) if (columns := columns_of(rows)) else ()


def _checked_columns(columns: Sequence[str]) -> tuple[str, ...]:
    wrong = isinstance(columns, str) or not columns or not all(isinstance(name, str) for name in columns)
    if wrong or len(set(columns)) != len(columns):
        raise TargetError(
            "the columns of a CSV file must be different names", f"got {columns!r}", 'write columns=["id", "name"]'
        )
    return tuple(columns)


def _check_delimiter(delimiter: str) -> None:
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise TargetError(
            "the delimiter of a CSV file must be one character, no quote and no line end",
            f"got {delimiter!r}",
            'write delimiter=";"',
        )

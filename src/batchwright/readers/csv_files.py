"""CSV files, one dict a row.

The one rule: a record that does not fit the header is reported with its raw text, never bent into shape.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from batchwright.model.block import Block, Place, Position
from batchwright.model.errors import DeclarationError, SourceError
from batchwright.readers.csv_records import CsvDialect, CsvTable, Row, locate_record, scan_records, walk_records
from batchwright.readers.file_fingerprints import file_changes
from batchwright.readers.file_listings import Files
from batchwright.readers.file_parts import FilePart, split_file
from batchwright.readers.file_series import FileSeries
from batchwright.readers.line_blocks import bytes_of_lines, fingerprint_of, place_record, read_blocks
from batchwright.readers.line_files import LineCutter, LineFile


def csv_rows(  # noqa: PLR0913 - the options of a dialect, as the csv module names them
    path: str | os.PathLike[str] | Files,
    *,
    encoding: str = "utf-8",
    delimiter: str = ",",
    quotechar: str | None = '"',
    escapechar: str | None = None,
    doublequote: bool = True,
    skipinitialspace: bool = False,
    strict: bool = True,
    header: Sequence[str] | None = None,
    expect: Sequence[str] | None = None,
) -> "CsvRows | FileSeries[Row]":
    """The rows of a CSV file as dicts of texts, named by its header line. Blank lines are no records.

    Of several `files` all have the same header line, unless they are empty.

    `header` names the columns of a file without a header line; `expect` says what the header line must hold, in order.
    Restarts where it stopped, without reading the beginning again. A row with more or fewer fields than the header, a
    stray or unclosed quote (with `strict`), undecodable bytes, a field beyond `csv.field_size_limit()`, a record of
    several lines beyond eight times that, and a line beyond 64 MiB are bad records. A wrong quote costs one line of the
    file: the next one is read as if it began a record.

    Raises DeclarationError for options that cannot be meant and SourceError for an unknown encoding; a header that is
    missing, not as expected, or has blank or equal names raises SourceError when the file is checked or read.
    """
    dialect = CsvDialect(delimiter, quotechar, escapechar, doublequote, skipinitialspace, strict)
    names, expected = _declared("header", header), _declared("expect", expect)
    if names is not None and expected is not None:
        raise DeclarationError(
            "csv_rows: header and expect exclude each other",
            "",
            "header= is for files without a header line, expect= for files with one",
        )
    if isinstance(path, Files):
        return FileSeries(path, CsvRows(LineFile(path.patterns[0], encoding), dialect, names, expected))
    return CsvRows(LineFile(os.fspath(path), encoding), dialect, names, expected)


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A reader of CSV rows; build it with `csv_rows`."""

    file: LineFile
    dialect: CsvDialect
    header: tuple[str, ...] | None = None
    expect: tuple[str, ...] | None = None
    only: FilePart | None = None
    first: str = ""

    @property
    def address(self) -> str:
        """The absolute path."""
        return f"csv:{self.file.absolute}"

    @property
    def seeks(self) -> bool:
        """A restart reads the header line and goes straight to its byte."""
        return True

    def read(self, after: Position | None) -> Iterator[Block[Row]]:
        """Blocks of rows. An OSError is left to the caller; a file that is not the same raises GroundChangedError."""
        with LineCutter(self.file) as cutter:
            names, first = self._begin(cutter)
            start = first if self.only is None else self.only.enter(cutter)
            locate = partial(locate_record, self.dialect)
            yield from read_blocks(cutter, start, after, CsvTable(names, self.dialect).parse, locate)

    def place(self, position: Position) -> Place:
        """The file, the record's first line and its first byte."""
        locate = partial(locate_record, self.dialect)
        return place_record(self.file, position, self._first, locate)

    def check(self) -> None:
        """Raise SourceError if the file is missing, not a regular file, not readable, or its header is not in order."""
        self.file.check()
        with LineCutter(self.file) as cutter:
            self._begin(cutter)

    def fraction(self, position: Position) -> float | None:
        """The position's part of the file's bytes."""
        if self.only is None:
            return self.file.fraction(position)
        return self.only.fraction(position, self.file)

    def of_file(self, path: str) -> "CsvRows":
        """The same reader of another file."""
        return replace(self, file=replace(self.file, path=path))

    def agreeing(self, path: str) -> "CsvRows":
        """The same reader of files that all have this one's header line."""
        if self.header is not None or self.expect is not None:
            return self
        with LineCutter(self.of_file(path).file) as cutter:
            names, _ = self._begin(cutter)
        return replace(self, expect=tuple(names), first=path)

    @property
    def undivided(self) -> str:
        """Nothing: it can be split."""
        return ""

    def split(self, most: int) -> Sequence[Any]:
        """Byte ranges of about the same size, none of them in a quoted field; the file is read once to find them."""
        return split_file(self.file, most, self._first, partial(scan_records, self.dialect))

    def part(self, spec: Any) -> "CsvRows":
        """A reader of one of them; the header line is read by each."""
        return replace(self, only=FilePart.of(spec))

    @property
    def options(self) -> Mapping[str, str]:
        """The encoding, the dialect, and the names of the columns if the file does not say them."""
        told = {"encoding": self.file.encoding, **{name: repr(value) for name, value in asdict(self.dialect).items()}}
        return told if self.header is None else {**told, "header": _shown(self.header)}

    def fingerprint(self, position: Position) -> Any:
        """The checksum of the bytes before the position, the header line included."""
        return fingerprint_of(self.file, position, self.place)

    def changes(self, position: Position, *, finished: bool) -> str:
        """Whether the bytes before the position are what they were; of a part, all its bytes."""
        if self.only is not None:
            return self.only.changes(self.file, position, finished=finished)
        return file_changes(self.file.absolute, self.file.path, position, finished=finished)

    def _first(self, cutter: LineCutter) -> list[int]:
        """Where the first record starts, of the file or of the part."""
        return self._begin(cutter)[1] if self.only is None else self.only.enter(cutter)

    def _begin(self, cutter: LineCutter) -> tuple[Sequence[str], list[int]]:
        """The columns' names, and where the data starts."""
        if self.header is not None:
            return self.header, cutter.start
        names, start = _read_header(cutter, self.dialect)
        wrong = _blank_or_equal(names)
        if wrong:
            raise SourceError(
                f"the header line of '{self.file.path}' is not in order",
                wrong,
                "mend it, or name the columns with header= if the file has no header line",
            )
        if self.expect is not None and tuple(names) != self.expect:
            told = f"that of '{self.first}'" if self.first else "as expected"
            raise SourceError(
                f"the header line of '{self.file.path}' is not {told}",
                _difference(self.expect, names),
                "mend it, or read it by a step of its own" if self.first else "mend the file or expect=",
            )
        return names, start


def _declared(option: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    wrong = "it is one text" if isinstance(names, str) else ""
    given = tuple(names)
    if not wrong and not all(isinstance(name, str) for name in given):
        wrong = "it has a name that is no text"
    wrong = wrong or ("it is empty" if not given else _blank_or_equal(given))
    if wrong:
        raise DeclarationError(
            f"csv_rows: {option} must be a list of column names, all different", f"{wrong}; got {names!r}"
        )
    return given


def _blank_or_equal(names: Sequence[str]) -> str:
    for number, name in enumerate(names, 1):
        if not name.strip():
            return f"column {number} has no name"
        if names.index(name) < number - 1:
            return f"columns {names.index(name) + 1} and {number} are both named {_shown([name])}"
    return ""


def _read_header(cutter: LineCutter, dialect: CsvDialect) -> tuple[list[str], list[int]]:
    """The first record, and the anchor behind it."""
    encoding, line = cutter.encoding, 1
    while (cut := cutter.cut()) is not None and not cut.overlong:
        lines = encoding.decode_lines(cut.data)
        end = 0
        for first, end, content in walk_records(lines, dialect, closed=cut.closed):
            if isinstance(content, Exception):
                raise SourceError(
                    f"the header line of '{cutter.file.path}' cannot be read",
                    f"line {line + first}: {content}",
                    "mend it, or check encoding=, delimiter= and quotechar=",
                )
            if content:
                return content, [cut.byte + bytes_of_lines(encoding, cut.data, end), line + end]
        line += end
        cutter.give_back(cut.data[bytes_of_lines(encoding, cut.data, end) :])
    found = "it is empty" if cut is None else f"line {line} is longer than {cutter.file.max_line_bytes:,} bytes"
    raise SourceError(
        f"'{cutter.file.path}' has no header line", found, "name the columns with header= if it is to have none"
    )


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    missing = [name for name in expected if name not in found]
    new = [name for name in found if name not in expected]
    told = [f"{word}: {_shown(names)}" for word, names in (("missing", missing), ("new", new)) if names]
    if [name for name in found if name in expected] != [name for name in expected if name in found]:
        told.append(f"reordered: found {_shown(found)}; expected {_shown(expected)}")
    return "; ".join(told)


def _shown(names: Sequence[str]) -> str:
    """On one line, whatever the names hold."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names)

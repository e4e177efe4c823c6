"""CSV text to rows: a fast way for blocks in which every line is a record, and a careful way for all others.

The one rule: both ways give the same records, whatever the size of the blocks.
"""

import csv
import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain, count, islice
from typing import TYPE_CHECKING, Any

from batchwright.model.block import BadRecord
from batchwright.model.errors import DeclarationError
from batchwright.readers.file_parts import scan_lines
from batchwright.readers.line_blocks import Located, Parsed, bytes_of_lines
from batchwright.readers.line_files import Cut
from batchwright.readers.text_encodings import Lines, TextEncoding, without_line_end

if TYPE_CHECKING:
    from _csv import Reader

Row = dict[str, str]

Record = tuple[int, int, list[str] | Exception]
"""The index of a record's first line, that of the line behind it, and its fields (none: a blank line) or its error."""

LIMIT_FACTOR = 8
"""A record of several lines may hold this many times `csv.field_size_limit()` characters."""

MOST_GENERATED_COLUMNS = 1_000


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How fields are told apart; the names and meanings of the csv module. `quotechar=None`: nothing is quoted.

    Raises DeclarationError for what the csv module refuses.
    """

    delimiter: str = ","
    quotechar: str | None = '"'
    escapechar: str | None = None
    doublequote: bool = True
    skipinitialspace: bool = False
    strict: bool = True

    def __post_init__(self) -> None:
        """Let the csv module judge, and refuse what only newer versions of it refuse."""
        chars = [char for char in (self.delimiter, self.quotechar, self.escapechar) if char]
        wrong = ""
        try:
            self.rows([])
        except (TypeError, ValueError, csv.Error) as error:
            wrong = str(error)
        if len(set(chars)) < len(chars) or set(chars) & {"\n", "\r"}:
            wrong = "delimiter, quotechar and escapechar must differ, and be no line end"
        if wrong:
            raise DeclarationError("csv_rows: the csv module refuses these options", f"{wrong}; got {self}")

    def rows(self, lines: Iterable[str]) -> "Reader":
        """The csv module's own reader."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            doublequote=self.doublequote,
            skipinitialspace=self.skipinitialspace,
            strict=self.strict,
            quoting=csv.QUOTE_NONE if self.quotechar is None else csv.QUOTE_MINIMAL,
        )

    @property
    def special(self) -> tuple[str, ...]:
        """The characters by which a record may span lines."""
        return tuple(char for char in (self.quotechar, self.escapechar) if char)


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Turns cuts of a CSV file's data into dicts with these names."""

    names: Sequence[str]
    dialect: CsvDialect
    build: Callable[[Iterable[list[str]]], list[Row]] = field(init=False)
    split: Callable[[list[str]], list[Row]] = field(init=False)
    guard: str = field(init=False)

    def __post_init__(self) -> None:
        """Make the functions that build dicts, and a line that shows whether the record before it was closed."""
        object.__setattr__(self, "build", row_builder(self.names))
        object.__setattr__(self, "split", row_splitter(self.names, self.dialect.delimiter))
        letter = next(char for char in "abcd" if char not in (self.dialect.delimiter, *self.dialect.special))
        object.__setattr__(self, "guard", letter + self.dialect.delimiter * (len(self.names) - 1))

    def parse(self, encoding: TextEncoding, cut: Cut) -> Parsed:
        """The records of a cut."""
        try:
            text = cut.data.decode(encoding.codec)
            parsed = self._parse_lines(text) or self._parse_spanning(text)
        except (UnicodeDecodeError, csv.Error):
            parsed = None
        return parsed or self._parse_records(encoding, cut)

    def _parse_lines(self, text: str) -> Parsed | None:
        """The fast way: None unless each line is a record, or blank."""
        unquoted = self._is_unquoted(text)
        lines = _plain_lines(text, self.guard, without_cr=unquoted)
        if lines is None:
            return None
        try:
            items = self.split(lines) if unquoted else self.build(self.dialect.rows(lines))
        except ValueError:
            return self._parse_uneven(lines)
        # A record that spans lines, an open one at the end included, leaves fewer records than lines.
        if len(items) != len(lines):
            return None
        items.pop()
        return Parsed(items, (), len(items))

    def _is_unquoted(self, text: str) -> bool:
        """Whether the csv module would do no more than split each line; it drops a line that is blank, though."""
        dialect = self.dialect
        return (
            not any(char in text for char in dialect.special)
            and not dialect.skipinitialspace
            and dialect.delimiter not in "\r\n"
            and len(self.names) > 1
            and len(text) <= csv.field_size_limit()
        )

    def _parse_uneven(self, lines: list[str]) -> Parsed | None:
        """The same where some lines are blank or have too many or too few fields."""
        width, rows = len(self.names), list(self.dialect.rows(lines))
        if len(rows) != len(lines):
            return None
        rows.pop()
        items = self.build([row for row in rows if len(row) == width])
        bad: list[BadRecord] = []
        blank = 0
        for index, row in enumerate(rows):
            if not row:
                blank += 1
            elif len(row) != width:
                bad.append(BadRecord(index - blank, _ragged(len(row), width), lines[index].removesuffix("\r")))
        return Parsed(items, bad, len(rows))

    def _parse_spanning(self, text: str) -> Parsed | None:
        """The fast way where records span lines: None unless all are good and the last one is closed."""
        if len(text) > _limit() or not text.endswith(("\n", "\r")):
            return None
        lines = io.StringIO(text, newline="").readlines()
        rows = self.dialect.rows(chain(lines, (self.guard,)))
        try:
            items = self.build(filter(None, rows))
        except ValueError:
            return None
        # An open record has swallowed the guard, and the line end before it stands in one of its fields.
        if self.dialect.delimiter.join(items.pop().values()) != self.guard:
            return None
        return Parsed(items, (), len(lines))

    def _parse_records(self, encoding: TextEncoding, cut: Cut) -> Parsed:
        """The careful way, record by record."""
        lines = encoding.decode_lines(cut.data)
        names, width = self.names, len(self.names)
        items: list[Row] = []
        bad: list[BadRecord] = []
        end = 0
        for first, end, content in walk_records(lines, self.dialect, closed=cut.closed):
            if isinstance(content, Exception):
                bad.append(BadRecord(len(items) + len(bad), content, _raw(lines, first, end)))
            elif len(content) == width:
                items.append(dict(zip(names, content, strict=True)))
            elif content:
                error = _ragged(len(content), width)
                bad.append(BadRecord(len(items) + len(bad), error, _raw(lines, first, end)))
        return Parsed(items, bad, end, _rest(encoding, cut, lines, end))


def locate_record(dialect: CsvDialect, encoding: TextEncoding, cut: Cut, offset: int) -> Located:
    """The line at which a record of a cut starts."""
    count = _count_plain(encoding, cut.data, dialect.special, offset + 1)
    if count is not None:
        return Located(offset if offset < count else None, count, count)
    lines = encoding.decode_lines(cut.data)
    found = _locate_good(dialect, lines.texts, offset) if len(cut.data) <= _limit() else None
    return Located(found) if found is not None else _locate_walking(dialect, encoding, cut, (lines, offset))


def _locate_good(dialect: CsvDialect, texts: Sequence[str], offset: int) -> int | None:
    """The fast way: None unless all records before it are read without an error."""
    parser = dialect.rows(texts)
    try:
        deque(islice(filter(None, parser), offset), maxlen=0)
    except csv.Error:
        return None
    return next((index for index in range(parser.line_num, len(texts)) if without_line_end(texts[index])), None)


def _locate_walking(dialect: CsvDialect, encoding: TextEncoding, cut: Cut, wanted: tuple[Lines, int]) -> Located:
    lines, offset = wanted
    records = list(walk_records(lines, dialect, closed=cut.closed))
    starts = [first for first, _, content in records if content]
    end = records[-1][1] if records else 0
    found = starts[offset] if offset < len(starts) else None
    return Located(found, len(starts), end, _rest(encoding, cut, lines, end))


def scan_records(dialect: CsvDialect, encoding: TextEncoding, cut: Cut) -> tuple[int, bytes]:
    """How many lines of a cut its closed records take, and the rest: as `CsvTable.parse`, but no row is made."""
    text = cut.data.decode(encoding.codec, "replace")
    if not any(char in text for char in dialect.special):
        return scan_lines(encoding, cut)
    lines = encoding.decode_lines(cut.data)
    if len(text) <= _limit() and text.endswith(("\n", "\r")):
        letter = next(char for char in "abcd" if char not in (dialect.delimiter, *dialect.special))
        guard = letter + dialect.delimiter
        with suppress(csv.Error):
            # An open record swallows the guard.
            if deque(dialect.rows(chain(lines.texts, (guard,))), maxlen=1) == deque(dialect.rows([guard])):
                return len(lines.texts), b""
    last = deque(walk_records(lines, dialect, closed=cut.closed), maxlen=1)
    end = last[0][1] if last else 0
    return end, _rest(encoding, cut, lines, end)


def row_builder(names: Sequence[str]) -> Callable[[Iterable[list[str]]], list[Row]]:
    """A function that makes dicts of rows and raises ValueError at one with more or fewer fields than names.

    Its code is generated, as `namedtuple` does: a display of known width, `{k0: v0, k1: v1}`, takes two thirds of the
    time of `dict(zip(names, row))`. Only the number of columns goes into the code, never a name or a value.
    """
    if len(names) > MOST_GENERATED_COLUMNS:
        return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]
    build, fixed = _generated("rows", "for {values} in rows", len(names)), tuple(names)
    return lambda rows: build(rows, *fixed)


def row_splitter(names: Sequence[str], delimiter: str) -> Callable[[list[str]], list[Row]]:
    """The same for lines in which nothing is quoted or escaped: splitting them takes half the csv module's time."""
    if len(names) > MOST_GENERATED_COLUMNS:
        return lambda lines: [dict(zip(names, line.split(delimiter), strict=True)) for line in lines]
    split = _generated("lines, delimiter", "for line in lines for {values} in (line.split(delimiter),)", len(names))
    fixed = tuple(names)
    return lambda lines: split(lines, delimiter, *fixed)


def _generated(parameters: str, loop: str, count: int) -> Callable[..., list[Row]]:
    keys = ", ".join(f"k{index}" for index in range(count))
    values = "".join(f"v{index}, " for index in range(count))
    entries = ", ".join(f"k{index}: v{index}" for index in range(count))
    source = f"def build({parameters}, {keys}):\n    return [{{{entries}}} {loop.format(values=values)}]"
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102 - built from a number only
    build: Callable[..., list[Row]] = namespace["build"]
    return build


def walk_records(lines: Lines, dialect: CsvDialect, *, closed: bool) -> Iterator[Record]:
    """Every record, blank lines as empty rows. Unless `closed`, a record that is open at the end is left out.

    A failed record costs its first line only: an unclosed quote never swallows what follows. The lines that it had
    swallowed are read one by one, each as a record of its own, and reading goes on as usual at the line that showed
    the failure: otherwise a file full of odd quotes would take time in the square of its length.
    """
    first, texts = 0, lines.texts
    while first < len(texts):
        start, open_to, error = yield from _walk_good(lines, dialect, first)
        if start == len(texts):
            return
        too_long_at = _too_long_at(texts, start, open_to)
        if too_long_at:
            open_to, error = too_long_at, ValueError(f"{_UNCLOSED} within {_limit():,} characters")
        elif error is None and not closed:
            return
        yield start, start + 1, lines.errors.get(start, error or ValueError(_UNCLOSED))
        first = max(start + 1, open_to)
        for index, content in enumerate(_read_alone(dialect, texts[start + 1 : first]), start + 1):
            yield index, index + 1, lines.errors.get(index, content)


_UNCLOSED = "a quote is opened and not closed"


def _walk_good(
    lines: Lines, dialect: CsvDialect, first: int
) -> Generator[Record, None, tuple[int, int, ValueError | None]]:
    """Records up to the first that fails: where that starts, up to where it is open, its error if it is not that."""
    texts, end = lines.texts, first
    parser = dialect.rows(_lines_from(texts, first))
    try:
        for row in parser:
            start, end = end, first + parser.line_num
            if end - start > 1 and _too_long_at(texts, start, end - 1):
                return start, end - 1, None
            yield start, end, (lines.errors and _undecodable(lines, start, end)) or row
    except csv.Error as error:
        return end, first + parser.line_num - 1, ValueError(str(error))
    except IndexError:
        pass
    return end, len(texts), None


def _read_alone(dialect: CsvDialect, texts: Sequence[str]) -> Sequence[list[str] | ValueError]:
    """Each line as a record of its own: all at once if none opens a quote, else each with a reader of its own."""
    with suppress(csv.Error):
        rows = list(dialect.rows(chain(texts, "\n")))
        if len(rows) > len(texts):
            return rows[:-1]
    return [_read_line(dialect, text) for text in texts]


def _read_line(dialect: CsvDialect, text: str) -> list[str] | ValueError:
    try:
        return next(dialect.rows(_lines_from((text,), 0)))
    except csv.Error as error:
        return ValueError(str(error))
    except IndexError:
        return ValueError(_UNCLOSED)


def _lines_from(texts: Sequence[str], first: int) -> Iterator[str]:
    """The lines, and then an IndexError: at a StopIteration the csv module would close an open record."""
    return map(texts.__getitem__, count(first))


def _too_long_at(texts: Sequence[str], first: int, end: int) -> int:
    """The line before which an open record that starts at `first` has become too long; 0 if it has not up to `end`."""
    limit = _limit()
    if end <= first or sum(map(len, texts[first:end])) <= limit:
        return 0
    lengths = accumulate(map(len, texts[first:end]))
    return next(index for index, length in enumerate(lengths, first + 1) if length > limit)


def _limit() -> int:
    return LIMIT_FACTOR * csv.field_size_limit()


def _undecodable(lines: Lines, first: int, end: int) -> UnicodeDecodeError | None:
    return next((lines.errors[index] for index in range(first, end) if index in lines.errors), None)


def _ragged(fields: int, width: int) -> ValueError:
    return ValueError(f"{fields} field{'s' * (fields != 1)}, the header has {width}")


def _raw(lines: Lines, first: int, end: int) -> str | bytes:
    """The record as it stands in the file: text, or bytes where they are no text."""
    if _undecodable(lines, first, end):
        return b"".join(lines.raws[first:end])
    return without_line_end("".join(lines.texts[first:end]))


def _rest(encoding: TextEncoding, cut: Cut, lines: Lines, end: int) -> bytes:
    """The open record at the end."""
    return b"" if end == len(lines.texts) else cut.data[bytes_of_lines(encoding, cut.data, end) :]


def _plain_lines(text: str, guard: str, *, without_cr: bool) -> list[str] | None:
    """The lines without LF, and the guard behind them; None where line ends are mixed."""
    line_end = "\n"
    if "\r" in text:
        if text.count("\r") == text.count("\r\n"):
            text = text.replace("\r\n", "\n") if without_cr else text
        elif "\n" in text:
            return None
        else:
            line_end = "\r"
    lines = text.split(line_end)
    if lines[-1]:
        lines.append(guard)
    else:
        lines[-1] = guard
    return lines


def _count_plain(encoding: TextEncoding, data: bytes, special: tuple[str, ...], most: int) -> int | None:
    """The number of lines, up to `most`, if each of them surely is one record, told without parsing."""
    if encoding.lf != b"\n" or any(char.encode(encoding.codec, "replace") in data for char in special):
        return None
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return None
    lines = data.split(b"\n", most)
    if len(lines) > most or not lines[-1]:
        lines.pop()
    return None if b"" in lines or b"\r" in lines else len(lines)

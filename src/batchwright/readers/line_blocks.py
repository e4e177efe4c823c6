"""From cuts of a text file to blocks of items, and from a position back to a line.

The one rule: an anchor is `[byte, line]`, and it moves only when a block is handed over, so that anchors chain.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

from batchwright.model.block import BadRecord, Block, Place, Position
from batchwright.model.errors import BatchwrightError
from batchwright.readers.file_fingerprints import Stamp, described, file_changes, made_anew
from batchwright.readers.file_parts import FilePart, scan_lines, split_file
from batchwright.readers.line_files import Cut, LineCutter, LineFile
from batchwright.readers.text_encodings import TextEncoding

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a cut holds: its records, the number of its lines, and the `rest` of it that needs more lines behind it."""

    items: Sequence[Any]
    bad: Sequence[BadRecord]
    lines: int
    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class Located:
    """The index of the line at which the wanted record of a cut starts; None: it is not here, pass over all this."""

    found: int | None
    records: int = 0
    lines: int = 0
    rest: bytes = b""


Parse = Callable[[TextEncoding, Cut], Parsed]

Locate = Callable[[TextEncoding, Cut, int], Located]
"""Finds the record of a cut that has so many others before it."""


@dataclass(frozen=True, slots=True)
class LineReader(Generic[Item]):
    """A reader of a file in which every record is a line of its own. `word` begins its address."""

    file: LineFile
    word: str
    parse: Parse
    locate: Locate
    only: FilePart | None = None

    @property
    def address(self) -> str:
        """What the file holds, and its absolute path."""
        return f"{self.word}:{self.file.absolute}"

    @property
    def seeks(self) -> bool:
        """A restart goes straight to its byte."""
        return True

    def read(self, after: Position | None) -> Iterator[Block[Item]]:
        """Blocks of records. An OSError is left to the caller; a file that has changed raises GroundChangedError."""
        with LineCutter(self.file) as cutter:
            yield from read_blocks(cutter, self._begin(cutter), after, self.parse, self.locate)

    def place(self, position: Position) -> Place:
        """The file, the line and its first byte."""
        return place_record(self.file, position, self._begin, self.locate)

    def check(self) -> None:
        """Raise SourceError if the file is missing, not a regular file, not readable, or in another encoding."""
        self.file.check()

    def fraction(self, position: Position) -> float | None:
        """The position's part of the file's bytes."""
        if self.only is None:
            return self.file.fraction(position)
        return self.only.fraction(position, self.file)

    def of_file(self, path: str) -> "LineReader[Item]":
        """The same reader of another file."""
        return replace(self, file=replace(self.file, path=path))

    def agreeing(self, path: str) -> "LineReader[Item]":  # noqa: ARG002 - see `OneFile`
        """Itself: such a file says nothing of the others."""
        return self

    @property
    def undivided(self) -> str:
        """Nothing: it can be split."""
        return ""

    def split(self, most: int) -> Sequence[Any]:
        """Byte ranges of about the same size; the file is read once to find them and to count its lines."""
        return split_file(self.file, most, self._begin, scan_lines)

    def part(self, spec: Any) -> "LineReader[Item]":
        """A reader of one of them."""
        return replace(self, only=FilePart.of(spec))

    @property
    def options(self) -> Mapping[str, str]:
        """The encoding."""
        return {"encoding": self.file.encoding}

    def fingerprint(self, position: Position) -> Any:
        """The checksum of the bytes before the position."""
        return fingerprint_of(self.file, position, self.place)

    def changes(self, position: Position, *, finished: bool) -> str:
        """Whether the bytes before the position are what they were; of a part, all its bytes."""
        if self.only is not None:
            return self.only.changes(self.file, position, finished=finished)
        return file_changes(self.file.absolute, self.file.path, position, finished=finished)

    def _begin(self, cutter: LineCutter) -> list[int]:
        return cutter.start if self.only is None else self.only.enter(cutter)


def read_blocks(
    cutter: LineCutter, start: list[int], after: Position | None, parse: Parse, locate: Locate
) -> Iterator[Block[Any]]:
    """Blocks from a position on, or the `start`. A cut without a record becomes the beginning of the next block."""
    anchor = start if after is None or after.anchor is None else after.anchor
    cutter.go_to(anchor)
    line, crc = anchor[1], _checksum_before(cutter, start, after)
    anchor_crc = crc
    while (cut := cutter.cut()) is not None:
        parsed = _overlong(cutter.file, cut) if cut.overlong else parse(cutter.encoding, cut)
        if parsed.rest:
            cutter.give_back(parsed.rest)
        traces = None
        if crc is not None and anchor_crc is not None:
            traces = _Traces(cutter, cut, parsed, (anchor_crc, crc), line, locate)
            crc = traces.whole
        line += parsed.lines
        if parsed.items or parsed.bad:
            next_anchor = [cutter.byte, line]
            block = Block(parsed.items, anchor, next_anchor, parsed.bad, size=cutter.byte - anchor[0])
            yield block if traces is None else replace(block, fingerprint=traces.fingerprint, place=traces.place)
            anchor, anchor_crc = next_anchor, crc


def fingerprint_of(file: LineFile, position: Position, place: Callable[[Position], Place]) -> Any:
    """The fingerprint of a position in the file as it is now; None if it cannot be read."""
    try:
        with LineCutter(file) as cutter:
            anchor = cutter.encoding.start if position.anchor is None else position.anchor[0]
        byte = place(position).byte if position.offset else anchor
        return made_anew(file.absolute, anchor, anchor if byte is None else byte)
    except (OSError, BatchwrightError):
        return None


class _Traces:
    """What a block tells of the positions in it, by the number of records before them."""

    def __init__(
        self, cutter: LineCutter, cut: Cut, parsed: Parsed, checksums: tuple[int, int], line: int, locate: Locate
    ) -> None:
        """`checksums` are those of what stands before the block's anchor, and before the cut; `line` is its first."""
        data = cut.data[: len(cut.data) - len(parsed.rest)] if parsed.rest else cut.data
        self._cut = Cut(data, cut.byte, cutter.byte, cut.closed, cut.overlong)
        self._encoding, self._locate = cutter.encoding, locate
        self._records = len(parsed.items) + len(parsed.bad)
        self._plain = self._records == parsed.lines
        self._before, self._start = checksums
        self._path, self._line = cutter.file.path, line
        self._last = (0, 0, self._start)
        self._stamp: Stamp = cutter.stamp()
        self.whole: int = cutter.checksum(cut, self._start) if cut.overlong else zlib.crc32(data, self._start)

    def fingerprint(self, offset: int) -> dict[str, Any]:
        """The fingerprint of the position behind so many records."""
        cut = self._cut
        if offset >= self._records:
            return described(self._stamp, cut.end, self.whole, self.whole)
        line = self._line_of(offset)
        length, crc = (len(cut.data), self.whole) if line is None else self._go_on_to(line)
        return described(self._stamp, cut.byte + length, crc, self._before)

    def place(self, offset: int) -> Place | None:
        """Where the record behind so many others is found."""
        line = self._line_of(offset) if offset < self._records else None
        if line is None:
            return None
        before = bytes_of_lines(self._encoding, self._cut.data, line)
        return Place(self._path, self._line + line, self._cut.byte + before)

    def _line_of(self, offset: int) -> int | None:
        return offset if self._plain else self._locate(self._encoding, self._cut, offset).found

    def _go_on_to(self, line: int) -> tuple[int, int]:
        """The bytes before this line of the cut and their checksum, from where the last one was asked for."""
        known, start, crc = self._last if line >= self._last[0] else (0, 0, self._start)
        data, count = self._cut.data, line - known
        # Mostly a little more than the usual length will do; a whole number of characters in every encoding.
        likely = data[start : start + (count + 8) * (len(data) // self._records // 4 + 4) * 4]
        length = bytes_of_lines(self._encoding, likely, count)
        if length == len(likely):
            length = bytes_of_lines(self._encoding, data[start:], count)
        crc = zlib.crc32(memoryview(data)[start : start + length], crc)
        self._last = (line, start + length, crc)
        return start + length, crc


def _checksum_before(cutter: LineCutter, start: list[int], after: Position | None) -> int | None:
    """The checksum of what stands before the anchor to read from; None if it is not known."""
    if after is None or after.anchor is None:
        return cutter.checksum_to(start[0])
    return after.fingerprint["anchor_crc"] if after.fingerprint else None


def place_record(file: LineFile, position: Position, start: Callable[[LineCutter], list[int]], locate: Locate) -> Place:
    """The file, line and byte of the record at this position; `start` says where the first one stands.

    Never raises: it is asked when something else has failed. A file that cannot be read any more gives a rough place.
    """
    try:
        with LineCutter(file) as cutter:
            anchor = start(cutter) if position.anchor is None else position.anchor
            return _find_record(cutter, anchor, position.offset, locate)
    except (OSError, BatchwrightError) as error:
        byte, line = (None, None) if position.anchor is None else position.anchor
        return Place(file.path, line, byte, f"and {position.offset} records on (no closer: {error})")


def _find_record(cutter: LineCutter, anchor: list[int], offset: int, locate: Locate) -> Place:
    cutter.go_to(anchor)
    line = anchor[1]
    while (cut := cutter.cut()) is not None:
        located = _locate_overlong(offset) if cut.overlong else locate(cutter.encoding, cut, offset)
        if located.found is not None:
            byte = cut.byte + bytes_of_lines(cutter.encoding, cut.data, located.found)
            return Place(cutter.file.path, line + located.found, byte)
        if located.rest:
            cutter.give_back(located.rest)
        offset -= located.records
        line += located.lines
    return Place(cutter.file.path, line, cutter.byte)


def bytes_of_lines(encoding: TextEncoding, data: bytes, count: int) -> int:
    """The length of the first lines of this data."""
    if encoding.lf == b"\n" and b"\r" not in data:
        parts = data.split(b"\n", count)
        return len(data) - len(parts[count]) if len(parts) > count else len(data)
    return sum(map(len, islice(encoding.split_lines(data), count)))


def _overlong(file: LineFile, cut: Cut) -> Parsed:
    error = ValueError(f"the line is longer than {file.max_line_bytes:,} bytes")
    return Parsed((), [BadRecord(0, error, cut.data)], 1)


def _locate_overlong(offset: int) -> Located:
    return Located(None, 1, 1) if offset else Located(0)

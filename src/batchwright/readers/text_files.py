"""Plain text files, one item a line.

The one rule: every line is an item, empty ones too; one that cannot be decoded is a bad record.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from batchwright.model.block import BadRecord, Block, Place, Position
from batchwright.readers.line_blocks import Located, Parsed, place_record, read_blocks
from batchwright.readers.line_files import Cut, LineCutter, LineFile
from batchwright.readers.text_encodings import TextEncoding, plain_lines, without_line_end


def text_lines(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> "TextLines":
    r"""The lines of a text file, without their ends (LF, CR LF or CR).

    Restarts where it stopped, without reading the beginning again. A byte order mark is passed over, and decides the
    byte order of utf-16 and utf-32. A line with undecodable bytes, or longer than 64 MiB, is a bad record; its
    neighbours are fine. Raises SourceError for an unknown encoding.
    """
    return TextLines(LineFile(os.fspath(path), encoding))


@dataclass(frozen=True, slots=True)
class TextLines:
    """A reader of lines; build it with `text_lines`."""

    file: LineFile

    @property
    def address(self) -> str:
        """The absolute path."""
        return f"text:{self.file.absolute}"

    @property
    def seeks(self) -> bool:
        """A restart goes straight to its byte."""
        return True

    def read(self, after: Position | None) -> Iterator[Block[str]]:
        """Blocks of lines. An OSError is left to the caller; a file that is not the same raises GroundChangedError."""
        with LineCutter(self.file) as cutter:
            anchor = cutter.start if after is None or after.anchor is None else after.anchor
            yield from read_blocks(cutter, anchor, _parse)

    def place(self, position: Position) -> Place:
        """The file, the line and its first byte."""
        return place_record(self.file, position, lambda cutter: cutter.start, _locate)

    def check(self) -> None:
        """Raise SourceError if the file is missing, not a regular file, not readable, or in another encoding."""
        self.file.check()

    def fraction(self, position: Position) -> float | None:
        """The position's part of the file's bytes."""
        return self.file.fraction(position)


def _parse(encoding: TextEncoding, cut: Cut) -> Parsed:
    try:
        items = plain_lines(cut.data.decode(encoding.codec))
    except UnicodeDecodeError:
        return _parse_each(encoding, cut)
    return Parsed(items, (), len(items))


def _parse_each(encoding: TextEncoding, cut: Cut) -> Parsed:
    lines = encoding.decode_lines(cut.data)
    items = [without_line_end(text) for index, text in enumerate(lines.texts) if index not in lines.errors]
    bad = [BadRecord(index, error, lines.raws[index]) for index, error in lines.errors.items()]
    return Parsed(items, bad, len(lines.texts))


def _locate(encoding: TextEncoding, cut: Cut, offset: int) -> Located:
    count = len(encoding.split_lines(cut.data))
    return Located(offset if offset < count else None, count, count)

"""Plain text files, one item a line.

The one rule: every line is an item, empty ones too; one that cannot be decoded is a bad record.
"""

import os

from batchwright.model.block import BadRecord
from batchwright.readers.file_listings import Files
from batchwright.readers.file_series import FileSeries
from batchwright.readers.line_blocks import LineReader, Located, Parsed
from batchwright.readers.line_files import Cut, LineFile
from batchwright.readers.text_encodings import TextEncoding, plain_lines, without_line_end


def text_lines(path: str | os.PathLike[str] | Files, *, encoding: str = "utf-8") -> LineReader[str] | FileSeries[str]:
    r"""The lines of a text file, or of several `files`, without their ends (LF, CR LF or CR).

    Restarts where it stopped, without reading the beginning again. A byte order mark is passed over, and decides the
    byte order of utf-16 and utf-32. A line with undecodable bytes, or longer than 64 MiB, is a bad record; its
    neighbours are fine. Raises SourceError for an unknown encoding.
    """
    if isinstance(path, Files):
        return FileSeries(path, text_reader(LineFile(path.patterns[0], encoding)))
    return text_reader(LineFile(os.fspath(path), encoding))


def text_reader(file: LineFile) -> LineReader[str]:
    """A reader of lines in a file that is described already."""
    return LineReader(file, "text", _parse, _locate)


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

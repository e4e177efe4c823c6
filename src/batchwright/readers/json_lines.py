"""JSON Lines files, one JSON value a line.

The one rule: what is not strictly JSON is a bad record with its raw text; NaN and Infinity are not JSON.
"""

import json
import os
from typing import Any, NoReturn

from batchwright.model.block import BadRecord
from batchwright.readers.file_listings import Files
from batchwright.readers.file_series import FileSeries
from batchwright.readers.line_blocks import LineReader, Located, Parsed
from batchwright.readers.line_files import Cut, LineFile
from batchwright.readers.text_encodings import Lines, TextEncoding, plain_lines, without_line_end


def json_lines(path: str | os.PathLike[str] | Files, *, encoding: str = "utf-8") -> LineReader[Any] | FileSeries[Any]:
    """The values of a JSON Lines file (NDJSON), or of several `files`: usually one object, a dict, a line.

    Blank lines are no records.

    Restarts where it stopped, without reading the beginning again. A line that is not JSON, is nested too deeply, has
    an integer that Python refuses to convert, cannot be decoded, or is longer than 64 MiB is a bad record; its
    neighbours are fine. Raises SourceError for an unknown encoding.
    """
    if isinstance(path, Files):
        return FileSeries(path, json_reader(LineFile(path.patterns[0], encoding)))
    return json_reader(LineFile(os.fspath(path), encoding))


def json_reader(file: LineFile) -> LineReader[Any]:
    """A reader of JSON values in a file that is described already."""
    return LineReader(file, "json-lines", _parse, _locate)


def _parse(encoding: TextEncoding, cut: Cut) -> Parsed:
    decoder = _decoder()
    try:
        texts = plain_lines(cut.data.decode(encoding.codec))
        pairs = [decoder.raw_decode(text) for text in texts]
    except (ValueError, RecursionError):
        return _parse_each(encoding.decode_lines(cut.data), decoder)
    if [end for _, end in pairs] != list(map(len, texts)):
        return _parse_each(encoding.decode_lines(cut.data), decoder)
    return Parsed([value for value, _ in pairs], (), len(texts))


def _parse_each(lines: Lines, decoder: json.JSONDecoder) -> Parsed:
    items: list[Any] = []
    bad: list[BadRecord] = []
    for index, text in enumerate(lines.texts):
        if index in lines.errors:
            bad.append(BadRecord(len(items) + len(bad), lines.errors[index], lines.raws[index]))
        elif not _is_blank(text):
            try:
                items.append(decoder.decode(text))
            except (ValueError, RecursionError) as error:
                bad.append(BadRecord(len(items) + len(bad), _described(error), without_line_end(text)))
    return Parsed(items, bad, len(lines.texts))


def _locate(encoding: TextEncoding, cut: Cut, offset: int) -> Located:
    texts = encoding.decode_lines(cut.data).texts
    starts = [index for index, text in enumerate(texts) if not _is_blank(text)]
    return Located(starts[offset] if offset < len(starts) else None, len(starts), len(texts))


def _is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n")


def _described(error: ValueError | RecursionError) -> ValueError:
    """Always a ValueError, whose text is about the line and not about a document."""
    if isinstance(error, json.JSONDecodeError):
        return ValueError(f"not JSON: {error.msg} (column {error.colno})")
    return ValueError("nested too deeply" if isinstance(error, RecursionError) else str(error))


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is not a JSON number")

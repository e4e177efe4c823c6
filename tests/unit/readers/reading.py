"""What a reader gave, in a form that can be compared whatever the blocks."""

from pathlib import Path
from typing import Any

from batchwright.model.block import Place, Position
from batchwright.readers.line_files import LineFile


def records(reader: Any, after: Position | None = None) -> list[Any]:
    """Items as they are, bad records as (error, raw), in the order of the input."""
    found = []
    for block in reader.read(after):
        bad = {record.index: (str(record.error), record.raw) for record in block.bad}
        items = iter(block.items)
        found += [bad[index] if index in bad else next(items) for index in range(len(block))]
    return found


def places(reader: Any) -> list[Place]:
    """The place of every record."""
    found, ordinal = [], 0
    for block in reader.read(None):
        found += [reader.place(Position(ordinal + index, block.anchor, index)) for index in range(len(block))]
        ordinal += len(block)
    return found


def lines_and_bytes(reader: Any) -> list[tuple[int | None, int | None]]:
    return [(place.line, place.byte) for place in places(reader)]


def write(folder: Path, content: bytes | str, name: str = "in.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def line_file(path: Path, *, encoding: str = "utf-8", block: int = 1 << 16, longest: int = 1 << 26) -> LineFile:
    return LineFile(str(path), encoding, block, longest)

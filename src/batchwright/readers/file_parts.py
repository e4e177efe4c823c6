"""A text file in parts: byte ranges that begin where a record does, found in one pass over the file.

The one rule: a part holds exactly the records that a reader of the whole file gives between its two ends, with the
lines that they have there. Whether its bytes are still those that were split is told from a checksum of all of them.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Self

from batchwright.model.block import Position
from batchwright.readers.file_fingerprints import file_changes
from batchwright.readers.line_files import BLOCK_BYTES, Cut, LineCutter, LineFile
from batchwright.readers.text_encodings import TextEncoding

Scan = Callable[[TextEncoding, Cut], tuple[int, bytes]]
"""How many lines of a cut belong to records that end in it, and the rest, which needs more lines behind it."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file. `end` None: up to wherever the file ends; `before` is the checksum of what stands before it.

    `ground` is the fingerprint of its end, as the file was when it was split. The first part answers for what stands
    before its first record, too: the header line.
    """

    start: list[int]
    before: int
    end: int | None
    ground: Mapping[str, Any]
    first: bool

    @classmethod
    def of(cls, spec: Any) -> Self:
        """The part that was stored."""
        return cls(**spec)

    @property
    def spec(self) -> dict[str, Any]:
        """The part as it is stored."""
        return {**asdict(self), "ground": dict(self.ground)}

    def enter(self, cutter: LineCutter) -> list[int]:
        """Keep the cutter to this part; the anchor of its first record."""
        cutter.confine(self.end, (self.start[0], self.before))
        return self.start

    def changes(self, file: LineFile, position: Position, *, finished: bool) -> str:
        """What is different in this part, read or not, from what it was when the file was split."""
        seen: Mapping[str, Any] = position.fingerprint or self.ground
        further = self.end is None and seen["byte"] > self.ground["byte"]
        known = seen if further else {**self.ground, "size": seen["size"], "file": seen["file"]}
        looked_at = replace(
            position, fingerprint={**known, "from": [0, 0] if self.first else [self.start[0], self.before]}
        )
        return file_changes(file.absolute, file.path, looked_at, finished=finished and self.end is None)

    @property
    def length(self) -> int:
        """How many bytes it had when the file was split."""
        return int((self.ground["byte"] if self.end is None else self.end) - self.start[0])

    def fraction(self, position: Position, file: LineFile) -> float | None:
        """About how much of the part lies before a position."""
        start, end = self.start[0], self.start[0] + self.length
        before = start if position.anchor is None else position.anchor[0]
        into = file.bytes_into(position, before, end, start)
        return min(1.0, (before - start + into) / (end - start)) if end > start else 1.0


def split_file(
    file: LineFile, most: int, begin: Callable[[LineCutter], list[int]], scan: Scan
) -> Sequence[dict[str, Any]]:
    """Parts of about the same size, at most so many; at least one, which may be empty.

    `begin` says where the first record starts. An OSError is left to the caller.
    """
    with LineCutter(replace(file, path=file.absolute)) as cutter:
        stamp, start = cutter.stamp(), begin(cutter)
    # A small file is cut into small blocks: a part begins at the beginning of one.
    block = max(1, min(BLOCK_BYTES, stamp.size // (8 * most)))
    with LineCutter(replace(file, path=file.absolute, block_bytes=block)) as cutter:
        cutter.go_to(start)
        length = max(1, stamp.size - start[0])
        line, crc = start[1], cutter.checksum_to(start[0])
        marks = [(start, crc)]
        while (cut := cutter.cut()) is not None:
            lines, rest = (1, b"") if cut.overlong else scan(cutter.encoding, cut)
            if rest:
                cutter.give_back(rest)
            data = cut.data[: len(cut.data) - len(rest)] if rest else cut.data
            line, crc = line + lines, cutter.checksum(cut, crc) if cut.overlong else zlib.crc32(data, crc)
            if len(marks) < most and start[0] + length * len(marks) // most <= cutter.byte < stamp.size:
                marks.append(([cutter.byte, line], crc))
        marks.append(([cutter.byte, line], crc))
    told = {"size": stamp.size, "file": list(stamp.file)}
    last = len(marks) - 2
    return [
        FilePart(here, before, None if n == last else there[0], {"byte": there[0], "crc": after, **told}, n == 0).spec
        for n, ((here, before), (there, after)) in enumerate(pairwise(marks))
    ]


def scan_lines(encoding: TextEncoding, cut: Cut) -> tuple[int, bytes]:
    """The scan of a file in which every line is a record."""
    if encoding.lf == b"\n" and b"\r" not in cut.data:
        return cut.data.count(b"\n") + (not cut.data.endswith(b"\n")), b""
    return len(encoding.split_lines(cut.data)), b""

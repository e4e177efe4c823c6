"""A text file cut into blocks of whole lines, from any line on: what text, CSV and JSON Lines readers share.

The one rule: memory is bounded by the size of a block, or by the longest line that is allowed.
"""

import os
import stat
from dataclasses import dataclass, field
from io import FileIO
from itertools import islice
from typing import Self

from batchwright.model.block import Position
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError, SourceError
from batchwright.readers.file_fingerprints import Stamp, checksum, stamp_of
from batchwright.readers.text_encodings import TextEncoding, check_encoding, find_encoding

BLOCK_BYTES = 64 * 1024
"""Small enough for the processor's cache, and for finding a failed record's line: measured against 16 KiB to 1 MiB."""

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is a bad record, of which only the beginning is kept."""

KEPT_BYTES = 64 * 1024

SAMPLE_BYTES = 16 * 1024

LINE_BYTES = 4 * 1024
"""As long as a line may well be."""


@dataclass(frozen=True, slots=True)
class LineFile:
    """A text file on disk. `path` is as the user gave it, `absolute` was made of it when this was built.

    Raises SourceError for an unknown encoding.
    """

    path: str
    encoding: str = "utf-8"
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES
    absolute: str = field(init=False)

    def __post_init__(self) -> None:
        """A change of the working directory later on does not change what is read."""
        object.__setattr__(self, "absolute", os.path.abspath(self.path))  # noqa: PTH100 - resolve() follows links
        check_encoding(self.encoding)

    def check(self) -> None:
        """Raise SourceError unless this is a regular file that can be read, in the declared encoding if it tells."""
        try:
            with LineCutter(self):
                pass
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(self) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(f"'{self.path}' cannot be read", reason, f"looked for {self.absolute}") from None

    def fraction(self, position: Position) -> float | None:
        """About how much of the file lies before the position; None if the file cannot be looked at."""
        try:
            size = os.stat(self.absolute).st_size  # noqa: PTH116 - the path is a text
        except OSError:
            return None
        if not position.offset and position.anchor is None:
            return 0.0
        before: int = 0 if position.anchor is None else position.anchor[0]
        return min(1.0, (before + self.bytes_into(position, before, size)) / size) if size else 1.0

    def bytes_into(self, position: Position, before: int, end: int, start: int = 0) -> float:
        """About how many bytes of its block, which begins at `before`, lie before a position.

        Blocks are long, and what is shown should move within them. The items from `start` to the block tell how long
        one is; in the first block the file's beginning does. It never says more than surely belongs to the block.
        """
        if not position.offset:
            return 0.0
        items = position.ordinal - position.offset
        if before > start and items > 0:
            length = (before - start) / items
        else:
            try:
                with open(self.absolute, "rb") as file:  # noqa: PTH123 - the path is a text
                    sample = file.read(SAMPLE_BYTES)
            except OSError:
                return 0.0
            length = len(sample) / (sample.count(b"\n") or 1)
        # What is left and fits into a block is one; a block ends at the last line that is read whole.
        block = end - before if end - before <= self.block_bytes else self.block_bytes - self._cut_off()
        return max(0.0, min(block, position.offset * length))

    def _cut_off(self) -> int:
        return min(LINE_BYTES, self.block_bytes // 2)


@dataclass(frozen=True, slots=True)
class Cut:
    """Whole lines: `data` stands in the file from `byte` up to `end`.

    `closed` says that no record goes on behind it. `overlong` is a single line, of which `data` is the beginning.
    """

    data: bytes
    byte: int
    end: int
    closed: bool
    overlong: bool = False


class LineCutter:
    """An open file that is being cut. Raises SourceError if it is no regular file, OSError if it cannot be opened."""

    def __init__(self, file: LineFile) -> None:
        """Open it and look at its first bytes."""
        self.file = file
        _check_regular(file)
        self._stream = FileIO(file.absolute)
        try:
            self.encoding: TextEncoding = find_encoding(file.path, file.encoding, self._stream.read(4))
            self._stream.seek(self.encoding.start)
        except BaseException:
            self._stream.close()
            raise
        self._byte, self._tail = self.encoding.start, b""
        self._end: int | None = None
        self._known = (0, 0)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stream.close()

    def confine(self, end: int | None, known: tuple[int, int]) -> None:
        """Take this byte, at which a record starts, for the file's end; `known` is a byte and the checksum to it."""
        self._end, self._known = end, known

    @property
    def byte(self) -> int:
        """Where the next cut starts."""
        return self._byte

    @property
    def start(self) -> list[int]:
        """The anchor of the first line."""
        return [self.encoding.start, 1]

    def stamp(self) -> Stamp:
        """How the file looks now."""
        return stamp_of(self._stream.fileno())

    def checksum_to(self, byte: int) -> int:
        """The checksum of everything before this byte."""
        start, crc = self._known if self._known[0] <= byte else (0, 0)
        return checksum(self._stream.fileno(), start, byte, crc)

    def checksum(self, cut: Cut, before: int) -> int:
        """The checksum up to the end of a cut whose data is not all kept."""
        return checksum(self._stream.fileno(), cut.byte, cut.end, before)

    def go_to(self, anchor: list[int]) -> None:
        """Cut on from here. Raises GroundChangedError unless a line still starts there."""
        byte, line = anchor
        size = os.fstat(self._stream.fileno()).st_size
        encoding = self.encoding
        self._stream.seek(max(byte - encoding.width, 0))
        before = self._stream.read(encoding.width) if byte else b""
        if byte > size or (encoding.start < byte < size and before not in (encoding.lf, encoding.cr)):
            raise GroundChangedError(
                f"'{self.file.path}' is not the file it was",
                f"line {line} started at byte {byte:,}, now the file "
                + (f"has {size:,} bytes" if byte > size else "has no start of a line there"),
                f"put the file back as it was, or {BEGIN_AGAIN}",
            )
        self._stream.seek(byte)
        self._byte, self._tail = byte, b""

    def cut(self) -> Cut | None:
        """The next lines, at least one; None at the end of the file."""
        limit = self.file.max_line_bytes
        while True:
            # Reading as much again as is waiting keeps the work for a long record linear in its length.
            waiting, block = len(self._tail), self.file.block_bytes
            more = self._read(max(block, min(waiting, limit + block - waiting)))
            data = self._tail + more
            end = self.encoding.last_line_end(data) if more else len(data)
            if len(data) > limit:
                overlong = self._find_overlong(data, end)
                if overlong == 0:
                    return self._pass_over(data)
                if overlong is not None:
                    return self._cut_at(data, overlong, closed=True)
            if end or not more:
                return self._cut_at(data, end, closed=not more) if data else None
            self._tail = data

    def give_back(self, data: bytes) -> None:
        """The end of the last cut is to be at the beginning of the next one, with more lines behind it."""
        self._tail = data + self._tail
        self._byte -= len(data)

    def _read(self, count: int) -> bytes:
        if self._end is not None:
            count = max(0, min(count, self._end - self._stream.tell()))
        return self._stream.read(count)

    def _cut_at(self, data: bytes, end: int, *, closed: bool) -> Cut:
        made = Cut(data[:end], self._byte, self._byte + end, closed)
        self._byte, self._tail = made.end, data[end:]
        return made

    def _find_overlong(self, data: bytes, end: int) -> int | None:
        """Where the first overlong line starts, the unfinished one behind `end` included."""
        limit, encoding, start = self.file.max_line_bytes, self.encoding, 0
        for line in encoding.split_lines(data[:end]) if end > limit else ():
            if len(line.removesuffix(encoding.lf).removesuffix(encoding.cr)) > limit:
                return start
            start += len(line)
        unfinished = len(data) - end
        if unfinished and data.endswith(encoding.cr):
            unfinished -= encoding.width
        return end if unfinished > limit else None

    def _pass_over(self, data: bytes) -> Cut:
        """Read to the end of the line that starts here, keeping only its beginning."""
        start, kept = self._byte, data[: min(KEPT_BYTES, self.file.max_line_bytes)]
        width = self.encoding.width
        while not (end := self.encoding.first_line_end(data)):
            # The last unit may be a CR whose LF is still to come, and a part of a unit may follow it.
            passed = max(len(data) // width - 1, 0) * width
            more = self._read(self.file.block_bytes)
            self._byte += passed
            data = data[passed:] + more
            if not more:
                end = len(data)
                break
        self._byte, self._tail = self._byte + end, data[end:]
        return Cut(kept, start, self._byte, closed=True, overlong=True)


def _check_regular(file: LineFile) -> None:
    mode = os.stat(file.absolute).st_mode  # noqa: PTH116 - the path is a text
    if stat.S_ISDIR(mode):
        raise SourceError(f"'{file.path}' is a directory, not a file", file.absolute, "name a file in it")
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise SourceError(
            f"'{file.path}' is not a regular file",
            f"it is {kind}, in which no position can be found again",
            "write its content to a file first",
        )


def _missing(file: LineFile) -> SourceError:
    folder, name = os.path.split(file.absolute)
    found, mend = f"there is no folder {folder}", "check the path"
    if os.path.isdir(folder):  # noqa: PTH112 - the path is a text
        found = f"nothing of that name is in {folder}"
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, 10_000)]
        from difflib import get_close_matches  # slow to load

        near = get_close_matches(name, names, n=1)
        mend = f"did you mean '{near[0]}'?" if near else mend
    return SourceError(f"the file '{file.path}' is missing", found, mend)

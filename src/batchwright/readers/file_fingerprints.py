"""What stood in a file before a position, as a checksum that goes on from block to block.

The one rule: nothing is read a second time to make a fingerprint, and nothing is read to compare one unless the file
has been touched since. Touched is what has another inode, size or time of its last change; then everything before the
position is read once, so that a change anywhere in it is seen, and a touch without a change is none.

A fingerprint is `{"byte", "crc", "anchor_crc", "size", "file"}`: how many bytes stand before the position, their
CRC-32, that of the bytes before the position's anchor, the file's size, and its inode with the time of its last change.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchwright.model.block import Position

READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a file looked when it was last looked at."""

    size: int
    file: Sequence[int]


def stamp_of(descriptor: int) -> Stamp:
    """How an open file looks now."""
    found = os.fstat(descriptor)
    return Stamp(found.st_size, [found.st_ino, found.st_ctime_ns])


def described(stamp: Stamp, byte: int, crc: int, anchor_crc: int) -> dict[str, Any]:
    """A fingerprint."""
    return {"byte": byte, "crc": crc, "anchor_crc": anchor_crc, "size": stamp.size, "file": stamp.file}


def checksum(descriptor: int, start: int, stop: int, crc: int = 0) -> int:
    """The CRC-32 of these bytes of an open file, going on from another; as far as the file goes."""
    while start < stop and (data := os.pread(descriptor, min(READ_BYTES, stop - start), start)):
        crc = zlib.crc32(data, crc)
        start += len(data)
    return crc


def made_anew(path: str, anchor: int, byte: int) -> dict[str, Any]:
    """The fingerprint of a position, by reading what stands before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        before = checksum(descriptor, 0, anchor)
        return described(stamp_of(descriptor), byte, checksum(descriptor, anchor, byte, before), before)
    finally:
        os.close(descriptor)


def file_changes(path: str, shown: str, position: Position, *, finished: bool) -> str:
    """What is different before this position, in words; see `ports.Fingerprints`. `shown` names the file."""
    known: Mapping[str, Any] | None = position.fingerprint
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return _compared(descriptor, known, finished=finished, shown=f"'{shown}'") if known else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _compared(descriptor: int, known: Mapping[str, Any], *, finished: bool, shown: str) -> str:
    now, byte, size = stamp_of(descriptor), known["byte"], known["size"]
    if (now.size, list(now.file)) == (size, list(known["file"])):
        return ""
    same = now.file[0] == known["file"][0]
    if now.size < byte:
        how = "was truncated" if same else "was replaced by a shorter file"
        return f"{shown} {how}: {byte:,} bytes of it were read, now it has {now.size:,}"
    # A part of a file begins behind what stands before it: that is the affair of the other parts.
    start, before = known.get("from", (0, 0))
    if checksum(descriptor, start, byte, before) != known["crc"]:
        how = "was changed" if same else "was replaced by another file"
        return f"{shown} {how}: its first {byte:,} bytes, which were read, are not what they were"
    if finished and now.size > size:
        return f"{shown} has grown: it had {size:,} bytes when it was read to its end, now it has {now.size:,}"
    return ""

"""Which files a reader of several files reads, in which order, and what stood in those that are done.

The one rule: files are read in the order of their absolute paths, as texts, whatever the file system says.
"""

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from batchwright.model.errors import DeclarationError, SourceError
from batchwright.readers.file_fingerprints import checksum, made_anew

SHOWN = 3
"""How many names an address or a text holds."""


@dataclass(frozen=True, slots=True)
class Files:
    """Several files; build it with `files`. `patterns` are absolute."""

    patterns: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The patterns, or the first of them and a digest of all: equal from run to run."""
        if len(self.patterns) <= SHOWN:
            return ", ".join(self.patterns)
        digest = hashlib.sha256("\0".join(self.patterns).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{self.patterns[0]} and {len(self.patterns) - 1:,} more ({digest})"

    def found(self) -> list[str]:
        """The files that are there now, and those that are named though they are not, in order, each once."""
        found: set[str] = set()
        for pattern in self.patterns:
            if glob.has_magic(pattern):
                found.update(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))  # noqa: PTH112, PTH207 - the paths are texts
            else:
                found.add(pattern)
        return sorted(found)

    def required(self) -> list[str]:
        """The same. Raises SourceError if there is none."""
        found = self.found()
        if not found:
            folder = os.path.dirname(self.patterns[0])  # noqa: PTH120 - the path is a text
            raise SourceError(f"no file fits {self.shown}", "", f"check the pattern, and what is in {folder}")
        return found


def files(*paths: str | os.PathLike[str]) -> Files:
    """Several files for one reader: paths, and patterns such as `in/*.csv` or `in/**/*.csv`.

    They are read one after the other, in the order of their paths: `part-10` comes before `part-9`. What a pattern fits
    is looked up when the step begins. Raises DeclarationError for no path at all, and for one that is given twice.
    """
    given = sorted(os.path.abspath(os.fspath(path)) for path in paths)  # noqa: PTH100 - resolve() follows links
    wrong = "" if given else "no path is given"
    wrong = wrong or next((f"{path} is given twice" for path, following in pairwise(given) if path == following), "")
    if wrong:
        raise DeclarationError("files: each path is given once", wrong, 'write files("in/*.csv")')
    return Files(tuple(given))


@dataclass(frozen=True, slots=True)
class Done:
    """What is known of the files before one: their number, and digests of their names, stamps and contents.

    `latest` is when the last of them was changed: what has a later time has come, or was changed, since.
    """

    count: int = 0
    names: str = ""
    stamps: str = ""
    contents: str = ""
    latest: int = 0

    @classmethod
    def of(cls, stored: Sequence[Any]) -> Self:
        """What was stored."""
        return cls(*stored)

    @classmethod
    def before(cls, paths: Iterable[str]) -> Self:
        """Of these files, by reading them. An OSError is left to the caller."""
        done = cls()
        for path in paths:
            done = done.behind(path, None)
        return done

    @property
    def stored(self) -> list[Any]:
        """As it is stored."""
        return [self.count, self.names, self.stamps, self.contents, self.latest]

    def behind(self, path: str, last: Mapping[str, Any] | None) -> Self:
        """With one more file, of which `last` is the fingerprint behind its last record, if that is known."""
        whole = whole_file(path, last)
        inode, changed = whole["file"]
        return type(self)(
            self.count + 1,
            _chained(self.names, path),
            _chained(self.stamps, whole["size"], inode, changed),
            _chained(self.contents, whole["size"], whole["crc"]),
            max(self.latest, changed),
        )

    @classmethod
    def named(cls, paths: Iterable[str]) -> Self:
        """Of these files, but for what stands in them."""
        listed = list(paths)
        latest = max((os.stat(path).st_ctime_ns for path in listed), default=0)  # noqa: PTH116 - the path is a text
        return cls(len(listed), _names(listed), latest=latest)

    def same_names(self, paths: Iterable[str]) -> bool:
        """Whether these are the files."""
        return self.names == _names(paths)

    def come(self, paths: Iterable[str]) -> str:
        """Which of these files are new, in words; those that were changed cannot be told from them.

        One that was made before, and moved or linked here since, is told by their number.
        """
        listed = list(paths)
        if new := self.newer(listed):
            return f"{shown(new)} came, or was changed, since the others were read"
        more = len(listed) > self.count
        return f"{self.count:,} files were read, now there are {len(listed):,}" if more else ""

    def changes(self, paths: Sequence[str], behind: str) -> str:
        """What is different in these files, which stand before another one now, from what they were."""
        if not self.same_names(paths):
            told = f"{self.count:,} files stood before '{behind}', now there are {len(paths):,}"
            return self.come(paths) or told
        if self.stamps == _stamps(paths) or self.contents == type(self).before(paths).contents:
            return ""
        return f"{shown(self.newer(paths)) or 'a file before it'} was changed since it was read"

    def newer(self, paths: Iterable[str]) -> list[str]:
        """Those of these files that have come, or were changed, since."""
        return [path for path in paths if os.stat(path).st_ctime_ns > self.latest]  # noqa: PTH116 - the path is a text


def whole_file(path: str, last: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fingerprint of a whole file; `last` is that behind its last record, which saves reading it again."""
    if last is None:
        size = os.stat(path).st_size  # noqa: PTH116 - the path is a text
        return made_anew(path, size, size)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # The size that it had then: what was written to it since has not been read.
        crc = checksum(descriptor, last["byte"], last["size"], last["crc"])
    finally:
        os.close(descriptor)
    return {**last, "byte": last["size"], "crc": crc, "anchor_crc": crc}


def _names(paths: Iterable[str]) -> str:
    digest = ""
    for path in paths:
        digest = _chained(digest, path)
    return digest


def _stamps(paths: Iterable[str]) -> str:
    digest = ""
    for path in paths:
        found = os.stat(path)  # noqa: PTH116 - the path is a text
        digest = _chained(digest, found.st_size, found.st_ino, found.st_ctime_ns)
    return digest


def _chained(before: str, *values: object) -> str:
    text = "\0".join((before, *map(str, values)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def shown(paths: Sequence[str]) -> str:
    """The first of these files, and how many more there are."""
    more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
    return ", ".join(f"'{path}'" for path in paths[:SHOWN]) + more

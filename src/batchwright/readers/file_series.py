"""Several files read one after the other, as one input.

The one rule: an anchor is `[file, byte, line]`: the position is always in the file of the record that comes next. What
stands behind the last record of a file is the first one of the next file that has any.

What may change between two runs, and what becomes of it:
  a file that was read, or the read part of one, is other, gone, or has grown     the input has changed
  a file comes, or goes, among those that were read                               the input has changed
  a file behind the position comes, goes or changes; the one it is in grows       it is read as it is then
  the step is finished: a file comes, or one has grown or changed                 the input has changed
  the step is finished: files are gone                                            no change: they may be put away
  the step is in partitions: anything but files that are put away afterwards      the input has changed
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

from batchwright.model.block import Block, Place, Position
from batchwright.model.errors import BEGIN_AGAIN, GroundChangedError
from batchwright.readers.file_listings import Done, Files, shown, whole_file
from batchwright.readers.file_parts import FilePart

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class OneFile(Protocol[Item_co]):
    """A reader of one file, of which the series makes those of its files."""

    @property
    def address(self) -> str:
        """See `Reader`; so are `read` and `place`."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """See `Describes`."""
        ...

    def of_file(self, path: str) -> Self:
        """The same for another file."""
        ...

    def agreeing(self, path: str) -> Self:
        """The same for files of which this one is the first: what it says in its head, all have to say."""
        ...

    def read(self, after: Position | None) -> Iterator[Block[Item_co]]:
        """Blocks of records."""
        ...

    def place(self, position: Position) -> Place:
        """The file, the line and its first byte."""
        ...

    def check(self) -> None:
        """See `Checks`."""
        ...

    def fraction(self, position: Position) -> float | None:
        """See `Measures`."""
        ...

    def fingerprint(self, position: Position) -> Any:
        """See `Fingerprints`."""
        ...

    def changes(self, position: Position, *, finished: bool) -> str:
        """See `Fingerprints`."""
        ...

    def split(self, most: int) -> Sequence[Any]:
        """See `Splits`: what is split is a `FilePart`."""
        ...

    def part(self, spec: Any) -> Self:
        """See `Splits`."""
        ...


@dataclass(frozen=True, slots=True)
class _Piece(Generic[Item]):
    """A file, or a part of one; `label` begins the anchors in it."""

    label: str | int
    path: str
    reader: OneFile[Item]


@dataclass(frozen=True, slots=True)
class FileSeries(Generic[Item]):
    """A reader of several files; build it with `csv_rows(files(…))` and its like. `one` is that of any of them.

    `only` is a part of the input, as the plan has it.
    """

    files: Files
    one: OneFile[Item]
    only: Mapping[str, Any] | None = None
    _sizes: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def address(self) -> str:
        """What the files hold, and which they are."""
        return f"{self.one.address.partition(':')[0]}:{self.files.shown}"

    @property
    def seeks(self) -> bool:
        """A restart goes straight to its byte."""
        return True

    @property
    def options(self) -> Mapping[str, str]:
        """Those of each file."""
        return self.one.options

    @property
    def undivided(self) -> str:
        """Nothing: they can be split."""
        return ""

    def check(self) -> None:
        """Raise SourceError if there is no file, or one is missing, not readable, or has not the head of the others."""
        paths = self.files.required()
        for path in paths:
            if not os.path.exists(path):  # noqa: PTH110 - the path is a text
                self.one.of_file(path).check()
        one = self._agreeing(paths)
        for path in paths:
            if _size(path):
                one.of_file(path).check()

    def read(self, after: Position | None) -> Iterator[Block[Item]]:
        """Blocks of records. An OSError is left to the caller; a file that has changed raises GroundChangedError."""
        pieces = self._pieces()
        self._sizes.clear()
        self._sizes.update((piece.path, _size(piece.path)) for piece in pieces)
        start, inner = 0, None
        done: Done | None = Done()
        if after is not None and after.anchor is not None:
            start = _index(pieces, after.anchor[0])
            inner, done = _inside(after), _done_before(after)
        return _joined(pieces[start:], inner, done)

    def place(self, position: Position) -> Place:
        """The file, the line and its first byte."""
        if position.anchor is None:
            first = next(self.read(None), None)
            if first is None:
                return Place(self.files.shown)
            position = replace(position, anchor=first.anchor)
        return self._reader(position.anchor[0]).place(_inside(position))

    def fraction(self, position: Position) -> float | None:
        """The position's part of the bytes of all files, as they were when reading began."""
        if position.anchor is None:
            return 0.0
        try:
            lengths = self._lengths()
            inside = self._reader(position.anchor[0]).fraction(_inside(position)) or 0.0
        except OSError:
            return None
        if position.anchor[0] not in lengths:
            return None
        before = 0
        for label, length in lengths.items():
            if label == position.anchor[0]:
                before += int(inside * length)
                break
            before += length
        total = sum(lengths.values())
        return min(1.0, before / total) if total else 1.0

    def split(self, most: int) -> Sequence[Any]:
        """Runs of files, and byte ranges of those that are long, of about the same size; each is read once for that."""
        paths = self.files.required()
        one, sizes = self._agreeing(paths), {path: _size(path) for path in paths}
        total, start = max(1, sum(sizes.values())), 0
        groups: dict[int, list[Any]] = {}
        for path, size in sizes.items():
            for spec in one.of_file(path).split(max(1, -(-size * most // total))) if size else ():
                # A part of a file goes to the part of the whole in which it starts.
                groups.setdefault((start + FilePart.of(spec).start[0]) * most // total, []).append([path, spec])
            start += size
        first = next((path for path, size in sizes.items() if size), paths[0])
        parts = [{"pieces": pieces, "first": first} for pieces in groups.values() or [[]]]
        # What comes later on is in no part: one of them looks out for it.
        return [{**parts[0], "listing": _listed(sizes)}, *parts[1:]]

    def part(self, spec: Any) -> "FileSeries[Item]":
        """A reader of one of them."""
        return replace(self, only=spec)

    def fingerprint(self, position: Position) -> Any:
        """Digests of the files before the position's, and the checksum of what stands before it in its own."""
        if position.anchor is None:
            return None
        label, done = position.anchor[0], Done()
        try:
            if self.only is None:
                done = Done.before(path for path in self.files.found() if path < label)
            return {"done": done.stored, "in": self._print(position)}
        except OSError:
            return None

    def changes(self, position: Position, *, finished: bool) -> str:
        """Whether the files before the position, and the bytes before it in its own, are what they were."""
        try:
            if self.only is not None:
                return self._changes_in_part(position, finished=finished)
            if position.anchor is None or not position.fingerprint:
                return ""
            return self._changes(position, Done.of(position.fingerprint["done"]), finished=finished)
        except OSError:
            return ""

    def _changes(self, position: Position, done: Done, *, finished: bool) -> str:
        name, paths = position.anchor[0], self.files.found()
        before = [path for path in paths if path < name and (not finished or os.path.exists(path))]  # noqa: PTH110 - the path is a text
        if not os.path.exists(name) and not finished:  # noqa: PTH110 - as above
            return f"'{name}', in which reading stopped, is gone"
        # Files that were read to their end may be put away.
        found = done.changes(before, name) if not finished or done.same_names(before) else done.come(before)
        found = found or self._reader(name).changes(_inside(position), finished=finished)
        later = [path for path in paths if path > name] if finished and not found else []
        return found or (f"{shown(later)} came after the input was read to its end" if later else "")

    def _changes_in_part(self, position: Position, *, finished: bool) -> str:
        reached = -1 if position.anchor is None else position.anchor[0]
        for number, piece in enumerate(self._pieces_of_part()):
            at = _inside(position) if number == reached else Position(0)
            found = piece.reader.changes(at, finished=finished or number < reached)
            if found:
                return found
        listing = (self.only or {}).get("listing")
        return _listing_changes(listing, self.files.found(), finished=finished) if listing else ""

    def _print(self, position: Position) -> Any:
        if position.anchor[1] is None:
            return whole_file(self._path(position.anchor[0]))
        return self._reader(position.anchor[0]).fingerprint(_inside(position))

    def _path(self, label: Any) -> str:
        return str(label if self.only is None else self.only["pieces"][label][0])

    def _reader(self, label: Any) -> OneFile[Item]:
        one = self.one.of_file(self._path(label))
        return one if self.only is None else one.part(self.only["pieces"][label][1])

    def _agreeing(self, paths: Sequence[str]) -> OneFile[Item]:
        return self.one.agreeing(next((path for path in paths if _size(path)), paths[0]))

    def _pieces(self) -> list[_Piece[Item]]:
        if self.only is not None:
            return self._pieces_of_part()
        paths = self.files.required()
        one = self._agreeing(paths)
        return [_Piece(path, path, one.of_file(path)) for path in paths]

    def _pieces_of_part(self) -> list[_Piece[Item]]:
        only = self.only or {"pieces": []}
        if not only["pieces"]:
            return []
        one = self.one.agreeing(only["first"])
        return [_Piece(n, path, one.of_file(path).part(spec)) for n, (path, spec) in enumerate(only["pieces"])]

    def _lengths(self) -> Mapping[Any, int]:
        if self.only is not None:
            parts = [FilePart.of(spec) for _, spec in self.only["pieces"]]
            return {n: part.length for n, part in enumerate(parts)}
        return self._sizes or {path: _size(path) for path in self.files.found()}


def _index(pieces: Sequence[_Piece[Item]], label: str | int) -> int:
    """Where the piece of this label is. Raises GroundChangedError if it is gone."""
    found = next((number for number, piece in enumerate(pieces) if piece.label == label), None)
    if found is None:
        wrong = f"'{label}', in which reading stopped, is gone"
        raise GroundChangedError(wrong, "", f"put it back as it was, or {BEGIN_AGAIN}")
    return found


def _done_before(position: Position) -> Done | None:
    return Done.of(position.fingerprint["done"]) if position.fingerprint else None


def _joined(pieces: Sequence[_Piece[Item]], inner: Position | None, done: Done | None) -> Iterator[Block[Item]]:
    """The blocks of the pieces, each held back until it is known where the next one starts."""
    pending: Block[Item] | None = None
    for piece in pieces:
        last: Block[Item] | None = None
        # An empty file has no header line either.
        inside = inner is not None and inner.anchor is not None
        for block in piece.reader.read(inner) if inside or _size(piece.path) else ():
            made = _labelled(piece.label, block, done)
            if pending is not None:
                yield _leading_to(pending, made)
            pending, last = made, block
            del block, made
        inner = None
        if piece is pieces[-1]:
            break
        if done is not None and isinstance(piece.label, str):
            known = last.fingerprint(len(last)) if last is not None and last.fingerprint else None
            done = done.behind(piece.path, known)
    if pending is not None:
        yield pending if pending.anchor[0] == piece.label else _leading_to(pending, _ending(piece, done))


def _labelled(label: str | int, block: Block[Item], done: Done | None) -> Block[Item]:
    prints = None
    if done is not None and block.fingerprint is not None:
        prints = partial(_both, done, block.fingerprint)
    return replace(block, anchor=[label, *block.anchor], next_anchor=[label, *block.next_anchor], fingerprint=prints)


def _both(done: Done, inner: Callable[[int], Any], offset: int) -> dict[str, Any]:
    return {"done": done.stored, "in": inner(offset)}


def _leading_to(block: Block[Item], following: Block[Item]) -> Block[Item]:
    """The block, at whose end stands the following one, in whatever file that is."""
    if following.anchor[0] == block.anchor[0]:
        return block
    prints = block.fingerprint and following.fingerprint and partial(_turning, block, following.fingerprint)
    return replace(block, next_anchor=following.anchor, fingerprint=prints)


def _turning(block: Block[Any], following: Callable[[int], Any], offset: int) -> Any:
    assert block.fingerprint is not None  # noqa: S101 - for the type checker: asked before
    return following(0) if offset == len(block) else block.fingerprint(offset)


def _ending(piece: _Piece[Item], done: Done | None) -> Block[Item]:
    """What stands at the end of files of which the last ones have no records."""
    anchor = [piece.label, None, None]
    known = {} if done is None else {"done": done.stored, "in": whole_file(piece.path)}
    return Block((), anchor, anchor, fingerprint=(lambda _: known) if known else None)


def _inside(position: Position) -> Position:
    """The same place in its own file."""
    _, *inner = position.anchor
    known = (position.fingerprint or {}).get("in")
    return replace(position, anchor=None if inner[0] is None else inner, fingerprint=known)


def _listed(sizes: Mapping[str, int]) -> dict[str, Any]:
    done = Done.named(sizes)
    return {"files": done.stored, "empty": [path for path, size in sizes.items() if not size]}


def _listing_changes(listing: Mapping[str, Any], paths: Sequence[str], *, finished: bool) -> str:
    done = Done.of(listing["files"])
    grown = [path for path in listing["empty"] if os.path.exists(path) and _size(path)]  # noqa: PTH110 - the path is a text
    if grown:
        return f"{shown(grown)} was empty when the input was split"
    if done.same_names(paths):
        return ""
    found = done.come(path for path in paths if os.path.exists(path))  # noqa: PTH110 - as above
    return found if found or finished else f"{done.count:,} files were split, now there are {len(paths):,}"


def _size(path: str) -> int:
    return os.stat(path).st_size  # noqa: PTH116 - the path is a text

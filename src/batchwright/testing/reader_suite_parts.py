"""What a reader that can be split promises: its parts are the whole. A part of `reader_suite`.

The one rule: whatever the number of parts, every record is in one of them, in order, at the place that it has in the
whole input. A reader that cannot be split passes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchwright.abilities import Fingerprints
from batchwright.model.block import Place, Position
from batchwright.model.codec import decode, encode
from batchwright.ports import Reader
from batchwright.ports.partitions import Splits

Located = tuple[Any, Place]


class PartsSuite:
    """Tests of a reader's parts; see `ReaderSuite`."""

    def reader(self, folder: Path) -> Reader[Any]:
        """See `ReaderSuite.reader`."""
        raise NotImplementedError

    def spoil(self, folder: Path) -> bool:
        """See `ReaderSuite.spoil`."""
        raise NotImplementedError

    def test_parts_are_the_whole_in_order(self, tmp_path: Path) -> None:
        """Each record once, good or bad, and at its place in the whole input: line, byte, key or number."""
        reader = self.reader(tmp_path)
        whole = list(_located(reader, None))
        for most in (1, 2, 3, 7, 1_000):
            assert [record for part in _parts(reader, most) for record in _located(part, None)] == whole

    def test_an_input_is_split_again_in_the_same_way(self, tmp_path: Path) -> None:
        """By another reader that was made alike, too."""
        for most in (2, 5):
            one, other = self.reader(tmp_path), self.reader(tmp_path)
            if isinstance(one, Splits) and isinstance(other, Splits) and not one.undivided:
                assert encode(list(one.split(most))) == encode(list(other.split(most)))

    def test_a_part_is_gone_on_with_at_any_record(self, tmp_path: Path) -> None:
        """From each position of the second of three parts on, what comes is the rest of that part."""
        parts = _parts(self.reader(tmp_path), 3)
        for part in parts[1:2]:
            records = list(_located(part, None))
            for position, passed in _positions(part):
                assert list(_located(part, position)) == records[passed:]

    def test_parts_have_the_address_of_the_whole(self, tmp_path: Path) -> None:
        """The step as a whole is what was begun with it."""
        reader = self.reader(tmp_path)
        assert {part.address for part in _parts(reader, 3)} == {reader.address} or not _divisible(reader)

    def test_a_part_that_has_changed_says_so_before_it_is_read(self, tmp_path: Path) -> None:
        """What was never read is compared too: the plan was made for the input as it was."""
        parts = _parts(self.reader(tmp_path), 3)
        fresh = [part for part in parts if isinstance(part, Fingerprints)]
        assert not any(part.changes(Position(0), finished=False) for part in fresh)
        # A reader that compares by witnesses has none of what it never read.
        tells = any(block.fingerprint for part in fresh for block in part.read(None))
        if tells and self.spoil(tmp_path):
            assert any(part.changes(Position(0), finished=False) for part in fresh)


def _divisible(reader: Reader[Any]) -> bool:
    return isinstance(reader, Splits) and not reader.undivided


def _parts(reader: Reader[Any], most: int) -> list[Reader[Any]]:
    """The parts, as somebody who has read the plan has them; the whole, if it cannot be split."""
    if not isinstance(reader, Splits) or reader.undivided:
        return [reader]
    specs = list(reader.split(most))
    assert 1 <= len(specs) <= most
    return [reader.part(spec) for spec in decode(encode(specs))]


def _positions(reader: Reader[Any]) -> Iterator[tuple[Position, int]]:
    passed = 0
    for block in reader.read(None):
        if block.divisible:
            for offset in range(len(block)):
                yield Position(passed + offset, block.anchor, offset), passed + offset
        passed += len(block)


def _located(reader: Reader[Any], after: Position | None) -> Iterator[Located]:
    """Each record from a position on, with its place."""
    offset, ordinal = (after.offset, after.ordinal - after.offset) if after else (0, 0)
    for block in reader.read(after):
        bad, items = {record.index: record for record in block.bad}, iter(block.items)
        for index in range(len(block)):
            record = ("bad", bad[index].raw) if index in bad else next(items)
            if index >= offset:
                yield record, reader.place(Position(ordinal + index, block.anchor, index))
        offset, ordinal = max(0, offset - len(block)), ordinal + len(block)

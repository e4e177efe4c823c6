"""What every reader must prove. Subclass `ReaderSuite` in a test module and give it a reader over a known input.

    class TestMyReader(ReaderSuite):
        def reader(self, folder):
            (folder / "input").write_text("a b c d")
            return my_reader(folder / "input", block_items=1)
        def expected(self): return ["a", "b", "c", "d"]

The one rule: a reader is asked as the engine asks it: from a position on, and whatever it says must lead back there.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from batchwright.abilities import Fingerprints
from batchwright.model.block import Block, Place, Position
from batchwright.model.codec import decode, encode
from batchwright.ports import Checks, Measures, Reader
from batchwright.testing.reader_suite_parts import PartsSuite

SAMPLED_OFFSETS = 7


class ReaderSuite(PartsSuite):
    """Tests of one reader. The input should be enough for three blocks, so that there is something between them."""

    def reader(self, folder: Path) -> Reader[Any]:
        """The reader, with its input in this folder, which is there; equal whenever it is made for the same one."""
        raise NotImplementedError

    def expected(self) -> list[Any]:
        """The items, in order."""
        raise NotImplementedError

    def expected_bad(self) -> list[int]:
        """The ordinals of the records that cannot be read; ordinals count both items and bad records."""
        return []

    def spoil(self, folder: Path) -> bool:
        """Change the first record of the input that `reader` made; False if there is nothing that could be changed."""
        del folder
        return False

    def test_the_items_and_bad_records_are_those_of_the_input(self, tmp_path: Path) -> None:
        """Read from the start, without a position and from position zero."""
        reader = self.reader(tmp_path)
        for after in (None, Position(0)):
            blocks = list(reader.read(after))
            assert _items(blocks) == self.expected()
            assert [ordinal for ordinal, record in enumerate(_records(blocks)) if record is _BAD] == self.expected_bad()

    def test_the_input_is_enough_for_three_blocks(self, tmp_path: Path) -> None:
        """Otherwise the other tests prove little."""
        assert len(list(self.reader(tmp_path).read(None))) >= 3

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        """Items, bad records and anchors, from one reader and from another that was made alike."""
        reader = self.reader(tmp_path)
        first = _described(reader.read(None))
        assert first == _described(reader.read(None))
        assert first == _described(self.reader(tmp_path).read(None))

    def test_two_readings_at_once_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        """A reader has no place of its own in the input."""
        reader = self.reader(tmp_path)
        one, other = reader.read(None), reader.read(None)
        pairs = list(zip(one, other, strict=True))
        assert _items([block for block, _ in pairs]) == self.expected()
        assert _described(block for block, _ in pairs) == _described(block for _, block in pairs)

    def test_anchors_chain(self, tmp_path: Path) -> None:
        """A block ends where the next one starts, and none is empty."""
        blocks = list(self.reader(tmp_path).read(None))
        assert all(len(block) for block in blocks)
        for block, following in pairwise(blocks):
            assert block.next_anchor == following.anchor

    def test_anchors_survive_the_codec(self, tmp_path: Path) -> None:
        """A checkpoint stores them."""
        for block in self.reader(tmp_path).read(None):
            for anchor in (block.anchor, block.next_anchor):
                assert decode(encode(anchor)) == anchor

    def test_bad_indexes_ascend_within_the_block(self, tmp_path: Path) -> None:
        """And each bad record has an error."""
        for block in self.reader(tmp_path).read(None):
            indexes = [record.index for record in block.bad]
            assert indexes == sorted(set(indexes))
            assert all(0 <= index < len(block) for index in indexes)
            assert all(isinstance(record.error, Exception) for record in block.bad)

    def test_from_every_position_on_the_rest_is_the_same(self, tmp_path: Path) -> None:
        """The engine opens at the anchor, through the codec and in a reader made anew, and drops the offset."""
        records = _records(self.reader(tmp_path).read(None))
        for position in _positions(list(self.reader(tmp_path).read(None))):
            stored = Position(position.ordinal, decode(encode(position.anchor)), position.offset)
            rest = _records(self.reader(tmp_path).read(stored))[position.offset :]
            assert rest == records[position.ordinal :], position

    def test_anchors_inside_of_a_block_lead_to_the_record_without_counting(self, tmp_path: Path) -> None:
        """Of readers that know them; they survive the codec, and those at the ends are those of the block."""
        records, ordinal = _records(self.reader(tmp_path).read(None)), 0
        for block in self.reader(tmp_path).read(None):
            if block.anchor_at is not None:
                assert (block.anchor_at(0), block.anchor_at(len(block))) == (block.anchor, block.next_anchor)
                for offset in range(1, len(block)):
                    stored = Position(ordinal + offset, decode(encode(block.anchor_at(offset))))
                    assert stored.anchor == block.anchor_at(offset)
                    assert _records(self.reader(tmp_path).read(stored)) == records[stored.ordinal :], stored
            ordinal += len(block)

    def test_an_interrupted_reading_can_be_closed(self, tmp_path: Path) -> None:
        """The engine stops in the middle, and reads again later."""
        reader = self.reader(tmp_path)
        reading = iter(reader.read(None))
        next(reading)
        if hasattr(reading, "close"):
            reading.close()
        assert _items(reader.read(None)) == self.expected()

    def test_every_position_has_a_place(self, tmp_path: Path) -> None:
        """Also the one behind the last record. Different records never share a line of one file."""
        reader = self.reader(tmp_path)
        blocks = list(reader.read(None))
        seen: dict[int, Place] = {}
        for position in _positions(blocks):
            place = reader.place(position)
            assert str(place)
            assert seen.setdefault(position.ordinal, place) == place, position
        places = [place for _, place in sorted(seen.items()) if place.line is not None]
        for source in {place.source for place in places}:
            lines = [place.line or 0 for place in places if place.source == source]
            assert lines == sorted(set(lines))
        for block in blocks:
            told = {n: block.place(n) for n in range(len(block))} if block.place else {}
            found = {n: reader.place(Position(0, block.anchor, n)) for n, place in told.items() if place is not None}
            assert found == {n: place for n, place in told.items() if place is not None}

    def test_the_address_is_stable(self, tmp_path: Path) -> None:
        """A restart compares it."""
        first, second = self.reader(tmp_path), self.reader(tmp_path)
        before = first.address
        list(first.read(None))
        assert before == first.address == second.address
        assert before
        assert before.isprintable()

    def test_checking_passes_and_writes_nothing(self, tmp_path: Path) -> None:
        """Nor does reading."""
        reader = self.reader(tmp_path)
        before = _state(tmp_path)
        if isinstance(reader, Checks):
            reader.check()
        list(reader.read(None))
        assert _state(tmp_path) == before

    def test_an_unchanged_input_is_never_called_changed(self, tmp_path: Path) -> None:
        """Through the codec, in a reader made anew, from fingerprints of blocks and from those made anew."""
        reader = self.reader(tmp_path)
        if not isinstance(reader, Fingerprints):
            return
        positions = _fingerprinted(list(reader.read(None)))
        for position in positions:
            for known in (position.fingerprint, reader.fingerprint(position)):
                stored = replace(position, fingerprint=decode(encode(known)))
                assert _changes(self.reader(tmp_path), stored) == "", position
        assert reader.changes(positions[-1], finished=True) == ""

    def test_fingerprints_go_on_from_every_position(self, tmp_path: Path) -> None:
        """What is read on after a restart has the fingerprints of an uninterrupted reading."""
        blocks = list(self.reader(tmp_path).read(None))
        for position in _fingerprinted(blocks):
            rest = list(self.reader(tmp_path).read(position))
            last = rest[-1].fingerprint if rest else None
            whole = blocks[-1].fingerprint
            assert last is None or whole is None or last(len(rest[-1])) == whole(len(blocks[-1])), position

    def test_a_changed_input_is_seen(self, tmp_path: Path) -> None:
        """By readers that fingerprint what they read, from every position behind the change."""
        reader = self.reader(tmp_path)
        positions = _fingerprinted(list(reader.read(None)))
        if isinstance(reader, Fingerprints) and self.spoil(tmp_path):
            for position in positions:
                assert _changes(self.reader(tmp_path), position), position

    def test_the_fraction_grows_with_the_position(self, tmp_path: Path) -> None:
        """Of readers that know it."""
        reader = self.reader(tmp_path)
        if not isinstance(reader, Measures):
            return
        blocks = list(reader.read(None))
        known = [reader.fraction(position) for position in _positions(blocks)]
        fractions = [fraction for fraction in known if fraction is not None]
        assert fractions == sorted(fractions)
        assert all(0.0 <= fraction <= 1.0 for fraction in fractions)
        assert not fractions or fractions[0] < fractions[-1]


_BAD = object()


def _items(blocks: Iterator[Block[Any]] | list[Block[Any]]) -> list[Any]:
    return [item for block in blocks for item in block.items]


def _records(blocks: Iterator[Block[Any]] | list[Block[Any]]) -> list[Any]:
    """Items in their places among the bad records."""
    return [record for block in blocks for record in _records_of(block)]


def _records_of(block: Block[Any]) -> list[Any]:
    bad, items = {record.index for record in block.bad}, iter(block.items)
    return [_BAD if index in bad else next(items) for index in range(len(block))]


def _described(blocks: Any) -> list[Any]:
    return [
        (
            list(block.items),
            block.anchor,
            block.next_anchor,
            block.divisible,
            [(record.index, type(record.error), str(record.error), record.raw) for record in block.bad],
        )
        for block in blocks
    ]


def _positions(blocks: list[Block[Any]]) -> list[Position]:
    """The start, some positions in each block, its end as the engine writes it, in order."""
    positions, ordinal = [Position(0)], 0
    for block in blocks:
        step = max(1, len(block) // SAMPLED_OFFSETS)
        offsets = sorted({0, *range(0, len(block), step), len(block) - 1}) if block.divisible else [0]
        positions += [Position(ordinal + offset, block.anchor, offset) for offset in offsets]
        ordinal += len(block)
        positions.append(Position(ordinal, block.next_anchor))
    return positions


def _fingerprinted(blocks: list[Block[Any]]) -> list[Position]:
    """Positions behind some records, with the fingerprints that their blocks give."""
    positions, ordinal = [], 0
    for block in blocks:
        step = max(1, len(block) // SAMPLED_OFFSETS)
        for offset in sorted({*range(step, len(block), step), len(block)} if block.divisible else {len(block)}):
            whole = offset == len(block)
            found = decode(encode(block.fingerprint(offset) if block.fingerprint else None))
            anchor = block.next_anchor if whole else block.anchor
            positions.append(Position(ordinal + offset, anchor, 0 if whole else offset, found))
        ordinal += len(block)
    return positions


def _changes(reader: Reader[Any], position: Position) -> str:
    assert isinstance(reader, Fingerprints)
    return reader.changes(position, finished=False)


def _state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    )

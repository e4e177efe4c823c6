"""The public suite catches what it claims to catch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchwright.model.block import BadRecord, Block, Place, Position
from batchwright.testing.reader_suite import ReaderSuite

ITEMS = list(range(20))


@dataclass(frozen=True)
class Planted:
    """A reader of ITEMS with one bug."""

    bug: str = ""
    address: str = "planted"
    seeks: bool = True

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        start = 0 if after is None or after.anchor is None else int(after.anchor)
        if after is not None and after.offset and self.bug == "drops the offset itself":
            start += after.offset
        size = 5 if self.bug != "one block" else 100
        for first in range(start, 20, size):
            yield self._block(first, min(first + size, 20), start)

    def _block(self, first: int, stop: int, start: int) -> Block[Any]:
        next_anchor: Any = stop - 1 if self.bug == "anchors overlap" else stop
        anchor: Any = str(first) if self.bug == "anchors differ" else first
        if self.bug == "anchors cannot be stored":
            anchor, next_anchor = complex(first), complex(stop)
        if self.bug == "loses one after a restart" and start:
            first += first == start
        bad = [BadRecord(stop - first + 4, ValueError(), None)] if self.bug == "bad index outside" else []
        return Block(ITEMS[first:stop], anchor, next_anchor, bad)

    def place(self, position: Position) -> Place:
        if self.bug == "no place at the end" and position.ordinal == 20:
            raise IndexError
        return Place("planted", 1 if self.bug == "one line for all" else position.ordinal + 1)

    def check(self) -> None:
        if self.bug == "check writes":
            Path(self.address).write_text("x")

    def fraction(self, position: Position) -> float | None:
        return 1.0 - position.ordinal / 20 if self.bug == "fraction shrinks" else position.ordinal / 20


class Suite(ReaderSuite):
    def __init__(self, bug: str) -> None:
        self.bug = bug
        self.made = 0

    def reader(self, folder: Path) -> Any:
        self.made += 1
        address = str(folder / "new") if self.bug == "check writes" else "planted"
        return Planted(self.bug, f"{address} {self.made}" if self.bug == "address differs" else address)

    def expected(self) -> list[Any]:
        return ITEMS


def caught(bug: str, folder: Path) -> list[str]:
    found = []
    for name in dir(Suite):
        if name.startswith("test_"):
            (folder / name).mkdir()
            try:
                getattr(Suite(bug), name)(folder / name)
            except Exception:
                found.append(name)
    return found


def test_a_reader_without_a_bug_passes(tmp_path):
    assert caught("", tmp_path) == []


@pytest.mark.parametrize(
    ("bug", "test"),
    [
        ("drops the offset itself", "test_from_every_position_on_the_rest_is_the_same"),
        ("loses one after a restart", "test_from_every_position_on_the_rest_is_the_same"),
        ("one block", "test_the_input_is_enough_for_three_blocks"),
        ("anchors overlap", "test_anchors_chain"),
        ("anchors differ", "test_anchors_chain"),
        ("anchors cannot be stored", "test_anchors_survive_the_codec"),
        ("bad index outside", "test_bad_indexes_ascend_within_the_block"),
        ("no place at the end", "test_every_position_has_a_place"),
        ("one line for all", "test_every_position_has_a_place"),
        ("check writes", "test_checking_passes_and_writes_nothing"),
        ("fraction shrinks", "test_the_fraction_grows_with_the_position"),
        ("address differs", "test_the_address_is_stable"),
    ],
)
def test_a_planted_bug_is_caught_by_the_test_that_claims_to(tmp_path, bug, test):
    assert test in caught(bug, tmp_path)

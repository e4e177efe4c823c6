"""Whatever a file holds, its parts are the whole: records, bad ones, their places, in order, each once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchwright.model.block import Position
from batchwright.readers import csv_rows, json_lines, text_lines
from batchwright.readers.iterables import iterable_reader

PIECES = st.sampled_from(
    [
        "a",
        ",",
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        '"x\ny"',
        '1,"two\nlines",3\n',
        "plain,row,here\n",
        "é",
        "\udcff",
        " ",
        "[1]\n",
    ]
)
CONTENTS = st.lists(PIECES, max_size=60).map("".join)


def records(reader: Any) -> list[Any]:
    found, ordinal = [], 0
    for block in reader.read(None):
        bad, items = {record.index: record for record in block.bad}, iter(block.items)
        for index in range(len(block)):
            record = ("bad", str(bad[index].error), bad[index].raw) if index in bad else next(items)
            found.append((record, reader.place(Position(ordinal + index, block.anchor, index))))
        ordinal += len(block)
    return found


def test_the_fraction_of_a_part_moves_within_a_block(tmp_path: Path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"line {number:03}\n" for number in range(400)))
    whole = text_lines(path)
    second = whole.part(whole.split(2)[1])
    start = next(iter(second.read(None))).anchor
    assert second.fraction(Position(50, start, 50)) == pytest.approx(0.25, abs=0.01)
    assert second.fraction(Position(100, [start[0] + 450, 250], 50)) == pytest.approx(0.5, abs=0.01)


def reasons_left_out(found: list[Any]) -> list[Any]:
    return [((record[0], record[2]) if isinstance(record, tuple) else record, place) for record, place in found]


def in_parts(reader: Any, most: int) -> list[Any]:
    specs = reader.split(most)
    assert len(specs) <= most
    return [record for spec in specs for record in records(reader.part(spec))]


@settings(max_examples=150, deadline=None)
@given(content=CONTENTS, most=st.integers(1, 12), strict=st.booleans())
def test_any_split_of_a_csv_file_is_the_whole(tmp_path_factory: Any, content: str, most: int, *, strict: bool):
    path = tmp_path_factory.mktemp("parts") / "in.csv"
    path.write_bytes(("a,b,c\n" + content).encode("utf-8", "surrogateescape"))
    reader = csv_rows(path, strict=strict)
    # Why a record is bad may be said otherwise where a part ends behind it: there is no next line to show it.
    assert reasons_left_out(in_parts(reader, most)) == reasons_left_out(records(reader))


@settings(max_examples=60, deadline=None)
@given(content=CONTENTS, most=st.integers(1, 12), encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_any_split_of_lines_is_the_whole(tmp_path_factory: Any, content: str, most: int, encoding: str):
    path = tmp_path_factory.mktemp("parts") / "in.txt"
    path.write_bytes(content.encode(encoding, "replace" if encoding == "utf-16" else "surrogateescape"))
    for reader in (text_lines(path, encoding=encoding), json_lines(path, encoding=encoding)):
        assert in_parts(reader, most) == records(reader)


@given(items=st.lists(st.integers()), most=st.integers(1, 12))
def test_any_split_of_a_sequence_is_the_whole(items: list[int], most: int):
    reader = iterable_reader(items, 3)
    assert in_parts(reader, most) == records(reader)


def test_parts_of_a_file_are_about_as_long_as_each_other(tmp_path: Path):
    path = tmp_path / "in.csv"
    path.write_text("id,name\n" + "".join(f'{n},"name\n{n}"\n' for n in range(20_000)))
    reader = csv_rows(path)
    lengths = [len(records(reader.part(spec))) for spec in reader.split(4)]
    assert len(lengths) == 4
    assert max(lengths) < 1.5 * min(lengths)


def test_a_part_that_was_not_read_yet_is_compared_with_what_was_split(tmp_path: Path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"line {n:04}\n" for n in range(100)))
    reader = text_lines(path)
    parts = [reader.part(spec) for spec in reader.split(4)]
    assert [part.changes(Position(0), finished=False) for part in parts] == [""] * 4
    path.write_text(path.read_text().replace("line 0060", "LINE 0060"))
    changed = [part.changes(Position(0), finished=False) for part in parts]
    assert [bool(text) for text in changed] == [False, False, True, False]
    path.write_text("one more\n" + path.read_text())
    assert all(part.changes(Position(0), finished=False) for part in parts)


def test_what_is_appended_belongs_to_the_last_part(tmp_path: Path):
    path = tmp_path / "in.txt"
    path.write_text("a\nb\nc\nd\n")
    reader = text_lines(path)
    parts = [reader.part(spec) for spec in reader.split(2)]
    ends = [[Position(2, block.next_anchor, 0, block.fingerprint(2)) for block in part.read(None)] for part in parts]
    path.write_text("a\nb\nc\nd\ne\n")
    assert not any(part.changes(Position(0), finished=False) for part in parts)
    told = [part.changes(end[-1], finished=True) for part, end in zip(parts, ends, strict=True)]
    assert not told[0]
    assert "has grown" in told[1]
    assert [item for item, _ in records(parts[1])] == ["c", "d", "e"]


def test_a_header_that_has_changed_is_found_out(tmp_path: Path):
    path = tmp_path / "in.csv"
    path.write_text("id,name\n1,a\n2,b\n3,c\n")
    reader = csv_rows(path)
    part = reader.part(reader.split(3)[0])
    path.write_text("id,NAME\n1,a\n2,b\n3,c\n")
    assert "changed" in part.changes(Position(0), finished=False)


@pytest.mark.parametrize("most", [1, 3])
def test_an_empty_file_has_one_part_without_records(tmp_path: Path, most: int):
    path = tmp_path / "in.txt"
    path.write_text("")
    reader = text_lines(path)
    (spec,) = reader.split(most)
    assert records(reader.part(spec)) == []

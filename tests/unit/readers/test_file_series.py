"""Several files as one input: their order, their places, what is refused, and what a restart notices."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.runs import refused_here, rows, run_here, url

from batchwright import Job, Status, Step
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Position
from batchwright.model.errors import DeclarationError, SourceError
from batchwright.readers import csv_rows, files, json_lines, text_lines
from batchwright.writers import insert


def items(reader: Any) -> list[Any]:
    return [item for block in reader.read(None) for item in block.items]


def lay(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content)
    return folder


def test_files_are_read_in_the_order_of_their_paths_each_once(tmp_path: Path):
    lay(tmp_path / "in", b="3\n4\n", a="1\n2", c="5\n")
    lay(tmp_path / "in" / "deep", d="6\n")
    assert items(text_lines(files(tmp_path / "in" / "*.txt"))) == ["1", "2", "3", "4", "5"]
    assert items(text_lines(files(tmp_path / "in" / "**" / "*.txt"))) == ["1", "2", "3", "4", "5", "6"]
    named = [tmp_path / "in" / f"{name}.txt" for name in "cab"]
    assert items(text_lines(files(*named))) == ["1", "2", "3", "4", "5"]
    assert items(text_lines(files(named[0], tmp_path / "in" / "*.txt"))) == ["1", "2", "3", "4", "5"]


def test_a_failure_names_the_file_and_its_line(tmp_path: Path):
    lay(tmp_path, a="[1]\n[2]\n", b="[3]\n\nnot json\n[4]\n")
    reader = json_lines(files(tmp_path / "*.txt"))
    blocks = list(reader.read(None))
    (bad,) = (record for block in blocks for record in block.bad)
    assert bad.raw == "not json"
    assert str(reader.place(Position(3, blocks[1].anchor, 1))) == f"{tmp_path}/b.txt line 3"


def test_each_file_has_its_own_byte_order_mark(tmp_path: Path):
    (tmp_path / "1.csv").write_bytes(b"\xef\xbb\xbfid\n1\n")
    (tmp_path / "2.csv").write_bytes(b"id\r\n2\r\n")
    assert items(csv_rows(files(tmp_path / "*.csv"))) == [{"id": "1"}, {"id": "2"}]
    (tmp_path / "1.txt").write_text("é\n", "utf-16-le")
    (tmp_path / "2.txt").write_bytes("﻿ü\n".encode("utf-16-be"))
    assert items(text_lines(files(tmp_path / "*.txt"), encoding="utf-16")) == ["é", "ü"]


def test_header_lines_have_to_agree_before_the_step_begins_and_while_it_reads(tmp_path: Path):
    lay(tmp_path, a="id,name\n1,x\n", b="", c="id,price\n2,3\n")
    reader = csv_rows(files(tmp_path / "*.txt"))
    wrong = rf"c\.txt' is not that of '{tmp_path}/a\.txt'; missing: name; new: price"
    with pytest.raises(SourceError, match=wrong):
        reader.check()
    with pytest.raises(SourceError, match=wrong):
        list(reader.read(None))
    lay(tmp_path, c="name,id\n2,3\n")
    with pytest.raises(SourceError, match="reordered"):
        reader.check()
    lay(tmp_path, c="id,name\n")
    reader.check()
    assert items(reader) == [{"id": "1", "name": "x"}]
    assert items(csv_rows(files(tmp_path / "*.txt"), header=["one", "two"]))[0] == {"one": "id", "two": "name"}


def test_files_that_are_not_there_are_said_before_anything_runs(tmp_path: Path):
    with pytest.raises(SourceError, match=rf"no file fits {tmp_path}/\*\.csv"):
        csv_rows(files(tmp_path / "*.csv")).check()
    lay(tmp_path, a="1\n")
    with pytest.raises(SourceError, match=r"b\.txt' is missing; nothing of that name"):
        text_lines(files(tmp_path / "a.txt", tmp_path / "b.txt")).check()
    with pytest.raises(DeclarationError, match="is given twice"):
        files("a.txt", "./a.txt")
    with pytest.raises(DeclarationError, match="no path is given"):
        files()
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceError, match="has no header line; it is empty"):
        csv_rows(files(tmp_path / "*.csv")).check()
    assert items(text_lines(files(tmp_path / "empty.csv"))) == []


def test_addresses_are_short_and_stay_equal(tmp_path: Path):
    few, many = files(tmp_path / "*.csv"), files(*(tmp_path / f"{n}.csv" for n in range(9)))
    assert csv_rows(few).address == f"csv:{tmp_path}/*.csv"
    assert csv_rows(many).address.startswith(f"csv:{tmp_path}/0.csv and 8 more (")
    assert csv_rows(many).address == csv_rows(files(*(tmp_path / f"{n}.csv" for n in reversed(range(9))))).address


def step(folder: Path, **options: Any) -> Job:
    read = text_lines(files(folder / "in" / "*.txt"))
    write = insert(url(folder / "t.db"), "t")
    how: Any = {"read": read, "process": as_row, "write": write, "chunk_size": 3, **options}
    return Job("copy", Step("copy", **how), parameters={"day": 1})


def as_row(line: str) -> dict[str, str]:
    return {"x": line}


LINES = {name: "".join(f"{name}{n}\n" for n in range(5)) for name in "bdf"}
"""Three files of five lines; a run that is stopped after 8 stands in the second one, of 10 at the turn to the third."""

WHOLE = [line for content in LINES.values() for line in content.split()]

Change = Callable[[Path], object]

UNFINISHED: dict[str, tuple[Change, str]] = {
    "a file that was read is other": (lambda at: lay(at, b="b0\nb1\nXX\nb3\nb4\n"), "b.txt' was changed since it was"),
    "one that was read has grown": (lambda at: lay(at, b=LINES["b"] + "b5\n"), "b.txt' was changed since it was read"),
    "what was read of the one in work is other": (lambda at: lay(at, d="XX\n" + LINES["d"][3:]), "was changed: its"),
    "a file has come before": (lambda at: lay(at, a="a0\n"), "a.txt' came, or was changed, since the others"),
    "a file has come among those": (lambda at: lay(at, c="c0\n"), "c.txt' came, or was changed, since the others"),
    "one that was read is gone": (lambda at: (at / "b.txt").unlink(), "1 files stood before"),
    "the one in work is gone": (lambda at: (at / "d.txt").unlink(), "in which reading stopped, is gone"),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_was_read_has_to_be_as_it_was(name: str, tmp_path: Path):
    change, said = UNFINISHED[name]
    lay(tmp_path / "in", **LINES)
    ledger, limit = MemoryLedger(), 8
    assert run_here(step(tmp_path), ledger=ledger, limit=limit).result.read == limit
    change(tmp_path / "in")
    assert said in refused_here(step(tmp_path), ledger=ledger)
    assert rows(tmp_path / "t.db") == WHOLE[:limit]


HARMLESS: dict[str, tuple[Change, list[str]]] = {
    "nothing": (lambda at: None, WHOLE),
    "touched": (lambda at: os.utime(at / "b.txt"), WHOLE),
    "copied": (lambda at: [lay(at, x=LINES["b"]), (at / "x.txt").replace(at / "b.txt")], WHOLE),
    "one has come behind": (lambda at: lay(at, g="g0\n"), [*WHOLE, "g0"]),
    "one has come next": (lambda at: lay(at, e="e0\n"), [*WHOLE[:10], "e0", *WHOLE[10:]]),
    "the one in work has grown": (lambda at: lay(at, d=LINES["d"] + "d5\n"), [*WHOLE[:10], "d5", *WHOLE[10:]]),
    "one behind is other": (lambda at: lay(at, f="other\n"), [*WHOLE[:10], "other"]),
    "one behind is gone": (lambda at: (at / "f.txt").unlink(), WHOLE[:10]),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_was_not_read_yet_is_read_as_it_is(name: str, tmp_path: Path):
    change, expected = HARMLESS[name]
    lay(tmp_path / "in", **LINES)
    ledger = MemoryLedger()
    run_here(step(tmp_path), ledger=ledger, limit=8)
    change(tmp_path / "in")
    assert run_here(step(tmp_path), ledger=ledger).result.status is Status.COMPLETED
    assert rows(tmp_path / "t.db") == expected
    assert run_here(step(tmp_path), ledger=ledger).result.already_complete


FINISHED: dict[str, tuple[Change, str]] = {
    "nothing": (lambda at: None, ""),
    "some are put away": (lambda at: [(at / f"{name}.txt").unlink() for name in "bf"], ""),
    "all are put away": (lambda at: [path.unlink() for path in at.iterdir()], ""),
    "one has come behind": (lambda at: lay(at, g="g0\n"), "g.txt' came after the input was read to its end"),
    "one has come among them": (lambda at: lay(at, c="c0\n"), "c.txt' came, or was changed"),
    "one has come when others were put away": (
        lambda at: [(at / "b.txt").unlink(), lay(at, c="c0\n")],
        "c.txt' came, or was changed",
    ),
    "one has grown": (lambda at: lay(at, b=LINES["b"] + "b5\n"), "b.txt' was changed"),
    "the last has grown": (lambda at: lay(at, f=LINES["f"] + "f5\n"), "f.txt' has grown"),
}


@pytest.mark.parametrize("partitions", [None, 2])
@pytest.mark.parametrize("name", FINISHED)
def test_finished_files_may_be_put_away_and_what_comes_is_told(name: str, partitions: int | None, tmp_path: Path):
    change, said = FINISHED[name]
    lay(tmp_path / "in", **LINES)
    ledger = MemoryLedger()
    assert run_here(step(tmp_path, partitions=partitions), ledger=ledger).result.read == 15
    change(tmp_path / "in")
    if said:
        told = refused_here(step(tmp_path, partitions=partitions), ledger=ledger)
        assert ".txt" in told if partitions else said in told
    else:
        assert run_here(step(tmp_path, partitions=partitions), ledger=ledger).result.already_complete


@pytest.mark.parametrize("partitions", [None, 2])
def test_a_file_that_is_older_than_the_reading_is_told_too_when_it_comes(partitions: int | None, tmp_path: Path):
    lay(tmp_path / "in", **LINES)
    ledger = MemoryLedger()
    assert run_here(step(tmp_path, partitions=partitions), ledger=ledger).result.read == 15
    (tmp_path / "in" / "c.txt").symlink_to(tmp_path / "in" / "b.txt")
    assert "files were read, now there are" in refused_here(step(tmp_path, partitions=partitions), ledger=ledger)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: lay(at, c="c0\n"), "c.txt' came, or was changed"),
        (lambda at: lay(at, f=LINES["f"][:-3] + "XX\n"), "f.txt' was changed"),
        (lambda at: (at / "e.txt").write_text("e0\n"), "e.txt' was empty when the input was split"),
        (lambda at: (at / "e.txt").unlink(), "4 files were split, now there are 3"),
    ],
)
def test_files_that_were_split_stay_as_they_were(change: Change, said: str, tmp_path: Path):
    lay(tmp_path / "in", **LINES, e="")
    ledger = MemoryLedger()
    run_here(step(tmp_path, partitions=3), ledger=ledger, limit=4)
    change(tmp_path / "in")
    with pytest.raises(Exception, match="has changed since it was split") as caught:
        run_here(step(tmp_path, partitions=3), ledger=ledger)
    assert said in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    stops=st.lists(st.integers(1, 12), max_size=4),
    partitions=st.sampled_from([None, 1, 2, 3, 7]),
    chunk_size=st.integers(1, 5),
)
def test_broken_off_anywhere_each_line_is_in_once(
    tmp_path_factory: Any, contents: list[int], stops: list[int], partitions: int | None, chunk_size: int
):
    folder, ledger = tmp_path_factory.mktemp("series"), MemoryLedger()
    lay(folder / "in", **{f"f{n}": "".join(f"{n}-{line}\n" for line in range(many)) for n, many in enumerate(contents)})
    job = step(folder, partitions=partitions, chunk_size=chunk_size)
    for limit in stops:
        run_here(job, ledger=ledger, limit=limit)
    assert run_here(job, ledger=ledger).result.status is Status.COMPLETED
    expected = [f"{n}-{line}" for n, many in enumerate(contents) for line in range(many)]
    assert (sorted(rows(folder / "t.db")) if expected else []) == sorted(expected)

"""The input may change between two runs: what is said, that nothing was written, what `--accept-input` does."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.runs import as_text, copying, refused_here, rows, run_here, url

from batchwright import Job, Status, Step
from batchwright.databases import sqlite_records
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Position
from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import GroundChangedError, SourceError
from batchwright.readers import csv_rows, file_fingerprints, json_lines, text_lines
from batchwright.writers import insert

ITEMS = 6_000
"""More than one block of a file: 64 KiB."""

WIDE = "x" * 20


def lines(numbers: Any) -> list[str]:
    return [f"{number:06d},{WIDE}" for number in numbers]


def write_csv(path: Path, numbers: Any) -> None:
    path.write_text("\n".join(["id,name", *lines(numbers)]) + "\n")


def write_quoted(path: Path, numbers: Any) -> None:
    path.write_text("id,name\n" + "".join(f'{number:06d},"{WIDE}\n{WIDE}"\n\n' for number in numbers))


def write_text(path: Path, numbers: Any) -> None:
    path.write_text("\n".join(lines(numbers)) + "\n")


def write_json(path: Path, numbers: Any) -> None:
    path.write_text("".join(json.dumps({"id": number, "name": WIDE}) + "\n\n" for number in numbers))


FILES: dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], Any]]] = {
    "csv": (write_csv, csv_rows),
    "csv of several lines a record": (write_quoted, csv_rows),
    "csv without header": (write_text, lambda path: csv_rows(path, header=["id", "name"])),
    "text": (write_text, text_lines),
    "json": (write_json, json_lines),
    "utf-16": (
        lambda path, numbers: path.write_text("\n".join(lines(numbers)), "utf-16"),
        lambda path: text_lines(path, encoding="utf-16"),
    ),
}

STOPS = (7, 1_000, 2_000, 3_333, ITEMS - 1)
"""In the first block, and within and behind others."""


def overwrite(path: Path, place: int, text: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(text)


def replace_by(path: Path, content: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)


def middle_of(path: Path, stop: int) -> int:
    """A place well before the position at which reading stopped, and behind the first bytes."""
    return int(path.stat().st_size * stop / ITEMS / 2)


CHANGES: dict[str, tuple[Callable[[Path, int], object], str]] = {
    "nothing": (lambda path, stop: None, ""),
    "touched": (lambda path, stop: os.utime(path), ""),
    "copied back": (lambda path, stop: replace_by(path, path.read_bytes()), ""),
    "grown": (lambda path, stop: path.write_bytes(path.read_bytes() + path.read_bytes()[-40:]), ""),
    "shorter behind": (lambda path, stop: path.write_bytes(path.read_bytes()[:-9]), ""),
    "changed in the middle": (lambda path, stop: overwrite(path, middle_of(path, stop), b"yy"), "was changed"),
    "changed at the start": (lambda path, stop: overwrite(path, 10, b"zz"), "was changed"),
    "longer before": (
        lambda path, stop: path.write_bytes(path.read_bytes()[:12] + b"long" + path.read_bytes()[12:]),
        "was changed",
    ),
    "truncated": (lambda path, stop: os.truncate(path, 20), "was truncated"),
    "rotated": (lambda path, stop: replace_by(path, b"1,new\n"), "was replaced by a shorter file"),
    "replaced": (
        lambda path, stop: replace_by(path, path.read_bytes().replace(b"x", b"y")),
        "was replaced by another file",
    ),
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", FILES)
def test_what_was_read_of_a_file_is_compared_and_the_rest_is_not(kind, change, stop, tmp_path):
    write, read = FILES[kind]
    path = tmp_path / "in"
    write(path, range(ITEMS))
    ran = run_here(copying(read(path), tmp_path), limit=stop)
    assert (ran.result.status, ran.result.read) == (Status.STOPPED, stop)
    make, said = CHANGES[change]
    make(path, stop)
    if said:
        why = refused_here(copying(read(path), tmp_path), ledger=ran.ledger, limit=1)
        for words in (said, "put it back as it was", "--again"):
            assert words in why
        assert "\n" not in why
        assert len(rows(tmp_path / "t.db")) == stop
        assert_what_is_offered_works(copying(read(path), tmp_path), ran.ledger, why)
    else:
        again = run_here(copying(read(path), tmp_path), ledger=ran.ledger, limit=1)
        # Cut off in the middle of a record, what is behind may be one that cannot be read.
        assert not isinstance(again.error, GroundChangedError)
        assert len(rows(tmp_path / "t.db")) == stop + (again.error is None)


def assert_what_is_offered_works(step: Any, ledger: Any, why: str) -> None:
    """To go on is offered only where there is a place to go on from; to begin again always."""
    if "--accept-input" in why:
        accepted = run_here(step, ledger=ledger, accept_input=True, limit=1)
        assert not isinstance(accepted.error, GroundChangedError)
    else:
        assert "nothing to go on from" in why
        assert refused_here(step, ledger=ledger, accept_input=True) == why
    again = run_here(step, ledger=ledger, again=True, confirmed=True, limit=1)
    # What a change has made of the first record may be one that cannot be read.
    assert again.result.lap == 2
    assert not isinstance(again.error, GroundChangedError)


def test_to_go_on_with_a_truncated_file_is_not_offered(tmp_path):
    path = tmp_path / "in"
    write_csv(path, range(100))
    ran = run_here(copying(csv_rows(path), tmp_path), limit=50)
    os.truncate(path, 20)
    assert "--accept-input" not in refused_here(copying(csv_rows(path), tmp_path), ledger=ran.ledger)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("kind", FILES)
def test_a_fingerprint_of_a_restart_is_that_of_an_uninterrupted_run(kind, stop, tmp_path):
    """It goes on from block to block and from run to run; made anew it is the same."""
    write, read = FILES[kind]
    path = tmp_path / "in"
    write(path, range(ITEMS))
    found = []
    for limits in ((ITEMS - 1,), (stop, ITEMS - 1 - stop)):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        ledger = MemoryLedger()
        for limit in filter(None, limits):
            run_here(copying(read(path), folder), ledger=ledger, limit=limit)
        found.append(position_in(folder))
    for position in found:
        assert position.fingerprint["crc"] == read(path).fingerprint(position)["crc"]
        assert position.fingerprint["byte"] == read(path).fingerprint(position)["byte"]
    assert found[0].fingerprint["crc"] == found[1].fingerprint["crc"]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("order", [(1, 2, 2, 500, 501, 1_999), (1_999, 500, 1, 501, 2)])
def test_a_fingerprint_is_the_same_whatever_was_asked_for_before(kind, order, tmp_path):
    """It is computed on from the position that was asked for last, in one block."""
    write, read = FILES[kind]
    path = tmp_path / "in"
    write(path, range(ITEMS))
    block = next(read(path).read(None))
    for offset in (offset for offset in order if offset <= len(block)):
        assert block.fingerprint(offset) == next(read(path).read(None)).fingerprint(offset)
        assert block.fingerprint(offset)["crc"] == read(path).fingerprint(Position(offset, None, offset))["crc"]


def position_in(folder: Path) -> Position:
    """Where the checkpoint in the target stands."""
    with closing(sqlite3.connect(folder / "t.db")) as connection:
        (hash_,) = connection.execute("SELECT parameters_hash FROM batchwright_checkpoints").fetchone()
        checkpoint = sqlite_records.get_checkpoint(connection, StepKey("copy", hash_, 1, "copy"))
    assert checkpoint is not None
    return checkpoint.position


@pytest.mark.parametrize("change", ["changed in the middle", "changed at the start", "replaced"])
def test_an_input_that_is_accepted_is_read_on_from_there_and_compared_from_then_on(change, tmp_path):
    path = tmp_path / "in"
    write_csv(path, range(ITEMS))
    ran = run_here(copying(csv_rows(path), tmp_path), limit=3_333)
    CHANGES[change][0](path, 3_333)
    accepted = run_here(copying(csv_rows(path), tmp_path), ledger=ran.ledger, accept_input=True, limit=1_000)
    assert accepted.result.read == 4_333
    plain = run_here(copying(csv_rows(path), tmp_path), ledger=ran.ledger, limit=100)
    assert (plain.error, plain.result.read) == (None, 4_433)
    overwrite(path, 100, b"qq")
    assert "was changed" in refused_here(copying(csv_rows(path), tmp_path), ledger=ran.ledger)


def test_a_missing_input_is_said_to_be_missing(tmp_path):
    path = tmp_path / "in"
    write_csv(path, range(10))
    ran = run_here(copying(csv_rows(path), tmp_path), limit=3)
    path.unlink()
    with pytest.raises(SourceError, match="is missing") as caught:
        run_here(copying(csv_rows(path), tmp_path), ledger=ran.ledger)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("size", [500, 2_000])
def test_a_fingerprint_of_the_start_only_would_not_do(size, tmp_path, monkeypatch):
    """The planted bug: only the first bytes are looked at."""
    honest = file_fingerprints.checksum
    monkeypatch.setattr(
        file_fingerprints, "checksum", lambda file, start, stop, crc=0: honest(file, start, min(stop, 100), crc)
    )
    path = tmp_path / "in"
    write_csv(path, range(ITEMS))
    position = Position(size, fingerprint=file_fingerprints.made_anew(str(path), 9, size))
    overwrite(path, size - 100, b"yy")
    assert file_fingerprints.file_changes(str(path), "in", position, finished=False) == ""
    monkeypatch.undo()
    write_csv(path, range(ITEMS))
    position = Position(size, fingerprint=file_fingerprints.made_anew(str(path), 9, size))
    overwrite(path, size - 100, b"yy")
    assert "was changed" in file_fingerprints.file_changes(str(path), "in", position, finished=False)


FINISHED = [
    ("nothing", ""),
    ("touched", ""),
    ("copied back", ""),
    ("grown", "has grown"),
    ("changed in the middle", "was changed"),
    ("truncated", "was truncated"),
]


@pytest.mark.parametrize(("change", "said"), FINISHED)
def test_complete_is_not_said_of_an_input_that_has_changed_or_grown(change, said, tmp_path):
    path = tmp_path / "in"
    write_csv(path, range(100))
    job = Job("j", copying(csv_rows(path), tmp_path), parameters={"month": 11})
    ran = run_here(job)
    CHANGES[change][0](path, ITEMS)
    if not said:
        assert run_here(job, ledger=ran.ledger).result.already_complete
        return
    with pytest.raises(GroundChangedError, match=said) as caught:
        run_here(job, ledger=ran.ledger)
    assert caught.value.exit_code == 2
    assert "--accept-input" in str(caught.value)
    assert "--again" in str(caught.value)
    left = run_here(job, ledger=ran.ledger, accept_input=True).result
    assert (left.already_complete, len(left.warnings)) == (True, 1)
    assert said in left.warnings[0]
    assert said in refused_here(job, ledger=ran.ledger), "accepting is for one run, not for all that come"
    assert len(rows(tmp_path / "t.db")) == 100
    assert ran.ledger.runs()[0].id == ran.result.run


def test_an_input_that_is_gone_after_completion_is_no_change(tmp_path):
    """Files are moved away when they are done."""
    path = tmp_path / "in"
    write_csv(path, range(100))
    job = Job("j", copying(csv_rows(path), tmp_path), parameters={"month": 11})
    ran = run_here(job)
    path.unlink()
    assert run_here(job, ledger=ran.ledger).result.already_complete


def test_a_complete_step_of_a_job_that_is_not_is_compared_too(tmp_path):
    path = tmp_path / "in"
    write_csv(path, range(100))

    def fail(item: Any) -> Any:
        raise RuntimeError("later")

    def job(process: Any) -> Job:
        second = Step("second", read=[1], process=process, write=insert(url(tmp_path / "t.db"), "u"))
        return Job("j", copying(csv_rows(path), tmp_path), second, parameters={"month": 11})

    ran = run_here(job(fail))
    CHANGES["grown"][0](path, 0)
    assert "has grown" in refused_here(job(as_text), ledger=ran.ledger)
    accepted = run_here(job(as_text), ledger=ran.ledger, accept_input=True).result
    assert accepted.status is Status.COMPLETED
    assert "step 'copy' is left finished as it is, though " in accepted.warnings[-1]

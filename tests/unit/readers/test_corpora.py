"""Odd, broken and hostile files: each loads, or is refused in one line, or its bad records are reported.

Skipped where the files are not there.
"""

import time
from pathlib import Path

import pytest
from tests.unit.readers.reading import line_file, records

from batchwright.model.block import Position
from batchwright.model.errors import SourceError
from batchwright.readers import csv_rows, json_lines, text_lines
from batchwright.readers.csv_files import CsvRows

CORPORA = Path(__file__).parents[4] / "shared" / "data" / "corpora"
SECONDS_PER_FILE = 30


def corpus(*endings: str) -> list[Path]:
    found = sorted(path for path in CORPORA.rglob("*") if path.suffix.lower() in endings and path.is_file())
    if not found:
        pytest.skip(f"no files in {CORPORA}")
    return found


def why_refused(reader) -> str:
    try:
        reader.check()
    except SourceError as error:
        return str(error)
    return ""


def check_file(reader) -> tuple[str, int]:
    """What became of it, and how many records it has; every one is an item or a bad record with a place."""
    started = time.monotonic()
    if refusal := why_refused(reader):
        assert "\n" not in refusal
        return "refused", 0
    count, bad = 0, 0
    for block in reader.read(None):
        for record in block.bad[:3]:
            assert isinstance(record.error, ValueError)
            place = reader.place(Position(count + record.index, block.anchor, record.index))
            assert place.line is not None
            assert place.byte is not None
        count += len(block)
        bad += len(block.bad)
    assert time.monotonic() - started < SECONDS_PER_FILE, reader.address
    return "bad" if bad else "good", count


def count_all(readers) -> dict[str, int]:
    counts = {"good": 0, "bad": 0, "refused": 0}
    for reader in readers:
        counts[check_file(reader)[0]] += 1
    return counts


def test_csv_files():
    files = corpus(".csv", ".tsv")
    counts = count_all(csv_rows(path, delimiter="\t" if path.suffix == ".tsv" else ",") for path in files)
    assert min(counts.values()) > 0, counts


def test_csv_files_without_a_header_and_lenient():
    files = corpus(".csv", ".tsv")
    assert count_all(csv_rows(path, header=["a", "b"], strict=False, encoding="latin-1") for path in files)["good"]


def test_json_files():
    counts = count_all(json_lines(path) for path in corpus(".json", ".jsonl", ".ndjson"))
    assert min(counts["good"], counts["bad"]) > 0, counts


def test_every_line_of_a_text_file_is_accounted_for():
    for path in corpus(".csv", ".json", ".xml", ".txt"):
        reader = text_lines(path)
        if check_file(reader)[0] == "refused":
            continue
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        assert len(records(reader)) == len(data.splitlines()), path


def test_blocks_of_any_size_give_the_same_records():
    for path in corpus(".csv")[::5]:
        if path.stat().st_size < 50_000 and check_file(csv_rows(path))[0] != "refused":
            whole = csv_rows(path)
            cut = CsvRows(line_file(path, block=97), whole.dialect, None, None)
            assert records(cut) == records(whole), path

"""Rows of CSV: which columns there are, what a cell can hold, and what is refused."""

import csv
import io
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.writers.staging import checkpoint, opened, publish
from tests.unit.writers.test_text_files import refused

from batchwright.model.errors import ItemsFailed, TargetError
from batchwright.testing.memory_store import MemoryStore
from batchwright.writers import csv_file

CELLS = st.text(st.characters(codec="utf-8"), max_size=8)


class Colour(Enum):
    RED = "red"


@dataclass
class Person:
    id: int
    name: str | None = None


def test_the_columns_are_those_of_the_first_row(tmp_path):
    publish(csv_file(tmp_path / "out"), [], [{"b": 1, "a": None, "c": 2}, {"a": 2}], [{"c": 3}])
    assert (tmp_path / "out").read_text() == "b,a,c\n1,,2\n,2,\n,,3\n"


def test_the_first_chunk_may_be_written_in_parts(tmp_path):
    with opened(csv_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.write([{"a": 1, "b": None}])
        sink.write([{"b": 2}])
        sink.commit(checkpoint(2), ())
        sink.finish(checkpoint(2))
    assert (tmp_path / "out").read_text() == "a,b\n1,\n,2\n"


def test_columns_of_a_chunk_that_was_rolled_back_are_forgotten(tmp_path):
    with opened(csv_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.write([{"gone": 1}])
        sink.rollback()
        sink.write([{"a": 1}])
        sink.commit(checkpoint(1), ())
        sink.finish(checkpoint(1))
    assert (tmp_path / "out").read_text() == "a\n1\n"


def test_a_restart_does_not_settle_the_columns_again(tmp_path):
    store = MemoryStore()
    with opened(csv_file(tmp_path / "out"), store) as sink:
        sink.write([{"a": 1, "b": 2}])
        sink.commit(checkpoint(1), ())
    with opened(csv_file(tmp_path / "out"), store) as sink:
        sink.write([{"b": 3}])
        sink.commit(checkpoint(2), ())
        sink.finish(checkpoint(2))
    assert (tmp_path / "out").read_text() == "a,b\n1,2\n,3\n"


@pytest.mark.parametrize("columns", [None, ["a"]])
def test_an_unknown_column_is_its_items_failure_and_is_named(tmp_path, columns):
    with opened(csv_file(tmp_path / "out", columns=columns), MemoryStore()) as sink:
        sink.write([{"a": 1}])
        sink.commit(checkpoint(1), ())
        for row in ({"a": 1, "new": 2}, {"new": 2}):
            with pytest.raises(ItemsFailed) as refused:
                sink.write([{"a": 2}, row])
            assert list(refused.value.errors) == [1]
            assert "the row has new, and the columns are a, " in str(refused.value.errors[1])
            sink.rollback()


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({}, b""),
        ({"header": False}, b""),
        ({"columns": ["id", "name"]}, b"id,name\n"),
        ({"columns": ["id", "name"], "header": False}, b""),
        ({"columns": ["id", "name"], "delimiter": ";", "encoding": "utf-8-sig"}, b"\xef\xbb\xbfid;name\n"),
    ],
)
def test_without_outputs_there_is_a_header_if_columns_are_declared(tmp_path, options, content):
    publish(csv_file(tmp_path / "out", **options), [])
    assert (tmp_path / "out").read_bytes() == content


def test_dicts_dataclasses_tuples_and_lists_fit_declared_columns(tmp_path):
    rows = [{"name": "x", "id": 1}, Person(2), (3, "z"), [4, ""]]
    for number, chunk in enumerate(([*rows], *([row] for row in rows))):
        path = tmp_path / str(number)
        publish(csv_file(path, columns=["id", "name"], header=False), chunk)
    whole = (tmp_path / "0").read_text()
    assert whole == "1,x\n2,\n3,z\n4,\n"
    assert "".join((tmp_path / str(number)).read_text() for number in range(1, 5)) == whole


def test_dataclasses_name_their_columns(tmp_path):
    publish(csv_file(tmp_path / "out"), [Person(1, "a"), Person(2)])
    assert (tmp_path / "out").read_text() == "id,name\n1,a\n2,\n"


def test_tuples_need_declared_columns(tmp_path):
    errors = refused(tmp_path, csv_file(tmp_path / "out"), [(1, 2), None, {}])
    assert "columns=" in str(errors[0])
    assert "return DROP" in str(errors[1])
    assert "return DROP" in str(errors[2])


def test_a_first_row_that_is_refused_takes_no_other_row_with_it(tmp_path):
    errors = refused(tmp_path, csv_file(tmp_path / "out"), [{"a": b"", "b": 1}, {"a": 1}, {"b": 2}])
    assert list(errors) == [0]
    assert (tmp_path / "out").read_text() == "a,b\n1,\n,2\n"


def test_cells_are_written_plainly(tmp_path):
    row = (None, True, 1.5, Decimal("1.10"), date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), Colour.RED)
    publish(csv_file(tmp_path / "out", columns=list("abcdefg"), header=False), [row])
    assert (tmp_path / "out").read_text() == ",True,1.5,1.10,2026-01-02,2026-01-02 03:04:00+00:00,red\n"


def test_rows_that_do_not_fit_are_named_and_all_others_are_kept(tmp_path):
    rows = [{"a": 1}, "text", {"a": b"bytes"}, {"a": [1]}, {"a": "\ud800"}, (1, 2), {"a": 2}]
    errors = refused(tmp_path, csv_file(tmp_path / "out"), rows)
    assert {index: type(error) for index, error in errors.items()} == {
        1: TypeError,
        2: TypeError,
        3: TypeError,
        4: UnicodeEncodeError,
        5: ValueError,
    }
    assert (tmp_path / "out").read_text() == "a\n1\n2\n"


def test_rows_refused_in_a_later_part_of_the_first_chunk_are_named_by_their_place_in_it(tmp_path):
    encoder = csv_file(tmp_path / "out").encoder()
    assert encoder.add([{"a": 1, "b": None}, {"a": 2}]) == {}
    assert list(encoder.add([{"b": 3}, {"b": b""}])) == [1]
    chunk = encoder.take()
    assert encoder.head() + chunk == b"a,b\n1,\n2,\n,3\n"


@pytest.mark.parametrize("options", [{"delimiter": ";;"}, {"delimiter": "\n"}, {"delimiter": '"'}, {"delimiter": 1}])
def test_a_delimiter_that_cannot_be_one_is_refused_when_declared(tmp_path, options):
    with pytest.raises(TargetError, match="delimiter"):
        csv_file(tmp_path / "out", **options)


@pytest.mark.parametrize("columns", [[], "id", ["a", "a"], [1]])
def test_columns_that_cannot_be_meant_are_refused_when_declared(tmp_path, columns):
    with pytest.raises(TargetError, match="different names"):
        csv_file(tmp_path / "out", columns=columns)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(CELLS, CELLS), max_size=3), max_size=4))
def test_any_text_comes_back_as_it_was(chunks):
    encoder = csv_file("out", columns=["a", "b"]).encoder()
    data = b""
    for chunk in chunks:
        assert encoder.add(chunk) == {}
        data += encoder.take()
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert rows == [list(row) for chunk in chunks for row in chunk]


@settings(max_examples=100, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=5))
def test_no_line_end_stands_outside_quotes(cells):
    encoder = csv_file("out", columns=["a"]).encoder()
    encoder.add([(cell,) for cell in cells])
    unquoted = "".join(encoder.take().decode().split('"')[::2])
    assert unquoted.count("\n") == len(cells)
    assert "\r" not in unquoted

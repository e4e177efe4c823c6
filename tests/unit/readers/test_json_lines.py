import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.readers.reading import line_file, lines_and_bytes, records, write

from batchwright.model.block import Position
from batchwright.ports import Checks, Measures, Reader
from batchwright.readers import json_lines
from batchwright.readers.json_lines import json_reader


def test_it_is_a_reader_that_checks_and_measures(tmp_path):
    reader = json_lines(write(tmp_path, "1\n"))
    assert isinstance(reader, Reader)
    assert isinstance(reader, Checks)
    assert isinstance(reader, Measures)
    assert reader.address == f"json-lines:{tmp_path}/in.txt"
    reader.check()
    assert reader.fraction(Position(0, [1, 1])) == 0.5


def test_each_line_is_one_value(tmp_path):
    content = '{"a": [1, 2.5, null]}\n  "text"\t\r\ntrue\r-1\n{"ä": "\u2028"}'
    assert records(json_lines(write(tmp_path, content))) == [{"a": [1, 2.5, None]}, "text", True, -1, {"ä": "\u2028"}]


def test_blank_lines_are_no_records(tmp_path):
    reader = json_lines(write(tmp_path, "\n1\n \t\n\r\n2\n\n"))
    assert records(reader) == [1, 2]
    assert lines_and_bytes(reader) == [(2, 1), (5, 8)]


def test_values_that_only_together_would_be_json_are_bad_records(tmp_path):
    found = records(json_lines(write(tmp_path, "[1\n2]\n1,2\n3\n")))
    assert [raw for _, raw in found[:3]] == ["[1", "2]", "1,2"]
    assert found[3] == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"a": 1} x', "not JSON: Extra data (column 10)"),
        ("NaN", "not JSON: NaN is not a JSON number"),
        ('{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5_000, "Exceeds the limit (4300 digits) for integer string conversion"),
        ('"\x01"', "not JSON: Invalid control character at (column 2)"),
        ("\x0c", "not JSON: Expecting value (column 1)"),
    ],
)
def test_what_is_not_json_is_a_bad_record_with_its_raw_text(tmp_path, line, words):
    first, (error, raw), last = records(json_lines(write(tmp_path, f"1\n{line}\r\n2\n")))
    assert (first, last) == (1, 2)
    assert error.startswith(words)
    assert raw == line


def test_every_bad_record_is_a_value_error(tmp_path):
    content = b"x\nNaN\n\xff\n" + b"[" * 200_000 + b"\n"
    bad = [record for block in json_lines(write(tmp_path, content)).read(None) for record in block.bad]
    assert [isinstance(record.error, ValueError) for record in bad] == [True] * 4


def test_undecodable_bytes_cost_their_line_only(tmp_path):
    first, (error, raw), last = records(json_lines(write(tmp_path, b'1\n"\xff"\n2')))
    assert (first, raw, last) == (1, b'"\xff"\n', 2)
    assert "can't decode byte 0xff" in error


def test_a_file_in_utf_16(tmp_path):
    reader = json_lines(write(tmp_path, '{"ä": 1}\r\n\r\n"\u0a0d"\r\n'.encode("utf-16")), encoding="utf-16")
    assert records(reader) == [{"ä": 1}, "\u0a0d"]
    assert lines_and_bytes(reader) == [(1, 2), (3, 26)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(VALUES | st.sampled_from([b"", b" ", b"NaN", b"[1", b"]", b"\xff"]), max_size=8),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=st.integers(1, 30),
)
def test_whatever_the_blocks_values_come_back_and_the_rest_is_bad(tmp_path_factory, parts, end, block):
    lines = [
        part if isinstance(part, bytes) else json.dumps(part, ensure_ascii=False).encode("utf-8", "surrogatepass")
        for part in parts
    ]
    path = write(tmp_path_factory.mktemp("law"), end.encode().join(lines))
    whole, cut = json_lines(path), json_reader(line_file(path, block=block))
    assert records(whole) == records(cut)
    assert lines_and_bytes(whole) == lines_and_bytes(cut)
    expected = [part for part in parts if not isinstance(part, bytes)]
    assert [record for record in records(whole) if not isinstance(record, tuple)] == expected


def test_a_number_too_large_for_a_float_is_read_as_python_reads_it(tmp_path):
    assert records(json_lines(write(tmp_path, "1e999"))) == [math.inf]


def test_the_limit_of_digits_is_the_interpreters(tmp_path):
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert records(json_lines(write(tmp_path, "9" * 5_000))) == [10**5_000 - 1]
    finally:
        sys.set_int_max_str_digits(before)

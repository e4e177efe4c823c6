import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.readers.reading import line_file, lines_and_bytes, records, write

from batchwright.model.block import Position
from batchwright.model.errors import DeclarationError, SourceError
from batchwright.ports import Checks, Measures, Reader
from batchwright.readers import csv_rows
from batchwright.readers.csv_files import CsvRows
from batchwright.readers.csv_records import LIMIT_FACTOR, MOST_GENERATED_COLUMNS, CsvDialect, walk_records
from batchwright.readers.text_encodings import Lines

BLOCKS = [1, 2, 7, 20, 1 << 16]


def small(path: Path, block: int, dialect: CsvDialect | None = None, header=None, **options) -> CsvRows:
    return CsvRows(line_file(path, block=block, **options), dialect or CsvDialect(), header, None)


def rows(folder: Path, content: bytes | str, **options) -> list:
    """The values of the good rows, and the bad records, the same in blocks of any size."""
    path = write(folder, content)
    reader = csv_rows(path, **options)
    found = records(reader)
    for block in BLOCKS:
        assert records(small(path, block, reader.dialect, reader.header, encoding=reader.file.encoding)) == found
    return [list(record.values()) if isinstance(record, dict) else record for record in found]


@pytest.fixture
def limit():
    before = csv.field_size_limit(20)
    yield 20
    csv.field_size_limit(before)


def test_it_is_a_reader_that_checks_and_measures(tmp_path):
    reader = csv_rows(write(tmp_path, "a\n1\n"))
    assert isinstance(reader, Reader)
    assert isinstance(reader, Checks)
    assert isinstance(reader, Measures)
    assert reader.seeks
    assert reader.address == f"csv:{tmp_path}/in.txt"


def test_rows_are_dicts_named_by_the_header(tmp_path):
    content = 'id,name\n1,Ann\n2,"Bob, Jr."\n3,"say ""hi"""\n'
    assert records(csv_rows(write(tmp_path, content))) == [
        {"id": "1", "name": "Ann"},
        {"id": "2", "name": "Bob, Jr."},
        {"id": "3", "name": 'say "hi"'},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_any_line_end_will_do_and_none_is_needed_at_the_end(tmp_path, end, last):
    content = end.join(["a,b", "1,2", "3,4"]) + end * last
    assert rows(tmp_path, content) == [["1", "2"], ["3", "4"]]


def test_line_ends_may_be_mixed(tmp_path):
    assert rows(tmp_path, "a,b\r\n1,2\n3,4\r5,6\r\n\r\n7,8") == [["1", "2"], ["3", "4"], ["5", "6"], ["7", "8"]]


def test_line_ends_in_quotes_belong_to_the_field(tmp_path):
    assert rows(tmp_path, 'a,b\n1,"x\ny"\n2,"p\r\nq"\n"r\rs",3\n') == [
        ["1", "x\ny"],
        ["2", "p\r\nq"],
        ["r\rs", "3"],
    ]


def test_an_escaped_line_end_belongs_to_the_field(tmp_path):
    assert rows(tmp_path, "a,b\n1,x\\\ny\n2,z\n", escapechar="\\") == [["1", "x\ny"], ["2", "z"]]


def test_blank_lines_are_no_records(tmp_path):
    content = "\n\na,b\n\n1,2\n\r\n3,4\n\n\n"
    assert rows(tmp_path, content) == [["1", "2"], ["3", "4"]]
    assert lines_and_bytes(csv_rows(write(tmp_path, content))) == [(5, 7), (7, 13)]


def test_a_ragged_row_is_reported_with_its_line(tmp_path):
    content = 'a,b\n1,2\n1,2,3\n\n4\n"x\ny",2,"3"\n5,6\n'
    assert rows(tmp_path, content) == [
        ["1", "2"],
        ("3 fields, the header has 2", "1,2,3"),
        ("1 field, the header has 2", "4"),
        ("3 fields, the header has 2", '"x\ny",2,"3"'),
        ["5", "6"],
    ]
    assert [line for line, _ in lines_and_bytes(csv_rows(write(tmp_path, content)))] == [2, 3, 5, 6, 8]


def test_ragged_rows_keep_their_places_among_blank_lines(tmp_path):
    assert rows(tmp_path, "a,b\r\n\r\n1\r\n2,2\r\n\r\n3,3,3\r\n4,4\r\n") == [
        ("1 field, the header has 2", "1"),
        ["2", "2"],
        ("3 fields, the header has 2", "3,3,3"),
        ["4", "4"],
    ]


def test_an_unclosed_quote_costs_one_line(tmp_path):
    content = 'a,b\n1,2\n"3,4\n5,6\n7,8\n'
    assert rows(tmp_path, content) == [
        ["1", "2"],
        ("a quote is opened and not closed", '"3,4'),
        ["5", "6"],
        ["7", "8"],
    ]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("last", ['"3,4', '"3,4\n', '3,"', '3,"\n', '3,"4""', '"'])
def test_a_quote_that_is_open_at_the_end_of_the_file_costs_one_line(tmp_path, strict, last):
    error = ("a quote is opened and not closed", last.strip())
    assert rows(tmp_path, "a,b\n1,2\n" + last, strict=strict) == [["1", "2"], error]


@pytest.mark.parametrize("last", ['"', '"\n', '"x'])
def test_an_open_quote_in_a_single_column_is_not_taken_for_a_row(tmp_path, last):
    assert rows(tmp_path, "a\n1\n" + last, strict=False)[1:] == [("a quote is opened and not closed", last.strip())]


def test_a_stray_quote_costs_one_line(tmp_path):
    content = 'a,b\n1,2\n"3"x,4\n5,6\n"7\n8"y,9\n0,0\n'
    found = rows(tmp_path, content)
    error = "',' expected after '\"'"
    # The record of two lines failed at its second one, which is looked at afresh.
    assert found == [["1", "2"], (error, '"3"x,4'), ["5", "6"], (error, '"7'), ['8"y', "9"], ["0", "0"]]


def test_without_strict_stray_quotes_are_taken_as_the_csv_module_takes_them(tmp_path):
    assert rows(tmp_path, 'a,b\n"3"x,4\n', strict=False) == [["3x", "4"]]


def test_a_field_beyond_the_limit_costs_one_line(tmp_path, limit):
    long = "x" * (limit + 1)
    assert rows(tmp_path, f"a,b\n1,{long}\n2,2\n") == [
        (f"field larger than field limit ({limit})", f"1,{long}"),
        ["2", "2"],
    ]


def test_an_unclosed_quote_ends_at_the_limit_of_a_field(tmp_path, limit):
    lines = "".join(f"{n},{n}\n" for n in range(50))
    found = rows(tmp_path, f'a,b\n"x,y\n{lines}')
    assert found[0] == (f"field larger than field limit ({limit})", '"x,y')
    assert found[1:] == [[str(n), str(n)] for n in range(50)]


def test_a_record_of_many_lines_and_fields_is_bounded_too(tmp_path, limit):
    found = rows(tmp_path, "a,b\n" + 'x","y\n' * 100)
    assert all(raw == 'x","y' for _, raw in found[:-1])
    assert found[0][0] == f"a quote is opened and not closed within {LIMIT_FACTOR * limit} characters"
    assert len(found) == 100


class CountingList(list):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(texts)
        self.looks = 0

    def __getitem__(self, index):
        self.looks += 1 if isinstance(index, int) else len(range(*index.indices(len(self))))
        return super().__getitem__(index)


@pytest.mark.parametrize("end", [[], ['"z,y\n'], ['x"\n']])
@pytest.mark.parametrize("line", ['x","y\n', '"x\n', ',"\n', "x\n"])
@pytest.mark.parametrize("field", [500, 100_000])
def test_no_line_is_looked_at_again_and_again_whatever_the_quotes(limit, line, end, field):
    csv.field_size_limit(field)
    texts = CountingList([line] * 1_000 + end)
    assert len(list(walk_records(Lines(texts), CsvDialect(), closed=True))) <= len(texts)
    assert texts.looks < 10 * len(texts)


def test_undecodable_bytes_cost_their_record_only(tmp_path):
    content = 'a,b\n1,2\n3,é\n4,"x\ny'.encode() + b'\xe9\nz"\n5,\xff,6\n7,8\n'
    found = rows(tmp_path, content)
    assert found[:2] == [["1", "2"], ["3", "é"]]
    assert found[2][1] == b'4,"x\ny\xe9\nz"\n'
    assert "can't decode byte 0xe9" in found[2][0]
    assert found[3][1] == b"5,\xff,6\n"
    assert found[4] == ["7", "8"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    content = 'näme,b\r\nä,"x\r\ny"\r\n\r\nö,2\r\n'.encode(encoding)
    path = write(tmp_path, content)
    reader = csv_rows(path, encoding=encoding)
    assert records(reader) == [{"näme": "ä", "b": "x\r\ny"}, {"näme": "ö", "b": "2"}]
    assert [line for line, _ in lines_and_bytes(reader)] == [2, 5]
    last = list(small(path, 1, encoding=encoding).read(None))[-1]
    assert records(reader, Position(1, last.anchor)) == [{"näme": "ö", "b": "2"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert records(csv_rows(write(tmp_path, "\ufeffid\n1\n"))) == [{"id": "1"}]


def test_dialects(tmp_path):
    assert rows(tmp_path, "a;b\n1; 'x;y'\n", delimiter=";", quotechar="'", skipinitialspace=True) == [["1", "x;y"]]
    assert rows(tmp_path, 'a\tb\n1\t"x\n2\ty"\n', delimiter="\t", quotechar=None) == [["1", '"x'], ["2", 'y"']]
    assert rows(tmp_path, 'a,b\n1,"x\\"y"\n', escapechar="\\", doublequote=False) == [["1", 'x"y']]
    assert rows(tmp_path, "xaa\n1a2\n", delimiter="a", header=["x", "y", "z"])[1] == (
        "2 fields, the header has 3",
        "1a2",
    )


@pytest.mark.parametrize(
    "options", [{"delimiter": ";;"}, {"delimiter": ""}, {"quotechar": "ab"}, {"delimiter": "\n"}, {"escapechar": ","}]
)
def test_options_that_the_csv_module_refuses_are_refused_when_declared(options):
    with pytest.raises(DeclarationError, match="refuses these options"):
        csv_rows("a.csv", **options)


def test_a_declared_header_names_the_columns_of_a_file_without_one(tmp_path):
    path = write(tmp_path, "1,2\n3,4\n")
    reader = csv_rows(path, header=["a", "b"])
    assert records(reader) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert lines_and_bytes(reader) == [(1, 0), (2, 4)]
    assert records(csv_rows(write(tmp_path, ""), header=["a"])) == []


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ("ab", "one text"),
        ([], "empty"),
        (["a", "a"], "columns 1 and 2"),
        (["a", " "], "column 2 has no name"),
        ([1], "no text"),
    ],
)
def test_a_declared_header_must_be_a_list_of_different_names(names, word):
    for option in ("header", "expect"):
        with pytest.raises(DeclarationError, match=word):
            csv_rows("a.csv", **{option: names})


def test_header_and_expect_exclude_each_other():
    with pytest.raises(DeclarationError, match="exclude each other"):
        csv_rows("a.csv", header=["a"], expect=["a"])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("id,nmae,date,x", "missing: name; new: nmae, x$|missing: name; new: nmae, x; mend"),
        ("name,id,date", "reordered: found name, id, date; expected id, name, date"),
        ("id;name;date", "missing: id, name, date; new: id;name;date"),
        ('id,"na\nme",date', r"missing: name; new: 'na\\nme'"),
    ],
)
def test_a_header_that_is_not_as_expected_names_what_differs(tmp_path, found, words):
    reader = csv_rows(write(tmp_path, f"{found}\n1,2,3\n"), expect=["id", "name", "date"])
    for use in (reader.check, lambda: list(reader.read(None))):
        with pytest.raises(SourceError, match=words):
            use()


def test_a_header_as_expected_passes(tmp_path):
    csv_rows(write(tmp_path, 'id,"na\nme"\n'), expect=["id", "na\nme"]).check()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no header line; it is empty"),
        ("\n\r\n\n", "has no header line"),
        ("\ufeff", "has no header line"),
        ("a,b,a\n", "columns 1 and 3 are both named a"),
        ("a,,b\n", "column 2 has no name"),
        ("a, ,b\n", "column 2 has no name"),
        ('\n\na,"b\n', "line 3: a quote is opened and not closed"),
        (b"a,\xff\n", "line 1: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_header_that_is_not_in_order_is_refused(tmp_path, content, words):
    reader = csv_rows(write(tmp_path, content))
    for use in (reader.check, lambda: list(reader.read(None)), lambda: list(reader.read(Position(1, [5, 2])))):
        with pytest.raises(SourceError, match=words):
            use()


def test_a_header_beyond_the_longest_line_is_refused(tmp_path):
    with pytest.raises(SourceError, match="line 1 is longer than 5 bytes"):
        small(write(tmp_path, "abc,def\n1,2\n"), 4, longest=5).check()


def test_a_header_alone_has_no_rows(tmp_path):
    for content in ("a,b", "a,b\n", "a,b\n\n\n", '"a\n1",b\r\n'):
        reader = csv_rows(write(tmp_path, content))
        reader.check()
        assert list(reader.read(None)) == []


def test_an_overlong_line_costs_one_record_and_closes_the_one_before_it(tmp_path):
    path = write(tmp_path, f'a,b\n1,2\n3,"x\n{"y" * 30}\n4,5\n')
    expected = [
        {"a": "1", "b": "2"},
        ("a quote is opened and not closed", '3,"x'),
        ("the line is longer than 20 bytes", b"y" * 20),
        {"a": "4", "b": "5"},
    ]
    for block in BLOCKS:
        reader = small(path, block, longest=20)
        assert records(reader) == expected
        assert lines_and_bytes(reader) == [(2, 4), (3, 8), (4, 13), (5, 44)]


def test_a_wide_table_is_read_without_generated_code(tmp_path):
    names = [f"c{n}" for n in range(MOST_GENERATED_COLUMNS + 1)]
    content = "\n".join([",".join(names), ",".join("1" * len(names)), "1,2", '"\n' + '",' + "," * (len(names) - 2)])
    first, second, third = rows(tmp_path, content)
    assert first == ["1"] * len(names)
    assert second == (f"2 fields, the header has {len(names)}", "1,2")
    assert third == ["\n"] + [""] * (len(names) - 1)


def test_hostile_names_stay_data(tmp_path):
    name = "k0: v0}]; import os #\\'"
    assert records(csv_rows(write(tmp_path, f"{name},v0\n1,2\n"))) == [{name: "1", "v0": "2"}]


def test_a_place_behind_the_last_record_is_the_end_of_the_file(tmp_path):
    reader = csv_rows(write(tmp_path, "a\n1\n2\n"))
    (block,) = reader.read(None)
    place = reader.place(Position(2, block.next_anchor))
    assert (place.line, place.byte) == (4, 6)


CONTENT = st.lists(
    st.sampled_from(['"', '"', "\n", "\r", ",", ",", "a", "é", "\\", " ", "\ufeff", "\u2028", b"\xff"]), max_size=40
).map(lambda parts: b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))

DIALECTS = st.builds(
    CsvDialect,
    delimiter=st.sampled_from([",", "a"]),
    quotechar=st.sampled_from(['"', '"', None]),
    escapechar=st.sampled_from([None, "\\"]),
    skipinitialspace=st.booleans(),
    strict=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(content=CONTENT, block=st.integers(1, 20), width=st.integers(1, 3), dialect=DIALECTS, small_limit=st.booleans())
def test_the_size_of_blocks_never_shows(tmp_path_factory, content, block, width, dialect, small_limit):
    before = csv.field_size_limit(2 if small_limit else 100)
    try:
        path = write(tmp_path_factory.mktemp("law"), content)
        header = ("x", "y", "z")[:width]
        cut, whole = small(path, block, dialect, header), small(path, 1 << 16, dialect, header)
        expected = records(whole)
        assert records(cut) == expected
        assert lines_and_bytes(cut) == lines_and_bytes(whole)
        done = 0
        for piece in cut.read(None):
            assert records(whole, Position(done, piece.anchor)) == expected[done:]
            done += len(piece)
        if not small_limit:
            _agrees_with_the_csv_module(content, dialect, header, expected)
    finally:
        csv.field_size_limit(before)


def _agrees_with_the_csv_module(content: bytes, dialect: CsvDialect, header, found: list) -> None:
    """Where it reads a file without an error and every row fits, so do we, and the same."""
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode()
        theirs = list(filter(None, dialect.rows(io.StringIO(text, newline=""))))
    except (UnicodeDecodeError, csv.Error):
        return
    if dialect.strict and all(len(row) == len(header) for row in theirs):
        assert found == [dict(zip(header, row, strict=True)) for row in theirs]


def test_a_block_tells_where_its_records_stand_even_when_the_file_is_gone(tmp_path):
    path = write(tmp_path, b'id,text\n1,a\n\n2,"b\nb"\n3,c\n')
    (block,) = csv_rows(path).read(None)
    path.unlink()
    assert [(block.place(n).line, block.place(n).byte) for n in range(3)] == [(2, 8), (4, 13), (6, 21)]
    assert block.place(3) is None

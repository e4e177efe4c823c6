import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.readers.reading import line_file, lines_and_bytes, places, records, write

from batchwright.model.block import Place, Position
from batchwright.model.errors import GroundChangedError, SourceError
from batchwright.ports import Checks, Measures, Reader
from batchwright.readers import csv_rows, text_lines
from batchwright.readers.text_files import text_reader


def lines_of(folder: Path, content: bytes | str, **options) -> list:
    return records(text_reader(line_file(write(folder, content), **options)))


def test_it_is_a_reader_that_checks_and_measures(tmp_path):
    reader = text_lines(write(tmp_path, "a\n"))
    assert isinstance(reader, Reader)
    assert isinstance(reader, Checks)
    assert isinstance(reader, Measures)
    assert reader.seeks


def test_lines_come_without_their_ends(tmp_path):
    assert lines_of(tmp_path, "a\nb\r\nc\rd\n\n e ") == ["a", "b", "c", "d", "", " e "]


def test_an_empty_file_has_no_lines(tmp_path):
    assert lines_of(tmp_path, "") == []
    assert lines_of(tmp_path, b"\xef\xbb\xbf") == []


def test_other_unicode_separators_do_not_end_a_line(tmp_path):
    line = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"
    assert lines_of(tmp_path, f"{line}\n{line}") == [line, line]
    # One undecodable neighbour makes the reader take lines one by one.
    assert lines_of(tmp_path, f"{line}\n".encode() + b"\xff\n")[0] == line


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1000])
def test_a_cr_lf_is_never_cut_in_two(tmp_path, block):
    assert lines_of(tmp_path, "ab\r\ncd\r\n\r\ne\rf", block=block) == ["ab", "cd", "", "e", "f"]


def test_an_undecodable_line_is_a_bad_record_and_its_neighbours_are_fine(tmp_path):
    first, (error, raw), last = lines_of(tmp_path, b"good\nb\xe4d\r\ngood too\n")
    assert (first, last) == ("good", "good too")
    assert raw == b"b\xe4d\r\n"
    assert "'utf-8' codec can't decode byte 0xe4 in position 1" in error


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("block", [1, 3, 7, 1000])
def test_wide_encodings_are_cut_at_aligned_line_ends(tmp_path, name, mark, block):
    # U+0A0D, U+0D0A and U+0A00 hold the bytes of line ends without being any.
    text = "a\u0a0d\u0d0a\u0a00\r\nzwei\u0a00\u000a\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
    plain = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(name, name)
    content = ("\ufeff" * mark + text).encode(plain)
    reader = text_reader(line_file(write(tmp_path, content), encoding=name, block=block))
    expected = ["a\u0a0d\u0d0a\u0a00", "zwei\u0a00", "\U0001f600"]
    assert records(reader) == expected
    for ordinal, (block_read, place) in enumerate(zip(reader.read(None), places(reader), strict=False)):
        assert (
            records(reader, Position(0, block_read.anchor))
            == expected[-len(records(reader, Position(0, block_read.anchor))) :]
        )
        assert place.line == ordinal + 1 or block == 1000


def test_the_mark_decides_the_byte_order_also_after_a_restart(tmp_path):
    content = b"\xfe\xff" + "eins\nzwei\n".encode("utf-16-be")
    reader = text_lines(write(tmp_path, content), encoding="utf-16")
    assert records(reader) == ["eins", "zwei"]
    assert records(reader, Position(1, [12, 2])) == ["zwei"]


def test_an_undecodable_line_in_a_wide_encoding_spoils_no_other(tmp_path):
    content = "a\nb".encode("utf-16-le") + b"\x00\xd8" + "\nc".encode("utf-16-le")
    first, (_, raw), last = lines_of(tmp_path, content, encoding="utf-16-le")
    assert (first, raw, last) == ("a", "b".encode("utf-16-le") + b"\x00\xd8\n\x00", "c")


def test_a_file_that_ends_in_half_a_unit_ends_in_a_bad_record(tmp_path):
    assert lines_of(tmp_path, "a\n".encode("utf-16-le") + b"b", encoding="utf-16-le")[1][1] == b"b"


def test_ebcdic_and_japanese_files_are_cut_too(tmp_path):
    for encoding in ("cp037", "shift_jis", "gb18030", "iso2022_jp"):
        text = "ab\ncd\r\nef" if encoding == "cp037" else "日本\n語\r\n字"
        for block in (1, 4, 1000):
            found = lines_of(tmp_path, text.encode(encoding), encoding=encoding, block=block)
            assert found == text.replace("\r", "").split("\n")


@pytest.mark.parametrize("block", [1, 4, 9, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_a_line_beyond_the_limit_is_one_bad_record(tmp_path, block, end):
    content = f"{'a' * 10}\r\n{'b' * 11}{end}"
    tail = f"{'c' * 10}\n{'d' * 40}\n" if end else ""
    reader = text_reader(line_file(write(tmp_path, content + tail), block=block, longest=10))
    error = ("the line is longer than 10 bytes", b"b" * 10)
    expected = ["a" * 10, error] + (["c" * 10, (error[0], b"d" * 10)] if tail else [])
    assert records(reader) == expected
    starts = [(1, 0), (2, 12), (3, 23 + len(end)), (4, 34 + len(end))]
    assert lines_and_bytes(reader) == starts[: len(expected)]


def test_a_wide_line_beyond_the_limit_ends_at_an_aligned_line_end(tmp_path):
    content = ("\u0a00" * 20 + "\r\nb").encode("utf-16-le")
    for block in (1, 2, 3, 1000):
        found = lines_of(tmp_path, content, encoding="utf-16-le", block=block, longest=10)
        assert [found[0][1], found[1]] == [b"\x00\x0a" * 5, "b"]


@settings(max_examples=200, deadline=None)
@given(
    content=st.text("ab\n\r\x85é", max_size=30).map(str.encode) | st.binary(max_size=30),
    block=st.integers(1, 12),
)
def test_the_size_of_blocks_never_shows(tmp_path_factory, content, block):
    path = write(tmp_path_factory.mktemp("law"), content)
    reader, whole = text_reader(line_file(path, block=block)), text_lines(path)
    try:
        whole.check()
    except SourceError:
        return
    assert records(reader) == records(whole)
    assert lines_and_bytes(reader) == lines_and_bytes(whole)
    body = content.removeprefix(b"\xef\xbb\xbf")
    expected = io.StringIO(body.decode("utf-8", "replace"), newline=None).read().split("\n")
    assert len(records(whole)) == len(expected) - (not expected[-1])


def test_every_anchor_leads_to_the_rest(tmp_path):
    reader = text_reader(line_file(write(tmp_path, "".join(f"{n}\r\n" for n in range(40))), block=16))
    done = 0
    for block in reader.read(None):
        assert records(reader, Position(done, block.anchor, 0)) == [str(n) for n in range(done, 40)]
        done += len(block)
        assert records(reader, Position(done, block.next_anchor, 0)) == [str(n) for n in range(done, 40)]


def test_a_place_names_the_path_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a\nb\nc\n", "deep.txt")
    reader = text_lines("./deep.txt")
    assert reader.place(Position(1, [0, 1], 1)) == Place("./deep.txt", 2, 2)
    assert reader.place(Position(1, None, 1)) == Place("./deep.txt", 2, 2)
    assert reader.address == f"text:{tmp_path}/deep.txt"
    monkeypatch.chdir("/")
    assert records(reader) == ["a", "b", "c"]


def test_a_place_in_a_file_that_is_gone_is_rough_and_raises_nothing(tmp_path):
    reader = text_lines(path := write(tmp_path, "a\nb\n"))
    path.unlink()
    place = reader.place(Position(1, [0, 1], 1))
    assert (place.line, place.byte) == (1, 0)
    assert "1 records on" in place.detail


def test_the_fraction_is_the_part_of_the_bytes(tmp_path):
    reader = text_lines(write(tmp_path, "a\nb\nc\nd\n"))
    assert [reader.fraction(Position(0, [byte, 0], 0)) for byte in (0, 2, 8)] == [0.0, 0.25, 1.0]
    assert reader.fraction(Position(0)) == 0.0


def test_the_fraction_moves_within_a_block(tmp_path):
    """Blocks are as long as small files: without it such a file would stand at 0% until it is done."""
    path = write(tmp_path, "".join(f"line {number:03}\n" for number in range(400)))
    for reader in (text_lines(path), csv_rows(path, header=["a"])):
        assert reader.fraction(Position(100, None, 100)) == pytest.approx(0.25)
        assert reader.fraction(Position(100, [450, 50], 50)) == pytest.approx(0.25)
        assert reader.fraction(Position(900, None, 900)) == 1.0


def test_a_changed_file_is_noticed_at_the_anchor(tmp_path):
    reader = text_lines(path := write(tmp_path, "aaaa\nbbbb\n"))
    path.write_text("aa\n")
    with pytest.raises(GroundChangedError, match=r"line 2 started at byte 5, now the file has 3 bytes"):
        list(reader.read(Position(1, [5, 2], 0)))
    path.write_text("aaaaaaaa\nbb\n")
    with pytest.raises(GroundChangedError, match="no start of a line there"):
        list(reader.read(Position(1, [5, 2], 0)))


def test_a_missing_file_names_the_nearest_one(tmp_path):
    write(tmp_path, "", "people.txt")
    with pytest.raises(SourceError, match=r"missing; nothing of that name is in .*; did you mean 'people.txt'\?"):
        text_lines(tmp_path / "peolpe.txt").check()
    with pytest.raises(SourceError, match="there is no folder"):
        text_lines(tmp_path / "no" / "people.txt").check()
    with pytest.raises(SourceError, match="there is no folder"):
        text_lines(tmp_path / "people.txt" / "x").check()


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, word in ((tmp_path, "directory"), (tmp_path / "pipe", "a pipe"), ("/dev/null", "a device")):
        for use in (text_lines(path).check, lambda path=path: list(text_lines(path).read(None))):
            with pytest.raises(SourceError, match=word):
                use()


def test_a_file_without_permission_is_refused(tmp_path):
    path = write(tmp_path, "a")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(SourceError, match="cannot be read; Permission denied"):
        text_lines(path).check()


def test_a_path_that_cannot_be_one_is_refused_in_one_line():
    for path in ("a\0b", "x" * 5000):
        with pytest.raises(SourceError, match="cannot be read"):
            text_lines(path).check()


@pytest.mark.parametrize(
    "name", ["utf-9", "", "rot13", "base64", "punycode", "idna", "utf-7", "unicode_escape", "undefined"]
)
def test_an_encoding_that_is_unknown_or_has_no_lines_is_refused_when_declared(name):
    with pytest.raises(SourceError, match=r"encoding .* (unknown|cannot be cut into lines)"):
        text_lines("a.txt", encoding=name)


@pytest.mark.parametrize(
    ("mark", "declared", "right"), [(b"\xff\xfe", "utf-8", "utf-16"), (b"\xef\xbb\xbf", "cp1252", "utf-8")]
)
def test_the_mark_of_another_encoding_is_refused(tmp_path, mark, declared, right):
    with pytest.raises(SourceError, match=f"write encoding='{right}'"):
        text_lines(write(tmp_path, mark + b"a\0\n\0"), encoding=declared).check()


def test_an_error_of_the_disk_is_left_to_the_engine(tmp_path):
    reader = text_lines(path := write(tmp_path, "a"))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(reader.read(None))


def test_blocks_say_how_many_bytes_they_are_made_of(tmp_path):
    content = "".join(f"line {number}\n" for number in range(1_000))
    blocks = list(text_reader(line_file(write(tmp_path, content), block=500)).read(None))
    assert len(blocks) > 5
    assert sum(block.size for block in blocks) == len(content)

"""Lines of text: encodings, and outputs that are no line."""

import pytest
from tests.unit.writers.staging import checkpoint, opened, publish

from batchwright.model.errors import ItemsFailed, TargetError
from batchwright.testing.memory_store import MemoryStore
from batchwright.writers import text_file


def test_each_output_is_one_line(tmp_path):
    publish(text_file(tmp_path / "out"), ["a", ""], ["ü\u2028\x85\x0b"])
    assert (tmp_path / "out").read_bytes() == "a\n\nü\u2028\x85\x0b\n".encode()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "latin-1"])
def test_a_byte_order_mark_stands_at_the_start_only(tmp_path, encoding):
    publish(text_file(tmp_path / "out", encoding=encoding), ["ä"], ["ö", "ü"])
    assert (tmp_path / "out").read_bytes() == "ä\nö\nü\n".encode(encoding)


def test_nothing_gives_an_empty_file(tmp_path):
    publish(text_file(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b""


def test_outputs_that_are_no_line_are_named_and_all_others_are_kept(tmp_path):
    outputs = ["good", "two\nlines", "carriage\rreturn", 7, "\ud800", "also good"]
    errors = refused(tmp_path, text_file(tmp_path / "out"), outputs)
    assert {index: type(error) for index, error in errors.items()} == {
        1: ValueError,
        2: ValueError,
        3: TypeError,
        4: UnicodeEncodeError,
    }
    assert (tmp_path / "out").read_text() == "good\nalso good\n"


def test_a_single_bad_output_does_not_pass_because_the_numbers_of_line_ends_agree(tmp_path):
    assert list(refused(tmp_path, text_file(tmp_path / "out"), ["\n"])) == [0]
    assert (tmp_path / "out").read_text() == ""


def test_an_error_that_no_output_is_guilty_of_is_none_of_theirs(tmp_path):
    class Lines(list):
        def __iter__(self):
            raise MemoryError

    with opened(text_file(tmp_path / "out"), MemoryStore()) as sink, pytest.raises(MemoryError):
        sink.write(Lines(["x"]))


def test_an_unknown_encoding_is_refused_when_declared(tmp_path):
    for encoding in ("utf-9", "hex"):
        with pytest.raises(TargetError, match=f"no text encoding '{encoding}'"):
            text_file(tmp_path / "out", encoding=encoding)


def test_the_address_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text_file("out").address == f"text:{tmp_path}/out"


def refused(tmp_path, writer, outputs):
    with opened(writer, MemoryStore()) as sink:
        with pytest.raises(ItemsFailed) as raised:
            sink.write(outputs)
        sink.commit(checkpoint(len(outputs)), ())
        sink.finish(checkpoint(len(outputs)))
    return raised.value.errors

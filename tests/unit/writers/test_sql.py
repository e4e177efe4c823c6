"""SQL writers: tables from the first rows, values as they are stored, statements, declarations."""

from collections import UserDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple
from uuid import UUID

import pytest
from tests.unit.engine.runs import database, rows, run_here, url

from batchwright import DROP, Skip, Status, Step
from batchwright.model.errors import ConfigurationError, DeclarationError, TargetError
from batchwright.writers import execute, insert, upsert


def write(path, outputs, target=None, **options):
    options = {"chunk_size": 100, **options}
    return run_here(Step("s", read=outputs, write=target or insert(url(path), "t"), **options))


def types(path) -> dict:
    return {name: kind for _, name, kind, *_ in rows(path, "PRAGMA table_info(t)")}


class Colour(Enum):
    RED = "red"


class Flag(str, Enum):  # noqa: UP042 - what people wrote before StrEnum
    RED = "red"


class Word(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@dataclass(frozen=True)
class Person:
    id: int
    name: str


class Pair(NamedTuple):
    id: int
    name: str


class Money(float):
    pass


@pytest.mark.parametrize(
    ("value", "stored", "kind"),
    [
        (7, 7, "INTEGER"),
        (2**63 - 1, 2**63 - 1, "INTEGER"),
        (True, 1, "INTEGER"),
        (1.5, 1.5, "REAL"),
        (float("inf"), float("inf"), "REAL"),
        (Money(1.5), 1.5, "REAL"),
        ("ä\0b", "ä\0b", "TEXT"),
        (b"\0x", b"\0x", "BLOB"),
        (bytearray(b"x"), b"x", "BLOB"),
        (memoryview(b"x"), b"x", "BLOB"),
        (date(2026, 1, 2), "2026-01-02", "TEXT"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02 03:04:05.000006+00:00", "TEXT"),
        (time(1, 2), "01:02:00", "TEXT"),
        (Decimal("0.10"), "0.10", "TEXT"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001", "TEXT"),
        (Colour.RED, "red", "TEXT"),
        (Flag.RED, "red", "TEXT"),
        (Word.RED, "red", "TEXT"),
        (Size.BIG, 3, "INTEGER"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_stored_as_itself_or_as_text_and_types_its_column(tmp_path, value, stored, kind):
    write(tmp_path / "t.db", [{"x": value}])
    (found,) = rows(tmp_path / "t.db")
    assert (type(found), found) == (type(stored), stored)
    assert types(tmp_path / "t.db") == {"x": kind}


def test_a_decimal_keeps_every_digit(tmp_path):
    number = Decimal("12345678901234567890.12345678901234567890")
    write(tmp_path / "t.db", [{"x": number}])
    assert Decimal(rows(tmp_path / "t.db")[0]) == number


@pytest.mark.parametrize(
    "value", [float("nan"), Money("nan"), Decimal("NaN"), Decimal("Infinity"), object(), [1], {"a": 1}, 2**63, "\ud800"]
)
def test_a_value_that_would_be_stored_as_something_else_fails_its_item(tmp_path, value):
    ran = write(tmp_path / "t.db", [{"x": 1.5}, {"x": value}, {"x": 2.5}], skip=Skip())
    assert rows(tmp_path / "t.db") == [1.5, 2.5]
    assert ran.counts == (3, 2, 0, 1)


@pytest.mark.parametrize(
    "outputs",
    [
        [{"id": 1, "name": "a"}, {"name": "b", "id": 2}],
        [UserDict(id=1, name="a"), {"id": 2, "name": "b"}],
        [Person(1, "a"), Person(2, "b")],
    ],
    ids=["dicts", "mappings", "dataclasses"],
)
def test_rows_may_be_dicts_or_dataclasses(tmp_path, outputs):
    write(tmp_path / "t.db", outputs)
    assert rows(tmp_path / "t.db") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("outputs", [[(1, "a"), (2, "b")], [Pair(1, "a"), Pair(2, "b")], [Person(1, "a"), (2, "b")]])
def test_rows_may_be_tuples_with_columns(tmp_path, outputs):
    write(tmp_path / "t.db", outputs, insert(url(tmp_path / "t.db"), "t", columns=["id", "name"]))
    assert rows(tmp_path / "t.db") == [(1, "a"), (2, "b")]


def test_columns_are_those_of_the_first_row_and_what_a_row_lacks_is_null(tmp_path):
    write(tmp_path / "t.db", [{"a": 1, "b": None, "c": None}, {"b": "x"}, {"a": 2, "c": 0.5}])
    assert rows(tmp_path / "t.db") == [(1, None, None), (None, "x", None), (2, None, 0.5)]
    assert types(tmp_path / "t.db") == {"a": "INTEGER", "b": "TEXT", "c": "REAL"}


def test_columns_come_from_the_first_chunk_that_has_outputs(tmp_path):
    target = insert(url(tmp_path / "t.db"), "t")
    process = lambda n: {"x": n} if n > 3 else DROP  # noqa: E731 - a processor of one line
    run_here(Step("s", read=range(6), process=process, write=target, chunk_size=2))
    assert rows(tmp_path / "t.db") == [4, 5]


def test_without_any_output_no_table_is_made(tmp_path):
    run_here(Step("s", read=range(3), process=lambda n: DROP, write=insert(url(tmp_path / "t.db"), "t")))
    assert types(tmp_path / "t.db") == {}


def test_numbers_of_both_kinds_make_a_real_column_and_other_mixtures_one_without_type(tmp_path):
    write(tmp_path / "t.db", [{"n": 1, "m": 1}, {"n": 1.5, "m": "x"}])
    assert types(tmp_path / "t.db") == {"n": "REAL", "m": ""}


def test_a_column_of_nothing_but_none_asks_for_its_type(tmp_path):
    ran = write(tmp_path / "t.db", [{"a": 1, "b": None}])
    assert isinstance(ran.error, TargetError)
    assert "column 'b' has only None in the first chunk" in ran.result.error
    assert 'columns={"a": "INTEGER", "b": "TEXT"}' in ran.result.error
    assert types(tmp_path / "t.db") == {}
    target = insert(url(tmp_path / "t.db"), "t", columns={"a": "INTEGER", "b": "TEXT"})
    write(tmp_path / "t.db", [{"a": 1, "b": None}], target)
    assert rows(tmp_path / "t.db") == [(1, None)]


def test_the_key_of_an_upsert_is_the_primary_key_and_not_null(tmp_path):
    path = tmp_path / "t.db"
    outputs = [{"a": 1, "b": "x", "v": 1}, {"a": 1, "b": None, "v": 2}, {"a": 1, "b": "x", "v": 3}]
    ran = write(path, outputs, upsert(url(path), "t", key=["a", "b"]), skip=Skip())
    assert rows(path) == [(1, "x", 3)]
    assert "the row has no b, which is its key" in ran.failures[0].error
    found = [(name, required, place) for _, name, _, required, _, place in rows(path, "PRAGMA table_info(t)")]
    assert found == [("a", 1, 1), ("b", 1, 2), ("v", 0, 0)]


def test_an_upsert_of_nothing_but_keys_leaves_known_ones_alone(tmp_path):
    path = tmp_path / "t.db"
    write(path, [{"k": 1}, {"k": 1}, {"k": 2}], upsert(url(path), "t", key="k"))
    assert rows(path) == [1, 2]


def test_an_upsert_leaves_other_columns_of_the_table_alone(tmp_path):
    path = database(
        tmp_path / "t.db", "CREATE TABLE t (k PRIMARY KEY, v, mine); INSERT INTO t VALUES (1, 'old', 'kept')"
    )
    write(path, [{"k": 1, "v": "new"}, {"k": 2, "v": "new"}], upsert(url(path), "t", key="k"))
    assert rows(path) == [(1, "new", "kept"), (2, "new", None)]


@pytest.mark.parametrize(
    ("script", "make", "says"),
    [
        (
            "CREATE TABLE t (id, nmae)",
            insert,
            "table 't' has no column 'name'; its columns are id, nmae; did you mean 'nmae'",
        ),
        ("CREATE TABLE t (id)", insert, "no column 'name'; its columns are id; rename it in the processor"),
        ("CREATE TABLE t (id, name)", upsert, "no unique index on id; .*CREATE UNIQUE INDEX"),
        ("CREATE TABLE t (id, name, PRIMARY KEY (id, name))", upsert, "no unique index on id"),
        ("CREATE TABLE t (id, name); CREATE INDEX i ON t (id)", upsert, "no unique index on id"),
        ("CREATE TABLE t (id, name); CREATE UNIQUE INDEX i ON t (id) WHERE id > 1", upsert, "no unique index on id"),
    ],
)
def test_an_existing_table_that_does_not_fit_is_refused_before_the_first_row(tmp_path, script, make, says):
    path = database(tmp_path / "t.db", script)
    target = make(url(path), "t", **({"key": "id"} if make is upsert else {}))
    ran = write(path, [{"id": 1, "name": "a"}], target, skip=Skip())
    assert isinstance(ran.error, TargetError)
    with pytest.raises(TargetError, match=says):
        raise ran.error
    assert rows(path) == []


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name)",
        "CREATE TABLE t (ID UNIQUE, Name)",
        "CREATE TABLE t (id, name); CREATE UNIQUE INDEX i ON t (id)",
    ],
)
def test_an_existing_table_with_a_unique_index_on_the_key_is_taken(tmp_path, script):
    path = database(tmp_path / "t.db", script)
    write(path, [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], upsert(url(path), "t", key="id"))
    assert rows(path) == [(1, "b")]


def test_a_key_that_the_rows_lack_is_refused(tmp_path):
    ran = write(tmp_path / "t.db", [{"nr": 1}], upsert(url(tmp_path / "t.db"), "t", key="id"))
    assert isinstance(ran.error, TargetError)
    assert "the key column 'id' is missing from the rows; they have nr; change key=" in ran.result.error


def test_conflicts_may_be_ignored_and_count_as_written(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x UNIQUE NOT NULL)")
    outputs = [{"x": 1}, {"x": 1}, {"x": None}, {"x": 2}]
    ran = write(path, outputs, insert(url(path), "t", on_conflict="ignore"), skip=Skip())
    assert rows(path) == [1, 2]
    assert ran.counts == (4, 3, 0, 1)


def test_names_are_quoted(tmp_path):
    path, name = tmp_path / "t.db", 'ord"er; DROP'
    write(path, [{name: 1, "select": 2}], upsert(url(path), name, key=name))
    assert rows(path, 'SELECT * FROM "ord""er; DROP"') == [(1, 2)]


def test_more_rows_than_variables_fit_into_a_statement(tmp_path):
    outputs = [{f"c{column}": row for column in range(300)} for row in range(450)]
    ran = write(tmp_path / "t.db", outputs, chunk_size=1_000)
    assert ran.counts == (450, 450, 0, 0)
    assert rows(tmp_path / "t.db", "SELECT count(*), sum(c299) FROM t") == [(450, sum(range(450)))]


def test_a_statement_takes_its_parameters_by_name_or_position(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (a, b)")
    write(path, [{"a": date(2026, 1, 2), "b": Flag.RED}], execute(url(path), "INSERT INTO t VALUES (:a, :b)"))
    run_here(Step("other", read=[(Decimal("1.0"), None)], write=execute(url(path), "INSERT INTO t VALUES (?, ?)")))
    assert rows(path) == [("2026-01-02", "red"), ("1.0", None)]


def test_a_statement_that_is_none_stops_the_step_in_our_words(tmp_path):
    ran = write(tmp_path / "t.db", [(1,)], execute(url(tmp_path / "t.db"), "INSRET INTO t VALUES (?)"), skip=Skip())
    assert ran.result.status is Status.FAILED
    assert 'refused a statement; near "INSRET": syntax error' in ran.result.error


def test_an_address_is_absolute_and_stays_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert insert("sqlite:///t.db", "t").address == f"sqlite:///{tmp_path}/t.db t"
    assert execute("sqlite:///t.db", "UPDATE t\n  SET x = ?").address == f"sqlite:///{tmp_path}/t.db UPDATE t SET x = ?"


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: insert("oracle://user:pw@host/db", "t"), "starts with oracle://"),
        (lambda: insert("t.db", "t"), "must be named by an address that starts with sqlite:///; got 't.db'"),
        (lambda: insert("sqlite:///", "t"), "must be named"),
        (
            lambda: insert("sqlite:///t.db", "t", on_conflict="replace"),
            "on_conflict must be 'fail' or 'ignore'; got 'replace'",
        ),
        (lambda: upsert("sqlite:///t.db", "t", key=""), "key must name one or more columns; got ''"),
        (lambda: upsert("sqlite:///t.db", "t", key=[]), r"key must name one or more columns; got \[\]"),
        (lambda: execute("mysql://x", "SELECT 1"), "starts with mysql://"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_declared(declare, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        declare()
    assert "pw@" not in str(caught.value)
    assert isinstance(caught.value, DeclarationError) or caught.value.exit_code == 2


def test_the_database_is_made_in_wal_mode_and_its_folder_is_not(tmp_path):
    write(tmp_path / "t.db", [{"x": 1}])
    assert rows(tmp_path / "t.db", "PRAGMA journal_mode") == ["wal"]
    with pytest.raises(TargetError, match="there is no folder"):
        write(tmp_path / "none" / "t.db", [{"x": 1}])
    assert not (tmp_path / "none").exists()


def test_a_missing_folder_is_found_before_anything_is_processed(tmp_path):
    called: list = []
    target = insert(url(tmp_path / "none" / "t.db"), "t")
    with pytest.raises(TargetError):
        run_here(Step("s", read=[1], process=called.append, write=target))
    assert called == []

"""Queries: paging by keys, which keys are refused, and going on from any page."""

import sqlite3
from contextlib import closing

import pytest
from tests.unit.engine.runs import database, rows, run_here, url

from batchwright import Job, Skip, Status, Step, replay
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Position
from batchwright.model.errors import ConfigurationError, DeclarationError, SourceError
from batchwright.readers import query
from batchwright.writers import execute, insert


@pytest.fixture
def path(tmp_path):
    script = "CREATE TABLE t (id INTEGER, name TEXT);" + "".join(
        f"INSERT INTO t VALUES ({n}, 'n{n}');" for n in range(20)
    )
    return database(tmp_path / "in.db", script)


def items(reader, after=None):
    return [item for block in reader.read(after) for item in block.items]


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize("key", ["id", None])
@pytest.mark.parametrize("stop", [1, 4, 5, 6, 19, 20])
def test_a_run_goes_on_from_any_place_in_a_page(tmp_path, path, key, stop):
    reader = query(url(path), "SELECT * FROM t ORDER BY id", key=key, page_rows=5)
    declared = Step("s", read=reader, write=insert(url(tmp_path / "out.db"), "t"), chunk_size=3)
    ran = run_here(declared, limit=stop)
    ran = run_here(declared, ledger=ran.ledger)
    assert ran.counts == (20, 20, 0, 0)
    assert rows(tmp_path / "out.db", "SELECT id FROM t ORDER BY rowid") == list(range(20))


def test_rows_that_come_behind_the_place_are_read_and_those_before_it_are_not(path):
    reader = query(url(path), "SELECT id FROM t", key="id", page_rows=5)
    blocks = reader.read(None)
    first = next(blocks)
    change(path, "INSERT INTO t VALUES (-1, 'x'), (99, 'y'); DELETE FROM t WHERE id BETWEEN 6 AND 8")
    seen = [row["id"] for row in first.items] + [row["id"] for block in blocks for row in block.items]
    assert seen == [0, 1, 2, 3, 4, 5, 9, *range(10, 20), 99]


def test_a_restart_reads_nothing_before_its_place(path):
    reader = query(url(path), "SELECT id, 1 / (id >= 10) AS one FROM t", key="id", page_rows=5)
    assert reader.seeks
    assert [row["id"] for row in items(reader, Position(10, [9]))] == list(range(10, 20))
    assert not query(url(path), "SELECT 1").seeks


@pytest.mark.parametrize("page_rows", [1, 2, 3, 100])
def test_a_key_that_is_not_unique_is_refused_wherever_the_page_ends(path, page_rows):
    change(path, "INSERT INTO t VALUES (7, 'again')")
    with pytest.raises(SourceError, match=r"the key id of a query is not unique; two rows have 7.*add columns to key="):
        items(query(url(path), "SELECT * FROM t", key="id", page_rows=page_rows))
    assert len(items(query(url(path), "SELECT * FROM t", key=["id", "name"], page_rows=page_rows))) == 21


@pytest.mark.parametrize("page_rows", [1, 3, 100])
@pytest.mark.parametrize("key", ["name", ["name", "id"], ["id", "name"]])
def test_a_key_that_is_null_is_refused(path, key, page_rows):
    change(path, "INSERT INTO t VALUES (7, NULL)")
    with pytest.raises(SourceError, match=r"is NULL in some row.*choose a key that is never NULL"):
        items(query(url(path), "SELECT * FROM t", key=key, page_rows=page_rows))


def test_keys_of_different_types_have_an_order(path):
    change(path, "CREATE TABLE m (k); INSERT INTO m VALUES (1), (1.5), ('1'), ('a'), (x'61'), (-3), (9007199254740993)")
    found = [row["k"] for row in items(query(url(path), "SELECT k FROM m", key="k", page_rows=1))]
    assert found == [-3, 1, 1.5, 9007199254740993, "1", "a", b"a"]


def test_keys_that_a_collation_calls_equal_are_apart(path):
    change(path, "CREATE TABLE c (k TEXT COLLATE NOCASE); INSERT INTO c VALUES ('a'), ('A'), ('b'), ('B')")
    found = [row["k"] for row in items(query(url(path), "SELECT k FROM c", key="k", page_rows=1))]
    assert found == ["A", "B", "a", "b"]


@pytest.mark.parametrize("page_rows", [1, 7, 100])
@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT id FROM t WHERE id > ? AND id < ?", (3, 9)),
        ("SELECT id FROM t WHERE id > ?2 AND id < ?1", (9, 3)),
        ("SELECT id FROM t WHERE id > :low AND id < @high", {"low": 3, "high": 9}),
        ("SELECT id FROM t WHERE id IN (4, 5, 6, 7, 8)", {}),
        ("SELECT id FROM t WHERE id > 3 AND id < 9 -- and a comment", ()),
        ("  SELECT id FROM t WHERE id BETWEEN 4 AND 8 ;  ", ()),
        ("SELECT id FROM t WHERE id BETWEEN 4 AND 8 ORDER BY id DESC", ()),
    ],
)
def test_parameters_by_position_and_by_name(path, sql, parameters, page_rows):
    reader = query(url(path), sql, parameters, key="id", page_rows=page_rows)
    reader.check()
    assert [row["id"] for row in items(reader)] == [4, 5, 6, 7, 8]


def test_an_empty_result_is_no_error(path):
    for key in ("id", None):
        assert items(query(url(path), "SELECT * FROM t WHERE id < 0", key=key)) == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda db: query(db, "SELECT * FROM nowhere"),
            "the query on .* does not run; no such table: nowhere; mend the SQL",
        ),
        (lambda db: query(db, "DELETE FROM t"), "does not run"),
        (lambda db: query(db, "SELECT ? FROM t"), "does not run; Incorrect number of bindings"),
        (lambda db: query(db, "SELECT * FROM t", key="nr"), "has no column 'nr' for its key; its columns are id, name"),
        (lambda db: query(db.replace("in.db", "none.db"), "SELECT 1"), "there is no database .*none.db; no such file"),
    ],
)
def test_what_cannot_run_is_said_before_the_step_begins(tmp_path, path, make, says):
    reader = make(url(path))
    with pytest.raises(SourceError, match=says):
        reader.check()
    with pytest.raises(SourceError, match=says):
        run_here(Step("s", read=reader, write=insert(url(tmp_path / "out.db"), "t")))
    assert not (tmp_path / "none.db").exists()
    assert not (tmp_path / "out.db").exists()
    assert len(rows(path)) == 20


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: query("sqlite:///t.db", "SELECT 1", key=""), "key must name one or more columns; got ''"),
        (lambda: query("sqlite:///t.db", "SELECT 1", key=[]), "key must name one or more columns"),
        (lambda: query("sqlite:///t.db", "SELECT 1", key=[7]), "key must name one or more columns"),
        (lambda: query("sqlite:///t.db", "SELECT 1", "x"), "parameters must be a dict or a sequence; got 'x'"),
        (lambda: query("sqlite:///t.db", "SELECT 1", 7), "parameters must be a dict or a sequence; got 7"),
        (lambda: query("sqlite:///t.db", "SELECT 1", page_rows=0), "page_rows must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_declared(declare, says):
    with pytest.raises(DeclarationError, match=says):
        declare()


def test_another_address_than_sqlite_is_refused_when_declared():
    with pytest.raises(ConfigurationError, match="sqlite:///"):
        query("oracle://host/db", "SELECT 1")


def test_a_place_is_the_database_and_the_key_of_the_row(tmp_path, path):
    def refuse(row):
        if row["id"] in (3, 12):
            raise ValueError("no")
        return row

    reader = query(url(path), "SELECT * FROM t", key=["id", "name"], page_rows=5)
    ran = run_here(
        Step("s", read=reader, process=refuse, write=insert(url(tmp_path / "out.db"), "t"), skip=Skip(), chunk_size=4)
    )
    assert [str(failure.place) for failure in ran.failures] == [f"{path} id=3 name='n3'", f"{path} id=12 name='n12'"]


def test_without_a_key_a_place_is_the_number_of_the_row(path):
    assert str(query(url(path), "SELECT * FROM t").place(Position(7))) == f"{path} row 8"


def test_the_address_follows_database_query_and_key_but_not_layout(path, monkeypatch):
    address = query(url(path), "SELECT id FROM t", key="id").address
    assert address == query(url(path), "SELECT id\n  FROM t;", key="id", page_rows=7).address
    assert address != query(url(path), "SELECT name FROM t", key="id").address
    assert address != query(url(path), "SELECT id FROM t").address
    monkeypatch.chdir(path.parent)
    assert address == query("sqlite:///in.db", "SELECT id FROM t", key="id").address


def test_a_page_may_be_written_into_the_database_it_is_read_from(path):
    declared = Step(
        "s",
        read=query(url(path), "SELECT id FROM t", key="id", page_rows=4),
        write=insert(url(path), "copy"),
        chunk_size=3,
    )
    assert run_here(declared).result.status is Status.COMPLETED
    assert rows(path, "SELECT id FROM copy ORDER BY rowid") == list(range(20))


TO_DO = "CREATE TABLE s (id INTEGER, done INTEGER);" + "".join(f"INSERT INTO s VALUES ({n}, 0);" for n in range(20))


class KilledError(BaseException):
    """What nothing of ours catches."""


@pytest.mark.parametrize("killed_at", range(20))
@pytest.mark.parametrize(("chunk_size", "partitions"), [(1, None), (3, None), (7, None), (3, 2)])
def test_a_job_that_takes_rows_out_of_its_own_query_goes_on_behind_the_last_one(
    tmp_path, killed_at, chunk_size, partitions
):
    source, deadly = database(tmp_path / "s.db", TO_DO), {killed_at}

    def done(row):
        if row["id"] in deadly:
            raise KilledError
        return (row["id"],)

    reader = query(url(source), "SELECT id FROM s WHERE done = 0", key="id", page_rows=8)
    writer = execute(url(source), "UPDATE s SET done = done + 1 WHERE id = ?", commutes=True)
    step = Step("s", read=reader, process=done, write=writer, chunk_size=chunk_size, partitions=partitions)
    job, ledger = Job("j", step, parameters={"day": 1}), MemoryLedger()
    assert run_here(job, ledger=ledger).counts[1] < 20
    deadly.clear()
    ran = run_here(job, ledger=ledger)
    assert ran.result.status == Status.COMPLETED
    assert ran.counts == (20, 20, 0, 0)
    assert rows(source, "SELECT done FROM s") == [1] * 20


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_what_failed_in_a_query_of_rows_still_to_do_is_found_again_by_its_key(tmp_path, chunk_size):
    source, bad = database(tmp_path / "s.db", TO_DO), {3, 4, 7, 11, 19}

    def done(row):
        if row["id"] in bad:
            raise ValueError
        return (row["id"],)

    reader = query(url(source), "SELECT id FROM s WHERE done = 0", key="id", page_rows=8)
    writer = execute(url(source), "UPDATE s SET done = done + 1 WHERE id = ?")
    step = Step("s", read=reader, process=done, write=writer, chunk_size=chunk_size, skip=Skip(payload=False))
    job = Job("j", step, parameters={"day": 1})
    ran = run_here(job)
    assert [failure.place.detail for failure in ran.failures] == [f"id={n}" for n in sorted(bad)]
    bad.clear()
    assert replay(1, ledger=ran.ledger, job=job).replayed == 5
    assert rows(source, "SELECT done FROM s") == [1] * 20


def test_anchors_stay_those_of_the_rows_that_were_read_whatever_the_job_makes_of_them(path):
    block = next(iter(query(f"sqlite:///{path}", "SELECT * FROM t", key="id").read(None)))
    before = [block.anchor_at(count) for count in range(len(block) + 1)]
    for row in block.items:
        row["id"] = -1
    block.items[0].clear()
    assert [block.anchor_at(count) for count in range(len(block) + 1)] == before

"""Queries: the public suite, keys of every kind, and what a page's edge must not lose."""

import datetime as dt
import logging
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.postgres.server import Fresh, Server

from batchwright import Job, Skip, Step, replay, run
from batchwright.model.block import Position
from batchwright.model.codec import decode, encode
from batchwright.model.errors import ConfigurationError, GroundChangedError, ReadError, SourceError
from batchwright.readers import query
from batchwright.testing.reader_suite import ReaderSuite
from batchwright.writers import execute, insert

COUNT = 23


class TestQueryByKey(ReaderSuite):
    key: Any = "id"

    @pytest.fixture(autouse=True)
    def _fill(self, server: Server) -> Iterator[None]:
        self.fresh: Fresh = server.fresh()
        self.fresh.connection.execute("CREATE TABLE t (id int, name text, half numeric)")
        self.fresh.connection.execute(
            f"INSERT INTO t SELECT i, 'ä' || i, i / 2.0 FROM generate_series(1, {COUNT}) i ORDER BY random()"
        )
        yield
        self.fresh.drop()

    def reader(self, folder: Path) -> Any:
        return query(self.fresh.url, "SELECT * FROM t ORDER BY id;", key=self.key, page_rows=5)

    def expected(self) -> list[Any]:
        return [{"id": i, "name": f"ä{i}", "half": Decimal(i) / 2} for i in range(1, COUNT + 1)]


class TestQueryByTwoKeys(TestQueryByKey):
    key = ("half", "id")


class TestQueryWithoutKey(TestQueryByKey):
    key = None


class TestQueryWithParameters(TestQueryByKey):
    def reader(self, folder: Path) -> Any:
        return query(self.fresh.url, "SELECT * FROM t WHERE id > %(low)s", {"low": 0}, key="id", page_rows=4)


class TestQueryWithPositionalParameters(TestQueryByKey):
    def reader(self, folder: Path) -> Any:
        return query(self.fresh.url, "SELECT * FROM t WHERE id > %s AND name LIKE 'ä%%'", [0], key="id", page_rows=4)


class TestQueryWithPercentSigns(TestQueryByKey):
    def reader(self, folder: Path) -> Any:
        return query(self.fresh.url, "SELECT * FROM t WHERE name LIKE 'ä%' AND id % 100 > 0", key="id", page_rows=4)


def needs_icu(fresh: Fresh) -> None:
    if not fresh.rows("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'"):
        pytest.skip("this server is built without ICU")


def keys_read(fresh: Fresh, key: str, page_rows: int = 3) -> list[Any]:
    reader = query(fresh.url, "SELECT * FROM t", key=key, page_rows=page_rows)
    rows: list[Any] = []
    after = None
    while page := next(iter(reader.read(after)), None):
        rows += [row[key] for row in page.items]
        # As a restart would: through the checkpoint.
        after = Position(len(rows), decode(encode(page.next_anchor)))
    return rows


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bigint", [-(1 << 62), -1, 0, 1, 7, 1 << 62]),
        ("numeric", [Decimal("-1.5"), Decimal("0.1"), Decimal("0.10000001"), Decimal("1e20")]),
        ("double precision", [-1.5, 0.1, 0.30000000000000004, 1e300]),
        ("date", [dt.date(1, 1, 1), dt.date(2026, 1, 1), dt.date(9999, 12, 31)]),
        ("timestamptz", [dt.datetime(2026, 1, 1, 0, 0, 0, micro, tzinfo=dt.UTC) for micro in (0, 1, 2, 999_999)]),
        ("uuid", [uuid.UUID(int=number << 120) for number in (0, 1, 127, 128, 255)]),
        ("bytea", [b"", b"\0", b"\x7f", b"\x80", b"\xff"]),
        ("text", sorted(["", "A", "B", "a", "b", "Z", "z", "_", "-a", " a", "ä", "é", "\uffff", "\U00010000"])),
        ('text COLLATE "en-x-icu"', sorted(["A", "B", "a", "b", "-a", " a", "ä", "a-b", "ab"])),
        ('text COLLATE "C"', ["A", "a", "ä"]),
    ],
)
@pytest.mark.parametrize("page_rows", [1, 2, 100])
def test_keys_of_every_kind_are_ordered_and_found_again(fresh, kind, values, page_rows):
    if "icu" in kind:
        needs_icu(fresh)
    fresh.connection.execute(f"CREATE TABLE t (k {kind})")
    fresh.connection.cursor().executemany("INSERT INTO t VALUES (%s)", [(value,) for value in reversed(values)])
    assert keys_read(fresh, "k", page_rows) == values


def test_a_collation_that_is_bytewise_already_keeps_its_index(fresh):
    needs_icu(fresh)
    fresh.connection.execute("CREATE TABLE t (k text PRIMARY KEY)")
    reader = query(fresh.url, "SELECT * FROM t", key="k")
    with reader._connected() as connection:
        assert reader._ordered(connection) == '"k"'
    fresh.connection.execute('CREATE TABLE u (k text COLLATE "en-x-icu" PRIMARY KEY)')
    reader = query(fresh.url, "SELECT * FROM u", key="k")
    with reader._connected() as connection:
        assert reader._ordered(connection) == '"k" COLLATE "C"'


@pytest.mark.parametrize(("values", "says"), [("(1), (1)", "is not unique"), ("(1), (NULL)", "is NULL")])
@pytest.mark.parametrize("page_rows", [1, 10])
def test_a_key_that_would_lose_rows_at_a_page_s_edge_is_refused(fresh, values, says, page_rows):
    fresh.connection.execute(f"CREATE TABLE t (k int); INSERT INTO t VALUES {values}")
    with pytest.raises(SourceError, match=says):
        keys_read(fresh, "k", page_rows)


@pytest.mark.parametrize(
    ("sql", "key", "says"),
    [
        ("SELECT 1 AS id", "no", "has no column 'no' for its key; its columns are id"),
        ("SELECT * FROM nowhere", "id", 'relation "nowhere" does not exist'),
        ("DELETE FROM t RETURNING id", "id", "refused a statement"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_before_the_step(fresh, sql, key, says):
    fresh.connection.execute("CREATE TABLE t (id int)")
    with pytest.raises(SourceError, match=says):
        query(fresh.url, sql, key=key).check()


def test_a_query_cannot_write(fresh):
    fresh.connection.execute("CREATE TABLE t (id int)")
    fresh.connection.execute(
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (1); RETURN 1; END'"
    )
    with pytest.raises(SourceError, match="read-only"):
        list(query(fresh.url, "SELECT f() AS id", key="id").read(None))


def test_a_server_that_turns_us_away_is_a_source_error_and_one_that_is_gone_a_read_error(server):
    with pytest.raises(SourceError, match="does not let us in"):
        query(server.url_of("nobody"), "SELECT 1").check()
    with pytest.raises(ReadError, match="cannot be reached"):
        list(query("postgresql://x@127.0.0.1:1/x", "SELECT 1").read(None))


def test_a_cut_connection_is_a_read_error(fresh):
    fresh.connection.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    url = fresh.url_of("postgres") + "&application_name=victim"
    blocks = query(url, "SELECT * FROM t", key="id", page_rows=10).read(None)
    next(blocks)
    fresh.connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")
    with pytest.raises(ReadError, match=r"the connection to .* was lost"):
        next(blocks)


@pytest.mark.parametrize("key", ["id", None])
def test_no_transaction_is_open_between_pages(fresh, key):
    fresh.connection.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    blocks = query(fresh.url + "&application_name=reader", "SELECT * FROM t", key=key, page_rows=10).read(None)
    assert len(list(islice(blocks, 2))) == 2
    states = fresh.rows("SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'reader'")
    assert states == [("idle",)]
    blocks.close()


def test_a_place_is_the_key_of_the_row(fresh):
    fresh.connection.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS id")
    reader = query(fresh.url, "SELECT * FROM t", key="id", page_rows=3)
    place = reader.place(Position(4, [3], 1))
    assert str(place) == f"postgresql://127.0.0.1:{fresh.server.port}/postgres id=5"
    assert reader.place(Position(99, [10], 1)).detail == "row 100"
    assert query(fresh.url, "SELECT 1").place(Position(4)).detail == "row 5"


def test_a_step_goes_from_one_table_to_another_across_a_limit(fresh, tmp_path, caplog):
    fresh.connection.execute("CREATE TABLE t AS SELECT i AS id, i * 2 AS n FROM generate_series(1, 1000) i")
    step = Step(
        "copy",
        read=query(fresh.url, "SELECT * FROM t", key="id", page_rows=70),
        write=insert(fresh.url, "u"),
        chunk_size=100,
    )
    ledger = f"sqlite:///{tmp_path}/l.db"
    with caplog.at_level(logging.ERROR):
        while run(step, ledger=ledger, limit=170).status == "STOPPED":
            pass
    assert fresh.rows("SELECT count(*), sum(n), count(DISTINCT id) FROM u") == [(1000, 1001000, 1000)]


@pytest.mark.parametrize("url", ["mysql://x/y", "postgres:x"])
def test_another_address_is_refused(url):
    with pytest.raises(ConfigurationError):
        query(url, "SELECT 1")


def test_an_address_is_a_digest_of_the_query_without_its_user():
    first = query("postgresql://a:b@h/d", "SELECT 1", key="id").address
    assert first == query("postgresql://c@h/d", "SELECT  1 ;", key="id").address
    assert first.startswith("postgresql://h/d query ")
    assert first != query("postgresql://c@h/d", "SELECT 2", key="id").address


@pytest.mark.parametrize("partitions", [None, 2])
@pytest.mark.parametrize("killed_at", [1, 2, 7, 8, 9, 15, 20])
def test_a_job_that_takes_rows_out_of_its_own_query_goes_on_behind_the_last_one(fresh, tmp_path, killed_at, partitions):
    fresh.connection.execute("CREATE TABLE s AS SELECT i AS id, 0 AS done FROM generate_series(1, 20) i")
    deadly = {killed_at}

    def done(row):
        if row["id"] in deadly:
            raise KeyboardInterrupt
        return (row["id"],)

    reader = query(fresh.url, "SELECT id FROM s WHERE done = 0", key="id", page_rows=8)
    writer = execute(fresh.url, "UPDATE s SET done = done + 1 WHERE id = %s", commutes=True)
    step = Step("s", read=reader, process=done, write=writer, chunk_size=3, partitions=partitions)
    job, ledger = Job("j", step, parameters={"day": 1}), f"sqlite:///{tmp_path}/l.db"
    with pytest.raises(KeyboardInterrupt):
        run(job, ledger=ledger)
    deadly.clear()
    assert run(job, ledger=ledger).counts.read == 20
    assert fresh.rows("SELECT done, count(*) FROM s GROUP BY done") == [(1, 20)]


def test_tables_that_were_dropped_are_refused_by_a_replay_before_anything_is_recorded(fresh, tmp_path):
    mended = []

    def row(n):
        if n == 3 and not mended:
            raise ValueError
        return {"n": n}

    job = Job(
        "j", Step("s", read=range(6), process=row, write=insert(fresh.url, "t"), skip=Skip()), parameters={"d": 1}
    )
    ledger = f"sqlite:///{tmp_path}/l.db"
    run(job, ledger=ledger)
    mended.append(True)
    fresh.connection.execute(f"DROP SCHEMA {fresh.name}, {fresh.records} CASCADE")
    fresh.connection.execute(f"CREATE SCHEMA {fresh.name}")
    for _ in range(2):
        with pytest.raises(GroundChangedError, match=r"lacks work.*knows of 0.*bring the target back"):
            replay(1, ledger=ledger, job=job)
    with closing(sqlite3.connect(tmp_path / "l.db")) as connection:
        assert connection.execute("SELECT count(*) FROM batchwright_job_executions").fetchone() == (1,)

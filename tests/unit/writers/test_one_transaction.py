"""`atomic="transaction"`: the step is one transaction, or was never there."""

import sqlite3

import pytest
from tests.unit.engine.runs import as_row, database, rows, run_here, url
from tests.unit.writers.nightly import Nightly, exists, refuse_seven

from batchwright import Skip, Status, distinct
from batchwright.model.errors import GroundChangedError, NotPublishedError, WriteError
from batchwright.model.events import ChunkCommitted, ItemFailed
from batchwright.writers import execute, insert, sqlite, upsert


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.db"


def once(path, items=range(10), write=None, **options):
    return Nightly(path, items, write, atomic="transaction", **options)


def test_everything_is_there_at_the_end_with_its_counts_and_failures(path):
    ran = once(path, process=refuse_seven, skip=Skip(on=ValueError, limit=1)).run()
    assert ran.counts == (10, 9, 0, 1)
    assert rows(path) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert rows(path, "SELECT ordinal FROM batchwright_failures") == [7]
    assert [failure.ordinal for failure in ran.failures] == [7]


def test_a_run_that_fails_has_done_nothing_and_says_so_and_the_next_begins_from_the_start(path):
    nightly = once(path, process=refuse_seven)
    ran = nightly.run()
    assert ran.counts == (0, 0, 0, 0)
    assert not exists(path)
    seen = []
    nightly.process = lambda item: seen.append(item) or {"x": item}
    assert nightly.run().counts == (10, 10, 0, 0)
    assert seen == list(range(10))
    assert nightly.run().result.already_complete


def test_a_stopped_run_has_done_nothing(path):
    nightly = once(path)
    ran = run_here(nightly.job(), ledger=nightly.ledger, limit=4)
    assert (ran.result.status, ran.counts) == (Status.STOPPED, (0, 0, 0, 0))
    assert nightly.run().counts == (10, 10, 0, 0)


def test_facts_are_stated_once_they_are_true(path):
    heard = []

    def judge(batch):
        assert not any(isinstance(event, ChunkCommitted | ItemFailed) for event in heard)
        return True

    nightly = once(path, process=refuse_seven, skip=Skip(limit=1), publish_if=judge)
    assert run_here(nightly.job(), observers=[heard.append]).counts == (10, 9, 0, 1)
    assert [type(event) for event in heard if isinstance(event, ChunkCommitted | ItemFailed)] == [
        ItemFailed,
        ChunkCommitted,
    ]


def test_a_chunk_that_is_refused_is_undone_without_those_before_it(path):
    database(path, "CREATE TABLE t (x INTEGER CHECK (x <> 7))")
    assert once(path, skip=Skip(on=sqlite3.IntegrityError, limit=1)).run().counts == (10, 9, 0, 1)
    assert rows(path) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_publish_if_looks_into_the_open_transaction(path):
    judge = lambda batch: batch.staged == "" and batch.query("SELECT sum(x) FROM t") == [(45,)]  # noqa: E731 - shared
    assert once(path, publish_if=judge).run().result.status is Status.COMPLETED


def test_publish_if_that_says_no_undoes_it_all(path):
    ran = once(path, publish_if=lambda batch: False).run()
    assert isinstance(ran.error, NotPublishedError)
    assert "publish_if said no; mend the data, or publish_if; the next run begins from the start" in ran.result.error
    assert not exists(path)


@pytest.mark.parametrize("write", ["insert", "upsert", "execute"])
def test_every_writer_of_tables_can(path, write):
    database(path, "CREATE TABLE t (x INTEGER PRIMARY KEY)")
    writers = {
        "insert": insert(url(path), "t"),
        "upsert": upsert(url(path), "t", key="x"),
        "execute": execute(url(path), "INSERT INTO t VALUES (:x)"),
    }
    assert once(path, write=writers[write]).run().counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def test_a_transaction_that_is_lost_half_way_fails_the_step_and_nothing_is_half(path, monkeypatch):
    write, calls = sqlite.SqlSink.write, []

    def losing(self, outputs):
        calls.append(outputs)
        if len(calls) == 3:
            self._connection.execute("ROLLBACK")
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error
        write(self, outputs)

    monkeypatch.setattr(sqlite.SqlSink, "write", losing)
    nightly = once(path)
    ran = nightly.run()
    assert isinstance(ran.error, WriteError)
    assert "its one transaction is lost, and nothing of it is written; database" in ran.result.error
    assert not exists(path)
    assert nightly.run().counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_in_doubt_is_asked_about(path, monkeypatch, committed):
    honest, doubted = sqlite.sqlite.commit, []

    def losing(connection):
        if rows_written := connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 't'").fetchone()[0]:
            doubted.append(rows_written)
            if committed:
                honest(connection)
            if len(doubted) == 1:
                raise sqlite3.OperationalError("disk I/O error")
        if not committed or not rows_written:
            honest(connection)

    monkeypatch.setattr(sqlite.sqlite, "commit", losing)
    nightly = once(path)
    ran = nightly.run()
    if committed:
        assert ran.counts == (10, 10, 0, 0)
    else:
        assert ran.result.status is Status.FAILED
        assert nightly.run().counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def test_work_that_was_begun_chunk_by_chunk_is_not_gone_on_with(path):
    nightly = once(path, process=refuse_seven)
    nightly.run(atomic=False)
    nightly.process = as_row
    ran = nightly.run()
    assert isinstance(ran.error, GroundChangedError)
    assert "was begun without atomic='transaction'; 7 items are committed; change it back" in ran.result.error
    assert nightly.run(atomic=False).counts == (10, 10, 0, 0)


def test_keys_that_were_seen_are_undone_with_the_rows(path):
    nightly = once(path, items=[1, 2, 1, 7, 2, 3, 3], process=distinct(key=str, then=refuse_seven))
    assert nightly.run().result.status is Status.FAILED
    nightly.items = [1, 2, 1, 2, 3, 3]
    assert nightly.run().counts == (6, 3, 3, 0)
    assert rows(path) == [1, 2, 3]

"""All or nothing in SQLite: staged chunk by chunk, published in one transaction or not at all."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from threading import Event, Thread

import pytest
from tests.unit.engine.runs import as_row, database, refused_here, rows, run_here, url
from tests.unit.writers.nightly import Nightly, exists, refuse_seven

from batchwright import Skip, Status, distinct, replay
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import (
    ConfirmationError,
    FencedError,
    GroundChangedError,
    NotPublishedError,
    NotReplayableError,
    TargetError,
    WriteError,
)
from batchwright.model.policy import Retry
from batchwright.model.publication import Publication
from batchwright.ports import Discards, Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert, upsert


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.db"


def test_everything_is_published_in_the_order_of_the_input(path):
    nightly = Nightly(path, [3, 1, 2, 9, 4])
    assert nightly.run().counts == (5, 5, 0, 0)
    assert rows(path) == [3, 1, 2, 9, 4]
    assert nightly.staged() == []


def test_a_run_that_fails_shows_nothing_and_the_next_one_goes_on_from_what_is_staged(path):
    nightly = Nightly(path, range(10), process=refuse_seven)
    ran = nightly.run()
    assert ran.result.status is Status.FAILED
    assert not exists(path)
    (stage,) = nightly.staged()
    assert rows(path, f'SELECT x FROM "{stage}"') == [0, 1, 2, 3, 4, 5, 6]
    seen = []
    nightly.process = lambda item: seen.append(item) or {"x": item}
    assert nightly.run().counts == (10, 10, 0, 0)
    assert seen == [7, 8, 9]
    assert rows(path) == list(range(10))
    assert nightly.run().result.already_complete


def test_a_stopped_run_shows_nothing_either(path):
    nightly = Nightly(path, range(10))
    assert run_here(nightly.job(), ledger=nightly.ledger, limit=4).result.status is Status.STOPPED
    assert not exists(path)
    assert nightly.run().counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def test_an_empty_input_publishes_nothing_and_is_complete(path):
    assert Nightly(path, []).run().result.status is Status.COMPLETED
    assert not exists(path)


def test_items_without_outputs_and_failures_within_the_limit_are_counted_as_ever(path):
    nightly = Nightly(path, range(10), process=refuse_seven, skip=Skip(on=ValueError, limit=1))
    ran = nightly.run()
    assert ran.counts == (10, 9, 0, 1)
    assert [failure.ordinal for failure in ran.failures] == [7]
    assert rows(path, "SELECT step, ordinal FROM batchwright_failures") == [("load", 7)]


def test_without_a_limit_the_first_failure_ends_the_step(path):
    ran = Nightly(path, range(10), process=refuse_seven, skip=Skip(on=ValueError)).run()
    assert "1 of 8 items failed, the limit is 0" in ran.result.error
    assert not exists(path)


def test_rows_join_those_that_are_there(path):
    database(path, "CREATE TABLE t (x INTEGER, made TEXT DEFAULT 'by default'); INSERT INTO t VALUES (99, 'before')")
    Nightly(path, [1, 2]).run()
    assert rows(path) == [(99, "before"), (1, "by default"), (2, "by default")]


def test_a_target_that_does_not_fit_is_refused_with_the_first_chunk(path):
    database(path, "CREATE TABLE t (y INTEGER)")
    ran = Nightly(path, range(10)).run()
    assert isinstance(ran.error, TargetError)
    assert "table 't' has no column 'x'" in ran.result.error
    assert ran.result.read == 0


def test_values_take_the_types_of_the_target_while_they_are_staged(path):
    database(path, "CREATE TABLE t (k TEXT UNIQUE, v INTEGER)")
    nightly = Nightly(path, ["1", 1], upsert(url(path), "t", key="k"), process=lambda item: {"k": item, "v": "7"})
    nightly.run()
    assert rows(path, "SELECT k, v, typeof(v) FROM t") == [("1", 7, "integer")]


def test_columns_keep_the_words_that_declare_them(path):
    columns = {"x": "INTEGER PRIMARY KEY CHECK (x < 9)"}
    nightly = Nightly(path, [3, 1, 9], insert(url(path), "t", columns=columns))
    assert "CHECK constraint failed: x < 9, for example by (9,)" in nightly.run().result.error
    nightly.items = [1, 2]
    nightly.run(again=True)
    assert rows(path, "SELECT name, pk FROM pragma_table_info('t')") == [("x", 1)]


@pytest.mark.parametrize(("duplicates", "expected"), [("last", [("a", 5), ("b", 4)]), ("first", [("a", 0), ("b", 1)])])
def test_of_equal_keys_one_wins_in_the_whole_step_and_over_what_is_there(path, duplicates, expected):
    database(path, "CREATE TABLE t (k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', -1)")
    keys = ["a", "b", "a", "b", "b", "a"]
    write = upsert(url(path), "t", key="k", duplicates=duplicates)
    nightly = Nightly(path, range(6), write, process=lambda n: {"k": keys[n], "v": n}, chunk_size=2)
    assert nightly.run().counts == (6, 6, 0, 0)
    assert rows(path) == expected


def test_equal_keys_may_be_failures_in_the_whole_step(path):
    write = upsert(url(path), "t", key="k", duplicates="fail")
    nightly = Nightly(path, range(6), write, process=lambda n: {"k": n % 4}, skip=Skip(on=WriteError, limit=5))
    ran = nightly.run()
    assert ran.counts == (6, 4, 0, 2)
    assert {failure.error.partition(";")[0] for failure in ran.failures} == {
        "another row of this step has the same key"
    }


def test_conflicts_with_what_is_there_are_passed_over_when_asked_to(path):
    database(path, "CREATE TABLE t (x INTEGER PRIMARY KEY); INSERT INTO t VALUES (2)")
    nightly = Nightly(path, [1, 2, 3, 3], insert(url(path), "t", on_conflict="ignore"))
    assert nightly.run().counts == (4, 4, 0, 0)
    assert rows(path) == [1, 2, 3]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("CREATE TABLE t (x INTEGER CONSTRAINT small CHECK (x < 7))", "CHECK constraint failed: small, .*by \\(7,\\)"),
        ("CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (5)", "UNIQUE constraint failed: t.x, .*by \\(5,\\)"),
        (
            "CREATE TABLE u (x INTEGER PRIMARY KEY); INSERT INTO u VALUES (0), (1); CREATE TABLE t (x REFERENCES u)",
            "FOREIGN KEY constraint failed, for example by \\(2,\\)",
        ),
        (
            "CREATE TABLE u (x INTEGER PRIMARY KEY); CREATE TABLE t (x REFERENCES u DEFERRABLE INITIALLY DEFERRED)",
            "FOREIGN KEY constraint failed, for example by \\(\\d,\\)",
        ),
        (
            "CREATE TABLE t (x); CREATE TRIGGER n AFTER INSERT ON t BEGIN SELECT RAISE(FAIL,'four') WHERE NEW.x=4; END",
            "refuses it: four, for example by \\(4,\\)",
        ),
    ],
)
def test_a_target_that_refuses_a_row_is_left_as_it_was_and_filled_once_it_is_mended(path, table, says):
    database(path, table)
    before = rows(path)
    nightly = Nightly(path, range(10))
    ran = nightly.run()
    assert isinstance(ran.error, NotPublishedError)
    assert "nothing is published" in ran.result.error
    with pytest.raises(NotPublishedError, match=says):
        raise ran.error
    assert rows(path) == before
    database(path, "PRAGMA foreign_keys = OFF; DROP TABLE t; CREATE TABLE t (x)")
    assert nightly.run(process=nothing_more).counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def nothing_more(item):
    raise AssertionError(f"{item} is staged already")


@pytest.mark.parametrize("skip", [Skip(payload=False, limit=3), Skip(redact="x", limit=3)])
def test_no_row_is_quoted_where_payloads_are_not_kept(path, skip):
    database(path, "CREATE TABLE t (x INTEGER CHECK (x <> 4711))")
    error = Nightly(path, [1, 4711], skip=skip).run().result.error
    assert error.startswith("step 'load': nothing is published; table 't' refuses it: CHECK constraint failed: x")
    assert "(4711,)" not in error


def test_publish_if_sees_what_will_be_there_before_anybody_else(path):
    database(path, "CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (100)")
    seen = []

    def judge(batch):
        seen.append((batch.counts.written, rows(path)))
        seen.append(batch.query("SELECT count(*), sum(x) FROM t WHERE x >= ?", [1]))
        seen.append(batch.query(f"SELECT max(x) FROM {batch.staged}"))
        return True

    assert Nightly(path, range(5), publish_if=judge).run().result.status is Status.COMPLETED
    assert seen == [(5, [100]), [(5, 110)], [(4,)]]
    assert rows(path) == [100, 0, 1, 2, 3, 4]


def broken(batch):
    assert batch.counts.written == 3, "three rows are needed"


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        (
            lambda batch: False,
            "publish_if said no; mend the data, or publish_if; the next run publishes what is staged",
        ),
        (lambda batch: [], "publish_if said no"),
        (lambda batch: None, "publish_if returned None; let it return True or False"),
        (broken, "publish_if raised AssertionError: three rows are needed"),
        (lambda batch: batch.query("DELETE FROM t"), "publish_if raised DatabaseError: not authorized"),
        (lambda batch: batch.query("COMMIT"), "publish_if raised DatabaseError: not authorized"),
        (lambda batch: batch.query("PRAGMA user_version = 7"), "publish_if raised DatabaseError: not authorized"),
    ],
)
def test_publish_if_that_does_not_say_yes_keeps_everything_staged(path, judge, says):
    nightly = Nightly(path, range(4))
    ran = nightly.run(publish_if=judge)
    assert isinstance(ran.error, NotPublishedError)
    assert says in ran.result.error
    assert not exists(path)
    assert nightly.run(process=nothing_more).counts == (4, 4, 0, 0)
    assert rows(path) == [0, 1, 2, 3]


def test_readers_see_nothing_and_then_everything(path):
    database(path, "PRAGMA journal_mode = WAL; CREATE TABLE t (x INTEGER)")
    seen, done = set(), Event()

    def poll():
        with closing(sqlite3.connect(path)) as reader:
            while not done.is_set():
                seen.add(reader.execute("SELECT count(*) FROM t").fetchone()[0])
            seen.add(reader.execute("SELECT count(*) FROM t").fetchone()[0])

    polling = Thread(target=poll)
    polling.start()
    Nightly(path, range(20_000), chunk_size=500).run()
    done.set()
    polling.join()
    assert seen <= {0, 20_000}
    assert 20_000 in seen


@pytest.mark.parametrize(("first", "then"), [(False, True), (True, False)])
def test_a_step_that_was_begun_otherwise_is_not_gone_on_with(path, first, then):
    nightly = Nightly(path, range(10), process=refuse_seven, atomic=first)
    nightly.run()
    nightly.process = as_row
    ran = nightly.run(atomic=then)
    assert isinstance(ran.error, GroundChangedError)
    assert f"was begun with{'' if first else 'out'} atomic=True; 7 outputs are in the " in ran.result.error
    assert nightly.run(atomic=first).counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def test_a_staged_row_that_is_gone_is_missed(path):
    nightly = Nightly(path, range(10), publish_if=lambda batch: False)
    nightly.run()
    database(path, "DELETE FROM {} WHERE x = 3".format(*nightly.staged()))
    ran = nightly.run(publish_if=None)
    assert isinstance(ran.error, GroundChangedError)
    assert "10 outputs were staged, _batchwright_" in ran.result.error
    assert "has 9 rows" in ran.result.error
    assert not exists(path)


@pytest.mark.parametrize("process", [refuse_seven, as_row])
def test_a_staging_table_that_is_gone_is_found_before_anything_runs(process, path):
    nightly = Nightly(path, range(10), process=process, publish_if=lambda batch: False)
    nightly.run()
    (stage,) = nightly.staged()
    database(path, f"DROP TABLE {stage}")
    nightly.process = as_row
    for adopt in (False, True):
        why = refused_here(nightly.job(), ledger=nightly.ledger, adopt=adopt)
        assert f"outputs were staged, {stage} is gone" in why
        assert "--again" in why
        assert "--adopt" not in why
    assert not nightly.staged()
    assert nightly.run(again=True, publish_if=None).counts == (10, 10, 0, 0)
    assert rows(path) == list(range(10))


def test_beginning_anew_asks_nothing_where_nothing_is_visible_and_takes_away_its_own_leftovers(path):
    database(path, "CREATE TABLE _batchwright_0123456789abcdef_1 (x)")
    nightly = Nightly(path, range(10), process=refuse_seven)
    nightly.run()
    first = nightly.staged()
    nightly.run(again=True)
    assert len(first) == len(nightly.staged()) == 2
    assert set(first) & set(nightly.staged()) == {"_batchwright_0123456789abcdef_1"}
    nightly.process = as_row
    assert nightly.run().counts == (10, 10, 0, 0)
    with pytest.raises(ConfirmationError, match="writes 10 of them a second time"):
        nightly.run(again=True)
    nightly.run(again=True, confirmed=True)
    assert rows(path) == [*range(10), *range(10)]


def test_what_is_staged_can_be_discarded_and_whoever_worked_on_it_is_fenced(path):
    nightly = Nightly(path, range(10), process=refuse_seven)
    nightly.run()
    bound = bind(nightly.job(), durable=False)["load"]
    key = nightly.job().key.step(1, "load")
    scope = Scope(key, nightly.ledger, FakeClock(), claims=True)
    with closing(bound.writer.open(scope)) as zombie, closing(bound.writer.open(replace(scope))) as sink:
        checkpoint = zombie.recall()
        assert isinstance(sink, Discards)
        (stage,) = nightly.staged()
        assert sink.discard() == f"staging table {stage}"
        assert nightly.staged() == []
        assert sink.discard() == ""
        with pytest.raises(FencedError):
            zombie.finish(checkpoint)
    assert not exists(path)


def test_nothing_is_discarded_where_nothing_is(path):
    write = insert(url(path), "t").publishing(Publication("load"))
    with closing(write.open(Scope(StepKey("j", "p", 1, "load"), MemoryLedger(), FakeClock()))) as sink:
        assert sink.discard() == ""
    assert not path.exists()


def test_a_lock_while_publishing_is_waited_for(path):
    nightly = Nightly(path, range(10), write_retry=Retry(on=sqlite3.OperationalError, attempts=3))
    calls = []

    def busy(batch):
        calls.append(batch)
        if len(calls) == 1:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error
        return True

    assert nightly.run(publish_if=busy).result.status is Status.COMPLETED
    assert len(calls) == 2
    assert rows(path) == list(range(10))


def test_an_atomic_step_is_not_replayed(path):
    nightly = Nightly(path, range(10), process=refuse_seven, skip=Skip(limit=1))
    nightly.run()
    with pytest.raises(NotReplayableError, match=r"'load' cannot be replayed.* it is atomic.* --again"):
        replay(1, ledger=nightly.ledger, job=nightly.job())


def test_keys_that_were_seen_are_kept_with_what_is_staged(path):
    nightly = Nightly(path, [1, 2, 1, 7, 2, 3, 3], process=distinct(key=str, then=refuse_seven))
    assert nightly.run().result.status is Status.FAILED
    assert nightly.run(process=distinct(key=str, then=as_row)).counts == (7, 4, 3, 0)
    assert rows(path) == [1, 2, 7, 3]

"""Checkpoint and failure rows: kept whole, moved by one owner only, migrated forward."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from batchwright.databases import sqlite, sqlite_records
from batchwright.databases.sqlite_partitions import SqlitePartitions
from batchwright.databases.sqlite_schema import Migration, migrate, schema_version
from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import FencedError, LedgerError
from batchwright.model.failure import Failure, FailureState, PayloadKind, Phase

KEY = StepKey("job", "hash", 1, "step")
OTHERS = [replace(KEY, **{field: 7}) for field in ("job", "parameters_hash", "lap", "step", "partition")]
CHECKPOINT = Checkpoint(Position(9, [date(2026, 1, 2), "ä\ud800"], 3), Counts(*range(1, 11)), {"length": 7})


@pytest.fixture
def connection(tmp_path):
    with closing(sqlite.connect(tmp_path / "t.db")) as connection:
        sqlite_records.prepare(connection)
        yield connection


def failure(ordinal: int, **changes) -> Failure:
    return replace(
        Failure(
            step="step",
            position=Position(ordinal, {"key": ordinal}, 2),
            phase=Phase.WRITE,
            error_type="ValueError",
            error="ü\n",
            attempts=3,
            place=Place("in.csv", 4, 5, "detail"),
            at=datetime(2026, 1, 1, tzinfo=UTC),
            payload="{}",
            payload_kind=PayloadKind.JSON,
        ),
        **changes,
    )


def test_a_checkpoint_comes_back_as_it_was_stored(connection):
    assert sqlite_records.get_checkpoint(connection, KEY) is None
    sqlite_records.move_checkpoint(connection, KEY, None, CHECKPOINT)
    assert sqlite_records.get_checkpoint(connection, KEY) == CHECKPOINT


def test_a_checkpoint_is_found_by_its_whole_key_only(connection):
    sqlite_records.put_checkpoint(connection, KEY, CHECKPOINT)
    assert [sqlite_records.get_checkpoint(connection, key) for key in OTHERS] == [None] * 5


def test_a_checkpoint_is_moved_by_whoever_knows_where_it_stands(connection):
    later = replace(CHECKPOINT, position=Position(20), counts=replace(CHECKPOINT.counts, commits=99))
    sqlite_records.move_checkpoint(connection, KEY, None, CHECKPOINT)
    sqlite_records.move_checkpoint(connection, KEY, CHECKPOINT, later)
    assert sqlite_records.get_checkpoint(connection, KEY) == later


@pytest.mark.parametrize(
    "believed",
    [
        None,
        replace(CHECKPOINT, position=Position(8)),
        replace(CHECKPOINT, counts=replace(CHECKPOINT.counts, commits=8)),
    ],
    ids=["nothing", "another ordinal", "another number of commits"],
)
def test_whoever_is_mistaken_about_it_is_fenced_off(connection, believed):
    sqlite_records.put_checkpoint(connection, KEY, CHECKPOINT)
    with pytest.raises(FencedError, match="step 'step' of job 'job': its checkpoint in the target is not where"):
        sqlite_records.move_checkpoint(connection, KEY, believed, replace(CHECKPOINT, position=Position(50)))
    assert sqlite_records.get_checkpoint(connection, KEY) == CHECKPOINT


def test_a_finished_checkpoint_is_moved_no_more(connection):
    finished = replace(CHECKPOINT, finished=True)
    sqlite_records.put_checkpoint(connection, KEY, finished)
    with pytest.raises(FencedError):
        sqlite_records.move_checkpoint(connection, KEY, finished, replace(finished, position=Position(50)))


def test_failures_come_back_in_order_a_page_at_a_time_while_others_are_written(connection):
    kept = [failure(n) for n in range(250)]
    sqlite_records.put_failures(connection, KEY, kept[::-1])
    found = []
    for each in sqlite_records.get_failures(connection, KEY):
        sqlite_records.settle_failures(connection, KEY, [each.ordinal])
        found.append(each)
    assert found == kept
    assert {each.state for each in sqlite_records.get_failures(connection, KEY)} == {FailureState.REPLAYED}


def test_a_failure_that_is_there_keeps_its_state(connection):
    sqlite_records.put_failures(connection, KEY, [failure(1)])
    assert sqlite_records.settle_failures(connection, KEY, [1, 2]) == 1
    sqlite_records.put_failures(connection, KEY, [failure(1), failure(2)])
    states = [each.state.value for each in sqlite_records.get_failures(connection, KEY)]
    assert states == ["replayed", "open"]
    assert sqlite_records.settle_failures(connection, KEY, [1]) == 0


def test_failures_past_an_ordinal_are_forgotten_under_their_key_only(connection):
    for key in (KEY, OTHERS[2]):
        sqlite_records.put_failures(connection, key, [failure(n) for n in range(5)])
    sqlite_records.void_failures(connection, KEY, 2)
    assert [each.ordinal for each in sqlite_records.get_failures(connection, KEY)] == [0, 1]
    assert len(list(sqlite_records.get_failures(connection, OTHERS[2]))) == 5


def test_texts_with_lone_surrogates_are_stored_escaped(connection):
    sqlite_records.put_failures(connection, KEY, [failure(0, error="\ud800", payload="\udfff", place=Place("\ud801"))])
    (found,) = sqlite_records.get_failures(connection, KEY)
    assert (found.error, found.payload, found.place.source) == ("\\ud800", "\\udfff", "\\ud801")


def test_the_highest_lap_of_a_step_is_known(connection):
    assert sqlite_records.last_lap(connection, KEY) == 0
    for lap in (1, 3):
        sqlite_records.put_checkpoint(connection, replace(KEY, lap=lap), CHECKPOINT)
    sqlite_records.put_checkpoint(connection, replace(KEY, lap=9, step="other"), CHECKPOINT)
    assert sqlite_records.last_lap(connection, KEY) == 3


def test_nothing_here_commits(tmp_path, connection):
    connection.execute("BEGIN")
    sqlite_records.move_checkpoint(connection, KEY, None, CHECKPOINT)
    sqlite_records.put_failures(connection, KEY, [failure(1)])
    with closing(sqlite3.connect(tmp_path / "t.db")) as other:
        assert sqlite_records.get_checkpoint(other, KEY) is None
    connection.execute("ROLLBACK")
    assert sqlite_records.get_checkpoint(connection, KEY) is None


def test_whether_the_tables_are_there_is_told_without_making_them(tmp_path):
    with closing(sqlite.connect(tmp_path / "new.db")) as connection:
        assert not sqlite_records.prepared(connection)
        sqlite_records.prepare(connection)
        sqlite_records.prepare(connection)
        assert sqlite_records.prepared(connection)


def test_tables_that_are_newer_are_refused_and_not_touched(connection):
    connection.execute("UPDATE batchwright_schema SET version = 99")
    with pytest.raises(LedgerError, match=r"are of version 99; this batchwright knows versions up to \d+; upgrade"):
        sqlite_records.prepare(connection)


def test_migrations_run_once_each_in_order(connection):
    first, second = (
        Migration(1, "CREATE TABLE a (x);"),
        Migration(2, "INSERT INTO a VALUES (';');\nINSERT INTO a VALUES (2)"),
    )
    migrate(connection, "mine", [first])
    migrate(connection, "mine", [first, second])
    migrate(connection, "mine", [first, second])
    assert connection.execute("SELECT x FROM a").fetchall() == [(";",), (2,)]
    assert schema_version(connection, "mine") == 2


def test_a_migration_that_fails_leaves_nothing(connection):
    broken = Migration(1, "CREATE TABLE a (x);\nINSERT INTO nowhere VALUES (1);")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, "mine", [broken])
    assert schema_version(connection, "mine") == 0
    assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'a'").fetchone() is None


def test_failures_of_a_step_in_partitions_are_asked_for_where_there_are_some(connection):
    for partition in range(1, 60):
        sqlite_records.put_checkpoint(connection, replace(KEY, partition=partition), CHECKPOINT)
    for partition in (40, 7):
        sqlite_records.put_failures(connection, replace(KEY, partition=partition), [failure(3)])
    asked = []
    connection.set_trace_callback(asked.append)
    found = [each.partition for each in SqlitePartitions(connection, KEY).failures()]
    connection.set_trace_callback(None)
    assert found == [7, 40]
    assert len(asked) <= 1 + 2 * len(found)

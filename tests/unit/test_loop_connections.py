"""The connection of a loop: what it refuses, and what becomes of a transaction that is lost."""

import sqlite3
from contextlib import closing, suppress

import pytest
from tests.unit.loops import ROWS, add, go, loop_over, numbers, shop

import batchwright
from batchwright import Skip, Status
from batchwright.databases.guarded_connection import first_words
from batchwright.model.errors import (
    BatchwrightError,
    DeclarationError,
    WriteError,
)

__all__ = ["shop"]


MISUSES = {
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
    "executescript": lambda connection: connection.executescript("SELECT 1"),
    "close": lambda connection: connection.close(),
    "autocommit": lambda connection: setattr(connection, "autocommit", True),
    "isolation_level": lambda connection: setattr(connection, "isolation_level", None),
    "with connection": lambda connection: connection.__enter__(),
    "BEGIN": lambda connection: connection.execute("begin immediate"),
    "COMMIT": lambda connection: connection.execute("/* now */ -- really\n commit"),
    "END": lambda connection: connection.cursor().execute("END"),
    "ROLLBACK": lambda connection: connection.execute(" ;ROLLBACK"),
    "SAVEPOINT": lambda connection: connection.execute("savepoint mine"),
    "RELEASE": lambda connection: connection.executemany("RELEASE batchwright_item", [()]),
    "ATTACH": lambda connection: connection.execute("ATTACH 'other.db' AS other"),
    "a cursor's connection": lambda connection: connection.cursor().connection.commit(),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_what_would_part_rows_from_their_checkpoint_is_refused_and_ends_the_loop(shop, misuse):
    loop = loop_over(shop, skip=Skip())
    with pytest.raises(DeclarationError, match="connection refuses") as caught, loop:
        go(loop, 5, lambda: MISUSES[misuse](loop.connection))
    assert len(str(caught.value).splitlines()) == 1
    assert numbers(shop) == [0, 1, 2, 3, 4]
    assert loop.result.status is Status.FAILED


def test_a_misuse_that_the_body_passes_over_ends_the_loop_all_the_same(shop):
    def commit() -> None:
        with suppress(DeclarationError):
            loop.connection.commit()

    with pytest.raises(DeclarationError, match="commit"), loop_over(shop) as loop:
        go(loop, 0, commit)
    assert numbers(shop) == []


def go_and_add_behind_the_block(loop) -> None:
    for number in loop:
        with loop.item():
            add(loop, number)
        add(loop, number)


def test_the_connection_is_lent_inside_of_a_block_only(shop):
    with pytest.raises(DeclarationError, match="outside of an item"), loop_over(shop) as loop:
        loop.connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(DeclarationError, match="outside of an item"), loop_over(shop) as loop:
        go_and_add_behind_the_block(loop)
    with pytest.raises(DeclarationError, match="outside of the loop"):
        loop.connection.execute("INSERT INTO t VALUES (1)")
    assert numbers(shop) == [0]


def test_a_cursor_reads_and_a_row_factory_is_the_bodys_own(shop):
    with loop_over(shop) as loop:
        loop.connection.row_factory = sqlite3.Row
        cursor = loop.connection.cursor()
        for number in loop:
            with loop.item():
                cursor.execute("INSERT INTO t VALUES (?) RETURNING n * 2 AS double", (number,))
                assert cursor.fetchone()["double"] == number * 2
                assert [row["n"] for row in loop.connection.execute("SELECT n FROM t WHERE n = ?", (number,))] == [
                    number
                ]
                assert loop.connection.execute("DELETE FROM t WHERE n = -1").rowcount == 0
    assert numbers(shop) == ROWS


def test_a_rollback_that_the_database_makes_by_itself_takes_the_chunk_and_ends_the_loop(shop):
    def roll_back() -> None:
        with suppress(sqlite3.IntegrityError):
            loop.connection.execute("INSERT OR ROLLBACK INTO t VALUES (99)")
        with suppress(BatchwrightError):
            add(loop, 1000)

    loop = loop_over(shop, skip=Skip())
    with pytest.raises(WriteError, match="is gone"), loop:
        go(loop, 6, roll_back)
    assert numbers(shop) == [0, 1, 2, 3]
    assert loop.result.counts.read == 4
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS


def test_a_commit_that_is_refused_is_rolled_back_and_said_so(shop):
    with closing(sqlite3.connect(shop)) as connection:
        connection.executescript(
            "CREATE TABLE p (id INTEGER PRIMARY KEY);"
            "CREATE TABLE c (p INTEGER REFERENCES p DEFERRABLE INITIALLY DEFERRED);"
        )
    loop = loop_over(shop, skip=Skip())
    with pytest.raises(WriteError, match=r"rolled back.*run the script again"), loop:
        go(loop, 5, lambda: loop.connection.execute("INSERT INTO c VALUES (7)"))
    assert numbers(shop) == [0, 1, 2, 3]
    assert loop.result.status is Status.FAILED


def test_a_database_that_somebody_else_has_locked_is_waited_for_and_then_ends_the_loop(shop, monkeypatch):
    monkeypatch.setattr("batchwright.databases.sqlite.BUSY_SECONDS", 0.1)
    monkeypatch.setattr("batchwright.engine.attempt.TRANSIENT_RETRY", batchwright.Retry(attempts=2, delay_seconds=0))
    with closing(sqlite3.connect(shop, isolation_level=None)) as other:

        def rows():
            yield from ROWS[:4]
            other.execute("BEGIN IMMEDIATE")
            yield from ROWS[4:]

        loop = loop_over(shop, rows)
        with pytest.raises(BatchwrightError, match="locked"), loop:
            go(loop)
        other.execute("ROLLBACK")
    assert numbers(shop) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", []),
        ("select 'a; commit' ; -- rollback\n/* begin; */ update t set x = \"end;\"", ["SELECT", "UPDATE"]),
        ("insert into t values (E'it\\'s; '); commit", ["INSERT", "COMMIT"]),
        ("do $x$ begin; commit; $x$; end", ["DO", "END"]),
        ("prepare transaction 'x'; prepare a as select 1", ["PREPARE TRANSACTION", "PREPARE A"]),
        ("(select 1); ;; start transaction", ["SELECT", "START"]),
    ],
)
def test_the_first_word_of_each_statement_is_found(sql, words):
    assert list(first_words(sql)) == words

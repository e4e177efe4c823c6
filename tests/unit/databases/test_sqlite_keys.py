"""The keys of `distinct` in SQLite: stored, moved, rolled back or forgotten, what is known is what stands."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchwright.databases import sqlite_keys, sqlite_records
from batchwright.databases.sqlite_keys import NewKeys, forget_keys, forget_lap, known_keys, remember_keys
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, InstanceKey
from batchwright.model.distinct import KeySpace

KEYS = [bytes([number]) * 16 for number in range(40)]


def space_of(lap: int, *, across: bool = False, step: str = "s") -> KeySpace:
    return KeySpace(InstanceKey("j", "h").step(lap, step), across)


@pytest.fixture
def connection():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        sqlite_records.prepare(connection)
        yield connection


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(sqlite_keys, "MOST_NEW_KEYS", 5)


def stored(connection: sqlite3.Connection, table: str) -> int:
    (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return found


moves = st.lists(
    st.tuples(
        st.sampled_from(["remember", "remember", "remember", "roll back", "forget", "ask"]),
        st.sampled_from(["a", "b"]),
        st.sets(st.sampled_from(KEYS), max_size=9).map(sorted),
    ),
    max_size=20,
)


def follow(steps: list[tuple[str, str, list[bytes]]]) -> None:
    """Do all this, and compare what is known with sets each time: with a copy that is kept, and a fresh one."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        sqlite_records.prepare(connection)
        kept, expected = NewKeys(), {"a": set(), "b": set()}
        for what, name, digests in steps:
            space = space_of(1, step=name)
            connection.execute("BEGIN")
            if what == "forget":
                forget_keys(connection, space)
                expected[name] = set()
            elif what != "ask":
                remember_keys(connection, space, digests)
                seen = known_keys(connection, space, KEYS, kept)
                assert seen == expected[name] | set(digests)
                expected[name] = expected[name] if what == "roll back" else seen
            connection.execute("ROLLBACK" if what == "roll back" else "COMMIT")
            assert known_keys(connection, space, KEYS, kept) == expected[name]
            assert known_keys(connection, space, KEYS) == expected[name]


@settings(max_examples=150, deadline=None)
@given(steps=moves, most=st.sampled_from([1, 5, 12]))
def test_what_is_known_is_what_was_committed(steps, most):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite_keys, "MOST_NEW_KEYS", most)
        follow(steps)


@pytest.mark.parametrize("bug", ["a copy that is not compared", "moved and not deleted first", "never moved"])
def test_planted_bugs_are_found(bug, few, monkeypatch):
    if bug == "a copy that is not compared":
        monkeypatch.setattr(NewKeys, "_stands", lambda *_: True)
    elif bug == "moved and not deleted first":
        monkeypatch.setattr(sqlite_keys, "_TABLES", ("batchwright_new_keys",))
    else:
        monkeypatch.setattr(sqlite_keys, "_move", forget_keys)
    with pytest.raises(AssertionError):
        follow(
            [
                ("remember", "a", KEYS[:3]),
                ("roll back", "a", KEYS[3:5]),
                ("remember", "a", KEYS[5:7]),
                ("ask", "a", []),
                ("remember", "a", KEYS[7:9]),
                ("forget", "a", []),
            ]
        )


def test_new_keys_move_once_there_are_many_and_stay_known(connection, few):
    for number in range(7):
        remember_keys(connection, space_of(1), KEYS[2 * number : 2 * number + 2])
    assert (stored(connection, "batchwright_keys"), stored(connection, "batchwright_new_keys")) == (12, 1)
    assert known_keys(connection, space_of(1), KEYS) == set(KEYS[:14])


@pytest.mark.parametrize("finished", [True, False])
def test_keys_of_a_forgotten_lap_stay_known_across_laps_if_it_was_finished(connection, few, finished):
    first, second = space_of(1, across=True), space_of(2, across=True)
    mark = Checkpoint(Position(1), finished=finished)
    sqlite_records.put_checkpoint(connection, first.step, mark)
    for part in (KEYS[:4], KEYS[4:6]):
        remember_keys(connection, first, part)
    kept, counted = NewKeys(), set(KEYS[:6]) if finished else set()
    assert stored(connection, "batchwright_keys") == 4
    assert known_keys(connection, second, KEYS, kept) == counted
    connection.execute("DELETE FROM batchwright_checkpoints")
    forget_lap(connection, first.step, finished=finished)
    assert known_keys(connection, second, KEYS, kept) == known_keys(connection, second, KEYS) == counted


def test_keys_of_an_unfinished_lap_that_a_later_one_sees_again_are_the_later_ones(connection, few):
    first, second = space_of(1, across=True), space_of(2, across=True)
    remember_keys(connection, first, KEYS[:3])
    remember_keys(connection, second, KEYS[2:5])
    remember_keys(connection, second, KEYS[5:9])
    assert known_keys(connection, second, KEYS) == set(KEYS[2:9])

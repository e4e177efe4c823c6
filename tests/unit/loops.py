"""What the tests of resumable share: a shop, a loop over ten numbers, and a body that adds each."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from batchwright import resumable

ROWS = list(range(10))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a table that has no key."""
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", str(tmp_path / "ledger" / "ledger.db"))
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER CHECK (n <> 99));")
    return path


def loop_over(shop: Path, rows=None, **options):
    given = {"parameters": {"day": 1}, "chunk_size": 4, "chunk_seconds": 60, **options}
    return resumable("fix", ROWS if rows is None else rows, database=f"sqlite:///{shop}", **given)


def numbers(shop: Path) -> list[int]:
    with closing(sqlite3.connect(shop)) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY rowid")]


def add(loop, number: int) -> None:
    loop.connection.execute("INSERT INTO t VALUES (?)", (number,))


def go(loop, at: int | None = None, do=None) -> None:
    """Go through a loop; at this number do something in its block."""
    for number in loop:
        with loop.item():
            add(loop, number)
            if number == at:
                do()


def fail(error: BaseException):
    def leave() -> None:
        raise error

    return leave

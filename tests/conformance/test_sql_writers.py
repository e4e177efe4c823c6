"""The public suite, run against every SQL writer."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from batchwright.model.publication import Publication
from batchwright.ports import Writer
from batchwright.testing.sink_driver import SinkDriver
from batchwright.testing.writer_suite import ITEMS, WriterSuite
from batchwright.writers import execute, insert, route, upsert

STAGED = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%batchwright%_1'"

COLUMNS = {"id": "INTEGER CHECK (id >= 0)", "name": "TEXT"}


class SqlSuite(WriterSuite):
    """A writer of one table, or of several statements, in a database in the folder."""

    def outputs(self, count: int) -> list[Any]:
        return [{"id": number, "name": f"ä {number}"} for number in range(count)]

    def bad_output(self) -> Any:
        return {"id": -1, "name": "refused"}

    def misfits(self) -> list[Any]:
        return [None, 7, {}, (1,), {1: 2}]

    def read_back(self, folder: Path) -> list[Any]:
        return [{"id": number, "name": name} for number, name in query(folder, "SELECT id, name FROM t ORDER BY rowid")]


class TestInsert(SqlSuite):
    """Without any key: what is written twice is there twice."""

    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS)


class TestInsertOfTuples(SqlSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS)

    def outputs(self, count: int) -> list[Any]:
        return [(number, None) for number in range(count)]

    def bad_output(self) -> Any:
        return (2**63, "too large")

    def read_back(self, folder: Path) -> list[Any]:
        return query(folder, "SELECT id, name FROM t ORDER BY rowid")


class TestInsertWithInferredColumns(SqlSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t")

    def bad_output(self) -> Any:
        return {"id": 1, "name": "\ud800"}


class TestInsertIntoADatabaseInRollbackMode(SqlSuite):
    """The user's own journal mode is kept."""

    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS)

    def test_nothing_is_created_before_the_first_write(self, tmp_path: Path) -> None:
        """The database is there already."""

    def _driver(self, folder: Path, **options: Any) -> Any:
        driver = super()._driver(folder, **options)
        with closing(sqlite3.connect(driver.folder / "t.db")) as connection:
            connection.execute("CREATE TABLE mine (x)")
        return driver

    def published(self, folder: Path) -> object:
        assert query(folder, "PRAGMA journal_mode") == [("delete",)]
        return self.read_back(folder)


class TestInsertThatIgnoresConflicts(SqlSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS, on_conflict="ignore")


class TestUpsert(SqlSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return upsert(address(folder), "t", key="id", columns=COLUMNS)


class TestAtomicInsert(SqlSuite):
    """What is refused at once is what the staging table cannot hold; constraints are judged when it is published."""

    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS).publishing(Publication("write"))

    def bad_output(self) -> Any:
        return {"id": 1, "name": "\ud800"}

    def read_back(self, folder: Path) -> list[Any]:
        assert query(folder, STAGED) == [] or query(folder, "SELECT finished FROM batchwright_checkpoints") != [(1,)]
        return super().read_back(folder)


class TestAtomicUpsert(TestAtomicInsert):
    def writer(self, folder: Path) -> Writer[Any]:
        return upsert(address(folder), "t", key="id", columns=COLUMNS).publishing(Publication("write"))


class TestAtomicUpsertOfTheFirst(TestAtomicInsert):
    def writer(self, folder: Path) -> Writer[Any]:
        write = upsert(address(folder), "t", key="id", columns=COLUMNS, duplicates="first")
        return write.publishing(Publication("write"))


class TestRoute(SqlSuite):
    """Every other row goes to another table; both are looked at as one."""

    def writer(self, folder: Path) -> Writer[Any]:
        both = {
            "even": insert(address(folder), "t", columns=COLUMNS),
            "odd": insert(address(folder), "u", columns=COLUMNS),
        }
        return route(both, by=lambda row: "odd" if row["id"] % 2 else "even")

    def read_back(self, folder: Path) -> list[Any]:
        names = query(folder, "SELECT name FROM sqlite_master WHERE name IN ('t', 'u')")
        rows = [row for (name,) in names for row in query(folder, f"SELECT id, name FROM {name}")]
        return [{"id": number, "name": name} for number, name in sorted(rows)]


class TestAtomicRoute(TestRoute):
    def writer(self, folder: Path) -> Writer[Any]:
        return super().writer(folder).publishing(Publication("write"))  # type: ignore[attr-defined] - it has one

    def bad_output(self) -> Any:
        return {"id": 1, "name": "\ud800"}


class TestInsertAsOneTransaction(SqlSuite):
    """Nothing is kept of a run that does not come to its end."""

    def writer(self, folder: Path) -> Writer[Any]:
        return insert(address(folder), "t", columns=COLUMNS).publishing(Publication("write", one_transaction=True))

    def test_closing_undoes_what_is_not_committed(self, tmp_path: Path) -> None:
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        driver.write_chunk(sink, 0, 4)
        sink.close()
        sink = driver.open()
        assert sink.recall() is None
        sink.close()
        assert self.read_back(driver.folder) == []

    def test_a_checkpoint_comes_back_as_it_was_given(self, tmp_path: Path) -> None:
        driver = self._driver(tmp_path)
        driver.run(3)
        sink = driver.open()
        checkpoint = sink.recall()
        assert checkpoint is not None
        given = driver.checkpoint(ITEMS)
        assert (checkpoint.position, checkpoint.counts, checkpoint.finished) == (given.position, given.counts, True)
        assert list(sink.failures()) == driver.failures(0, ITEMS)
        sink.close()

    def test_chunks_without_outputs_are_committed_too(self, tmp_path: Path) -> None:
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        driver.remember(sink, 0, 4)
        sink.commit(driver.checkpoint(4), driver.failures(0, 4))
        sink.finish(driver.checkpoint(4))
        sink.close()
        self._assert_finished_at(driver, 4)

    def _assert_finished_at(self, driver: SinkDriver, ordinal: int) -> None:
        sink = driver.open()
        checkpoint = driver.recall(sink)
        sink.close()
        assert checkpoint is not None
        assert (checkpoint.position.ordinal, checkpoint.finished) == (ordinal, True)
        assert self.read_back(driver.folder) == []


class TestExecuteOfARunningBalance(SqlSuite):
    """Not idempotent: a statement that is executed twice shows in the sum."""

    def writer(self, folder: Path) -> Writer[Any]:
        return execute(address(folder), "INSERT INTO balance_changes VALUES (:amount)")

    def test_nothing_is_created_before_the_first_write(self, tmp_path: Path) -> None:
        """The tables are there already."""

    def _driver(self, folder: Path, **options: Any) -> Any:
        driver = super()._driver(folder, **options)
        with closing(sqlite3.connect(driver.folder / "t.db")) as connection:
            connection.executescript("""
                CREATE TABLE balance (total INTEGER); INSERT INTO balance VALUES (0);
                CREATE TABLE balance_changes (amount INTEGER CHECK (amount >= 0));
                CREATE TRIGGER book AFTER INSERT ON balance_changes
                    BEGIN UPDATE balance SET total = total + new.amount; END;
            """)
        return driver

    def outputs(self, count: int) -> list[Any]:
        return [{"amount": number} for number in range(count)]

    def bad_output(self) -> Any:
        return {"amount": -1}

    def misfits(self) -> list[Any]:
        return [None, 7, {}, (1, 2), "ab"]

    def read_back(self, folder: Path) -> list[Any]:
        changes = query(folder, "SELECT amount FROM balance_changes ORDER BY rowid")
        assert query(folder, "SELECT total FROM balance") == [(sum(amount for (amount,) in changes),)]
        return [{"amount": amount} for (amount,) in changes]


def address(folder: Path) -> str:
    return f"sqlite:///{folder / 't.db'}"


def query(folder: Path, sql: str) -> list[Any]:
    if not (folder / "t.db").exists():
        return []
    with closing(sqlite3.connect(folder / "t.db")) as connection:
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table: t" not in str(error):
                raise
            return []

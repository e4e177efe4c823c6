"""The public suite, run against queries."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from batchwright.ports import Reader
from batchwright.readers.sql import query
from batchwright.testing.reader_suite import ReaderSuite

COUNT = 40
PAGE = 7


class QuerySuite(ReaderSuite):
    """A table of 40 rows in no order of its keys."""

    def address(self, folder: Path) -> str:
        path = folder / "t.db"
        if not path.exists():
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE t (id INTEGER, name TEXT, day TEXT, raw BLOB)")
                connection.executemany("INSERT INTO t VALUES (:id, :name, :day, :raw)", sorted(rows(), key=mixed))
                connection.commit()
        return f"sqlite:///{path}"

    def expected(self) -> list[Any]:
        return rows()


class TestQueryByKey(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        return query(self.address(folder), "SELECT * FROM t", key="id", page_rows=PAGE)


class TestQueryWithoutKey(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        return query(self.address(folder), "SELECT * FROM t ORDER BY id", page_rows=PAGE)


class TestQueryByCompositeKey(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        return query(self.address(folder), "SELECT * FROM t -- all", key=("day", "id"), page_rows=PAGE)

    def expected(self) -> list[Any]:
        return sorted(rows(), key=lambda row: (row["day"], row["id"]))


class TestQueryByTextKey(QuerySuite):
    """Upper and lower case are apart, whatever the column's collation says."""

    def reader(self, folder: Path) -> Reader[Any]:
        sql = "SELECT id, name COLLATE NOCASE AS name FROM t;"
        return query(self.address(folder), sql, key="name", page_rows=PAGE)

    def expected(self) -> list[Any]:
        return [{"id": row["id"], "name": row["name"]} for row in sorted(rows(), key=lambda row: row["name"])]


class TestQueryByBytesKey(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        return query(self.address(folder), "SELECT raw FROM t", key="raw", page_rows=PAGE)

    def expected(self) -> list[Any]:
        return [{"raw": row["raw"]} for row in sorted(rows(), key=lambda row: row["raw"])]


class TestQueryWithParametersByName(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        sql = "SELECT * FROM t WHERE id >= :low AND name != :name"
        return query(self.address(folder), sql, {"low": 10, "name": "none"}, key=("day", "id"), page_rows=PAGE)

    def expected(self) -> list[Any]:
        return sorted((row for row in rows() if row["id"] >= 10), key=lambda row: (row["day"], row["id"]))


class TestQueryWithParametersByPosition(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        return query(self.address(folder), "SELECT * FROM t WHERE id >= ?", (10,), key="id", page_rows=PAGE)

    def expected(self) -> list[Any]:
        return rows()[10:]


class TestQueryWithALimitOfItsOwn(QuerySuite):
    def reader(self, folder: Path) -> Reader[Any]:
        sql = (
            "WITH newest AS (SELECT * FROM t ORDER BY id DESC LIMIT 20) SELECT * FROM newest ORDER BY id DESC LIMIT 19"
        )
        return query(self.address(folder), sql, key="id", page_rows=PAGE)

    def expected(self) -> list[Any]:
        return rows()[21:]


def rows() -> list[dict[str, Any]]:
    cases = (str.lower, str.upper)
    return [
        {
            "id": n,
            "name": cases[n % 2](f"name {n // 2:02}"),
            "day": f"2026-01-{n % 5 + 1:02}",
            "raw": bytes([255 - n, n]),
        }
        for n in range(COUNT)
    ]


def mixed(row: dict[str, Any]) -> int:
    return int(row["id"]) * 17 % COUNT

"""The public suite for writers, run against PostgreSQL. A crash is what the tables hold at that moment."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres.server import Server

from batchwright.databases import postgres_records
from batchwright.ports import Writer
from batchwright.testing.sink_driver import Moment, SinkDriver
from batchwright.testing.writer_suite import ITEMS, WriterSuite
from batchwright.writers import execute, insert, postgres_rows, upsert

honest_copy = postgres_rows._copy

CREATE = "CREATE TABLE {} (id bigint PRIMARY KEY, name text CHECK (name <> 'bad'), amount double precision)"


class TablesDriver(SinkDriver):
    """A driver whose moments hold the tables too: each is copied into a file beside them."""

    suite: "PostgresSuite"

    def _note(self, name: str) -> None:
        for table, path in self._copies():
            path.unlink(missing_ok=True)
            if self.suite.exists(table):
                with self.suite.connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                    path.write_bytes(b"".join(map(bytes, copy)))
        super()._note(name)

    def crash(self, moment: Moment) -> None:
        super().crash(moment)
        schema = self.suite.name(self.folder)
        self.suite.connection.execute(f"DROP SCHEMA IF EXISTS {schema}_records CASCADE; DROP TABLE IF EXISTS {schema}")
        if self.suite.created:
            self.suite.connection.execute(CREATE.format(schema))
        for table, path in self._copies():
            if not path.exists():
                continue
            if not self.suite.exists(table):
                if table == schema:
                    self.suite.connection.execute(CREATE.format(schema))
                else:
                    postgres_records.prepare(self.suite.connection, f"{schema}_records")
            self.suite.connection.execute(f"TRUNCATE {table}")
            with self.suite.connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                copy.write(path.read_bytes())

    def _copies(self) -> list[tuple[str, Path]]:
        schema = self.suite.name(self.folder)
        ours = ("checkpoints", "failures", "keys")
        tables = [schema, *(f"{schema}_records.batchwright_{name}" for name in ours)]
        return [(table, self.folder / table) for table in tables]


class PostgresSuite(WriterSuite):
    """A table of the folder's own. It is created beforehand, or by the writer."""

    created = True

    @pytest.fixture(autouse=True)
    def _connect(self, server: Server):
        self.server = server
        self.names: set[str] = set()
        self.connection = psycopg.connect(server.url, autocommit=True, options="-c synchronous_commit=off")
        yield
        for name in self.names:
            self.connection.execute(f"DROP SCHEMA IF EXISTS {name}_records CASCADE; DROP TABLE IF EXISTS {name}")
        self.connection.close()

    def name(self, folder: Path) -> str:
        name = "f" + sha256(str(folder).encode()).hexdigest()[:12]
        if name not in self.names and self.created:
            self.connection.execute(CREATE.format(name))
        self.names.add(name)
        return name

    def exists(self, table: str) -> bool:
        return self.connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)

    def url(self, folder: Path) -> str:
        # No power cuts here: what is committed need not be on the disk.
        options = "-c synchronous_commit=off"
        return self.server.url_of("postgres", options=options, records_schema=f"{self.name(folder)}_records")

    def writer(self, folder: Path) -> Writer[Any]:
        return insert(self.url(folder), self.name(folder))

    def outputs(self, count: int) -> list[Any]:
        return [{"id": number, "name": f'ä"\\\t{number}', "amount": number / 8} for number in range(count)]

    def bad_output(self) -> Any:
        return {"id": 99, "name": "bad", "amount": None}

    def misfits(self) -> list[Any]:
        return [None, 7, {}, (1,), {1: 2}]

    def read_back(self, folder: Path) -> list[Any]:
        if not self.exists(self.name(folder)):
            return []
        rows = self.connection.execute(f"SELECT id, name, amount FROM {self.name(folder)} ORDER BY ctid").fetchall()
        return [dict(zip(("id", "name", "amount"), row, strict=True)) for row in rows]

    def _driver(self, folder: Path, *, items: int = ITEMS, checkpoint_seconds: float = 0.0) -> SinkDriver:
        folder = folder / "target"
        folder.mkdir(parents=True)
        driver = TablesDriver(self.writer, self.outputs(items), folder, checkpoint_seconds=checkpoint_seconds)
        driver.suite = self
        return driver


class TestInsert(PostgresSuite):
    pass


class TestInsertByCopy(PostgresSuite):
    @pytest.fixture(autouse=True)
    def _copy_always(self, monkeypatch):
        monkeypatch.setattr(postgres_rows, "COPY_ROWS", 1)


class TestInsertIntoATableOfItsOwnMaking(PostgresSuite):
    created = False

    def bad_output(self) -> Any:
        return {"id": 99, "name": "x", "amount": float("nan")}


class TestUpsert(PostgresSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return upsert(self.url(folder), self.name(folder), key="id")


class TestUpsertByMerge(TestUpsert):
    @pytest.fixture(autouse=True)
    def _merge_always(self, monkeypatch):
        monkeypatch.setattr(postgres_rows, "COPY_ROWS", 1)
        monkeypatch.setattr(postgres_rows, "_copy", copy_as_if_a_key_existed)


class TestExecute(PostgresSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        sql = f"INSERT INTO {self.name(folder)} VALUES (%(id)s, %(name)s, %(amount)s)"
        return execute(self.url(folder), sql)


def copy_as_if_a_key_existed(connection, target, rows, types):
    """Only into the temporary table."""
    if "batchwright_staging" not in target:
        raise psycopg.errors.UniqueViolation("as if a key existed")
    honest_copy(connection, target, rows, types)

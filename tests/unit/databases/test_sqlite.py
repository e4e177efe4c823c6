"""SQLite: durable connections, journal modes, and what errors mean."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.engine.runs import database

from batchwright.databases import sqlite
from batchwright.model.errors import BatchwrightError, ConfigurationError, TargetError, WriteError
from batchwright.model.guarantee import Fault


def pragma(connection: sqlite3.Connection, name: str):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///shop.db", "shop.db"),
        ("sqlite:////data/shop.db", "/data/shop.db"),
        ("sqlite:///a%20b%3F.db", "a b?.db"),
    ],
)
def test_an_address_names_a_file(url, path):
    assert sqlite.database_path(url) == Path(path)


@pytest.mark.parametrize("url", ["", "shop.db", "sqlite:///", "sqlite://shop.db", "postgresql://u:secret@h/d", None, 7])
def test_another_address_is_refused_without_showing_what_may_be_secret(url):
    with pytest.raises(ConfigurationError, match="starts with sqlite:///") as caught:
        sqlite.database_path(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_we_create_is_in_wal_mode_and_synced_at_every_commit(tmp_path):
    with closing(sqlite.connect(tmp_path / "t.db")) as connection:
        assert (pragma(connection, "journal_mode"), pragma(connection, "synchronous")) == ("wal", 2)
        assert pragma(connection, "foreign_keys") == 1
        assert connection.isolation_level is None


@pytest.mark.parametrize(("mode", "level"), [("delete", 3), ("wal", 2)])
def test_the_users_journal_mode_is_kept_and_made_durable(tmp_path, mode, level):
    path = database(tmp_path / "t.db", f"PRAGMA journal_mode = {mode}; CREATE TABLE mine (x)")
    with closing(sqlite.connect(path)) as connection:
        assert (pragma(connection, "journal_mode"), pragma(connection, "synchronous")) == (mode, level)
        connection.execute("INSERT INTO mine VALUES (1)")
    with closing(sqlite3.connect(path)) as connection:
        assert pragma(connection, "journal_mode") == mode


def test_an_empty_file_is_one_that_we_create(tmp_path):
    (tmp_path / "t.db").touch()
    with closing(sqlite.connect(tmp_path / "t.db")) as connection:
        assert pragma(connection, "journal_mode") == "wal"


@pytest.mark.parametrize("connect", [sqlite.connect, sqlite.connect_read_only])
def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path, connect):
    (tmp_path / "t.db").write_text("id,name\n" * 1_000)
    with pytest.raises(TargetError, match="is not a sound SQLite database"):
        connect(tmp_path / "t.db")
    assert (tmp_path / "t.db").read_text() == "id,name\n" * 1_000


@pytest.mark.parametrize("connect", [sqlite.connect, sqlite.connect_read_only])
def test_a_folder_is_refused(tmp_path, connect):
    with pytest.raises(TargetError, match="is a folder; name a file in it"):
        connect(tmp_path)


def test_a_missing_folder_is_not_created(tmp_path):
    with pytest.raises(TargetError, match=r"there is no folder .*none"):
        sqlite.connect(tmp_path / "none" / "t.db")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_does_not_create_a_database(tmp_path):
    with pytest.raises(TargetError, match="there is no database"):
        sqlite.connect_read_only(tmp_path / "t.db")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    with (
        closing(sqlite.connect_read_only(path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("INSERT INTO t VALUES (1)")


def test_a_file_name_with_special_characters_is_read(tmp_path):
    path = database(tmp_path / "a?b#c%20.db", "CREATE TABLE t (x)")
    with closing(sqlite.connect_read_only(path)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == []


def test_a_transaction_commits_or_rolls_back(tmp_path):
    with closing(sqlite.connect(tmp_path / "t.db")) as connection:
        with sqlite.transaction(connection):
            connection.execute("CREATE TABLE t (x)")
        with pytest.raises(ZeroDivisionError), sqlite.transaction(connection):  # noqa: PT012 - a block
            connection.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError
        assert not connection.in_transaction
        assert connection.execute("SELECT * FROM t").fetchall() == []


def test_a_transaction_that_sqlite_rolled_back_by_itself_is_not_committed(tmp_path):
    with closing(sqlite.connect(tmp_path / "t.db")) as connection:
        begun = sqlite.transaction(connection)
        begun.__enter__().execute("CREATE TABLE t (x)")
        connection.execute("ROLLBACK")
        with pytest.raises(WriteError, match="rolled the transaction back by itself"):
            begun.__exit__(None, None, None)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def errors(tmp_path, *statements, parameters=()) -> sqlite3.Error | OverflowError | UnicodeError:
    *before, last = statements
    with closing(sqlite3.connect(tmp_path / "errors.db", isolation_level=None)) as connection:
        for statement in before:
            connection.execute(statement)
        with pytest.raises((sqlite3.Error, OverflowError, UnicodeError)) as caught:
            connection.execute(last, parameters)
    return caught.value


@pytest.mark.parametrize(
    ("statements", "parameters", "fault"),
    [
        (["CREATE TABLE t (x NOT NULL)", "INSERT INTO t VALUES (NULL)"], (), Fault.REFUSED),
        (["CREATE TABLE t (x PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)"], (), Fault.REFUSED),
        (["CREATE TABLE t (x CHECK (x > 0))", "INSERT INTO t VALUES (0)"], (), Fault.REFUSED),
        (["CREATE TABLE t (x INTEGER PRIMARY KEY)", "INSERT INTO t VALUES ('a')"], (), Fault.REFUSED),
        (["SELECT ?"], (object(),), Fault.REFUSED),
        (["SELECT ?"], (2**63,), Fault.REFUSED),
        (["SELECT ?"], ("\ud800",), Fault.REFUSED),
        (["SELECT ?"], (), Fault.REFUSED),
        (["SELECT * FROM nowhere"], (), Fault.FATAL),
        (["SELEC 1"], (), Fault.FATAL),
    ],
)
def test_an_error_of_a_statement_is_classified(tmp_path, statements, parameters, fault):
    assert sqlite.classify(errors(tmp_path, *statements, parameters=parameters)) is fault


def test_a_lock_passes(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with (
            closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
            pytest.raises(sqlite3.Error) as caught,
        ):
            other.execute("BEGIN IMMEDIATE")
    assert sqlite.classify(caught.value) is Fault.TRANSIENT
    assert sqlite.classify_commit(caught.value) is Fault.TRANSIENT
    assert "is locked by another process; database is locked; wait for it" in str(sqlite.explained(caught.value, path))


def coded(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("message")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_FSYNC", "SQLITE_CORRUPT"])
def test_only_at_commit_is_a_disk_error_in_doubt(name):
    assert sqlite.classify(coded(name)) is Fault.FATAL
    assert sqlite.classify_commit(coded(name)) is Fault.DOUBTFUL


def test_errors_that_are_not_the_drivers_are_never_in_doubt():
    assert sqlite.classify_commit(WriteError("x")) is Fault.FATAL
    assert sqlite.classify(RuntimeError()) is Fault.FATAL


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("SQLITE_BUSY", WriteError, "is locked by another process"),
        ("SQLITE_FULL", WriteError, "the disk of database .* is full; .* MB free in"),
        ("SQLITE_READONLY_DBMOVED", TargetError, "cannot be written"),
        ("SQLITE_NOTADB", TargetError, "is not a sound SQLite database"),
        ("SQLITE_CORRUPT_VTAB", TargetError, "is not a sound SQLite database"),
        ("SQLITE_CANTOPEN", TargetError, "cannot be opened"),
        ("SQLITE_IOERR_WRITE", WriteError, "failed; message"),
        ("SQLITE_ERROR", WriteError, "refused a statement; message"),
        ("", WriteError, "refused a statement; message"),
    ],
)
def test_an_error_is_explained_in_one_line(tmp_path, name, kind, says):
    found = sqlite.explained(coded(name), tmp_path / "t.db")
    assert isinstance(found, kind)
    with pytest.raises(BatchwrightError, match=says):
        raise found
    assert "\n" not in str(found)


def test_identifiers_are_quoted():
    assert sqlite.quoted('a"b') == '"a""b"'


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_refused(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    path.chmod(0o400)
    with pytest.raises(TargetError, match="cannot be written"):
        sqlite.connect(path)


def test_a_device_is_refused_and_never_touched():
    with pytest.raises(TargetError, match="is not a regular file"):
        sqlite.connect(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_an_empty_file_that_was_there_before_is_not_removed_by_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "t.db"
    path.touch()
    monkeypatch.setattr(sqlite, "_make_durable", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("no")))
    with pytest.raises(BatchwrightError):
        sqlite.connect(path)
    assert path.exists()


def test_a_second_connection_does_not_take_the_locks_of_the_first_away(tmp_path):
    path = tmp_path / "t.db"
    with closing(sqlite.connect(path)) as first:
        first.execute("CREATE TABLE t (n)")
        with closing(sqlite.connect(path)):
            # Another process that believed itself alone would put the log into the file and delete it when it ends.
            look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM t').fetchall()"
            subprocess.run([sys.executable, "-c", look, str(path)], check=True)
            assert (tmp_path / "t.db-wal").exists()

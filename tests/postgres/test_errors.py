"""What the server's errors mean, told by real ones."""

from contextlib import closing

import psycopg
import pytest

from batchwright.databases import postgres
from batchwright.databases.postgres_errors import classify, classify_commit, explained
from batchwright.model.errors import FencedError, TargetError, WriteError
from batchwright.model.guarantee import Fault

SETUP = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, name varchar(3) NOT NULL CHECK (name <> 'bad'),
                parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
INSERT INTO t VALUES (1, 'one', NULL);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TABLE watched (id int);
CREATE TRIGGER refuse BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def connection(fresh):
    fresh.connection.execute(SETUP)
    with closing(postgres.connect(postgres.database_of(fresh.url))) as connection:
        yield connection


@pytest.mark.parametrize(
    ("sql", "values", "fault"),
    [
        ("INSERT INTO t VALUES (1, 'two')", None, Fault.REFUSED),
        ("INSERT INTO t VALUES (2, 'bad')", None, Fault.REFUSED),
        ("INSERT INTO t VALUES (2, NULL)", None, Fault.REFUSED),
        ("INSERT INTO t VALUES (2, 'four')", None, Fault.REFUSED),
        ("INSERT INTO t VALUES (2, %s)", ["a\0"], Fault.REFUSED),
        ("INSERT INTO t VALUES (2, %s)", ["\ud800"], Fault.REFUSED),
        ("INSERT INTO t VALUES (2, %s)", [object()], Fault.REFUSED),
        ("INSERT INTO t VALUES (2, %s)", ["two", "three"], Fault.REFUSED),
        ("INSERT INTO t VALUES (2, %(name)s)", {}, Fault.REFUSED),
        ("INSERT INTO t VALUES (%s, 'two')", [10**12], Fault.REFUSED),
        ("INSERT INTO t VALUES (%s, 'two')", [True], Fault.REFUSED),
        ("INSERT INTO watched VALUES (1)", None, Fault.REFUSED),
        ("INSERT INTO nowhere VALUES (1)", None, Fault.FATAL),
        ("INSRET", None, Fault.FATAL),
        ("SET LOCAL transaction_read_only = on; INSERT INTO t VALUES (2, 'two')", None, Fault.FATAL),
        ("SELECT pg_terminate_backend(pg_backend_pid())", None, Fault.TRANSIENT),
    ],
)
def test_an_error_of_a_statement(connection, sql, values, fault):
    postgres.begin(connection)
    with pytest.raises(Exception) as raised:
        connection.execute(sql, values)
    assert classify(raised.value) is fault
    postgres.roll_back(connection)


@pytest.mark.parametrize(
    ("before", "fault"),
    [
        ("INSERT INTO t VALUES (2, 'two', 99)", Fault.REFUSED),
        ("SET LOCAL idle_in_transaction_session_timeout = '20ms'", Fault.DOUBTFUL),
    ],
)
def test_an_error_of_a_commit(connection, fresh, before, fault):
    postgres.begin(connection)
    connection.execute(before)
    fresh.connection.execute("SELECT pg_sleep(0.2)")
    with pytest.raises(psycopg.Error) as raised:
        connection.execute("COMMIT")
    assert classify_commit(raised.value) is fault
    assert not postgres.usable(connection)


def test_a_serialisation_failure_at_commit_is_no_doubt(connection, fresh):
    with closing(postgres.connect(postgres.database_of(fresh.url))) as other:
        for one in (connection, other):
            one.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            one.execute("SELECT count(*) FROM t")
        other.execute("INSERT INTO t VALUES (2, 'two')")
        connection.execute("INSERT INTO t VALUES (3, 'thr')")
        other.execute("COMMIT")
        with pytest.raises(psycopg.Error) as raised:
            connection.execute("COMMIT")
    assert classify_commit(raised.value) is Fault.TRANSIENT


def test_a_lost_connection_passes_before_the_commit_and_is_a_doubt_at_it():
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    assert (classify(lost), classify_commit(lost)) == (Fault.TRANSIENT, Fault.DOUBTFUL)
    assert classify_commit(psycopg.errors.StatementCompletionUnknown()) is Fault.DOUBTFUL


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (psycopg.errors.DeadlockDetected(), Fault.TRANSIENT),
        (psycopg.errors.DiskFull(), Fault.FATAL),
        (psycopg.errors.TransactionIntegrityConstraintViolation(), Fault.FATAL),
        (FencedError("moved"), Fault.FATAL),
        (ValueError(), Fault.FATAL),
        (OverflowError(), Fault.REFUSED),
    ],
)
def test_an_error_by_its_code(error, fault):
    assert classify(error) is fault


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (psycopg.errors.DiskFull("no space"), WriteError, "the disk of db is full; no space; free"),
        (psycopg.errors.ReadOnlySqlTransaction("ro"), TargetError, "db cannot be written; ro; if it is a standby"),
        (psycopg.errors.InsufficientPrivilege("denied"), TargetError, "a privilege is missing; denied; let its owner"),
        (psycopg.errors.QueryCanceled("slow"), WriteError, "statement_timeout"),
        (psycopg.errors.LockNotAvailable("held"), WriteError, "a lock is held"),
        (psycopg.errors.UndefinedTable("gone"), TargetError, "refused a statement; gone"),
        (psycopg.errors.AdminShutdown("bye"), WriteError, "the connection to db was lost; bye"),
        (psycopg.OperationalError("pass=pw1"), WriteError, r"db cannot be reached; pass=\*\*\*"),
        (psycopg.errors.InternalError_("odd"), WriteError, "db refused a statement; odd"),
    ],
)
def test_an_error_in_our_words(error, kind, says):
    with pytest.raises(kind, match=says):
        raise explained(error, "db", ("pw1",))

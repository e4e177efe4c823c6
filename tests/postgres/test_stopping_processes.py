"""Runs on PostgreSQL, target and ledger, that are asked to stop in the middle of what takes long.

The figures of how long a stop takes are printed: `pytest tests/postgres/test_stopping_processes.py -s`.
"""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from tests.crash.commands import SECONDS
from tests.crash.held import GATE, Held, report
from tests.postgres.server import Fresh

pytestmark = pytest.mark.crash

JOBS = (
    GATE
    + """
from batchwright.readers import query
from batchwright.writers import execute, insert

TARGET = os.environ["TARGET"]
FOR_MINUTES = "SELECT 1 AS i FROM pg_sleep(120)"
ADD = "UPDATE balance SET total = total + %(i)s"

def fast() -> Job:
    return Job("fast", Step("s", read=range(50_000_000), process=process, write=insert(TARGET, "t")))

def slow() -> Job:
    return Job("slow", Step("s", read=range(1_000), process=process_slowly, write=insert(TARGET, "t")))

def reading() -> Job:
    first = Step("first", read=numbers, write=lambda chunk: None)
    return Job("reading", first, Step("s", read=query(TARGET, FOR_MINUTES, key="i"), write=insert(TARGET, "t")))

def writing() -> Job:
    sql = f"INSERT INTO t SELECT i + %(i)s FROM ({FOR_MINUTES}) AS q"
    return Job("writing", Step("s", read=lambda: ({"i": n} for n in numbers()), write=execute(TARGET, sql)))

def locked() -> Job:
    return Job("locked", Step("s", read=numbers_then_lock, process=lambda n: {"i": n}, write=execute(TARGET, ADD)))
"""
)

CODES = {"SIGTERM": 143, "SIGINT SIGINT": 130, "batchwright stop": 5}

Start = Callable[..., Held]


@pytest.fixture
def start(fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("TARGET", fresh.url)
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", fresh.url)
    fresh.connection.execute("CREATE TABLE t (i integer); CREATE TABLE balance (total integer)")
    fresh.connection.execute("INSERT INTO balance VALUES (0)")
    started: list[Held] = []

    def begin(job: str, *options: str) -> Held:
        started.append(Held(tmp_path, JOBS, job, *options))
        return started[-1]

    yield begin
    for held in started:
        held.close()


def other(fresh: Fresh) -> psycopg.Connection:
    """Somebody else, with a transaction of his own."""
    return psycopg.connect(fresh.url_of("postgres", search_path=fresh.name).partition("?")[0])


def lock(fresh: Fresh, held: Held, sql: str) -> psycopg.Connection:
    connection = other(fresh)
    connection.execute(sql)
    return connection


def waits_for_a_lock(fresh: Fresh, held: Held) -> None:
    """Until the server says so."""
    deadline = monotonic() + SECONDS
    while not fresh.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        assert monotonic() < deadline
        held.lasts(0.05)


def ask(held: Held, how: str) -> float:
    """How long it takes to end."""
    began = monotonic()
    if how == "batchwright stop":
        assert held.call("stop", "1", "--wait").returncode == 0
    else:
        for name in how.split():
            held.process.send_signal(signal.Signals[name])
            held.hears()
    held.process.wait(SECONDS)
    return monotonic() - began


def stopped(held: Held, how: str) -> None:
    """It says so, and so does its ledger."""
    assert held.process.returncode == CODES[how], held.said()
    assert "Traceback" not in held.said()
    assert held.told()["status"] == "STOPPED"


@pytest.mark.parametrize("how", CODES)
@pytest.mark.parametrize("job", ["fast", "slow", "reading"])
def test_a_run_stops_soon(job: str, how: str, start: Start):
    held = start(job)
    held.wait_for_it()
    seconds = ask(held, how)
    report(f"PostgreSQL, {how}, {job}", seconds)
    stopped(held, how)
    assert seconds < 8


@pytest.mark.parametrize("how", CODES)
def test_a_wait_for_a_lock_of_somebody_else_ends_at_once_and_its_chunk_is_undone(how: str, start: Start, fresh: Fresh):
    held = start("locked")
    held.wait_for_it()
    somebody = lock(fresh, held, f"UPDATE {fresh.name}.balance SET total = total")
    (held.folder / "go").write_text("")
    waits_for_a_lock(fresh, held)
    seconds = ask(held, how)
    report(f"PostgreSQL, {how}, row locked by somebody else", seconds)
    stopped(held, how)
    assert seconds < 8, "lock_timeout would have ended it after ten"
    somebody.close()
    (checkpoint,) = fresh.rows(f"SELECT coalesce(max(ordinal), 0) FROM {fresh.records}.batchwright_checkpoints")
    assert fresh.rows("SELECT total FROM balance") == [(sum(range(checkpoint[0])),)]


@pytest.mark.parametrize(("how", "options"), [("SIGINT SIGINT", ()), ("SIGTERM", ("--grace", "1"))])
def test_a_statement_that_writes_ends_with_the_second_signal_or_the_time_of_grace(
    how: str, options: tuple[str, ...], start: Start, fresh: Fresh
):
    held = start("writing", *options)
    held.wait_for_it()
    seconds = ask(held, how)
    report(f"PostgreSQL, {how} {' '.join(options)}, a statement that writes", seconds)
    stopped(held, how)
    assert 0.9 * len(options) / 2 < seconds < 8
    assert fresh.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_locked_ledger_does_not_outlast_the_time_of_grace(start: Start, fresh: Fresh):
    held = start("slow", "--grace", "1")
    held.wait_for_it()
    somebody = lock(fresh, held, f"LOCK TABLE {fresh.records}.batchwright_step_executions")
    waits_for_a_lock(fresh, held)
    seconds = ask(held, "SIGTERM")
    somebody.close()
    report("PostgreSQL, SIGTERM --grace 1, ledger locked", seconds)
    assert held.process.returncode == 143, held.said()
    assert seconds < 8
    assert held.told()["status"] in ("LOST", "STOPPED", "FAILED")

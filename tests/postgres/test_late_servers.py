"""Runs that start while the server of their source, target or ledger is away: they wait for it, not for ever."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.crash.held import GATE, Held
from tests.postgres.server import Server, running_server

from batchwright import Job, JobFailedError, Retry, Status, Step, run
from batchwright.engine.stop import Stop
from batchwright.model.errors import LedgerError, ReadError, SourceError
from batchwright.readers import query
from batchwright.writers import insert, text_file

PATIENT = Retry(attempts=300, delay_seconds=0.1, max_delay_seconds=0.2)


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@contextmanager
def away(server: Server) -> Iterator[Callable[[], None]]:
    """While the context lasts, it is away, until it is told to come back."""
    server.stop()
    backs: list[threading.Timer] = []

    def comes_back() -> None:
        backs.append(threading.Timer(0.3, server.start))
        backs[0].start()

    try:
        yield comes_back
    finally:
        for back in backs:
            back.join()
        if not backs:
            server.start()


def job(server: Server, table: str, **options) -> Job:
    write = insert(server.url, table)
    step = Step("s", read=range(20), process=lambda n: {"n": n}, write=write, chunk_size=3, **options)
    return Job(table, step, parameters={"day": 1})


def rows(server: Server, table: str) -> list[tuple]:
    with psycopg.connect(server.url) as connection:
        return connection.execute(f"SELECT n FROM {table} ORDER BY n").fetchall()


EVERYTHING = [(number,) for number in range(20)]


def test_a_target_that_comes_late_is_waited_for(own_server, tmp_path):
    with away(own_server) as comes_back:
        comes_back()
        result = run(job(own_server, "late", write_retry=PATIENT), ledger=tmp_path / "ledger.db")
    assert result.status is Status.COMPLETED
    assert rows(own_server, "late") == EVERYTHING


def test_a_target_that_has_seen_the_work_is_waited_for_before_a_lap_is_opened(own_server, tmp_path):
    work = job(own_server, "seen", write_retry=PATIENT)
    run(work, ledger=tmp_path / "first.db", limit=10)
    with away(own_server) as comes_back:
        comes_back()
        result = run(work, ledger=tmp_path / "second.db")
    assert (result.status, result.read) == (Status.COMPLETED, 20)
    assert rows(own_server, "seen") == EVERYTHING


def test_a_complete_job_waits_for_the_target_that_has_to_show_it(own_server, tmp_path):
    work = job(own_server, "complete", write_retry=PATIENT)
    run(work, ledger=tmp_path / "ledger.db")
    with away(own_server) as comes_back:
        comes_back()
        assert run(work, ledger=tmp_path / "ledger.db").already_complete


def test_a_ledger_that_comes_late_is_waited_for(own_server, tmp_path, caplog):
    with away(own_server) as comes_back:
        comes_back()
        step = Step("s", read=range(20), write=len)
        result = run(Job("ledger", step, parameters={"day": 1}), ledger=own_server.url)
    assert result.status is Status.COMPLETED
    assert "cannot be reached; waiting for it" in caplog.text


def reading_job(server: Server, tmp_path: Path, process=lambda row: str(row["n"]), **options) -> Job:
    """A job that reads twenty numbers from the server into a file."""
    source = query(server.url, "SELECT n FROM generate_series(0, 19) AS n", key="n", page_rows=4)
    step = Step("s", read=source, process=process, write=text_file(tmp_path / "t.txt"), chunk_size=3, **options)
    return Job("reading", step, parameters={"day": 1})


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "t.txt").read_text().split()


def test_a_source_that_comes_late_is_waited_for(own_server, tmp_path, caplog):
    with away(own_server) as comes_back:
        comes_back()
        result = run(reading_job(own_server, tmp_path), ledger=tmp_path / "ledger.db")
    assert result.status is Status.COMPLETED
    assert lines(tmp_path) == [str(number) for number in range(20)]
    assert "cannot be reached" in caplog.text
    assert "waiting for it" in caplog.text


def test_a_source_that_is_lost_between_two_pages_is_waited_for_and_read_on(own_server, tmp_path):
    losses = [9]

    def losing(row: dict[str, int]) -> str:
        if row["n"] in losses:
            losses.remove(row["n"])
            own_server.kill_and_start()
        return str(row["n"])

    result = run(reading_job(own_server, tmp_path, losing), ledger=tmp_path / "ledger.db")
    assert (result.status, losses) == (Status.COMPLETED, [])
    assert lines(tmp_path) == [str(number) for number in range(20)]


def test_a_source_that_stays_away_fails_as_often_as_retry_says(own_server, tmp_path):
    few = Retry(on=ReadError, attempts=2, delay_seconds=0.01)
    with away(own_server), pytest.raises(JobFailedError, match="cannot be reached") as failed:
        run(reading_job(own_server, tmp_path, retry=few), ledger=tmp_path / "ledger.db")
    assert "\n" not in str(failed.value)


def test_a_source_that_turns_us_away_is_not_waited_for(own_server, tmp_path, caplog):
    source = query(own_server.url_of("postgres", "nowhere"), "SELECT 1 AS n", key="n")
    with pytest.raises(SourceError, match="there is no database"):
        run(Step("s", read=source, write=len), ledger=tmp_path / "ledger.db")
    assert "waiting" not in caplog.text


def test_a_stop_ends_the_wait_for_a_source(own_server, tmp_path):
    stop = Stop()
    timer = threading.Timer(0.3, stop.request, ["enough"])
    with away(own_server):
        timer.start()
        patient = reading_job(own_server, tmp_path, retry=PATIENT)
        result = run(patient, ledger=tmp_path / "ledger.db", stop=stop)
        timer.join()
    assert (result.status, result.error, result.read) == (Status.STOPPED, "enough", 0)
    assert run(reading_job(own_server, tmp_path), ledger=tmp_path / "ledger.db").read == 20


def test_a_target_that_stays_away_fails_in_one_line(own_server, tmp_path):
    few = Retry(attempts=3, delay_seconds=0.01)
    with away(own_server), pytest.raises(Exception, match="cannot be reached") as failed:
        run(job(own_server, "never", write_retry=few), ledger=tmp_path / "ledger.db")
    assert isinstance(failed.value, JobFailedError) or "\n" not in str(failed.value)


def test_a_ledger_that_turns_us_away_is_not_waited_for(own_server, caplog):
    with pytest.raises(LedgerError, match="there is no database"):
        run(Step("s", read=range(3), write=len), ledger=own_server.url_of("postgres", "nowhere"))
    assert "waiting" not in caplog.text


@pytest.mark.parametrize("what", ["target", "ledger"])
def test_a_stop_ends_the_wait_before_anything_is_recorded(own_server, tmp_path, what):
    stop = Stop()
    timer = threading.Timer(0.3, stop.request, ["enough"])
    ledger = own_server.url if what == "ledger" else tmp_path / "ledger.db"
    with away(own_server):
        timer.start()
        result = run(job(own_server, "stopped", write_retry=PATIENT), ledger=ledger, stop=stop)
        timer.join()
    assert (result.status, result.error, result.run, result.read) == (Status.STOPPED, "enough", 0, 0)


WAITING = (
    GATE
    + """
from batchwright.writers import insert

def late() -> Job:
    say_that_it_begins()
    return Job("late", Step("s", read=range(3), process=process, write=insert(os.environ["TARGET"], "t")))
"""
)


@pytest.mark.crash
def test_a_signal_ends_the_wait_and_the_command_says_how_to_go_on(own_server, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TARGET", own_server.url)
    with away(own_server):
        held = Held(tmp_path, WAITING, "late")
        held.wait_for_it()
        held.process.send_signal(signal.SIGTERM)
        assert held.seconds_to_the_end() < 5
    said = held.said()
    held.close()
    assert held.process.returncode == 143, said
    assert "late: stopped before it began" in said
    assert said.splitlines()[-1] == "next: batchwright run jobs.py:late"

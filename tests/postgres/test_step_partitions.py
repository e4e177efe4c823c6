"""Steps in partitions on PostgreSQL: several writers at once, leases, a frozen worker that commits nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.postgres.server import Fresh

from batchwright import Job, JobFailedError, Skip, Status, Step, run
from batchwright.readers import query
from batchwright.writers import insert, upsert

ROWS = 2_000
SECONDS = 60.0

FROZEN = """
import os, signal, time
from batchwright import Job, Step
from batchwright.writers import insert

def process(item):
    if os.environ["ROLE"] == "run" and item == 0:
        while not os.path.exists("frozen"):
            time.sleep(0.02)
    if os.environ["ROLE"] == "worker" and item == 75:
        open("frozen", "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"n": item}

def load(day: int) -> Job:
    url = os.environ["TARGET"]
    return Job("frozen", Step("load", read=list(range(100)), process=process, write=insert(url, "rows"),
                              chunk_size=10, partitions=2))
"""


def test_a_query_is_read_and_written_by_several_at_once(fresh: Fresh, tmp_path: Path):
    fresh.connection.execute("CREATE TABLE source (id bigint PRIMARY KEY, name text)")
    fresh.connection.execute(f"INSERT INTO source SELECT n, 'name ' || n FROM generate_series(1, {ROWS}) n")
    broken = {1_111}

    def process(row):
        if row["id"] in broken:
            raise RuntimeError("broken")
        if row["id"] % 100 == 7:
            raise ValueError("a seven")
        return row

    def step(partitions: int, workers: int):
        source = query(fresh.url, "SELECT * FROM source", key="id", page_rows=50)
        how = {"partitions": partitions, "workers": workers, "chunk_size": 30, "skip": Skip(on=ValueError, limit=50)}
        copy = Step("copy", read=source, process=process, write=insert(fresh.url, "target"), **how)
        return Job("copy", copy, parameters={"day": 1})

    with pytest.raises(JobFailedError):
        run(step(6, 3), ledger=fresh.url)
    broken.clear()
    result = run(step(9, 2), ledger=fresh.url)
    assert (result.read, result.written, result.failed) == (ROWS, ROWS - 20, 20)
    assert fresh.rows("SELECT count(*), count(DISTINCT id) FROM target") == [(ROWS - 20, ROWS - 20)]
    assert len({failure.place.detail for failure in result.failures}) == 20
    again = run(step(9, 2), ledger=fresh.url)
    assert again.already_complete
    assert again.status is Status.COMPLETED_WITH_FAILURES


def test_the_limit_of_failures_is_exact_for_several_writers(fresh: Fresh, tmp_path: Path):
    def bad(item):
        raise ValueError("all are bad")

    step = Step(
        "load",
        read=list(range(200)),
        process=bad,
        write=insert(fresh.url, "t"),
        chunk_size=1,
        partitions=8,
        workers=4,
        skip=Skip(on=ValueError, limit=10),
    )
    result = run(step, ledger=tmp_path / "ledger.db", check=False)
    assert result.failed == 10
    assert "11" in result.error


def test_of_equal_keys_the_newest_stays_whoever_writes_it_last(fresh: Fresh, tmp_path: Path):
    items = [{"id": n % 50, "version": (n * 37) % 1_009, "n": n} for n in range(1_000)]
    write = upsert(fresh.url, "t", key="id", version="version")
    run(Step("load", read=items, write=write, partitions=8, workers=4, chunk_size=100), ledger=tmp_path / "ledger.db")
    newest = {item["id"]: item["n"] for item in sorted(items, key=lambda item: item["version"])}
    assert dict(fresh.rows("SELECT id, n FROM t")) == newest


@pytest.mark.crash
def test_a_worker_frozen_past_its_lease_commits_nothing_any_more(fresh: Fresh, tmp_path: Path):
    (tmp_path / "job.py").write_text(FROZEN)
    ledger = fresh.url_of("postgres", idle_in_transaction_session_timeout="1000") + "&lease_seconds=2"

    def start(role: str, *arguments: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "ROLE": role, "TARGET": fresh.url, "BATCHWRIGHT_LEDGER": ledger}
        command = [sys.executable, "-m", "batchwright", role, *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    coordinator = start("run", "job.py:load", "--day", "1")
    until = time.monotonic() + SECONDS
    while not _is_running(fresh):
        assert time.monotonic() < until, coordinator.communicate()
    worker = start("worker", "1", "--index", "1", "--of", "2")
    try:
        said, _ = coordinator.communicate(timeout=SECONDS)
        assert coordinator.returncode == 0, said
        assert (tmp_path / "frozen").exists()
        before = fresh.rows("SELECT n FROM rows ORDER BY n")
        worker.send_signal(signal.SIGCONT)
        worker.communicate(timeout=SECONDS)
        assert before == fresh.rows("SELECT n FROM rows ORDER BY n") == [(n,) for n in range(100)]
    finally:
        worker.kill()
        worker.communicate()


def _is_running(fresh: Fresh) -> bool:
    steps = f"{fresh.records}.batchwright_step_executions"
    if fresh.rows(f"SELECT to_regclass('{steps}')") == [(None,)]:
        return False
    return fresh.rows(f"SELECT count(*) > 0 FROM {steps} WHERE partition > 0") == [(True,)]

"""Partitions in processes: rows, counts, failures and restart are those of threads, whatever the processes die of."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.crash.families import children_of, is_alive
from tests.crash.fork_client import ROOT
from tests.unit.engine import apart_jobs
from tests.unit.engine.apart_jobs import ITEMS, SevenError

from batchwright import Job, JobFailedError, Step, run
from batchwright.engine.stop import Stop
from batchwright.joining import join
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError, WorkerDiedError
from batchwright.model.events import ChunkCommitted, ItemFailed
from batchwright.model.status import Status
from batchwright.runners import Processes, Threads
from batchwright.writers import insert

SECONDS = 60.0

SEVENS = {n for n in range(ITEMS) if n % 10 == 7}


def rows(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "t.db")) as target:
        return [n for (n,) in target.execute("SELECT id FROM t ORDER BY id")]


def good(*dead: int) -> list[int]:
    return [n for n in range(ITEMS) if n not in SEVENS and n not in dead]


def load(folder: Path, **parameters: Any) -> Job:
    return Job.of(apart_jobs.load, folder=str(folder), **parameters)


def test_processes_give_what_threads_give_and_work_elsewhere(tmp_path: Path):
    result = run(load(tmp_path), ledger=tmp_path / "ledger.db")
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert (result.read, result.written, result.failed) == (ITEMS, ITEMS - 12, 12)
    assert rows(tmp_path) == good()
    failures = list(result.failures)
    assert {failure.place.detail for failure in failures} == {f"item {n + 1}" for n in SEVENS}
    assert {failure.partition for failure in failures} == {1, 2, 3, 4}
    worked = {int(path.name.partition("-")[2]) for path in tmp_path.glob("pid-*")}
    assert worked
    assert os.getpid() not in worked
    again = run(load(tmp_path), ledger=tmp_path / "ledger.db")
    assert again.already_complete


def test_what_a_process_commits_is_heard_here(tmp_path: Path):
    events: list[Any] = []
    run(load(tmp_path), ledger=tmp_path / "ledger.db", observers=[events.append])
    chunks = [event for event in events if isinstance(event, ChunkCommitted)]
    assert len(chunks) >= ITEMS // 7
    assert chunks[-1].counts.read == ITEMS
    assert [chunk.counts.read for chunk in chunks] == sorted(chunk.counts.read for chunk in chunks)
    assert chunks[-1].fraction == 1.0
    failed = [event.failure for event in events if isinstance(event, ItemFailed)]
    assert len(failed) == 12
    assert {failure.partition for failure in failed} == {1, 2, 3, 4}


def test_items_that_kill_their_process_are_set_aside_and_their_neighbours_written_once(tmp_path: Path):
    killers = {3: "killed", 4: "exit", 64: "segfault", 119: "killed"}
    text = " ".join(f"{number}:{kind}" for number, kind in killers.items())
    result = run(load(tmp_path, killers=text), ledger=tmp_path / "ledger.db")
    assert rows(tmp_path) == good(*killers)
    died = {failure.place.detail for failure in result.failures if failure.error_type == "WorkerDiedError"}
    assert died == {f"item {n + 1}" for n in killers}
    assert (result.read, result.failed) == (ITEMS, 12 + 4)


def test_an_item_past_its_time_and_one_that_eats_memory_are_set_aside(tmp_path: Path):
    job = load(tmp_path, killers="20:hang 90:memory", seconds=1, memory=1_500_000_000)
    result = run(job, ledger=tmp_path / "ledger.db")
    assert rows(tmp_path) == good(20, 90)
    kinds = {
        failure.place.detail: failure.error_type for failure in result.failures if "Seven" not in failure.error_type
    }
    assert kinds == {"item 21": "TimeoutError", "item 91": "MemoryError"}


def test_the_limit_of_failures_is_exact_over_all_processes(tmp_path: Path):
    with pytest.raises(JobFailedError) as caught:
        run(load(tmp_path, limit=5), ledger=tmp_path / "ledger.db")
    assert caught.value.result.failed <= 5
    assert "the limit is 5" in str(caught.value)
    result = run(load(tmp_path, limit=5), ledger=tmp_path / "ledger.db", max_failures=12)
    assert (result.read, result.failed) == (ITEMS, 12)
    assert rows(tmp_path) == good()


def test_an_error_of_a_partition_arrives_as_itself_and_stops_the_others(tmp_path: Path):
    job = Job.of(apart_jobs.load, folder=str(tmp_path), limit=0)
    with pytest.raises(JobFailedError) as caught:
        run(job, ledger=tmp_path / "ledger.db")
    assert "in partition " in str(caught.value)
    assert SevenError.__qualname__ in str(caught.value) or "the limit is 0" in str(caught.value)


def test_processes_that_die_of_reading_end_the_step_which_says_where(tmp_path: Path):
    with pytest.raises(JobFailedError) as caught:
        run(Job.of(apart_jobs.reading, folder=str(tmp_path)), ledger=tmp_path / "ledger.db")
    assert isinstance(caught.value.__cause__, WorkerDiedError)
    said = str(caught.value)
    assert "3 processes have died over partition 3 of 5" in said
    assert "its items 11 to 15 (deadly line 51)" in said
    assert "SIGKILL" in said
    assert set(range(40, 50)) <= set(rows(tmp_path))


def test_a_limited_run_stops_and_the_next_goes_on_with_other_workers(tmp_path: Path):
    first = run(load(tmp_path), ledger=tmp_path / "ledger.db", limit=20)
    assert (first.status, first.read) == (Status.STOPPED, 20)
    result = run(load(tmp_path, workers=3), ledger=tmp_path / "ledger.db")
    assert result.read == ITEMS
    assert rows(tmp_path) == good()


def test_a_stop_is_obeyed_at_the_end_of_the_chunks(tmp_path: Path):
    stop, job, ledger = Stop(), Job.of(apart_jobs.long, folder=str(tmp_path)), tmp_path / "ledger.db"
    result = run(job, ledger=ledger, stop=stop, observers=[_stopping(stop)])
    assert result.status is Status.STOPPED
    assert "enough" in result.error
    assert 0 < result.read < apart_jobs.LONG
    assert len(rows(tmp_path)) == result.read


def _stopping(stop: Stop) -> Any:
    return lambda event: stop.request("enough") if isinstance(event, ChunkCommitted) else None


def test_what_cannot_be_shared_is_refused_before_anything_is_recorded(tmp_path: Path):
    how: Any = {"read": [1], "write": insert(f"sqlite:///{tmp_path}/t.db", "t"), "partitions": 2}
    step = Step("load", runner=Processes(2), **how)
    ledger = tmp_path / "ledger.db"
    with pytest.raises(DeclarationError, match=r"built by hand; build it with Job\.of"):
        run(step, ledger=ledger)

    def local() -> Job:
        return Job("load", step)

    with pytest.raises(DeclarationError, match=r"its function is .*<locals>"):
        run(Job.of(local), ledger=ledger)
    memory = MemoryLedger()
    with pytest.raises(DeclarationError, match="ledger is in memory"):
        run(load(tmp_path), ledger=memory)
    assert memory.runs() == []
    with pytest.raises(DeclarationError, match=r"write workers=, or runner=Processes"):
        Step("load", runner=Threads(2), process=str, **how)
    with pytest.raises(DeclarationError, match="write workers=2"):
        Step("load", runner=Processes(2), process=_later, **how)


async def _later(item: Any) -> Any:
    return item


def test_a_joined_worker_survives_an_item_that_kills(tmp_path: Path):
    ledger, joined = tmp_path / "ledger.db", []
    job = load(tmp_path, killers="100:killed", workers=1)

    def join_once(event: Any) -> None:
        if isinstance(event, ChunkCommitted) and not joined:
            joined.append(None)
            joined.append(join(event.run, ledger=ledger, job=job))

    result = run(job, ledger=ledger, observers=[join_once])
    assert rows(tmp_path) == good(100)
    assert result.failed == 13


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "batchwright", *arguments, "--ledger", str(folder / "ledger.db")]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )


LONG = ("run", f"{Path(apart_jobs.__file__)}:long")


def wait_for_rows(folder: Path) -> None:
    until = time.monotonic() + SECONDS
    while not (folder / "t.db").exists() or not _some(folder):
        assert time.monotonic() < until
        threading.Event().wait(0.02)


def _some(folder: Path) -> bool:
    try:
        return len(rows(folder)) >= 10
    except sqlite3.OperationalError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_a_run_that_is_killed_and_the_next_one_goes_on(tmp_path: Path):
    started = start(tmp_path, *LONG, "--folder", str(tmp_path))
    wait_for_rows(tmp_path)
    family = children_of(started.pid)
    assert len(family) >= 3
    started.kill()
    started.communicate()
    until = time.monotonic() + SECONDS
    while any(map(is_alive, family)):
        assert time.monotonic() < until
        threading.Event().wait(0.02)
    done = len(rows(tmp_path))
    again = start(tmp_path, *LONG, "--folder", str(tmp_path))
    said = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, said
    assert rows(tmp_path) == list(range(apart_jobs.LONG))
    assert done < apart_jobs.LONG


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGTERM]])
def test_signals_stop_the_run_and_all_its_processes(tmp_path: Path, signals: list[signal.Signals]):
    at_once = len(signals) > 1
    started = start(tmp_path, *LONG, "--folder", str(tmp_path), "--seconds", "1" if at_once else "0.01")
    wait_for_rows(tmp_path)
    family = children_of(started.pid)
    for number in signals:
        os.killpg(started.pid, number)
    _, said = started.communicate(timeout=SECONDS)
    assert started.returncode in (130, 143), said
    assert "stopping at the end of this chunk" in said
    assert ("stopped at once" in said) is at_once
    assert "Traceback" not in said
    assert not any(map(is_alive, family))
    again = start(tmp_path, *LONG, "--folder", str(tmp_path), "--seconds", "0")
    told = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, told
    assert rows(tmp_path) == list(range(apart_jobs.LONG))

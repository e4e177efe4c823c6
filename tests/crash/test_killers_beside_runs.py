"""An item that kills its process, in a dry run and in a replay: the command goes on, and says so."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.crash.killers import calls, deadly, deadly_at_first

from batchwright import Job, Retry, Skip, Step, dry_run, replay, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import WorkerDiedError
from batchwright.runners import Processes
from batchwright.writers import insert

KILLERS = {3: "exit", 7: "segfault"}


def a_row(folder: Path, item: int) -> dict[str, int]:
    return {"n": deadly(folder, KILLERS, item)}


def a_row_at_last(folder: Path, item: int) -> dict[str, int]:
    """Item 3 still kills; item 7 does no more; item 5, which has not failed, would fail now."""
    if item == 7:
        deadly_at_first(folder, {7: 0}, 7)
    return {"n": deadly(folder, {3: "exit", 5: "exit"}, item)}


def a_job(folder: Path, function=a_row, **options) -> Job:
    target = insert(f"sqlite:///{folder}/rows.db", "rows")
    options = {"skip": Skip(on=WorkerDiedError), "runner": Processes(2), "chunk_size": 4, **options}
    return Job("killers", Step("s", read=range(10), process=partial(function, folder), write=target, **options))


def written(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "rows.db")) as database:
        return [number for (number,) in database.execute("SELECT n FROM rows ORDER BY n")]


def test_a_dry_run_goes_through_the_processes_and_counts_who_dies(tmp_path: Path):
    (trial,) = dry_run(a_job(tmp_path)).steps
    assert (trial.counts.read, trial.counts.written, trial.counts.failed) == (10, 8, 2)
    assert [failure.ordinal for failure in trial.failures] == [3, 7]
    assert trial.error == ""
    (trial,) = dry_run(a_job(tmp_path, skip=None)).steps
    assert "a worker process died" in trial.error
    assert trial.counts.read == 3


def test_a_replay_goes_through_the_processes_and_leaves_open_who_dies_again(tmp_path: Path):
    ledger = MemoryLedger()
    assert run(a_job(tmp_path), ledger=ledger).failed == 2
    mended = a_job(tmp_path, a_row_at_last, skip=Skip(on=ValueError), retry=Retry(on=WorkerDiedError, delay_seconds=0))
    before = calls(tmp_path, 3)
    result = replay(1, ledger=ledger, job=mended)
    assert (result.replayed, result.still_open) == (1, 1)
    assert [(failure.ordinal, failure.state) for failure in ledger.failures(1)] == [(3, "open"), (7, "replayed")]
    assert written(tmp_path) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert calls(tmp_path, 3) - before <= 5

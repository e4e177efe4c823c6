"""Joining a run from another process: what is refused, and where in the plan a worker begins to look."""

import threading
from pathlib import Path
from typing import Any

import pytest

from batchwright import Job, Step, run
from batchwright.joining import JoinOptions, JoinResult, index_hint, join
from batchwright.model.errors import JobFailedError, LedgerError, NotResumableError
from batchwright.model.status import Status
from batchwright.writers import insert


def job(folder: Path, process: Any = None) -> Job:
    how: dict[str, Any] = {"write": insert(f"sqlite:///{folder}/t.db", "t"), "partitions": 6, "chunk_size": 5}
    return Job("load", Step("load", read=[{"n": n} for n in range(60)], process=process, **how), parameters={"day": 1})


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({}, (0, 0)),
        ({"JOB_COMPLETION_INDEX": "3"}, (3, 0)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "8"}, (2, 8)),
        ({"CLOUD_RUN_TASK_INDEX": "1", "CLOUD_RUN_TASK_COUNT": "4"}, (1, 4)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "10"}, (7, 10)),
        ({"SLURM_ARRAY_TASK_ID": "x"}, (0, 0)),
    ],
)
def test_schedulers_of_arrays_say_which_worker_this_is(environment: dict[str, str], hint: tuple[int, int]):
    assert index_hint(environment) == hint


def test_only_a_run_that_is_going_on_is_joined(tmp_path: Path):
    ledger = tmp_path / "ledger.db"
    done = run(job(tmp_path), ledger=ledger)
    with pytest.raises(NotResumableError, match="only a run that is going on"):
        join(done.run, ledger=ledger, job=job(tmp_path))
    with pytest.raises(LedgerError, match="no run 99"):
        join(99, ledger=ledger, job=job(tmp_path))


def test_a_worker_that_joins_takes_partitions_and_the_run_finishes_with_them(tmp_path: Path):
    ledger, joined = tmp_path / "ledger.db", []

    def process(item: Any) -> Any:
        if item["n"] == 0 and not joined:
            # The run itself joins: its own worker is busy with this item until the joined one has done all the others.
            joined.append(None)
            joined.append(join_until_last(ledger, tmp_path))
        return item

    result = run(job(tmp_path, process), ledger=ledger)
    assert result.status is Status.COMPLETED
    assert (result.read, result.written) == (60, 60)


def join_until_last(ledger: Path, folder: Path) -> Status:
    from batchwright.engine.stop import Stop

    stop, seen = Stop(), set[int]()

    def noting(item: Any) -> Any:
        seen.add(item["n"])
        if len(seen) == 50:
            stop.request("all the others are done")
        return item

    return join(
        1, ledger=ledger, job=job(folder, noting), options=JoinOptions(workers=2, index=1, of=6), stop=stop
    ).status


def test_a_worker_whose_step_ends_elsewhere_says_what_is_not_finished(tmp_path: Path):
    ledger, joined = tmp_path / "ledger.db", []
    ended = threading.Event()

    def process(item: Any) -> Any:
        if item["n"] == 0 and not joined:
            thread = threading.Thread(target=lambda: joined.append(join_until(ended, ledger, tmp_path)))
            joined.append(thread)
            thread.start()
            assert working.wait(60)
            raise ValueError("no zero")
        return item

    working = threading.Event()

    def join_until(ended: threading.Event, ledger: Path, folder: Path) -> JoinResult:
        def waiting(item: Any) -> Any:
            working.set()
            ended.wait(60)
            return item

        return join(1, ledger=ledger, job=job(folder, waiting), options=JoinOptions(index=1, of=6))

    with pytest.raises(JobFailedError):
        run(job(tmp_path, process), ledger=ledger)
    ended.set()
    joined[0].join(60)
    result = joined[1]
    assert result.status is Status.STOPPED
    assert result.unfinished["load"] >= 1
    assert "ended elsewhere" in result.reason

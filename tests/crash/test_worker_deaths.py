"""Worker processes that die of items: those are reported, all others are written once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from tests.crash import killers
from tests.crash.fork_client import ROOT

from batchwright import Job, JobFailedError, Retry, Skip, Status, Step, run
from batchwright.engine.process_portion import PortionTask
from batchwright.engine.tell_time import SystemClock
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import WorkerDiedError
from batchwright.model.result import JobResult
from batchwright.model.work import Death, Outcome, Work
from batchwright.runners import Processes
from batchwright.runners.process_nursery import Nursery
from batchwright.runners.processes import ProcessWorkers

ITEMS = 10_000

EXPECTED = {
    "exit": ("WorkerDiedError", "ended itself with exit code 3"),
    "segfault": ("WorkerDiedError", "was ended by SIGSEGV"),
    "killed": ("WorkerDiedError", "was ended by SIGKILL"),
    "hang": ("TimeoutError", "longer than item_timeout_seconds=1"),
    "memory": ("MemoryError", ""),
}


def ran(
    function: Callable[[Any], Any], items: Any, runner: Processes | None = None, **options: Any
) -> tuple[list[Any], JobResult]:
    written: list[Any] = []
    step = Step("s", read=items, process=function, write=written.extend, runner=runner or Processes(2), **options)
    return written, run(step, ledger=MemoryLedger(), check=False)


def test_twenty_killers_of_five_kinds_among_ten_thousand_items_are_found(tmp_path: Path):
    places = [17, 18, 600, *range(1_000, ITEMS, 550)][:20]
    kinds = ["exit", "segfault", "killed", "memory"] * 4 + ["hang", "exit", "segfault", "hang"]
    deadly = dict(zip(places, kinds, strict=True))
    written, result = ran(
        partial(killers.deadly, tmp_path, deadly),
        range(ITEMS),
        Processes(2, memory_limit="2 GB"),
        skip=Skip(limit=20),
        item_timeout_seconds=1.0,
    )
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert written == [item for item in range(ITEMS) if item not in deadly]
    assert (result.read, result.written, result.failed) == (ITEMS, ITEMS - 20, 20)
    failures = {failure.ordinal: failure for failure in result.failures}
    assert sorted(failures) == places
    for place, kind in deadly.items():
        name, words = EXPECTED[kind]
        assert failures[place].error_type == name
        assert words in failures[place].error
        assert failures[place].attempts == 1
        assert killers.calls(tmp_path, place) <= 4


def test_a_killer_is_tried_again_as_often_as_retry_says(tmp_path: Path):
    deaths = {5: 3, 60: 50}
    written, result = ran(
        partial(killers.deadly_at_first, tmp_path, deaths),
        range(100),
        skip=Skip(on=WorkerDiedError),
        retry=Retry(on=WorkerDiedError, attempts=4, delay_seconds=0.01),
    )
    assert written == [item for item in range(100) if item != 60]
    assert [(failure.ordinal, failure.attempts) for failure in result.failures] == [(60, 4)]
    assert killers.calls(tmp_path, 60) <= 4 + 4
    assert result.counts.retried >= 3


def test_an_innocent_item_whose_process_is_killed_by_something_else_is_written(tmp_path: Path):
    written, result = ran(partial(killers.deadly_at_first, tmp_path, {0: 1, 50: 1, 99: 1}), range(100))
    assert written == list(range(100))
    assert result.status is Status.COMPLETED


def test_without_skip_the_step_ends_before_the_killer_and_goes_on_there(tmp_path: Path):
    written: list[int] = []
    ledger = MemoryLedger()

    def step(function: Callable[[int], int]) -> Step[int, int]:
        return Step("s", read=range(300), process=function, write=written.extend, runner=Processes(2), chunk_size=40)

    with pytest.raises(JobFailedError, match="a worker process died; it ended itself with exit code 3"):
        run(step(partial(killers.deadly, tmp_path, {150: "exit"})), ledger=ledger)
    assert written == list(range(150))
    assert run(step(killers.prints), ledger=ledger).status is Status.COMPLETED
    assert written == list(range(300))


def test_errors_that_cannot_be_sent_keep_their_class_and_text():
    written, result = ran(killers.hard, range(20), skip=Skip())
    assert written == [item for item in range(4, 20) if item != 7]
    found = [(failure.ordinal, failure.error_type, failure.error[:60]) for failure in result.failures]
    assert found[:4] == [
        (0, "HardError", "one and two"),
        (1, "LyingError", "a lie"),
        (2, "MuteError", "(its message cannot be shown)"),
        (3, "ValueError", "y" * 60),
    ]
    assert found[4:] == [(7, "NotSendableError", "the result of type function cannot go to another process; Ca"[:60])]


def test_an_item_that_cannot_be_sent_is_a_failure():
    items = [1, 2, lambda: None, 4]
    written, result = ran(killers.prints, items, skip=Skip(on=TypeError))
    assert written == [1, 2, 4]
    assert [(failure.ordinal, failure.error_type) for failure in result.failures] == [(2, "NotSendableError")]


def test_a_large_item_and_its_large_result_go_through():
    items = [bytes(3_000_000), b"small", bytes(5_000_000), *[bytes(400_000)] * 20]
    written, _ = ran(killers.same, items)
    assert written == items


def test_processes_are_replaced_after_so_many_items():
    written, _ = ran(killers.process_of, range(600), Processes(2, recycle_after=100), max_in_flight=200)
    assert [item for item, _ in written] == list(range(600))
    assert len({process for _, process in written}) >= 4


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_a_run_ends_whose_workers_can_not_be_replaced_any_more_though_all_that_was_given_is_done(
    tmp_path: Path, chunks: int
):
    written: list[int] = []

    def write(outputs: list[tuple[int, int]]) -> None:
        if len(written) == 5 * chunks:
            done = -1
            while done != (done := killers.calls(tmp_path, 0)):
                time.sleep(0.5)
            nursery = psutil.Process(outputs[0][1])
            nursery.kill()
            assert _until(lambda: _gone([nursery.pid]))
        written.extend(item for item, _ in outputs)

    function = partial(killers.parent_of, tmp_path)
    step = Step("s", read=range(100), process=function, write=write, chunk_size=5, runner=Processes(1))
    ended: list[JobResult] = []
    thread = Thread(target=lambda: ended.append(run(step, ledger=MemoryLedger(), check=False)), daemon=True)
    thread.start()
    thread.join(60)
    assert ended, "it waits for ever"
    assert "the process that starts the workers is gone" in ended[0].error
    assert written == list(range(len(written)))


def test_an_order_to_processes_that_are_gone_is_no_error_of_its_own():
    nursery = Nursery([], None)
    nursery._process.send_signal(signal.SIGSTOP)
    nursery.start(1).close()
    nursery._process.kill()
    nursery._process.wait()
    nursery.start(2).close()
    nursery.kill(1)
    with pytest.raises(EOFError):
        nursery.deaths()
    nursery.close()


def test_a_worker_that_is_known_to_be_gone_is_given_nothing(tmp_path: Path):
    """Its death may be told late; until then an item that it never saw would be blamed for it."""
    workers = ProcessWorkers(_task(killers.same), Processes(1), None)
    try:
        workers.submit(Work(1, ["first"]))
        assert _outcome(workers).results == ["first"]
        (worker,) = workers._workers.values()
        nursery = workers._nursery._process
        nursery.send_signal(signal.SIGSTOP)
        (process,) = psutil.Process(nursery.pid).children()
        process.kill()
        assert _until(lambda: workers._listen(0.1) is None and not worker.registered)
        workers.submit(Work(2, ["innocent"], [1], {0: Death(0, -9, "")}))
        nursery.send_signal(signal.SIGCONT)
        assert _outcome(workers).results == ["innocent"]
    finally:
        workers.close()


def _task(function: Callable[[Any], Any]) -> PortionTask:
    job = Job("j", Step("s", read=[], process=function, write=len, runner=Processes(1)))
    return PortionTask("s", function, None, Skip(), None, SystemClock(), recipe=bind(job, durable=False)["s"].recipe)


def _outcome(workers: ProcessWorkers) -> Outcome:
    found = workers.collect(60)
    assert found is not None
    return found


def test_workers_leave_signals_to_the_run():
    written, _ = ran(killers.shrugs, range(50))
    assert written == list(range(50))


BLAME = ProcessWorkers._blame


def _trusting(workers: Any, piece: Any, code: int, worker: Any) -> None:
    """Planted: the first death is enough to judge an item."""
    piece.suspected = True
    BLAME(workers, piece, code, worker)


def _hasty(workers: Any, piece: Any, code: int, worker: Any) -> None:
    """Planted: a death is every item's failure that was in work."""
    del worker
    workers._conclude(piece, Outcome(piece.number, ended_by=workers._died(code, "", "")))


@pytest.mark.parametrize("broken", [_trusting, _hasty])
def test_a_supervisor_that_blames_innocent_items_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., None]
):
    monkeypatch.setattr(ProcessWorkers, "_blame", broken)
    with pytest.raises(AssertionError):
        test_an_innocent_item_whose_process_is_killed_by_something_else_is_written(tmp_path)


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from tests.crash.killers import lingers, prints
from batchwright import Step, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.work import Outcome
from batchwright.runners import Processes
from batchwright.runners.processes import ProcessWorkers

if sys.argv[1] == "prints":
    run(Step("s", read=range(3), process=prints, write=len, runner=Processes(1)), ledger=MemoryLedger())
else:
    function = partial(lingers, Path(sys.argv[1]))
    run(Step("s", read=range(3), process=function, write=len, runner=Processes(2)), ledger=MemoryLedger())
"""


def test_what_workers_print_goes_to_standard_error():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "prints"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert sorted(done.stderr.split("\n")) == ["", "item 0", "item 1", "item 2"]


def _gone(pids: list[int]) -> bool:
    left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    return not left


def _until(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_run_is_killed(tmp_path: Path, how: signal.Signals):
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL) as run_:
        assert _until(lambda: len(list(tmp_path.glob("pids-?"))) == 2)
        pids = [int(pid) for file in tmp_path.glob("pids-?") for pid in file.read_text().split()]
        assert len(set(pids)) == 5
        os.kill(run_.pid, how)
        run_.wait(60)
    assert _until(lambda: _gone(pids))

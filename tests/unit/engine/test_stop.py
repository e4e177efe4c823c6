"""Stopping: requests, deadlines of jobs, steps, chunks and items, and waits that end with them."""

import asyncio
import sqlite3
import sys
import threading
from contextlib import closing
from typing import Any

import pytest
from tests.unit.engine.runs import Breaking, as_row, database, rows, run_here, url

from batchwright import Job, Retry, Skip, Status, Step, run
from batchwright.databases import sqlite
from batchwright.engine.stop import Stop, pause
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import ChunkTimeoutError, DeclarationError, StopRequestedError, WriteError
from batchwright.readers import query
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import execute, insert

FOR_MINUTES = (
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) SELECT max(i) AS i FROM n"
)


class Slow:
    """A processor that takes its time on a clock that does not."""

    def __init__(self, seconds: float) -> None:
        self.clock, self.seconds = FakeClock(), seconds

    def __call__(self, item: Any) -> Any:
        self.clock.advance(self.seconds)
        return item


def test_the_first_reason_holds_and_is_heard_once():
    heard: list[str] = []
    stop = Stop(heard.append)
    assert stop.requested is None
    stop.request("one")
    stop.request("two", now=True)
    assert (stop.requested, stop.now, heard) == ("one", True, ["one"])


def test_a_deadline_is_a_request_once_it_has_passed_and_only_while_its_context_lasts():
    clock, stop = FakeClock(), Stop()
    with stop.deadline(clock, 5, "over"):
        clock.advance(4.9)
        assert stop.requested is None
    clock.advance(10)
    assert stop.requested is None
    with stop.deadline(clock, 5, "over"):
        clock.advance(5)
        assert stop.requested == "over"
    assert stop.requested == "over"


def test_a_wait_ends_with_a_deadline_and_with_a_late_chunk():
    clock, stop = FakeClock(), Stop()
    with stop.chunk_deadline(clock, 3), pytest.raises(ChunkTimeoutError):
        pause(clock, stop, 60)
    assert clock.monotonic() == pytest.approx(3, abs=0.1)
    with stop.deadline(clock, 2, "over"), pytest.raises(StopRequestedError):
        pause(clock, stop, 60)
    assert clock.monotonic() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("whose", ["step", "job", "run"])
def test_a_step_whose_time_is_over_stops_behind_a_chunk_and_is_gone_on_with(whose):
    slow, written, ledger = Slow(0.3), list[int](), MemoryLedger()
    seconds = {"step": {"timeout_seconds": 10}}.get(whose, {})
    step = Step("s", read=range(100), process=slow, write=written.extend, chunk_size=10, **seconds)
    after = Step("after", read=[1], write=lambda chunk: None)
    job = Job("j", step, after, timeout_seconds=10 if whose == "job" else None)
    options = {"timeout_seconds": 10} if whose == "run" else {}
    ran = run_here(job, ledger=ledger, clock=slow.clock, **options)
    assert ran.result.status is Status.STOPPED
    assert f"timeout_seconds=10 of {'step' if whose == 'step' else 'job'} " in ran.result.error
    assert 30 <= len(written) < 50
    assert ran.result.steps[1].status is None
    while ran.result.status is Status.STOPPED:
        ran = run_here(job, ledger=ledger, clock=slow.clock, **options)
    assert ran.result.status is Status.COMPLETED
    assert written == list(range(100))


def test_the_time_of_a_run_goes_before_that_of_its_job():
    slow = Slow(1.0)
    step = Step("s", read=range(20), process=slow, write=lambda chunk: None, chunk_size=1)
    ran = run_here(Job("j", step, timeout_seconds=5), clock=slow.clock, timeout_seconds=100)
    assert ran.result.status is Status.COMPLETED


async def stuck(number: int) -> int:
    if number % 5 == 3:
        await asyncio.Event().wait()
    return number


async def stuck_among_others(number: int) -> Any:
    yield number
    yield await stuck(number)


@pytest.mark.parametrize("process", [stuck, stuck_among_others])
def test_an_async_item_that_takes_too_long_is_that_items_failure(process):
    written: list[int] = []
    step = Step("s", read=range(10), process=process, write=written.extend, skip=Skip(), item_timeout_seconds=0.05)
    ran = run_here(step)
    assert ran.counts == (10, 8, 0, 2)
    assert {(failure.error_type, failure.error) for failure in ran.failures} == {
        ("TimeoutError", "the item took longer than item_timeout_seconds=0.05")
    }
    assert 3 not in written


def test_an_async_item_that_takes_too_long_is_tried_again_as_any_other():
    tried: list[int] = []

    async def once_stuck(number: int) -> int:
        tried.append(number)
        if tried.count(number) == 1:
            await asyncio.Event().wait()
        return number

    retry = Retry(on=TimeoutError, delay_seconds=0)
    step = Step("s", read=range(2), process=once_stuck, write=print, retry=retry, item_timeout_seconds=0.05)
    assert run_here(step).counts == (2, 2, 0, 0)


def test_a_time_out_of_the_functions_own_keeps_its_words():
    async def impatient(number: int) -> int:
        raise TimeoutError("the shop does not answer")

    step = Step("s", read=range(1), process=impatient, write=print, skip=Skip(), item_timeout_seconds=5)
    assert [failure.error for failure in run_here(step).failures] == ["the shop does not answer"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds must be a number of seconds above 0; got 0"),
        ({"timeout_seconds": True}, "got True"),
        ({"timeout_seconds": "5"}, "got '5'"),
        ({"timeout_seconds": float("nan")}, "got nan"),
        ({"timeout_seconds": float("inf")}, "got inf"),
        ({"chunk_timeout_seconds": -1}, "chunk_timeout_seconds must be .*got -1"),
        ({"item_timeout_seconds": 1}, "there is no process=; write it with async def"),
        ({"item_timeout_seconds": 1, "process": str}, "process is a function: nothing can end its call"),
        ({"chunk_timeout_seconds": 1}, "needs a writer that can undo a chunk; write is a function"),
    ],
)
def test_a_time_out_that_cannot_be_kept_is_refused_when_it_is_declared(options, message):
    with pytest.raises(DeclarationError, match=message):
        Step("s", read=[1], write=print, **options)


def test_a_jobs_and_a_runs_time_out_are_checked_too(tmp_path):
    step = Step("s", read=[1], write=print)
    with pytest.raises(DeclarationError, match="job 'j': timeout_seconds must be a number of seconds above 0; got -1"):
        Job("j", step, timeout_seconds=-1)
    with pytest.raises(DeclarationError, match="got 0"):
        run(step, timeout_seconds=0, ledger=tmp_path / "ledger.db")


def test_a_job_that_is_made_by_a_function_keeps_its_time_out():
    def made(n: int = 1) -> Job:
        return Job("j", Step("s", read=[n], write=print), timeout_seconds=7)

    assert Job.of(made).timeout_seconds == 7


@pytest.fixture
def target(tmp_path):
    return database(tmp_path / "t.db", "PRAGMA journal_mode = WAL; CREATE TABLE t (x)")


def test_a_chunk_that_is_written_for_too_long_is_rolled_back_and_fails_the_step(target):
    clock, long = FakeClock(), iter([5])
    slow = Breaking(
        insert(url(target), "t"), lambda name, call: clock.advance(next(long, 0) if (name, call) == ("write", 3) else 0)
    )
    step = Step("s", read=range(10), process=as_row, write=slow, chunk_size=2, chunk_timeout_seconds=4)
    ran = run_here(step, clock=clock)
    assert ran.result.status is Status.FAILED
    assert isinstance(ran.error, WriteError)
    assert str(ran.error) == (
        "step 's': a chunk was not written and committed within 4 seconds; items 5 to 6 are rolled back; "
        "make chunks smaller, or raise chunk_timeout_seconds"
    )
    assert rows(target) == [0, 1, 2, 3]
    assert run_here(step, ledger=ran.ledger, clock=clock).counts == (10, 10, 0, 0)
    assert rows(target) == list(range(10))


def test_a_statement_that_writes_for_too_long_is_interrupted(target, tmp_path):
    statement = execute(url(target), f"INSERT INTO t SELECT i + :x FROM ({FOR_MINUTES})")
    step = Step("s", read=[{"x": 1}], write=statement, chunk_timeout_seconds=0.2)
    result = run(step, ledger=tmp_path / "ledger.db", check=False)
    assert result.status is Status.FAILED
    assert "was not written and committed within 0.2 seconds; items 1 to 1 are rolled back" in result.error
    assert "interrupt" in result.error
    assert rows(target) == []


def test_a_lock_is_not_waited_for_longer_than_the_chunk_may_take(target, tmp_path):
    with closing(sqlite3.connect(target, isolation_level=None)) as holder:

        def read() -> Any:
            holder.execute("BEGIN IMMEDIATE")
            yield {"x": 1}

        step = Step("s", read=read, write=insert(url(target), "t"), chunk_timeout_seconds=0.3)
        result = run(step, ledger=tmp_path / "ledger.db", check=False)
    assert result.status is Status.FAILED
    assert "within 0.3 seconds" in result.error
    assert result.seconds < 3


def test_a_query_that_takes_minutes_ends_with_a_deadline(target, tmp_path):
    step = Step("s", read=query(url(target), FOR_MINUTES, key="i"), write=print, timeout_seconds=0.3)
    result = run(step, ledger=tmp_path / "ledger.db")
    assert result.status is Status.STOPPED
    assert result.error == "timeout_seconds=0.3 of step 's' are over"
    assert result.seconds < 3


def test_another_thread_stops_a_statement_at_once(target, tmp_path):
    stop = Stop()

    def read() -> Any:
        yield {"x": 1}
        timer.start()

    timer = threading.Timer(0.2, lambda: stop.request("enough", now=True))
    statement = execute(url(target), f"INSERT INTO t SELECT i + :x FROM ({FOR_MINUTES})")
    result = run(Step("s", read=read, write=statement), ledger=tmp_path / "ledger.db", stop=stop)
    timer.join()
    assert (result.status, result.error) == (Status.STOPPED, "enough")
    assert rows(target) == []


def test_a_step_that_is_stopped_before_it_has_begun_leaves_the_job_stopped(target):
    stop = Stop()
    breaks = Breaking(insert(url(target), "t"), lambda name, call: None)

    class Locked:
        guarantee, address = breaks.guarantee, breaks.address

        def open(self, scope: Any) -> Any:
            sink: Any = breaks.open(scope)

            def recall() -> None:
                stop.request("enough")
                raise sqlite_locked()

            sink.recall = recall
            return sink

    ran = run_here(Step("s", read=[{"x": 1}], write=Locked()), stop=stop)
    assert ran.result.status is Status.STOPPED
    assert ran.result.steps[0].status is None


def sqlite_locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


def test_a_wait_for_a_lock_lasts_as_long_as_its_patience_and_ends_when_another_thread_says_so(target):
    patience = sqlite.Patience(60)
    with (
        closing(sqlite3.connect(target, isolation_level=None)) as holder,
        closing(sqlite.connect(target, patience)) as waiting,
    ):
        holder.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, lambda: setattr(patience, "ended", True))
        timer.start()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            waiting.execute("BEGIN IMMEDIATE")
        timer.join()
        holder.execute("COMMIT")
        waiting.execute("BEGIN IMMEDIATE")


def test_a_wait_for_a_lock_ends_when_the_lock_is_free(target):
    with (
        closing(sqlite3.connect(target, isolation_level=None, check_same_thread=False)) as holder,
        closing(sqlite.connect(target)) as waiting,
    ):
        holder.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, lambda: holder.execute("COMMIT"))
        timer.start()
        waiting.execute("BEGIN IMMEDIATE")
        timer.join()
        assert waiting.in_transaction


def test_a_stop_that_many_threads_divide_forgets_none_of_its_parts():
    whole, forgotten, before = Stop(), [], sys.getswitchinterval()

    def divide() -> None:
        for _ in range(2_000):
            with whole.divided() as part:
                if part not in whole._below:
                    forgotten.append(part)

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=divide) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not forgotten
    assert not whole._below

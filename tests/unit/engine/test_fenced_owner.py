"""An owner that is fenced in the middle: what it still does, and what it says."""

import contextlib

import pytest
from tests.unit.engine.runs import rows, run_here, url

from batchwright import Job, JobFailedError, Retry, Step, abandon, run
from batchwright.databases import sqlite_records
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import FencedError
from batchwright.model.events import JobFinished
from batchwright.model.status import Status
from batchwright.writers import insert, text_file

FENCES = "SELECT step, partition, epoch FROM batchwright_fences"


class Lost:
    """Ownership that is lost as soon as somebody says so."""

    lost = False

    def check(self):
        if self.lost:
            raise FencedError("another process has taken this work over")


class LosingLedger(MemoryLedger):
    def __init__(self):
        super().__init__()
        self.ownership = Lost()

    def own(self, key):
        return self._losing(key)

    @contextlib.contextmanager
    def _losing(self, key):
        with super().own(key):
            yield self.ownership


@pytest.fixture
def ledger():
    return LosingLedger()


def losing_at(ledger, wanted):
    def process(item):
        if item == wanted:
            ledger.ownership.lost = True
        return item

    return process


def test_what_was_processed_when_it_was_lost_is_not_written(ledger):
    written = []
    step = Step("load", read=range(10), process=losing_at(ledger, 5), write=written.extend, chunk_size=2)
    with pytest.raises(FencedError, match="taken this work over"):
        run(step, ledger=ledger)
    assert written == [0, 1, 2, 3]


def test_what_was_written_when_it_was_lost_is_not_committed(ledger):
    def write(rows):
        ledger.ownership.lost = 2 in rows

    with pytest.raises(FencedError):
        run(Step("load", read=range(6), write=write, chunk_size=2), ledger=ledger)
    (checkpoint,) = ledger._checkpoints.values()
    assert checkpoint.position.ordinal == 2


def test_a_file_is_not_published(ledger, tmp_path):
    step = Step("load", read=["a", "b"], process=losing_at(ledger, "b"), write=text_file(tmp_path / "out.txt"))
    with pytest.raises(FencedError):
        run(step, ledger=ledger)
    assert not (tmp_path / "out.txt").exists()


def test_no_retry_covers_it(ledger):
    tried = []
    step = Step(
        "load",
        read=range(4),
        process=losing_at(ledger, 1),
        write=tried.append,
        write_retry=Retry(on=Exception, attempts=5, delay_seconds=0),
        retry=Retry(on=Exception, attempts=5, delay_seconds=0),
    )
    with pytest.raises(FencedError):
        run(step, ledger=ledger)
    assert tried == []


def test_it_writes_no_status_and_the_observers_hear_the_end(ledger):
    events = []
    with pytest.raises(FencedError):
        run(
            Step("load", read=range(4), process=losing_at(ledger, 1), write=len),
            ledger=ledger,
            observers=[events.append],
        )
    assert [execution.status for execution in ledger._runs.values()] == [Status.RUNNING]
    assert [event.result.status for event in events if isinstance(event, JobFinished)] == [Status.FAILED]


def test_steps_that_would_follow_are_not_begun(ledger):
    begun = []
    job = Job(
        "both",
        Step("first", read=range(4), process=losing_at(ledger, 1), write=len),
        Step("second", read=lambda: begun.append(1) or [], write=len, after=()),
    )
    with pytest.raises(FencedError):
        run(job, ledger=ledger)
    assert begun == []


def test_an_error_that_came_before_is_named_too(ledger):
    def process(item):
        ledger.ownership.lost = True
        raise ValueError("no such shop")

    with pytest.raises(FencedError) as caught:
        run(Step("load", read=range(4), process=process, write=len), ledger=ledger)
    assert isinstance(caught.value.__cause__, ValueError)
    assert any("no such shop" in note for note in caught.value.__notes__)


def test_a_run_that_was_closed_by_somebody_else_does_not_hide_why_it_failed():
    ledger = MemoryLedger()

    def process(item):
        ledger.move_run(1, Status.FAILED, "closed by somebody else")
        raise ValueError("no such shop")

    with pytest.raises(JobFailedError, match="no such shop") as caught:
        run(Step("load", read=range(4), process=process, write=len), ledger=ledger)
    assert any("already closed" in note for note in caught.value.__cause__.__notes__)
    assert ledger._runs[1].error == "closed by somebody else"


def test_a_run_that_was_closed_by_somebody_else_is_not_called_complete():
    ledger = MemoryLedger()
    step = Step(
        "load", read=range(4), process=lambda item: ledger.move_run(1, Status.FAILED) if item == 3 else item, write=len
    )
    with pytest.raises(FencedError, match="already closed"):
        run(step, ledger=ledger)


@pytest.mark.parametrize("how", ["as a whole", "in partitions", "given up"])
def test_a_step_is_claimed_only_by_who_still_owns_it(ledger, tmp_path, monkeypatch, how):
    """Looking at a fence and raising it are two moments: a successor may have come in between."""
    options, raise_fence = {"partitions": 2} if how == "in partitions" else {}, sqlite_records.raise_fence
    read, target = [{"n": 1}, {"n": 2}], tmp_path / "t.db"
    job = Job("j", Step("load", read=read, write=insert(url(target), "t"), chunk_size=1, **options))
    if how == "given up":
        assert run_here(job, ledger=ledger, limit=1).result.status is Status.STOPPED
    fences = rows(target, FENCES) if how == "given up" else []

    def late(*arguments):
        ledger.ownership.lost = True
        return raise_fence(*arguments)

    monkeypatch.setattr(sqlite_records, "raise_fence", late)
    if how == "given up":
        assert "has taken this work over" in abandon(1, ledger=ledger, job=job).steps[0].problem
    else:
        with pytest.raises(FencedError, match="has taken this work over"):
            run(job, ledger=ledger)
    assert rows(target, FENCES) == fences

"""Observers: they hear of what is committed, one event a chunk and a failure, and never harm the run."""

import logging
import threading

import pytest
from tests.unit.engine.runs import as_row, rows, run_here, url

from batchwright import Job, Skip, Status, Step
from batchwright.engine import announce
from batchwright.model.events import ChunkCommitted, ItemFailed, JobFinished, JobStarted, StepFinished, StepStarted
from batchwright.writers import insert


def job(items=4, **options):
    def process(item):
        if item == 1:
            raise ValueError("one")
        return item

    return Job("j", Step("s", read=range(items), process=process, write=len, chunk_size=2, skip=Skip(), **options))


def test_events_come_in_order_one_for_each_chunk_and_failure():
    heard: list = []
    run_here(job(), observers=[heard.append])
    assert [type(event) for event in heard] == [
        JobStarted,
        StepStarted,
        ItemFailed,
        ChunkCommitted,
        ChunkCommitted,
        StepFinished,
        JobFinished,
    ]
    assert [event.counts.read for event in heard if isinstance(event, ChunkCommitted)] == [2, 4]
    assert heard[-1].result.status is Status.COMPLETED_WITH_FAILURES


def test_an_event_follows_the_commit(tmp_path):
    path, seen = tmp_path / "t.db", []
    go_on = threading.Event()

    def look(event):
        if isinstance(event, ChunkCommitted):
            seen.append((event.counts.written, len(rows(path))))
            go_on.set()

    def process(item):
        if item == 2:
            assert go_on.wait(10)
        return as_row(item)

    run_here(Step("s", read=range(4), process=process, write=insert(url(path), "t"), chunk_size=2), observers=[look])
    assert seen[0] == (2, 2)


def test_a_run_that_goes_on_says_so_and_starts_from_its_counts():
    heard: list = []
    ran = run_here(job(), limit=2)
    run_here(job(), ledger=ran.ledger, observers=[heard.append])
    assert heard[0].resumed
    assert heard[1].counts.read == 2
    assert heard[1].fraction == 0.5


def test_nothing_to_do_gives_the_final_event_only():
    heard: list = []
    declared = Job("j", Step("s", read=[1], write=len), parameters={"day": 1})
    ran = run_here(declared)
    run_here(declared, ledger=ran.ledger, observers=[heard.append])
    assert [type(event) for event in heard] == [JobFinished]
    assert heard[0].result.already_complete


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_broken_observer_is_muted_after_three_errors_and_gets_the_final_event(caplog, error):
    tried, heard = [], []

    def broken(event):
        tried.append(type(event))
        raise error("broken")

    with caplog.at_level(logging.ERROR, "batchwright"):
        ran = run_here(job(20), observers=[broken, heard.append])
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert tried == [JobStarted, StepStarted, ItemFailed, JobFinished]
    assert len(heard) == 15
    assert [record.getMessage().endswith("muted from now on") for record in caplog.records] == [
        False,
        False,
        True,
        False,
    ]


def test_errors_that_do_not_follow_each_other_mute_nobody():
    tried: list = []

    def moody(event):
        tried.append(event)
        if len(tried) % 3:
            raise ValueError("moody")

    run_here(job(20), observers=[moody])
    assert len(tried) == 15


def test_a_slow_observer_never_blocks_the_run_and_gets_the_final_event(monkeypatch):
    monkeypatch.setattr(announce, "QUEUE_LENGTH", 5)
    release, heard = threading.Event(), []

    def slow(event):
        assert release.wait(10)
        heard.append(type(event))

    def write(outputs):
        if 99 in outputs:
            release.set()  # only the end of the input wakes the observer: nothing before may have waited for it

    ran = run_here(Step("s", read=range(100), write=write, chunk_size=1), observers=[slow])
    assert ran.result.read == 100
    assert len(heard) < 20
    assert heard[-1] is JobFinished


def test_an_observer_that_never_returns_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(announce, "CLOSE_SECONDS", 0.01)
    release = threading.Event()
    ran = run_here(job(), observers=[lambda event: release.wait(10)])
    release.set()
    assert ran.result.read == 4
    assert "did not end within" in caplog.text

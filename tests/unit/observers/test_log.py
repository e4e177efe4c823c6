"""Events as log lines."""

import logging

import pytest
from tests.unit.observers.events import (
    Ticking,
    committed,
    finished,
    item_failed,
    started,
    step_finished,
    step_started,
)

from batchwright.model.status import Status
from batchwright.observers.log import log_events


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "batchwright")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_run_is_one_line_for_each_start_and_end(lines):
    log = log_events()
    for event in (started(), step_started(), committed(50), step_finished(), finished()):
        log(event)
    balance = "read 100 = written 100 + filtered 0 + failed 0"
    assert lines() == [
        ("INFO", "run 12: job 'sales' started (lap 1), ledger /data/ledger.db"),
        ("INFO", "run 12: step 'load' started"),
        ("INFO", f"run 12: step 'load' completed in 2.0 s: {balance}"),
        ("INFO", f"run 12: job 'sales' completed in 2.0 s: {balance}"),
    ]


def test_a_run_that_goes_on_says_from_where(lines):
    log = log_events()
    log(started(resumed=True))
    log(step_started(read=1_200))
    assert [text for _, text in lines()] == [
        "run 12: job 'sales' goes on (lap 1), ledger /data/ledger.db",
        "run 12: step 'load' started from item 1,200 on",
    ]


def test_chunks_are_logged_for_those_who_debug(lines, caplog):
    caplog.set_level(logging.DEBUG, "batchwright")
    log_events()(committed(50))
    assert lines() == [("DEBUG", "run 12: step 'load': read 50 = written 50 + filtered 0 + failed 0")]


def test_a_failed_item_is_a_warning_with_its_place_on_one_line(lines):
    log_events()(item_failed(error="bad\nvalue \x1b[31m"))
    assert lines() == [
        (
            "WARNING",
            r"run 12: step 'load': item 41 (in/sales.csv line 43) failed to process: ValueError: bad\nvalue \x1b[31m",
        )
    ]


def test_failures_past_the_rate_are_counted_and_reported_together(lines):
    clock = Ticking()
    log = log_events(warnings_a_minute=2, monotonic=clock)
    for ordinal in range(10):
        log(item_failed(ordinal))
    assert len(lines()) == 2
    clock.time += 60
    log(item_failed(10))
    assert len(lines()) == 3
    log(step_finished())
    assert lines()[3] == ("WARNING", "run 12: 8 more items failed; all of them are in the ledger")
    log(finished())
    assert len(lines()) == 6


def test_a_failed_end_is_an_error_with_its_cause(lines):
    log = log_events()
    log(step_finished(Status.FAILED, "disk full"))
    log(finished(Status.STOPPED))
    assert [(level, text.rpartition(" + ")[2]) for level, text in lines()] == [
        ("ERROR", "failed 0; disk full"),
        ("WARNING", "failed 0"),
    ]


def test_another_logger_can_be_given(caplog):
    caplog.set_level(logging.INFO)
    log_events(logging.getLogger("shop"))(started())
    assert [record.name for record in caplog.records] == ["shop"]

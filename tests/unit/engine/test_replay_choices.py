"""Which failures a replay takes up, failures that are ignored, and what is recorded of it."""

import sqlite3

import pytest
from tests.unit.engine.runs import rows, run_here, url
from tests.unit.engine.test_replay_failures import Mendable, loaded, states
from tests.unit.engine.test_replay_targets import DAY, Killed, daily

from batchwright import Job, Skip, Step, replay
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError, FilterError, NotReplayableError
from batchwright.writers import execute, insert, upsert


def test_only_the_failures_that_are_meant_are_replayed(tmp_path):
    process = Mendable(1, 4, 7)
    job = loaded(tmp_path / "t.db", process)
    ledger = run_here(job).ledger
    process.refused = set()
    result = replay(1, ledger=ledger, job=job, where=["item=4..8", "error!~4"])
    assert result.replayed == 1
    assert states(ledger) == [(1, "open"), (4, "open"), (7, "replayed")]
    with pytest.raises(FilterError):
        replay(1, ledger=ledger, job=job, where=["colour=red"])


def test_ignored_failures_are_closed_with_the_reason_and_can_be_opened_again(tmp_path):
    process = Mendable(1, 4, 7)
    job = daily(loaded(tmp_path / "t.db", process))
    ledger = run_here(job).ledger
    result = replay(1, ledger=ledger, job=job, where=["item=2"], ignore="test data")
    assert (result.ignored, result.replayed, result.stale) == (1, 0, ())
    assert next((failure.state, failure.note) for failure in ledger.failures(1)) == ("ignored", "test data")
    run = ledger.run(result.run)
    assert run is not None
    assert (run.kind, run.status) == ("ignore", "COMPLETED")
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).replayed == 2
    assert states(ledger) == [(1, "ignored"), (4, "replayed"), (7, "replayed")]
    assert run_here(job, ledger=ledger).result.status == "COMPLETED", "every failure is closed"
    assert replay(1, ledger=ledger, job=job, reopen=True).reopened == 1
    assert run_here(job, ledger=ledger).result.status == "COMPLETED_WITH_FAILURES"
    assert replay(1, ledger=ledger, job=job).replayed == 1
    assert replay(1, ledger=ledger, job=job, reopen=True).run == 0, "what is replayed is never opened again"


def test_ignoring_that_was_killed_between_target_and_ledger_is_made_up_for(tmp_path):
    class Ledger(MemoryLedger):
        armed = False

        def settle_failures(self, key, ordinals, *state, **checkpoint):
            if self.armed:
                raise Killed
            super().settle_failures(key, ordinals, *state, **checkpoint)

    ledger = Ledger()
    job = loaded(tmp_path / "t.db", Mendable(1), target=None)
    run_here(job, ledger=ledger)
    ledger.armed = True
    with pytest.raises(Killed):
        replay(1, ledger=ledger, job=job, ignore="no")
    ledger.armed = False
    assert states(ledger) == [(1, "open")]
    replay(1, ledger=ledger, job=job, ignore="no")
    assert states(ledger) == [(1, "ignored")]


@pytest.mark.parametrize(
    "wrong", [{"ignore": " "}, {"ignore": "x", "reopen": True}, {"accept_changed": True, "stored": True}]
)
def test_what_cannot_be_meant_is_refused(tmp_path, wrong):
    with pytest.raises(DeclarationError):
        replay(1, ledger=tmp_path / "none.db", **wrong)
    assert not (tmp_path / "none.db").exists()


def test_a_dry_run_looks_and_does_nothing(tmp_path):
    process = Mendable(1, 4)
    job = loaded(tmp_path / "t.db", process)
    ledger = run_here(job).ledger
    process.refused = set()
    result = replay(1, ledger=ledger, job=job, dry_run=True)
    assert (result.run, result.replayed, result.dry_run) == (0, 2, True)
    assert len(ledger.runs()) == 1
    assert len(rows(tmp_path / "t.db")) == 7


def test_a_replay_is_an_execution_of_the_step_with_counts_of_its_own(tmp_path):
    process = Mendable(1, 4, 7)
    job = loaded(tmp_path / "t.db", process)
    ledger = run_here(job).ledger
    process.refused = {4}
    run = replay(1, ledger=ledger, job=job).run
    (step,) = ledger.steps(run)
    counts = step.counts
    assert (step.kind, step.run, step.status) == ("replay", run, "COMPLETED_WITH_FAILURES")
    assert (counts.read, counts.written, counts.failed_process) == (3, 2, 1)
    (before,) = ledger.steps(1)
    assert (before.kind, before.counts.read, before.status) == ("run", 9, "COMPLETED_WITH_FAILURES")


def test_a_replay_that_breaks_off_closes_its_execution_and_leaves_the_step_complete(tmp_path):
    process = Mendable(1)
    job = Job("j", Step("load", read=range(3), process=process, write=Falling(), skip=Skip()), parameters=DAY)
    ledger = run_here(job).ledger
    process.refused = set()
    Falling.falls = True
    try:
        with pytest.raises(ZeroDivisionError):
            replay(1, ledger=ledger, job=job)
    finally:
        Falling.falls = False
    assert [(step.status, step.error[:17]) for step in ledger.steps(2)] == [("FAILED", "ZeroDivisionError")]
    assert ledger.run(2).status == "FAILED"
    assert run_here(job, ledger=ledger).result.already_complete


class Falling:
    """A function that raises when it is told to."""

    falls = False

    def __call__(self, items):
        return 1 / (not self.falls)


def test_an_earlier_lap_is_not_replayed(tmp_path):
    job = loaded(tmp_path / "t.db", Mendable(1))
    ran = run_here(job)
    run_here(job, ledger=ran.ledger, again=True, confirmed=True)
    with pytest.raises(NotReplayableError, match=r"run 1 is of lap 1.*replay run 2"):
        replay(1, ledger=ran.ledger, job=job)


@pytest.mark.parametrize(
    ("target", "warned"),
    [(insert, False), (lambda place, table: upsert(place, table, key="x"), True)],
    ids=["insert", "upsert"],
)
def test_that_newer_rows_may_be_overwritten_is_said(tmp_path, target, warned):
    process = Mendable(1)
    job = loaded(tmp_path / "t.db", process, target=target(url(tmp_path / "t.db"), "t"))
    ledger = run_here(job).ledger
    result = replay(1, ledger=ledger, job=job)
    assert [("overwritten" in text) for text in result.warnings] == [True] * warned


def test_a_statement_is_replayed_like_rows(tmp_path):
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    process = Mendable(1)
    job = loaded(tmp_path / "t.db", process, target=execute(url(tmp_path / "t.db"), "INSERT INTO t VALUES (:x)"))
    ledger = run_here(job).ledger
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).replayed == 1
    assert rows(tmp_path / "t.db")[-1] == 1

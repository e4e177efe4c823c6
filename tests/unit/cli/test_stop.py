"""`batchwright stop`: what it says of runs that are not at work, and that it touches nothing else."""

import sqlite3
from contextlib import closing

import pytest

from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.execution import RunRequest
from batchwright.model.status import Status

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")
KEY = InstanceKey("held", "h")


@pytest.fixture
def path(shop):
    return shop.folder / ".batchwright" / "ledger.db"


@pytest.fixture
def held(path):
    """A run that this process is at work on, as far as the ledger can tell."""
    with closing(SqliteLedger(path)) as ledger, ledger.own(KEY):
        run = ledger.begin_run(RunRequest(KEY, {}, ("s",)))
        ledger.move_run(run.id, Status.RUNNING)
        yield run


def test_a_run_that_has_ended_needs_no_stop(shop):
    shop.call(*SALES)
    ended = shop.call("stop", "1")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.splitlines() == [
        "run 1 of sales is not at work: completed with failures",
        "next: batchwright failures 1",
        "next: batchwright replay 1",
    ]


def test_a_run_that_was_stopped_is_told_how_to_go_on_with(shop):
    shop.call(*SALES, "--limit", "5")
    ended = shop.call("stop", "1")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "run 1 of sales is not at work: stopped",
        "next: batchwright resume 1",
    ]


def test_a_lost_run_is_told_how_to_go_on_with(shop):
    assert shop.spawn("run", "jobs.py:killed").code == -9
    ended = shop.call("stop", "1", "--wait")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "run 1 of killed: nothing to stop, its process is gone",
        "next: batchwright resume 1",
    ]
    shop.mend()
    assert shop.call("run", "jobs.py:killed").code == 0


def test_an_unknown_run_and_a_missing_ledger_are_wrong_use(shop, held):
    assert shop.call("stop", "9").code == 2
    assert shop.call("stop").code == 2
    ended = shop.call("stop", "1", "--ledger", "elsewhere.db")
    assert ended.code == 2
    assert not (shop.folder / "elsewhere.db").exists()


def test_a_run_at_work_is_asked_by_one_column_and_the_first_request_stays(shop, held, path):
    before = row(path, held.id)
    ended = shop.call("stop", str(held.id))
    assert ended.code == 0
    assert ended.err.splitlines()[0] == f"run {held.id} of held stops at the end of its chunk"
    after = row(path, held.id)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"stop_requested"}
    assert " on " in after["stop_requested"]
    assert after["stop_requested"].endswith(" UTC")
    shop.call("stop", str(held.id))
    assert row(path, held.id) == after
    assert shop.call("show", str(held.id), "--json").document["stop_requested"] == after["stop_requested"]
    assert f"by {after['stop_requested']}" in shop.call("show", str(held.id)).out


def test_json_says_whether_it_was_asked(shop, held):
    asked = shop.call("stop", str(held.id), "--json").document
    assert (asked["run"], asked["job"], asked["status"], asked["asked"]) == (held.id, "held", "RUNNING", True)
    assert (asked["exit_code"], asked["schema_version"]) == (0, 1)
    shop.call(*SALES)
    ended = shop.call("stop", "2", "--json").document
    assert (ended["asked"], ended["status"], ended["stop_requested"]) == (False, "COMPLETED_WITH_FAILURES", None)


def test_waiting_is_bounded(shop, held):
    ended = shop.call("stop", str(held.id), "--wait", "--timeout", "0.3")
    assert ended.code == 1
    assert "was asked to stop, and is still at work after 0.3 seconds" in ended.err
    assert shop.call("stop", str(held.id), "--timeout", "-1").code == 2


def test_a_replay_at_work_is_asked_as_a_run_is(shop, path):
    with closing(SqliteLedger(path)) as ledger, ledger.own(KEY):
        run = ledger.begin_run(RunRequest(KEY, {}, ("s",), kind="replay"))
        ended = shop.call("stop", str(run.id))
    assert ended.code == 0
    assert row(path, run.id)["stop_requested"]


REPLAYED = """
import os, signal
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.writers import insert

HERE = Path(__file__).parent

def check(number):
    if not (HERE / "mended").exists():
        raise ValueError("not yet")
    if number == 3:
        for name in os.environ.get("SIGNALS", "").split():
            os.kill(os.getpid(), signal.Signals[name])
    return {"id": number}

def late() -> Job:
    write = insert(f"sqlite:///{HERE}/late.db", "late")
    return Job("late", Step("load", read=range(9), process=check, write=write, chunk_size=1, skip=Skip(on=ValueError)))
"""


@pytest.mark.parametrize(
    ("signals", "code", "said"),
    [
        ("SIGTERM", 143, "stopped by SIGTERM: what was not tried is still open"),
        ("SIGINT SIGINT", 130, "stopped at once"),
    ],
)
def test_a_replay_stops_at_a_signal_and_is_gone_on_with(shop, signals, code, said):
    (shop.folder / "late.py").write_text(REPLAYED)
    assert shop.spawn("run", "late.py:late").code == 3
    shop.mend()
    ended = shop.spawn("replay", "1", environment={"SIGNALS": signals})
    assert ended.code == code, ended.err
    assert said in ended.err
    assert "batchwright replay 1" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert next(run["status"] for run in shop.call("status", "--json").document["runs"]) == "STOPPED"
    again = shop.spawn("replay", "1", "--json")
    assert (again.code, again.document["still_open"], again.document["stopped"]) == (0, 0, None)
    with closing(sqlite3.connect(shop.folder / "late.db")) as connection:
        assert sorted(connection.execute("SELECT id FROM late")) == [(number,) for number in range(9)]


def test_signals_are_silent_when_they_are_to_be(shop):
    ended = shop.spawn("run", "jobs.py:signalled", "--name", "SIGTERM", "--quiet")
    assert (ended.code, ended.out, ended.err) == (143, "", "")
    again = shop.spawn("run", "jobs.py:signalled", "--name", "SIGTERM", "--signals", "2", "--quiet")
    assert (again.code, again.out, again.err) == (143, "", "")


def test_without_a_time_of_grace_the_first_signal_ends_the_run_at_once(shop):
    ended = shop.spawn("run", "jobs.py:waiting", "--grace", "0")
    assert ended.code == 143
    assert "stopped at once" in ended.err


def test_a_run_whose_time_is_over_exits_with_5_and_says_why(shop):
    ended = shop.spawn("run", "jobs.py:waiting", "--timeout", "0.2", "--no-progress")
    assert ended.code == 5
    assert "stopping at the end of this chunk: timeout_seconds=0.2 of job 'waiting' are over" in ended.err
    assert ended.err.splitlines()[-1] == "next: batchwright resume 1"
    assert shop.call("status", "--json").document["runs"][0]["error"] == "timeout_seconds=0.2 of job 'waiting' are over"


def test_the_time_of_grace_is_a_number_of_seconds(shop):
    for words in (("--grace", "-1"), ("--grace", "soon"), ("--timeout", "0"), ("--timeout", "inf")):
        assert shop.call("run", "jobs.py:again", *words).code == 2


def row(path, number):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM batchwright_job_executions WHERE id = ?", (number,)).fetchone()
        return dict(found)

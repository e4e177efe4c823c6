"""`batchwright resume`: goes on with what can be gone on with, and says why not otherwise."""

from contextlib import closing
from pathlib import Path

import pytest

from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.execution import RunRequest
from batchwright.model.status import Status


def test_a_killed_run_is_gone_on_with_from_any_folder(shop, tmp_path_factory, monkeypatch):
    assert shop.spawn("run", "jobs.py:killed").code == -9
    shop.mend()
    ledger = shop.folder / ".batchwright" / "ledger.db"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    ended = shop.call("resume", "1", "--ledger", str(ledger), "--json")
    assert (ended.code, ended.document["run"], ended.document["counts"]["written"]) == (0, 2, 10)
    assert not list(Path.cwd().iterdir())


def test_a_stopped_run_is_resumed_in_parts_with_the_parameters_it_had(shop):
    shop.call("run", "jobs.py:sales", "--day", "2026-11-22", "--n", "30", "--limit", "10")
    ended = shop.call("resume", "1", "--limit", "10")
    assert ended.code == 5
    assert "next: batchwright resume 2" in ended.err
    ended = shop.call("resume", "1", "--json")
    assert (ended.code, ended.document["run"], ended.document["counts"]["read"]) == (3, 3, 30)


def test_secrets_come_from_the_environment_and_are_not_shown(shop, monkeypatch):
    shop.call("run", "jobs.py:fetch", "--token", "t0ps3cret", "--n", "3", "--limit", "1")
    assert shop.call("resume", "1").code != 0
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "hunter2")
    ended = shop.call("resume", "1")
    assert ended.code == 2
    assert "hunter2" not in ended.out + ended.err
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "t0ps3cret")
    assert shop.call("resume", "1").code == 0


def test_complete_work_is_refused_with_the_command_that_begins_it_anew(shop):
    shop.call("run", "jobs.py:again", "--limit", "1")
    shop.call("run", "jobs.py:again")
    ended = shop.call("resume", "1")
    assert ended.code == 2
    refusal, command = ended.err.splitlines()
    assert refusal.startswith("error: run 2 of job 'again' is COMPLETED; there is nothing to go on with; begin it anew")
    assert command == (
        "to begin anew: batchwright run jobs.py:again --again --yes  # what it added is added a second time"
    )


def test_work_under_way_is_refused_as_running_elsewhere(shop):
    with closing(SqliteLedger(shop.folder / ".batchwright" / "ledger.db")) as ledger:
        key = InstanceKey("held", "h")
        with ledger.own(key):
            run = ledger.begin_run(RunRequest(key, {}, ("s",)))
            ledger.move_run(run.id, Status.RUNNING)
            ended = shop.call("resume", "1")
    assert ended.code == 4
    assert "already running" in ended.err
    assert "next: batchwright stop 1" in ended.err


def test_a_run_started_by_hand_is_refused_naming_the_call(shop):
    with closing(SqliteLedger(shop.folder / ".batchwright" / "ledger.db")) as ledger:
        key = InstanceKey("by-hand", "h")
        with ledger.own(key):
            run = ledger.begin_run(RunRequest(key, {}, ("s",)))
            ledger.move_run(run.id, Status.FAILED)
    ended = shop.call("resume", "1")
    assert ended.code == 2
    assert "no job function to build it from again" in ended.err
    assert "batchwright.resume(…, job=…)" in ended.err


def test_work_whose_function_has_other_defaults_now_is_not_taken_for_the_same(shop):
    shop.call("run", "jobs.py:again", "--n", "5", "--limit", "1")
    jobs = shop.folder / "jobs.py"
    jobs.write_text(jobs.read_text().replace("def again(n: int = 4)", "def again(n: int = 5)"))
    ended = shop.call("resume", "1")
    assert ended.code == 2
    assert "is other work than" in ended.err
    assert len(shop.call("status", "--json").document["runs"]) == 1


@pytest.mark.parametrize("arguments", [("resume",), ("resume", "9"), ("resume", "x")])
def test_a_run_that_is_not_there_is_wrong_use(shop, arguments):
    shop.call("run", "jobs.py:again")
    assert shop.call(*arguments).code == 2

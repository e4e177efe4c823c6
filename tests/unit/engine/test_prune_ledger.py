"""What is forgotten, and that what stays says the same."""

import json
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batchwright import Job, Skip, Status, Step, abandon, prune, prune_targets, replay, rollback, run
from batchwright.engine.prune_ledger import PruneRule, prune_ledger
from batchwright.ledgers.memory import MemoryLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.errors import DeclarationError, GroundChangedError, JobFailedError, NotCompensableError
from batchwright.writers import effects, insert, text_file

LATER = datetime.now(UTC) + timedelta(days=1)


def a_job(folder, name="sales", day=1, bad=()):
    def check(row):
        if row["n"] in bad:
            raise ValueError(f"no {row['n']}")
        return row

    rows = [{"n": n} for n in range(5)]
    load = Step("load", read=rows, process=check, write=insert(f"sqlite:///{folder}/out.db", name), skip=Skip(limit=3))
    report = Step("report", read=range(3), process=str, write=text_file(folder / f"{name}-{day}.txt"))
    return Job(name, load, report, parameters={"day": day})


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".batchwright" / "ledger.db"


@pytest.fixture
def ledger(path):
    with closing(SqliteLedger(path)) as opened:
        yield opened


def known(ledger):
    with closing(SqliteHistory(ledger.address)) as history:
        return [execution.id for execution in history.runs(limit=100)]


def test_earlier_laps_go_and_the_last_one_still_says_that_it_is_complete(ledger, tmp_path):
    job = a_job(tmp_path)
    for again in (False, True, True):
        run(job, ledger=ledger, again=again, yes=True)
    result = prune(before=LATER, ledger=ledger)
    assert (result.forgotten.executions, result.forgotten.checkpoints, result.instances) == (2, 2, 1)
    assert known(ledger) == [3]
    assert run(job, ledger=ledger).already_complete
    assert prune(before=LATER, ledger=ledger).instances == 0
    assert run(job, ledger=ledger, again=True, yes=True).lap == 4


def test_earlier_attempts_go_but_those_that_did_a_step(ledger, tmp_path):
    job, fails = a_job(tmp_path), (tmp_path / "sales-1.txt")
    fails.mkdir()  # the report's place is taken
    for _ in range(2):
        with suppress(JobFailedError):
            run(job, ledger=ledger)
    fails.rmdir()
    run(job, ledger=ledger)
    prune(before=LATER, ledger=ledger)
    assert known(ledger) == [3, 1], "run 1 has done the first step"
    assert run(job, ledger=ledger).already_complete


def test_what_is_complete_is_still_checked_in_its_targets(ledger, tmp_path):
    job = a_job(tmp_path)
    run(job, ledger=ledger)
    prune(before=LATER, ledger=ledger, with_failures=True)
    (tmp_path / "sales-1.txt").unlink()
    with pytest.raises(GroundChangedError):
        run(job, ledger=ledger)


@pytest.mark.parametrize("status", ["stopped", "failed", "lost"])
def test_unfinished_work_is_left_alone(ledger, tmp_path, status):
    job = a_job(tmp_path)
    run(job, ledger=ledger)
    if status == "stopped":
        run(job, ledger=ledger, again=True, yes=True, limit=1)
    elif status == "failed":
        with suppress(JobFailedError):
            run(a_job(tmp_path, bad=range(5)), ledger=ledger, again=True, yes=True)
    else:
        from batchwright.model.execution import RunRequest

        with ledger.own(job.key):
            ledger.begin_run(RunRequest(job.key, job.parameters, ("load", "report"), next_lap=True))
    assert prune(before=LATER, ledger=ledger).instances == 0
    assert known(ledger) == [2, 1]


def test_work_under_way_is_left_alone_and_named(ledger, path, tmp_path):
    job = a_job(tmp_path)
    for again in (False, True):
        run(job, ledger=ledger, again=again, yes=True)
    with closing(SqliteLedger(path)) as other, other.own(job.key):
        result = prune(before=LATER, ledger=ledger)
    assert (result.busy, known(ledger)) == (("sales",), [2, 1])


def test_open_failures_stay_with_their_run_unless_they_may_go(ledger, tmp_path):
    for again, bad in ((False, {1, 3}), (True, ())):
        run(a_job(tmp_path, bad=bad), ledger=ledger, again=again, yes=True)
    file = tmp_path / ".batchwright" / "failures-1.jsonl"
    assert prune(before=LATER, ledger=ledger).forgotten.executions == 0
    assert file.exists()
    result = prune(before=LATER, ledger=ledger, with_failures=True)
    assert (result.forgotten.executions, result.forgotten.failures, result.files) == (1, 2, 1)
    assert not file.exists()


def test_replayed_failures_of_the_last_lap_go_and_open_ones_can_still_be_replayed(ledger, tmp_path):
    run(a_job(tmp_path, bad={1, 3}), ledger=ledger)
    replay(1, ledger=ledger, job=a_job(tmp_path, bad={3}))
    result = prune(before=LATER, ledger=ledger)
    assert result.forgotten.failures == 1
    with closing(SqliteHistory(ledger.address)) as history:
        assert [failure.ordinal for failure in history.failures(1)] == [3]
    assert replay(1, ledger=ledger, job=a_job(tmp_path)).replayed == 1


def test_the_newest_runs_of_each_job_and_young_ones_are_kept_whole(ledger, tmp_path):
    jobs = [a_job(tmp_path, name) for name in ("sales", "stock")]
    for again in (False, True, True):
        for job in jobs:
            run(job, ledger=ledger, again=again, yes=True)
    assert prune(before=LATER - timedelta(days=2), ledger=ledger).instances == 0
    assert prune(keep=2, before=LATER - timedelta(days=2), ledger=ledger).instances == 0
    assert prune(keep=2, ledger=ledger, job="sales").forgotten.executions == 1
    assert known(ledger) == [6, 5, 4, 3, 2]
    assert prune(keep=2, before=LATER, ledger=ledger).forgotten.executions == 1
    assert known(ledger) == [6, 5, 4, 3]


def test_a_dry_run_says_the_same_and_changes_nothing(ledger, path, tmp_path):
    for again in (False, True):
        run(a_job(tmp_path, bad={1}), ledger=ledger, again=again, yes=True)
    before = path.read_bytes()
    told = prune(before=LATER, ledger=ledger, with_failures=True, dry_run=True)
    assert path.read_bytes() == before
    assert (tmp_path / ".batchwright" / "failures-1.jsonl").exists()
    done = prune(before=LATER, ledger=ledger, with_failures=True)
    assert (told.forgotten.executions, told.forgotten.failures, told.files) == (1, 2, 2)
    assert replace(told.forgotten, checkpoints=done.forgotten.checkpoints) == done.forgotten
    assert told.files == done.files


def test_what_is_forgotten_is_gone_from_the_ledgers_files(path, tmp_path):
    def fail(row):
        raise ValueError(f"the customer's name is S3cretName, {row}")

    def leak():
        return Job("leak", Step("load", read=[1], process=fail, write=text_file(tmp_path / "out.txt"), skip=Skip()))

    with closing(SqliteLedger(path)) as ledger:
        run(leak(), ledger=ledger)
        files = [path, path.with_name("ledger.db-wal"), path.with_name("failures-1.jsonl")]
        assert any(b"S3cretName" in file.read_bytes() for file in files)
        assert prune(before=LATER, ledger=ledger, with_failures=True).problems == ()
        assert not any(b"S3cretName" in file.read_bytes() for file in files if file.exists())


def test_a_failure_file_of_another_ledger_in_the_same_folder_is_left_alone(ledger, tmp_path):
    run(a_job(tmp_path, bad={1}), ledger=ledger)
    file = tmp_path / ".batchwright" / "failures-1.jsonl"
    file.write_text(json.dumps({"job": "other", "run": 1}))
    assert prune(before=LATER, ledger=ledger, with_failures=True).files == 0
    assert file.exists()


def test_a_job_without_parameters_begins_behind_the_lap_it_had(tmp_path):
    ledger, job = MemoryLedger(), Job("nightly", Step("load", read=range(3), write=lambda numbers: None))
    laps = [run(job, ledger=ledger).lap for _ in range(3)]
    prune(before=LATER, ledger=ledger)
    assert (laps, [execution.id for execution in ledger.runs()]) == ([1, 2, 3], [3])
    assert run(job, ledger=ledger).lap == 4


@pytest.mark.parametrize("arguments", [{}, {"keep": 0}])
def test_what_may_go_has_to_be_said(ledger, arguments):
    with pytest.raises(DeclarationError):
        prune(ledger=ledger, **arguments)


def test_the_targets_forget_earlier_laps_and_still_vouch_for_the_last(ledger, tmp_path):
    job = a_job(tmp_path, bad={1})
    for again in (False, True, True):
        run(job, ledger=ledger, again=again, yes=True)
    told = prune_targets("sales", ledger=ledger, build=lambda execution: job, dry_run=True)
    done = prune_targets("sales", ledger=ledger, build=lambda execution: job)
    assert told == done
    assert (done.forgotten.checkpoints, done.forgotten.failures) == (2, 0), "open failures stay"
    assert run(job, ledger=ledger).already_complete
    assert prune_targets("sales", ledger=ledger, build=lambda execution: job).instances == 0
    swept = prune_targets("sales", ledger=ledger, build=lambda execution: job, with_failures=True)
    assert swept.forgotten.failures == 2


def test_a_new_ledger_still_learns_from_the_targets_what_was_done(tmp_path, ledger):
    rows = [{"n": n} for n in range(5)]
    job = Job("adds", Step("load", read=rows, write=insert(f"sqlite:///{tmp_path}/out.db", "t")), parameters={"d": 1})
    for again in (False, True):
        run(job, ledger=ledger, again=again, yes=True)
    prune_targets("adds", ledger=ledger, build=lambda execution: job)
    with closing(SqliteLedger(tmp_path / "new.db")) as new:
        result = run(job, ledger=new)
    assert (result.lap, result.read_now, result.status) == (2, 0, Status.COMPLETED)


def test_targets_that_cannot_be_reached_are_named(ledger, tmp_path):
    for again in (False, True):
        run(a_job(tmp_path), ledger=ledger, again=again, yes=True)
    result = prune_targets("sales", ledger=ledger)
    assert result.instances == 0
    assert "run 2" in result.problems[0]


def test_a_planted_rule_that_lets_the_last_run_go_is_caught(ledger, tmp_path):
    """What the tests above rely on: without its last run an instance is done again."""
    from batchwright.model.forgetting import Forgetting

    job = a_job(tmp_path)
    run(job, ledger=ledger)
    with ledger.own(job.key):
        ledger.forget(job.key, Forgetting(runs=(1,)))
    assert not run(job, ledger=ledger).already_complete


def test_pages_do_not_matter(monkeypatch, tmp_path):
    from batchwright.engine import prune_ledger as module

    monkeypatch.setattr(module, "PAGE", 2)
    ledger = MemoryLedger()
    for day in range(1, 4):
        for again in (False, True):
            run(a_job(tmp_path, day=day), ledger=ledger, again=again, yes=True)
    result = prune_ledger(ledger, ledger, PruneRule(before=LATER), lambda runs: 0)
    assert (result.instances, [execution.id for execution in ledger.runs()]) == (3, [6, 4, 2])


class Bank:
    """Notes what it is called for, by key, and takes it back."""

    def __init__(self):
        self.calls, self.undone, self.fails_at = [], [], None

    def pay(self, output, key):
        if output == self.fails_at:
            raise RuntimeError("closed")
        self.calls.append((output, key))
        return {"id": output}

    def back(self, effect):
        self.undone.append(effect.key)

    def job(self):
        return Job(
            "bank", Step("pay", read=range(3), write=effects(self.pay), compensate=self.back), parameters={"d": 1}
        )


def test_effects_of_the_newest_lap_stay_so_that_they_are_neither_made_again_nor_beyond_undoing(ledger):
    bank = Bank()
    first, second = (run(bank.job(), ledger=ledger, again=again, yes=True) for again in (False, True))
    assert prune(before=LATER, ledger=ledger, with_failures=True).forgotten.executions == 1
    key = bank.job().key
    kept = [len(ledger.last_effects(key.step(lap, "pay"), None, 9)) for lap in (first.lap, second.lap)]
    assert kept == [0, 3]
    assert run(bank.job(), ledger=ledger).already_complete
    assert len(bank.calls) == 6
    rollback(second.run, ledger=ledger, job=bank.job())
    assert sorted(bank.undone) == sorted(key for _, key in bank.calls[3:])


def test_effects_of_work_that_is_not_over_are_left_alone(ledger):
    bank = Bank()
    bank.fails_at = 2
    with suppress(JobFailedError):
        run(bank.job(), ledger=ledger)
    assert prune(before=LATER, ledger=ledger, with_failures=True).instances == 0
    bank.fails_at = None
    run(bank.job(), ledger=ledger)
    assert [output for output, _ in bank.calls] == [0, 1, 2]


def test_effects_of_work_that_is_given_up_stay_in_the_log_and_new_ones_have_other_keys(ledger):
    bank = Bank()
    bank.fails_at = 2
    with suppress(JobFailedError):
        run(bank.job(), ledger=ledger)
    (left,) = abandon(1, ledger=ledger, job=bank.job()).steps
    assert (left.outputs, left.removed) == (2, "")
    with pytest.raises(NotCompensableError, match="it is ABANDONED"):
        rollback(1, ledger=ledger, job=bank.job())
    bank.fails_at = None
    run(bank.job(), ledger=ledger, again=True, yes=True)
    assert len({key for _, key in bank.calls}) == 5
    prune(before=LATER, ledger=ledger)
    assert run(bank.job(), ledger=ledger).already_complete

"""Work that is given up: the mark first, then its own stages; nothing that anybody has seen is touched."""

from contextlib import suppress

import pytest

from batchwright import Job, Status, Step, abandon, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import AbandonedError, JobFailedError, NotResumableError
from batchwright.writers import insert, text_file


def fail_at(number):
    def check(item):
        if item == number:
            raise ValueError(f"no {item}")
        return f"{item}"

    return check


def a_job(tmp_path, failing=7):
    """A file that is whole, then a file and a table that are not."""
    table = insert(f"sqlite:///{tmp_path}/out.db", "numbers")
    rows = Step("rows", read=[{"n": n} for n in range(10)], write=table, chunk_size=2, after=())
    whole = Step("whole", read=range(3), process=str, write=text_file(tmp_path / "whole.txt"), after=())
    part = Step(
        "part", read=range(10), process=fail_at(failing), write=text_file(tmp_path / "part.txt"), chunk_size=2, after=()
    )
    return Job("numbers", rows, whole, part, Step("last", read=range(3), write=print))


@pytest.fixture
def failed(tmp_path):
    ledger = MemoryLedger()
    with suppress(JobFailedError):
        run(a_job(tmp_path), ledger=ledger)
    assert list(tmp_path.glob(".part.txt.*.stage"))
    return ledger


def test_it_is_final_and_says_what_each_step_leaves(failed, tmp_path):
    job = a_job(tmp_path)
    result = abandon(1, ledger=failed, job=job)
    rows, whole, part = result.steps
    assert (rows.step, rows.outputs, rows.finished, rows.removed) == ("rows", 10, True, "")
    assert (whole.step, whole.outputs, whole.finished) == ("whole", 3, True)
    assert (part.outputs, part.finished) == (0, False)
    assert part.removed.startswith("stage ")
    assert failed.last_run(job.key).status is Status.ABANDONED
    with pytest.raises(AbandonedError):
        run(job, ledger=failed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.db", "whole.txt"]


def test_only_its_own_stages_are_removed(failed, tmp_path):
    other = tmp_path / ".part.txt.0123456789abcdef.stage"
    other.touch()
    abandon(1, ledger=failed, job=a_job(tmp_path))
    assert [path.name for path in tmp_path.glob(".*.stage")] == [other.name]


def test_a_second_time_cleans_up_what_the_first_did_not_come_to(failed, tmp_path):
    job = a_job(tmp_path)
    failed.move_run(1, Status.ABANDONED)  # as if it had been killed right behind the mark
    result = abandon(1, ledger=failed, job=job)
    assert result.already
    assert result.steps[2].removed
    assert abandon(1, ledger=failed, job=job).steps[2].removed == ""
    assert not list(tmp_path.glob(".*.stage"))


def test_what_began_anew_is_whole(failed, tmp_path):
    abandon(1, ledger=failed, job=a_job(tmp_path))
    result = run(a_job(tmp_path, failing=99), ledger=failed, again=True, yes=True)
    assert result.status is Status.COMPLETED
    assert (tmp_path / "part.txt").read_text().split() == [str(n) for n in range(10)]


def test_a_job_that_is_not_at_hand_is_given_up_and_nothing_is_removed(failed, tmp_path):
    result = abandon(1, ledger=failed)
    assert "no job function" in result.steps[2].problem
    assert failed.run(1).status is Status.ABANDONED
    assert list(tmp_path.glob(".part.txt.*.stage"))


def test_a_stage_that_is_damaged_can_be_given_up(failed, tmp_path):
    (stage,) = tmp_path.glob(".part.txt.*.stage")
    stage.write_text("x")
    assert abandon(1, ledger=failed, job=a_job(tmp_path)).steps[2].removed == f"stage {stage}"


def test_a_target_that_moved_is_not_looked_at(failed, tmp_path):
    moved = Job(
        "numbers",
        *(step for step in a_job(tmp_path).steps if step.name != "part"),
        Step("part", read=range(10), process=str, write=text_file(tmp_path / "elsewhere.txt"), after=()),
    )
    result = abandon(1, ledger=failed, job=moved)
    assert "writes to" in result.steps[2].problem
    assert list(tmp_path.glob(".part.txt.*.stage"))


@pytest.mark.parametrize("again", [True, False])
def test_complete_work_and_an_older_run_are_refused(failed, tmp_path, again):
    job = a_job(tmp_path, failing=99)
    run(job, ledger=failed, again=again, yes=True)
    with pytest.raises(NotResumableError, match="is COMPLETED"):
        abandon(2, ledger=failed, job=job)
    with pytest.raises(NotResumableError, match="not the newest"):
        abandon(1, ledger=failed, job=job)
    assert failed.run(2).status is Status.COMPLETED


def test_a_run_whose_process_is_gone_is_closed_first_and_its_steps_with_it(tmp_path):
    ledger, job = MemoryLedger(), a_job(tmp_path)
    from batchwright.model.execution import RunRequest

    with ledger.own(job.key):
        begun = ledger.begin_run(RunRequest(job.key, {}, ("rows",)))
        ledger.move_run(begun.id, Status.RUNNING)
        ledger.begin_step(begun.id, job.key.step(1, "rows"), "list", job.steps[0].target_address, "exactly once")
    assert ledger.run(1).status is Status.LOST
    abandon(1, ledger=ledger, job=job)
    assert ledger.run(1).status is Status.ABANDONED
    assert [step.status for step in ledger.steps(1)] == [Status.FAILED]

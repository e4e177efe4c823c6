"""Running again from a step on: the steps before it are left as they are, and stay complete."""

import pytest
from tests.unit.engine.runs import as_row, rows, run_here, url
from tests.unit.engine.test_replay_failures import Mendable

from batchwright import DROP, Job, Skip, Step, replay, run
from batchwright.engine import take_over
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import ConfirmationError, DeclarationError, GroundChangedError, NotResumableError
from batchwright.readers import query, text_lines
from batchwright.writers import insert, text_file, upsert

DAY = {"day": "2026-11-24"}


class Killed(BaseException):
    """What nothing of ours catches."""


def chain(folder, process=as_row, *, audit=insert):
    """Rows are loaded, listed in a file, summed up by another step; one stands apart."""
    database = url(folder / "t.db")
    load = Step("load", read=range(5), process=process, write=insert(database, "t"), skip=Skip(), chunk_size=2)
    listing = Step(
        "list",
        read=query(database, "SELECT x FROM t ORDER BY x"),
        process=lambda row: f"item {row['x']}" if row["x"] != 3 else fail(),
        write=text_file(folder / "list.txt"),
        skip=Skip(),
    )
    total = Step(
        "total",
        read=query(database, "SELECT count(*) AS n FROM t"),
        write=upsert(database, "totals", key="n"),
    )
    apart = Step("apart", read=range(2), process=as_row, write=audit(database, "apart"), after=())
    return Job("j", load, listing, total, apart, parameters=DAY)


def fail():
    raise ValueError("three")


def test_only_the_step_and_those_after_it_are_run_again(tmp_path):
    process = Mendable(1)
    job = chain(tmp_path, process)
    ledger = run_here(job).ledger
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).stale == ("list", "total")
    ran = run_here(job, ledger=ledger, again=True, from_step="list")
    assert ran.result.lap == 2
    assert [(step.name, step.already_complete) for step in ran.result.steps] == [
        ("load", True),
        ("list", False),
        ("total", False),
        ("apart", True),
    ]
    assert sorted(rows(tmp_path / "t.db")) == [0, 1, 2, 3, 4]
    assert rows(tmp_path / "t.db", "SELECT n FROM totals ORDER BY n") == [4, 5]
    assert (tmp_path / "list.txt").read_text() == "".join(f"item {n}\n" for n in (0, 1, 2, 4))
    assert rows(tmp_path / "t.db", "SELECT x FROM apart") == [0, 1]
    assert run_here(job, ledger=ledger).result.already_complete


def test_a_file_that_is_taken_over_stays_and_is_replayed_into_under_the_new_lap(tmp_path):
    process = Mendable(1)
    job = chain(tmp_path, process)
    ledger = run_here(job).ledger
    run_here(job, ledger=ledger, again=True, from_step="total")
    assert [(failure.step, failure.ordinal) for failure in ledger.failures(2)] == [("list", 2), ("load", 1)]
    process.refused = set()
    assert replay(2, ledger=ledger, job=job, step="load").replayed == 1
    assert sorted(rows(tmp_path / "t.db")) == [0, 1, 2, 3, 4]
    assert {step.key.step: step.status for step in ledger.steps(2)} == {
        "load": "COMPLETED_WITH_FAILURES",
        "list": "COMPLETED_WITH_FAILURES",
        "total": "COMPLETED",
        "apart": "COMPLETED",
    }


def test_another_ledger_finds_complete_what_was_taken_over(tmp_path):
    database = url(tmp_path / "t.db")
    load = Step("load", read=range(3), process=as_row, write=insert(database, "t"))
    total = Step("total", read=[{"n": 1}], write=insert(database, "totals"))
    job = Job("j", load, total, parameters=DAY)
    ledger = run_here(job).ledger
    run_here(job, ledger=ledger, again=True, confirmed=True, from_step="total")
    assert [step.already_complete or step.read_before == step.counts.read for step in run_here(job).result.steps] == [
        True,
        True,
    ]
    assert rows(tmp_path / "t.db") == [0, 1, 2]
    assert rows(tmp_path / "t.db", "SELECT n FROM totals") == [1, 1]


@pytest.mark.parametrize("killed_at", range(5))
def test_killed_while_it_takes_over_nothing_is_run_twice_without_being_asked(tmp_path, killed_at):
    class Ledger(MemoryLedger):
        calls = None

        def begin_run(self, request):
            self.reach()
            return super().begin_run(request)

        def begin_step(self, run, key, *described):
            self.reach()
            return super().begin_step(run, key, *described)

        def end_step(self, *outcome):
            self.reach()
            super().end_step(*outcome)

        def reach(self):
            if self.calls is not None:
                self.calls += 1
                if self.calls > killed_at:
                    raise Killed

    ledger, job = Ledger(), chain(tmp_path)
    run_here(job, ledger=ledger)
    ledger.calls = 0
    with pytest.raises(Killed):
        run_here(job, ledger=ledger, again=True, from_step="list")
    ledger.calls = None
    result = run_here(job, ledger=ledger).result
    assert result.already_complete is (killed_at == 0)
    assert result.lap == (1 if killed_at == 0 else 2)
    assert rows(tmp_path / "t.db") == [0, 1, 2, 3, 4]
    assert rows(tmp_path / "t.db", "SELECT x FROM apart") == [0, 1]
    assert run_here(job, ledger=ledger, again=True, from_step="list").result.status == "COMPLETED_WITH_FAILURES"
    assert rows(tmp_path / "t.db") == [0, 1, 2, 3, 4]
    assert rows(tmp_path / "t.db", "SELECT x FROM apart") == [0, 1]


def test_steps_that_add_rows_again_need_a_yes_and_those_taken_over_do_not(tmp_path):
    job = chain(tmp_path)
    ledger = run_here(job).ledger
    with pytest.raises(ConfirmationError, match="step 'load' adds rows"):
        run_here(job, ledger=ledger, again=True, from_step="load")
    assert run_here(job, ledger=ledger, again=True, from_step="total").result.lap == 2
    assert run_here(job, ledger=ledger, again=True, confirmed=True, from_step="load").result.lap == 3
    assert len(rows(tmp_path / "t.db")) == 10


def test_what_comes_before_has_to_be_complete(tmp_path):
    job = chain(tmp_path)
    with pytest.raises(NotResumableError, match="step 'load', which would be left as it is, is not complete"):
        run_here(job, again=True, from_step="list")
    ledger = run_here(job, limit=2).ledger
    with pytest.raises(NotResumableError, match="run the job to its end first"):
        run_here(job, ledger=ledger, again=True, from_step="list")
    with pytest.raises(NotResumableError, match="no step 'lst'; its steps are load, list, total, apart"):
        run_here(job, ledger=ledger, again=True, from_step="lst")


def test_what_has_become_of_the_input_of_a_step_that_is_kept_does_not_matter(tmp_path):
    (tmp_path / "in.txt").write_text("1\n2\n")
    load = Step("load", read=text_lines(tmp_path / "in.txt"), process=as_row, write=insert(url(tmp_path / "t.db"), "t"))
    job = Job("j", load, Step("total", read=[1], write=len), parameters=DAY)
    ledger = run_here(job).ledger
    (tmp_path / "in.txt").write_text("1\nx\n")
    assert run_here(job, ledger=ledger, again=True, from_step="total").result.status == "COMPLETED"
    assert run_here(job, ledger=ledger).result.already_complete
    assert rows(tmp_path / "t.db") == ["1", "2"]


def test_a_target_that_lost_its_mark_is_not_taken_over(tmp_path):
    job = chain(tmp_path)
    ledger = run_here(job).ledger
    (tmp_path / "list.txt").unlink()
    with pytest.raises(GroundChangedError, match="it is gone"):
        run_here(job, ledger=ledger, again=True, from_step="total")
    assert ledger.last_run(job.key).lap == 1


def test_without_again_it_is_refused(tmp_path):
    with pytest.raises(DeclarationError, match="--from STEP --again"):
        run(Step("s", read=[1], process=lambda item: DROP, write=len), ledger=tmp_path / "l.db", from_step="s")
    assert take_over.steps_from(chain(tmp_path), ["list"]) == ["list", "total"]

"""Declaration, target and ledger may change between two runs: what is said, with exit code 2, what each flag does."""

import copy
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engine.runs import as_text, copying, database, refused_here, rows, run_here, url

from batchwright import Job, Status, Step
from batchwright.engine import describe_job
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import GroundChangedError
from batchwright.model.version import VERSION
from batchwright.readers import csv_rows
from batchwright.writers import execute, insert, text_file, upsert


def two_steps(folder: Path, **changes: Any) -> Job:
    (folder / "in.csv").write_text("id;name\n1;a\n2;b\n3;c\n4;d\n")
    made: dict[str, Any] = {"delimiter": ";", "write": insert(url(folder / "t.db"), "t"), "chunk_size": 2, **changes}
    read = csv_rows(folder / "in.csv", delimiter=made["delimiter"])
    first = Step(made.get("name", "first"), read=read, write=made["write"], chunk_size=made["chunk_size"])
    second = Step("second", read=[1, 2, 3], process=as_text, write=insert(url(folder / "t.db"), "u"))
    steps = {"added": [first, second, third(folder)], "removed": [first], "swapped": [second, first]}
    return Job("j", *steps.get(made.get("steps", ""), [first, second]), parameters={"month": 11})


def third(folder: Path) -> Step[Any, Any]:
    return Step("third", read=[1], process=as_text, write=insert(url(folder / "t.db"), "v"))


DECLARATIONS = [
    ({"chunk_size": 3}, "", ""),
    ({"delimiter": ","}, "step 'first': delimiter was ';', now it is ','", "accept_input"),
    ({"write": "upsert"}, "step 'first': writing was insert, now it is upsert by id", "adopt"),
    ({"write": "columns"}, "step 'first': columns was not set, now it is id, name", "adopt"),
    ({"steps": "added"}, "step 'third' is new", "adopt"),
    ({"steps": "removed"}, "step 'second' is gone", "adopt"),
    ({"steps": "swapped"}, "step 'second' followed first, now it follows nothing", "adopt"),
    ({"name": "renamed"}, "step 'first' is now called 'renamed'", "adopt"),
]


@pytest.mark.parametrize(("change", "said", "flag"), DECLARATIONS)
def test_another_declaration_is_said_in_words_before_anything_is_written(change, said, flag, tmp_path):
    writers = {
        "upsert": upsert(url(tmp_path / "t.db"), "t", key="id"),
        "columns": insert(url(tmp_path / "t.db"), "t", columns=["id", "name"]),
    }
    change = {key: writers.get(value, value) if key == "write" else value for key, value in change.items()}
    ran = run_here(two_steps(tmp_path), limit=2)
    if not said:
        assert run_here(two_steps(tmp_path, **change), ledger=ran.ledger).result.status is Status.COMPLETED
        return
    with pytest.raises(GroundChangedError) as caught:
        run_here(two_steps(tmp_path, **change), ledger=ran.ledger)
    assert said in str(caught.value)
    assert f"--{flag.replace('_', '-')}" in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(rows(tmp_path / "t.db")) == 2
    assert len(ran.ledger.runs()) == 1
    other = "adopt" if flag == "accept_input" else "accept_input"
    with pytest.raises(GroundChangedError):
        run_here(two_steps(tmp_path, **change), ledger=ran.ledger, **{other: True})
    # What the flag allows, the target may still refuse.
    assert run_here(two_steps(tmp_path, **change), ledger=ran.ledger, **{flag: True}).result.run == 2


def test_of_complete_work_only_other_steps_are_refused_the_rest_is_a_warning(tmp_path):
    ran = run_here(two_steps(tmp_path))
    again = run_here(two_steps(tmp_path, delimiter=","), ledger=ran.ledger)
    assert again.result.already_complete
    assert again.result.warnings == ("step 'first': delimiter was ';', now it is ','",)
    with pytest.raises(GroundChangedError, match="step 'third' is new"):
        run_here(two_steps(tmp_path, steps="added"), ledger=ran.ledger)
    adopted = run_here(two_steps(tmp_path, steps="added"), ledger=ran.ledger, adopt=True)
    assert [step.already_complete for step in adopted.result.steps] == [True, True, False]
    assert rows(tmp_path / "t.db", "SELECT count(*) FROM v") == [1]


def test_the_run_remembers_its_declaration_and_the_version(tmp_path):
    ran = run_here(two_steps(tmp_path))
    assert ran.ledger.runs()[0].version == VERSION


def test_a_function_whose_file_has_changed_is_a_warning(tmp_path):
    def load(text: str) -> Any:
        path = tmp_path / "functions.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("functions", path)
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.process

    target = insert(url(tmp_path / "t.db"), "t")
    old, new = (load(f"def process(item):\n    return {{'item': item + {n}}}\n") for n in (1, 2))
    load("def process(item):\n    return {'item': item + 1}\n")
    ran = run_here(Step("s", read=range(5), process=old, write=target), limit=2)
    load("def process(item):\n    return {'item': item + 2}\n")
    again = run_here(Step("s", read=range(5), process=new, write=target), ledger=ran.ledger)
    assert again.result.status is Status.COMPLETED
    assert again.result.warnings == ("step 's': the file of its function has changed since the work was begun",)


def test_another_version_of_batchwright_is_a_warning_while_work_is_unfinished(tmp_path, monkeypatch):
    ran = run_here(two_steps(tmp_path), limit=2)
    monkeypatch.setattr(describe_job, "VERSION", "99.0")
    again = run_here(two_steps(tmp_path), ledger=ran.ledger)
    assert again.result.status is Status.COMPLETED
    assert again.result.warnings == (f"batchwright was {VERSION}, now it is 99.0",)
    monkeypatch.undo()
    assert run_here(two_steps(tmp_path), ledger=ran.ledger).result.warnings == ()


def test_another_database_at_the_same_address_is_told_by_its_identity(tmp_path):
    target, other = tmp_path / "t.db", tmp_path / "other.db"
    ran = run_here(copying(range(10), tmp_path), limit=4)
    # The same work was done in another database, by another ledger, and further; then it comes to stand there.
    moved = tmp_path / "moved.db"
    target.rename(moved)
    run_here(copying(range(10), tmp_path), limit=6)
    target.rename(other)
    for path in tmp_path.glob("t.db-*"):
        path.unlink()
    shutil.copy(other, target)
    why = refused_here(copying(range(10), tmp_path), ledger=ran.ledger)
    assert "was begun in another database" in why
    assert "batchwright_identity" in why
    assert len(rows(target)) == 6
    adopted = run_here(copying(range(10), tmp_path), ledger=ran.ledger, adopt=True)
    assert adopted.result.read == 10
    assert rows(target) == [str(n) for n in range(10)]
    assert run_here(copying(range(10), tmp_path), ledger=ran.ledger).result.lap == 2


def test_a_copy_of_a_database_is_the_same_database(tmp_path):
    ran = run_here(copying(range(10), tmp_path), limit=4)
    shutil.copy(tmp_path / "t.db", tmp_path / "copy.db")
    (tmp_path / "t.db").unlink()
    shutil.copy(tmp_path / "copy.db", tmp_path / "t.db")
    assert run_here(copying(range(10), tmp_path), ledger=ran.ledger).result.read == 10


@pytest.mark.parametrize("how", ["restored", "emptied"])
def test_a_target_that_lacks_work_is_refused_or_adopted(how, tmp_path):
    target = tmp_path / "t.db"
    ran = run_here(copying(range(10), tmp_path), limit=2)
    backup = tmp_path / "backup.db"
    shutil.copy(target, backup)
    run_here(copying(range(10), tmp_path), ledger=ran.ledger, limit=4)
    target.unlink()
    if how == "restored":
        shutil.copy(backup, target)
    why = refused_here(copying(range(10), tmp_path), ledger=ran.ledger)
    assert "its target lacks work that was committed to it" in why
    assert "--adopt" in why
    assert run_here(copying(range(10), tmp_path), ledger=ran.ledger, adopt=True).result.read == 10
    assert rows(target) == [str(n) for n in range(10)]


def test_a_finished_mark_that_is_gone_is_refused_or_adopted(tmp_path):
    job = Job("j", copying(range(10), tmp_path), parameters={"month": 11})
    ran = run_here(job)
    (tmp_path / "t.db").unlink()
    with pytest.raises(GroundChangedError, match=r"its target does not show it.*--adopt"):
        run_here(job, ledger=ran.ledger)
    adopted = run_here(job, ledger=ran.ledger, adopt=True)
    assert (adopted.result.status, adopted.result.lap, adopted.result.read) == (Status.COMPLETED, 1, 10)
    assert len(rows(tmp_path / "t.db")) == 10


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_published_file_that_is_gone_or_changed_is_refused_or_adopted(how, tmp_path):
    target = tmp_path / "out.txt"
    job = Job("j", Step("s", read=["a", "b"], write=text_file(target)), parameters={"month": 11})
    ran = run_here(job)
    target.unlink() if how == "gone" else target.write_text("other\n")
    with pytest.raises(GroundChangedError, match="--adopt"):
        run_here(job, ledger=ran.ledger)
    assert run_here(job, ledger=ran.ledger, adopt=True).result.already_complete


def ledgers_of_a_job_without_parameters(folder: Path) -> tuple[Job, MemoryLedger]:
    job = Job("nightly", copying(range(10), folder))
    return job, run_here(job).ledger


def test_a_new_ledger_does_not_take_finished_work_for_new(tmp_path):
    job, _ = ledgers_of_a_job_without_parameters(tmp_path)
    with pytest.raises(GroundChangedError) as caught:
        run_here(job, ledger=MemoryLedger())
    assert caught.value.exit_code == 2
    assert "the targets show lap 1 finished, the ledger knows nothing of it" in str(caught.value)
    assert "--adopt" in str(caught.value)
    assert "--again" in str(caught.value)
    assert len(rows(tmp_path / "t.db")) == 10


def test_finished_work_is_adopted_by_a_new_ledger_and_recorded(tmp_path):
    job, _ = ledgers_of_a_job_without_parameters(tmp_path)
    ledger = MemoryLedger()
    adopted = run_here(job, ledger=ledger, adopt=True)
    assert (adopted.result.lap, adopted.result.read, adopted.result.read_now) == (1, 10, 0)
    assert [run.status for run in ledger.runs()] == [Status.COMPLETED]
    assert len(rows(tmp_path / "t.db")) == 10
    assert run_here(job, ledger=ledger).result.lap == 2


def test_again_begins_behind_what_the_targets_know(tmp_path):
    job, _ = ledgers_of_a_job_without_parameters(tmp_path)
    assert run_here(job, ledger=MemoryLedger(), again=True, confirmed=True).result.lap == 2
    assert len(rows(tmp_path / "t.db")) == 20


def test_a_ledger_that_is_older_than_its_targets_goes_on_in_the_lap_that_they_know(tmp_path):
    """It was restored from a backup of before the second lap, which was interrupted."""
    job, ledger = ledgers_of_a_job_without_parameters(tmp_path)
    backup = MemoryLedger()
    backup.__dict__.update({name: copy.copy(value) for name, value in vars(ledger).items() if name != "_guard"})
    run_here(job, ledger=ledger, limit=4)
    ran = run_here(job, ledger=backup)
    assert (ran.result.lap, ran.result.read, ran.result.read_now) == (2, 10, 6)
    assert len(rows(tmp_path / "t.db")) == 20


def test_flags_that_were_not_needed_are_harmless(tmp_path):
    job, ledger = ledgers_of_a_job_without_parameters(tmp_path)
    again = run_here(job, ledger=ledger, adopt=True, accept_input=True, limit=3)
    assert (again.result.lap, again.result.read) == (2, 3)
    assert run_here(job, ledger=ledger, adopt=True, accept_input=True).result.read == 10
    assert len(rows(tmp_path / "t.db")) == 20


def test_a_balance_is_right_after_an_adopted_backup(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (total INTEGER); INSERT INTO t VALUES (0)")
    declared = Step(
        "s", read=range(10), process=lambda n: (n,), write=execute(url(path), "UPDATE t SET total = total + ?")
    )
    ran = run_here(declared, limit=3)
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    run_here(declared, ledger=ran.ledger, limit=3)
    path.unlink()
    shutil.copy(backup, path)
    run_here(declared, ledger=ran.ledger, adopt=True)
    assert rows(path) == [45]


def changed_after_a_half(folder: Path) -> Job:
    """A job with parameters whose input was changed behind the back of a run that was stopped."""
    (folder / "in.csv").write_text("id;name\n1;a\n2;b\n3;c\n4;d\n")
    step = Step("first", read=csv_rows(folder / "in.csv", delimiter=";"), write=insert(url(folder / "t.db"), "t"))
    return Job("j", step, parameters={"month": 11})


@pytest.mark.parametrize("limit", [2, None])
def test_with_the_ledger_gone_a_refusal_records_nothing_and_its_choices_work(limit, tmp_path):
    job = changed_after_a_half(tmp_path)
    run_here(job, limit=limit)
    (tmp_path / "in.csv").write_text("id;name\n1;a\n9;b\n3;c\n4;d\n")
    ledger = MemoryLedger()
    why = refused_here(job, ledger=ledger)
    assert "the input of step 'first' has changed" in why
    assert "--accept-input" in why
    accepted = run_here(job, ledger=ledger, accept_input=True)
    assert (accepted.result.status, accepted.result.read) == (Status.COMPLETED, 4)
    assert len(rows(tmp_path / "t.db")) == 4


@pytest.mark.parametrize("how", ["gone", "shorter", "changed"])
def test_an_unfinished_file_whose_stage_is_not_as_it_was_is_refused_before_anything_runs(how, tmp_path):
    step = Step("s", read=["a", "b", "c"], write=text_file(tmp_path / "out.txt"), chunk_size=1, checkpoint_seconds=0)
    job = Job("j", step, parameters={"month": 11})
    ran = run_here(job, limit=2)
    (stage,) = tmp_path.glob(".out.txt.*.stage")
    stage.unlink() if how == "gone" else stage.write_text("x" if how == "shorter" else "x\ny\n")
    why = refused_here(job, ledger=ran.ledger)
    assert "is not as it was left" in why
    assert "--again" in why
    assert "abandon" not in why
    assert run_here(job, ledger=ran.ledger, again=True).result.status is Status.COMPLETED
    assert (tmp_path / "out.txt").read_text() == "a\nb\nc\n"

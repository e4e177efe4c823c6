"""Going on where a run ended: the ground is checked, the target's word goes first, nothing twice and nothing lost."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.engine.runs import Blocks, Breaking, as_row, bad, database, refused_here, rows, run_here, url

import batchwright
from batchwright import Job, Skip, Status, Step
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import ConfirmationError, FencedError, GroundChangedError
from batchwright.writers import execute, insert, text_file, upsert


def stop_at(item):
    """A processor that fails once at this item."""
    errors = [RuntimeError("power")]

    def process(found):
        if found == item and errors:
            raise errors.pop()
        if found == 2:
            raise ValueError("two")
        return as_row(found)

    return process


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_a_failed_run_is_gone_on_with_and_nothing_is_written_twice(tmp_path, chunk_size, at):
    target = insert(url(tmp_path / "t.db"), "t")
    declared = Step(
        "s", read=range(10), process=stop_at(at), write=target, chunk_size=chunk_size, skip=Skip(on=ValueError)
    )
    ran = run_here(declared)
    assert ran.result.status is Status.FAILED
    assert ran.result.read == at
    ran = run_here(declared, ledger=ran.ledger)
    assert ran.counts == (10, 9, 0, 1)
    assert rows(tmp_path / "t.db") == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert [failure.ordinal for failure in ran.failures] == [2]


def test_a_balance_is_the_same_after_a_restart(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (total INTEGER); INSERT INTO t VALUES (0)")
    errors = [RuntimeError("power")]

    def process(item):
        if item == 7 and errors:
            raise errors.pop()
        return (item,)

    declared = Step(
        "s", read=range(10), process=process, write=execute(url(path), "UPDATE t SET total = total + ?"), chunk_size=2
    )
    ran = run_here(declared)
    assert rows(path) == [sum(range(7))]
    run_here(declared, ledger=ran.ledger)
    assert rows(path) == [45]


def test_the_target_goes_before_a_ledger_that_is_new(tmp_path):
    declared = Step(
        "s", read=range(10), process=stop_at(5), write=insert(url(tmp_path / "t.db"), "t"), skip=Skip(on=ValueError)
    )
    job = Job("j", declared, parameters={"day": 1})
    assert run_here(job).result.read == 5
    ran = run_here(job, ledger=MemoryLedger())
    assert ran.counts == (10, 9, 0, 1)
    assert [failure.error for failure in ran.failures] == ["two"]
    assert rows(tmp_path / "t.db") == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert run_here(job, ledger=MemoryLedger()).counts == (10, 9, 0, 1)
    assert len(rows(tmp_path / "t.db")) == 9


def test_columns_are_settled_by_the_first_chunk_for_restarts_too(tmp_path):
    """With fewer columns in a later chunk, a restart must write NULL where an uninterrupted run does."""
    items = [{"k": 1, "v": 1}, {"k": 2}, {"k": 3}]
    script = "CREATE TABLE t (k INTEGER PRIMARY KEY, v DEFAULT 'default'); INSERT INTO t VALUES (3, 'old')"
    found = []
    for interrupted in (False, True):
        path = database(tmp_path / f"{interrupted}.db", script)
        declared = Step("s", read=items, write=upsert(url(path), "t", key="k"), chunk_size=1)
        ran = run_here(declared, limit=1 if interrupted else None)
        run_here(declared, ledger=ran.ledger)
        found.append(rows(path, "SELECT k, v FROM t ORDER BY k"))
    assert found == [[(1, 1), (2, None), (3, None)]] * 2


def test_columns_are_settled_by_the_first_chunk_for_rolled_back_chunks_too(tmp_path):
    def once(name, call):
        if (name, call) == ("commit", 2):
            import sqlite3

            error = sqlite3.OperationalError("locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error

    path = database(tmp_path / "t.db", "CREATE TABLE t (k INTEGER PRIMARY KEY, v DEFAULT 'default')")
    target = Breaking(insert(url(path), "t"), once)
    run_here(Step("s", read=[{"k": 1, "v": 1}, {"k": 2}], write=target, chunk_size=1))
    assert rows(path) == [(1, 1), (2, None)]


@pytest.mark.parametrize("changed", ["read", "write"])
def test_another_address_is_refused_before_anything_is_written(tmp_path, changed):
    targets = [insert(url(tmp_path / f"{n}.db"), "t") for n in range(2)]
    sources = [Blocks([[1], [2]], address=f"blocks {n}") for n in range(2)]

    def declared(source, target):
        return Step("s", read=source, process=as_row, write=target, chunk_size=1)

    ran = run_here(declared(sources[0], targets[0]), limit=1)
    other = declared(sources[1], targets[0]) if changed == "read" else declared(sources[0], targets[1])
    assert "--again" in refused_here(other, ledger=ran.ledger)
    assert rows(tmp_path / "0.db") == [1]
    assert not (tmp_path / "1.db").exists()
    assert run_here(declared(sources[0], targets[0]), ledger=ran.ledger).result.status is Status.COMPLETED
    assert rows(tmp_path / "0.db") == [1, 2]


def test_an_input_that_became_shorter_is_refused(tmp_path):
    items = [1, 2, 3, 4]
    declared = Step("s", read=items, process=as_row, write=insert(url(tmp_path / "t.db"), "t"), chunk_size=3)
    ran = run_here(declared, limit=3)
    del items[2:]
    assert "has become shorter" in refused_here(declared, ledger=ran.ledger)


@pytest.mark.parametrize("kind", ["database", "file"])
def test_a_target_deleted_after_completion_is_exit_2_naming_again(tmp_path, kind):
    path = tmp_path / "target"
    target = text_file(path) if kind == "file" else insert(url(path), "t", columns=["x"])
    read = ["a", "b"] if kind == "file" else [("a",), ("b",)]
    job = Job("j", Step("s", read=read, write=target), parameters={"day": 1})
    ran = run_here(job)
    path.unlink()
    with pytest.raises(GroundChangedError, match="--again") as caught:
        run_here(job, ledger=ran.ledger)
    assert caught.value.exit_code == 2
    again = run_here(job, ledger=ran.ledger, again=True, confirmed=True)
    assert (again.result.status, again.result.lap, again.result.read) == (Status.COMPLETED, 2, 2)


def test_a_target_deleted_in_mid_run_is_not_filled_with_the_rest_only(tmp_path):
    job = Job("j", Step("s", read=range(9), process=as_row, write=insert(url(tmp_path / "t.db"), "t"), chunk_size=2))
    ran = run_here(job, limit=4)
    (tmp_path / "t.db").unlink()
    assert "4 items were committed" in refused_here(job, ledger=ran.ledger)
    assert not (tmp_path / "t.db").exists()


def test_two_ledgers_on_one_target_never_write_twice(tmp_path):
    target = insert(url(tmp_path / "t.db"), "t")
    second: list = []

    def process(item):
        if item == 3 and not second:
            second.append(run_here(Job("j", declared(as_row), parameters={"day": 1}), ledger=MemoryLedger()))
        return as_row(item)

    def declared(function):
        return Step("s", read=range(6), process=function, write=target, chunk_size=2)

    first = run_here(Job("j", declared(process), parameters={"day": 1}))
    assert isinstance(first.error, FencedError)
    assert second[0].counts == (6, 6, 0, 0)
    assert rows(tmp_path / "t.db") == [0, 1, 2, 3, 4, 5]


def test_beginning_again_into_an_insert_needs_a_yes_and_says_how_many_rows(tmp_path):
    job = Job(
        "j", Step("s", read=range(3), process=as_row, write=insert(url(tmp_path / "t.db"), "t")), parameters={"day": 1}
    )
    ran = run_here(job)
    with pytest.raises(ConfirmationError, match=r"3 of them a second time.*--yes") as caught:
        run_here(job, ledger=ran.ledger, again=True)
    assert caught.value.exit_code == 2
    assert len(rows(tmp_path / "t.db")) == 3
    assert run_here(job, ledger=ran.ledger, again=True, confirmed=True).result.lap == 2
    assert rows(tmp_path / "t.db") == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kind", ["upsert", "ignore"])
def test_beginning_again_into_what_adds_no_rows_needs_no_yes(tmp_path, kind):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x PRIMARY KEY)")
    target = upsert(url(path), "t", key="x") if kind == "upsert" else insert(url(path), "t", on_conflict="ignore")
    job = Job("j", Step("s", read=range(3), process=as_row, write=target), parameters={"day": 1})
    ran = run_here(job)
    again = run_here(job, ledger=ran.ledger, again=True)
    assert again.counts == (3, 3, 0, 0)
    assert rows(path) == [0, 1, 2]


def test_failures_past_the_checkpoint_are_void_on_restart(tmp_path):
    """A file's checkpoint becomes durable later than its chunks: what lies behind it is read again."""
    target = text_file(tmp_path / "out")
    read = Blocks([["a", bad(), "c", bad(), "e"]])
    job = Job("j", Step("s", read=read, write=target, chunk_size=1, skip=Skip(), checkpoint_seconds=3600))
    ran = run_here(job, limit=3)
    ran = run_here(job, ledger=ran.ledger)
    assert [failure.ordinal for failure in ran.failures] == [1, 3]
    assert (tmp_path / "out").read_text() == "a\nc\ne\n"


KILLED = """
import os, sys
from batchwright import Skip, Step, run
from batchwright.engine import run_step
from batchwright.writers import text_file

run_step.NOTE_SECONDS = 0  # the ledger hears of every chunk at once

def process(item):
    if item == "d" and sys.argv[2] == "first":
        os._exit(9)
    if item == "b" and sys.argv[2] == "first":
        raise ValueError("not yet")
    return item

target = text_file(sys.argv[1] + "/out")
step = Step("s", read=list("abcde"), process=process, write=target, chunk_size=1, skip=Skip(), checkpoint_seconds=3600)
result = run(step, ledger=sys.argv[1] + "/ledger.db")
print(result.lap, result.read, result.failed, len(list(result.failures)))
"""


def test_a_failure_behind_the_durable_checkpoint_is_forgotten_when_its_item_is_read_again(tmp_path):
    """The ledger heard of it before the file was durable; read again, the item is good."""
    environment = {"PATH": "", "PYTHONPATH": str(Path(batchwright.__file__).parents[1])}
    done = [
        subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), attempt],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for attempt in ("first", "second")
    ]
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [(9, "", ""), (0, "1 5 0 0\n", "")]
    assert (tmp_path / "out").read_text() == "a\nb\nc\nd\ne\n"

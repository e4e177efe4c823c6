"""A table that unfinished work has rows in is dropped between two runs: said before anything runs, not made anew."""

from typing import Any

import pytest
from tests.unit.engine.runs import as_row, database, refused_here, rows, run_here, url

from batchwright import Job, Status, Step
from batchwright.writers import insert, route, upsert


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.db"


def job(write: Any, **options: Any) -> Job:
    step = Step("load", read=list(range(6)), process=as_row, write=write, chunk_size=2, **options)
    return Job("j", step, parameters={"month": 11})


WRITERS = [lambda at: insert(at, "t"), lambda at: insert(at, "t", columns=["x"]), lambda at: upsert(at, "t", key="x")]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("choice", "left"), [("adopt", [4, 5]), ("again", [0, 1, 2, 3, 4, 5])])
def test_a_table_that_is_gone_is_refused_and_both_choices_work(write, choice, left, path):
    work = job(write(url(path)))
    ran = run_here(work, limit=4)
    database(path, "DROP TABLE t")
    why = refused_here(work, ledger=ran.ledger)
    assert "step 'load': a table that it has written to is gone" in why
    assert "4 outputs were committed, t is gone from" in why
    assert "--adopt" in why
    assert "--again" in why
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 't'") == []
    ended = run_here(work, ledger=ran.ledger, confirmed=True, **{choice: True})
    assert ended.result.status is Status.COMPLETED
    assert rows(path) == left


def test_one_of_several_tables_that_is_gone_is_named(path):
    def job_of(**options: Any) -> Job:
        tables = {"even": insert(url(path), "even"), "odd": insert(url(path), "odd"), "none": insert(url(path), "none")}
        return job(route(tables, by=lambda row: "odd" if row["x"] % 2 else "even"), **options)

    ran = run_here(job_of(), limit=4)
    database(path, "DROP TABLE odd")
    assert "odd is gone" in refused_here(job_of(), ledger=ran.ledger)
    staged = run_here(job_of(atomic=True), ledger=ran.ledger, again=True, confirmed=True, limit=4)
    names = rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 13) = '_batchwright_'")
    database(path, f"DROP TABLE {names[0]}")
    assert f"{names[0]} is gone" in refused_here(job_of(atomic=True), ledger=staged.ledger, adopt=True)


def test_a_table_written_by_partitions_is_missed_too(path):
    def job_of() -> Job:
        return job(insert(url(path), "t"), partitions=2)

    ran = run_here(job_of(), limit=4)
    assert ran.result.status is Status.STOPPED
    database(path, "DROP TABLE t")
    assert "t is gone" in refused_here(job_of(), ledger=ran.ledger)


def test_nothing_is_said_of_a_table_without_rows_of_ours_nor_of_complete_work(path):
    def unwanted(item: int) -> Any:
        raise ValueError(item)

    work = job(insert(url(path), "t"))
    failed = run_here(
        Job("k", Step("s", read=[1], process=unwanted, write=insert(url(path), "t")), parameters={"m": 1})
    )
    assert failed.result.status is Status.FAILED
    ran = run_here(work)
    database(path, "DROP TABLE t")
    assert run_here(work, ledger=ran.ledger).result.already_complete

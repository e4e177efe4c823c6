"""Outputs that are no row, or not one that the table takes: each is its item's failure, its neighbours are written."""

import re
import sqlite3
from dataclasses import dataclass

import pytest
from tests.unit.engine.runs import database, rows, run_here, url
from tests.unit.writers.test_sql import types, write

from batchwright import Job, Skip, Status, Step, replay, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.failure import Phase
from batchwright.runners import Processes
from batchwright.writers import csv_file, execute, insert, route, upsert


@pytest.mark.parametrize("chunk_size", [1, 1_000])
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"a": 2, "b": 3}, "the row has b, and the columns are a, those of the first row"),
        ({}, "return DROP to drop an item"),
        (None, "return DROP to drop an item"),
        (7, "got int"),
        ((1, 2), "the row has 2 values for the 1 columns a"),
    ],
)
def test_a_row_that_does_not_fit_is_its_items_failure(tmp_path, odd, says, routed, atomic, chunk_size):
    target = insert(url(tmp_path / "t.db"), "t")
    target = route({"t": target}, by=lambda row: "t") if routed else target
    outputs = [{"a": 1}, odd, {"a": 3}]
    ran = write(tmp_path / "t.db", outputs, target, chunk_size=chunk_size, skip=Skip(limit=5), atomic=atomic)
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert [(failure.ordinal, failure.phase) for failure in ran.failures] == [(1, Phase.WRITE)]
    assert says in ran.failures[0].error
    assert rows(tmp_path / "t.db") == [1, 3]


@dataclass
class Narrow:
    a: int


@dataclass
class Wide(Narrow):
    b: int


def test_a_record_with_a_field_too_many_is_its_items_failure_like_a_dict(tmp_path):
    ran = write(tmp_path / "t.db", [Narrow(1), Wide(2, 3), Narrow(4)], insert(url(tmp_path / "t.db"), "t"), skip=Skip())
    assert ["the row has b, and the columns are a" in failure.error for failure in ran.failures] == [True]
    assert rows(tmp_path / "t.db") == [1, 4]


@pytest.mark.parametrize("nothing", [(), []])
@pytest.mark.parametrize("target", ["table", "file"])
def test_a_row_of_nothing_before_any_other_begins_neither_a_table_nor_a_file(tmp_path, target, nothing):
    writer = insert(url(tmp_path / "t.db"), "t") if target == "table" else csv_file(tmp_path / "t.csv")
    outputs = [nothing, nothing, {"a": 1}, {"a": 2}]
    ran = run_here(
        Step("s", read=range(4), process=outputs.__getitem__, write=writer, chunk_size=2, skip=Skip(limit=5))
    )
    assert ran.counts == (4, 2, 0, 2)
    if target == "table":
        assert rows(tmp_path / "t.db") == [1, 2]
    else:
        assert (tmp_path / "t.csv").read_text().split() == ["a", "1", "2"]


@pytest.mark.parametrize(
    ("more", "chunk_size"), [({}, 2), ({"workers": 2}, 2), ({"runner": Processes(2)}, 2), ({"partitions": 3}, 100)]
)
def test_a_row_that_does_not_fit_a_table_that_is_there_is_its_items_failure_though_it_is_the_first(
    tmp_path, more, chunk_size
):
    path = database(tmp_path / "t.db", "CREATE TABLE t (ID INTEGER)")
    declared = Step(
        "s",
        read=range(12),
        process=late_or_nothing,
        write=insert(url(path), "t"),
        skip=Skip(),
        chunk_size=chunk_size,
        **more,
    )
    ran = run_here(declared)
    assert {failure.place.detail: failure.error[:20] for failure in ran.failures} == {
        "item 1": "the row has late, an",
        "item 5": "the row has late, an",
        "item 8": "None is no output; r",
    }
    assert sorted(rows(path)) == [1, 2, 3, 5, 6, 8, 9, 10, 11]


def late_or_nothing(number):
    return None if number == 7 else {"id": number, "late": 1} if number in (0, 4) else {"id": number}


def test_the_advice_of_a_row_with_another_column_can_be_followed(tmp_path):
    path, given = tmp_path / "t.db", [{"a": 1}, {"a": 2, "b": 3}]
    job = Job("j", Step("s", read=range(2), process=given.__getitem__, write=insert(url(path), "t"), skip=Skip()))
    ran = run_here(job)
    assert "drop it in the processor; to write it, begin again (--again) with columns=" in ran.failures[0].error
    given[1] = {"a": 2}
    assert replay(1, ledger=ran.ledger, job=job).replayed == 1
    assert rows(path) == [1, 2]
    given[1] = {"a": 2, "b": 3}
    database(path, "ALTER TABLE t ADD COLUMN b")
    target = insert(url(path), "t", columns=["a", "b"])
    job = Job("j", Step("s", read=range(2), process=given.__getitem__, write=target, skip=Skip()))
    assert run_here(job, ledger=ran.ledger, again=True, confirmed=True).result.status is Status.COMPLETED
    assert rows(path) == [(1, None), (2, None), (1, None), (2, 3)]


def test_without_skip_the_error_names_the_item_whose_row_does_not_fit(tmp_path):
    ran = write(tmp_path / "t.db", [{"a": 1}, None])
    assert isinstance(ran.error, TypeError)
    assert "while writing item 2 (" in ran.result.error
    assert rows(tmp_path / "t.db") == [1]


def test_a_statement_without_parameters_for_an_output_is_its_items_failure(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (a)")
    ran = write(path, [(1,), None], execute(url(path), "INSERT INTO t VALUES (?)"), skip=Skip())
    assert "return DROP" in ran.failures[0].error
    assert rows(path) == [1]


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ([{}], "must not be empty"),
        ([7], "must be a dict or a dataclass.*got int"),
        ([None], "return DROP"),
        ([(1, 2)], "a tuple together with columns=.*got tuple"),
    ],
)
def test_outputs_of_which_none_is_a_row_are_failures_and_no_table_is_made(tmp_path, outputs, says):
    ran = write(tmp_path / "t.db", outputs, skip=Skip())
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert re.search(says, ran.failures[0].error)
    assert types(tmp_path / "t.db") == {}


@pytest.mark.parametrize("output", [(1,), (1, 2, 3), 7])
def test_a_row_that_does_not_fit_its_columns_stops_the_step(tmp_path, output):
    ran = write(tmp_path / "t.db", [(1, 2), output], insert(url(tmp_path / "t.db"), "t", columns=["a", "b"]))
    assert isinstance(ran.error, TypeError | ValueError)
    assert "while writing item 2 (" in ran.result.error
    assert rows(tmp_path / "t.db") == [(1, 2)]


@pytest.mark.parametrize("atomic", [False, True])
def test_a_row_without_its_key_is_set_aside_and_gets_none_of_another_row(tmp_path, atomic):
    given = [{"id": 1, "n": "x"}, {"id": None, "n": "none"}, {"n": "missing"}, {"id": 2, "n": "real"}]
    write = upsert(f"sqlite:///{tmp_path}/t.db", "t", key="id")
    result = run(Step("s", read=given, write=write, skip=Skip(limit=5), atomic=atomic), ledger=MemoryLedger())
    assert (result.written, result.failed) == (2, 2)
    assert "the row has no id, which is its key" in next(iter(result.failures)).error
    with sqlite3.connect(tmp_path / "t.db") as database:
        assert database.execute("SELECT * FROM t ORDER BY id").fetchall() == [(1, "x"), (2, "real")]

"""A step in partitions ends as the same step without: rows, counts, failures; whatever happens in between."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.runs import Ran, run_here

from batchwright.engine import run_partitions, split_step
from batchwright.engine.stop import Stop
from batchwright.engine.where_it_stands import where_it_stands
from batchwright.job import Job, one_step_job
from batchwright.launch import bind, replay, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError, GroundChangedError
from batchwright.model.policy import Skip
from batchwright.model.status import Status
from batchwright.operations import abandon
from batchwright.readers import csv_rows, query, text_lines
from batchwright.step import Step
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import csv_file, execute, insert, upsert

ITEMS = [{"id": n, "name": f"name {n}"} for n in range(100)]


def but_for_sevens(item: Any) -> Any:
    if item["id"] % 10 == 7:
        raise ValueError("a seven")
    return item


def step(folder: Path, **options: Any) -> Step[Any, Any]:
    given: dict[str, Any] = {
        "read": ITEMS,
        "process": but_for_sevens,
        "write": insert(f"sqlite:///{folder}/t.db", "t"),
        "chunk_size": 7,
        "skip": Skip(on=ValueError),
        "partitions": 4,
        "workers": 2,
    }
    return Step("load", **(given | options))


def rows(folder: Path, sql: str = "SELECT id FROM t ORDER BY id") -> list[Any]:
    connection = sqlite3.connect(folder / "t.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


GOOD = [(n,) for n in range(100) if n % 10 != 7]


def test_partitions_give_what_the_whole_gives(tmp_path: Path):
    ran = run_here(step(tmp_path))
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert rows(tmp_path) == GOOD
    assert ran.counts == (100, 90, 0, 10)
    assert {failure.place.detail for failure in ran.failures} == {f"item {n + 1}" for n in range(7, 100, 10)}
    assert {failure.partition for failure in ran.failures} == {1, 2, 3, 4}


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 40),
    partitions=st.integers(1, 12),
    workers=st.integers(1, 4),
    chunk_size=st.integers(1, 9),
    again=st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9)),
    breaks_at=st.integers(0, 60),
)
def test_broken_off_and_gone_on_with_otherwise_each_row_is_in_once(  # noqa: PLR0913 - what is drawn
    tmp_path_factory: Any,
    *,
    count: int,
    partitions: int,
    workers: int,
    chunk_size: int,
    again: tuple[int, int, int],
    breaks_at: int,
):
    folder, ledger = tmp_path_factory.mktemp("partitions"), MemoryLedger()
    broken = {breaks_at}

    def process(item: Any) -> Any:
        if item["id"] in broken:
            raise RuntimeError("broken off")
        return but_for_sevens(item)

    def run_it(partitions: int, workers: int, chunk_size: int) -> Ran:
        work = step(
            folder,
            read=ITEMS[:count],
            process=process,
            partitions=partitions,
            workers=workers,
            chunk_size=chunk_size,
        )
        return run_here(work, ledger=ledger)

    first = run_it(partitions, workers, chunk_size)
    assert (first.result.status is Status.FAILED) is (breaks_at < count)
    broken.clear()
    ran = run_it(*again) if breaks_at < count else first
    assert ran.result.status.complete
    good = [(n,) for n in range(count) if n % 10 != 7]
    assert (rows(folder) if good else []) == good
    assert ran.counts == (count, len(good), 0, count - len(good))
    assert len(ran.failures) == count - len(good)


def test_the_limit_of_failures_holds_for_the_step_as_a_whole(tmp_path: Path):
    def bad(item: Any) -> Any:
        raise ValueError("all are bad")

    ran = run_here(step(tmp_path, process=bad, skip=Skip(on=ValueError, limit=10), chunk_size=1, workers=4))
    assert ran.result.status is Status.FAILED
    assert "11" in ran.result.error
    assert ran.result.failed == 10


def test_a_rate_is_not_judged_by_what_one_partition_has_done(tmp_path: Path):
    """Five per cent of the last partition fail, a little more than one of the whole."""
    read = [{"id": 10 * n + (7 if n >= 4_500 and n % 20 == 0 else 0)} for n in range(6_000)]
    skip = Skip(on=ValueError, limit="4%")
    for partitions in (None, 4):
        write = insert(f"sqlite:///{tmp_path}/{partitions}.db", "t")
        ran = run_here(
            step(tmp_path, read=read, write=write, skip=skip, chunk_size=1_000, workers=1, partitions=partitions)
        )
        assert (ran.result.status, ran.result.failed) == (Status.COMPLETED_WITH_FAILURES, 75)


def test_a_rate_is_judged_over_all_partitions_at_the_end(tmp_path: Path):
    ran = run_here(step(tmp_path, skip=Skip(on=ValueError, limit="9%")))
    assert ran.result.status is Status.FAILED
    assert run_here(step(tmp_path, skip=Skip(on=ValueError, limit="10%")), ledger=ran.ledger).result.status.complete


def test_one_failing_partition_stops_the_others_and_all_go_on(tmp_path: Path):
    broken = {60}

    def process(item: Any) -> Any:
        if item["id"] in broken:
            raise RuntimeError("broken")
        return but_for_sevens(item)

    ran = run_here(step(tmp_path, process=process))
    assert ran.result.status is Status.FAILED
    assert isinstance(ran.error, RuntimeError)
    assert "in partition 3 of 4" in ran.result.error
    broken.clear()
    assert run_here(step(tmp_path, process=process), ledger=ran.ledger).counts == (100, 90, 0, 10)
    assert rows(tmp_path) == GOOD


def test_a_stop_reaches_all_workers(tmp_path: Path):
    stop = Stop()

    def process(item: Any) -> Any:
        if item["id"] == 30:
            stop.request("enough")
        return item

    ran = run_here(step(tmp_path, process=process), stop=stop)
    assert ran.result.status is Status.STOPPED
    assert ran.result.steps[0].error == "enough"
    assert run_here(step(tmp_path), ledger=ran.ledger).result.status.complete
    assert len(rows(tmp_path)) == len(set(rows(tmp_path)))


def test_a_limit_of_items_holds_for_the_step_as_a_whole(tmp_path: Path):
    ledger = MemoryLedger()
    ran = run_here(step(tmp_path), ledger=ledger, limit=40)
    assert ran.result.status is Status.STOPPED
    assert ran.result.read == 40
    assert run_here(step(tmp_path), ledger=ledger).counts == (100, 90, 0, 10)
    assert rows(tmp_path) == GOOD


def test_another_number_of_partitions_goes_on_with_the_plan(tmp_path: Path):
    ledger = MemoryLedger()
    run_here(step(tmp_path), ledger=ledger, limit=40)
    run_here(step(tmp_path, partitions=9), ledger=ledger)
    assert rows(tmp_path) == GOOD
    assert rows(tmp_path, "SELECT max(partition) FROM batchwright_checkpoints") == [(4,)]


def test_a_step_that_was_begun_in_partitions_is_not_gone_on_with_as_a_whole(tmp_path: Path):
    ledger = MemoryLedger()
    run_here(step(tmp_path), ledger=ledger, limit=40)
    with pytest.raises(GroundChangedError, match="begun in partitions"):
        run_here(step(tmp_path, partitions=None), ledger=ledger)


def test_a_step_that_was_begun_as_a_whole_is_gone_on_with_as_a_whole(tmp_path: Path):
    ledger = MemoryLedger()
    run_here(step(tmp_path, partitions=None), ledger=ledger, limit=40)
    assert run_here(step(tmp_path), ledger=ledger).counts == (100, 90, 0, 10)
    assert rows(tmp_path) == GOOD
    assert rows(tmp_path, "SELECT max(partition) FROM batchwright_checkpoints") == [(0,)]


def test_a_new_ledger_finds_the_plan_in_the_target(tmp_path: Path):
    run_here(step(tmp_path), limit=40)
    assert run_here(step(tmp_path, partitions=7)).counts == (100, 90, 0, 10)
    assert rows(tmp_path) == GOOD


def test_a_file_that_has_changed_is_found_out_before_anything_is_written(tmp_path: Path):
    source, ledger = tmp_path / "in.csv", MemoryLedger()
    source.write_text("id\n" + "".join(f"{n:03}\n" for n in range(100)))
    work = step(tmp_path, read=csv_rows(source), process=None)
    run_here(work, ledger=ledger, limit=40)
    source.write_text(source.read_text().replace("090", "x90"))
    before = rows(tmp_path)
    for options in ({}, {"accept_input": True}):
        with pytest.raises(GroundChangedError, match="split into partitions"):
            raise run_here(work, ledger=ledger, **options).error or AssertionError
    assert rows(tmp_path) == before


def test_a_finished_step_is_complete_and_its_input_is_compared(tmp_path: Path):
    source, ledger = tmp_path / "in.txt", MemoryLedger()
    source.write_text("".join(f"{n:03}\n" for n in range(100)))
    work = step(tmp_path, read=text_lines(source), process=lambda line: {"id": int(line)})
    run_here(work, ledger=ledger)
    assert rows(tmp_path) == [(n,) for n in range(100)]
    assert rows(tmp_path, "SELECT finished FROM batchwright_checkpoints WHERE partition = 0") == [(1,)]


def test_a_query_is_split_by_its_key(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.executescript("CREATE TABLE s (id INTEGER PRIMARY KEY, name TEXT);")
    connection.executemany("INSERT INTO s VALUES (?, ?)", [(item["id"], item["name"]) for item in ITEMS])
    connection.commit()
    connection.close()
    work = step(tmp_path, read=query(f"sqlite:///{tmp_path}/s.db", "SELECT * FROM s", key="id", page_rows=10))
    assert run_here(work).counts == (100, 90, 0, 10)
    assert rows(tmp_path) == GOOD


def test_more_workers_than_partitions_are_fine_and_so_is_no_input(tmp_path: Path):
    assert run_here(step(tmp_path, workers=8, partitions=2)).counts == (100, 90, 0, 10)
    assert run_here(Step("none", read=[], write=insert(f"sqlite:///{tmp_path}/t.db", "t"), partitions=3)).counts == (
        (0, 0, 0, 0)
    )


def test_workers_work_at_the_same_time(tmp_path: Path):
    together = threading.Barrier(3)

    def process(item: Any) -> Any:
        if item["id"] in (0, 33, 66):
            together.wait(20)
        return item

    assert run_here(step(tmp_path, process=process, partitions=3, workers=3)).result.status.complete


def test_a_running_sum_comes_out_in_any_order(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.executescript("CREATE TABLE balance (total INTEGER); INSERT INTO balance VALUES (0);")
    connection.close()
    adding = execute(f"sqlite:///{tmp_path}/t.db", "UPDATE balance SET total = total + :id", commutes=True)
    run_here(step(tmp_path, write=adding, process=None))
    assert rows(tmp_path, "SELECT total FROM balance") == [(sum(range(100)),)]


def test_of_rows_with_one_key_the_highest_version_stays_in_any_order(tmp_path: Path):
    items = [{"id": n % 5, "version": (n * 37) % 101, "from": n} for n in range(100)]
    write = upsert(f"sqlite:///{tmp_path}/t.db", "t", key="id", version="version")
    ran = run_here(step(tmp_path, read=items, write=write, process=None))
    assert ran.counts == (100, 100, 0, 0)
    newest = {item["id"]: item for item in sorted(items, key=lambda item: item["version"])}
    found = rows(tmp_path, 'SELECT id, version, "from" FROM t ORDER BY id')
    assert found == [tuple(newest[key].values()) for key in sorted(newest)]


def test_a_step_in_partitions_is_kept_with_its_failures_when_the_job_is_run_from_the_next_one_on(tmp_path: Path):
    ledger, target = MemoryLedger(), insert(f"sqlite:///{tmp_path}/t.db", "u", on_conflict="ignore")
    job = Job("both", step(tmp_path), Step("next", read=[{"id": 1}], write=target))
    assert run_here(job, ledger=ledger).result.failed == 10
    ran = run_here(job, ledger=ledger, again=True, from_step="next")
    assert ran.result.lap == 2
    assert ran.counts == (101, 91, 0, 10)
    assert rows(tmp_path) == GOOD


def test_failures_are_replayed_partition_by_partition(tmp_path: Path):
    ledger = MemoryLedger()
    work = step(tmp_path)
    first = run(work, ledger=ledger)
    mended = replay(first.run, ledger=ledger, job=one_step_job(step(tmp_path, process=lambda item: item)))
    assert (mended.replayed, mended.still_open) == (10, 0)
    assert rows(tmp_path) == [(n,) for n in range(100)]
    assert [failure.state.value for failure in first.failures] == ["replayed"] * 10
    again = replay(first.run, ledger=ledger, job=one_step_job(work))
    assert again.replayed == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"write": lambda rows: None}, "keeps no checkpoint for each partition"),
        ({"write": csv_file("out.csv")}, "keeps no checkpoint for each partition"),
        ({"write": upsert("sqlite:///t.db", "t", key="id")}, "unique_keys=True"),
        ({"write": execute("sqlite:///t.db", "UPDATE t SET x = :x")}, "commutes=True"),
        ({"read": lambda: iter(ITEMS)}, "cannot be read in parts"),
        ({"read": query("sqlite:///s.db", "SELECT 1")}, "no key="),
        ({"atomic": True}, "publishes all at once"),
        ({"max_in_flight": 5}, "max_in_flight"),
        ({"partitions": 0}, "partitions must be"),
        ({"partitions": 10_001}, "at most 10,000"),
    ],
)
def test_what_cannot_be_split_is_refused_when_it_is_built(tmp_path: Path, options: dict[str, Any], words: str):
    with pytest.raises(DeclarationError, match=words):
        step(tmp_path, **options)


def plan_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    recall = run_partitions.recall_same_target

    def forgetting(bound: Any, key: Any, sink: Any, *others: Any) -> Any:
        recall(bound, key, sink, *others)
        sink._checkpoint = None
        sink._connection.execute("DELETE FROM batchwright_checkpoints WHERE partition = 0")

    monkeypatch.setattr(run_partitions, "recall_same_target", forgetting)


def checkpoint_of_the_wrong_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    parts_of = split_step.parts_of

    def turned(bound: Any, specs: Any) -> Any:
        return parts_of(bound, [*specs[1:], specs[0]])

    monkeypatch.setattr(run_partitions, "parts_of", turned)


@pytest.mark.parametrize("plant", [plan_made_anew, checkpoint_of_the_wrong_partition])
def test_planted_bugs_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Any):
    ledger = MemoryLedger()
    run_here(step(tmp_path), ledger=ledger, limit=40)
    plant(monkeypatch)
    try:
        run_here(step(tmp_path, partitions=7, workers=1), ledger=ledger)
        same = rows(tmp_path) == GOOD
    except (AssertionError, GroundChangedError):
        same = False
    assert not same


def test_where_an_interrupted_step_stands_is_told_for_all_partitions(tmp_path: Path):
    ledger, clock = MemoryLedger(), FakeClock()
    work = one_step_job(step(tmp_path))
    ran = run_here(work, ledger=ledger, limit=40)
    execution = ledger.run(ran.result.run)
    assert execution is not None
    (standing,) = where_it_stands(execution, bind(work, durable=False), ledger, MemoryLedger(), clock)
    assert (standing.counts.read, standing.place) == (40, "the last chunk of each partition")
    assert standing.partitions == 4


def test_work_in_partitions_that_is_given_up_is_counted_and_fenced(tmp_path: Path):
    ledger = MemoryLedger()
    work = one_step_job(step(tmp_path))
    ran = run_here(work, ledger=ledger, limit=40)
    (left,) = abandon(ran.result.run, ledger=ledger, job=work).steps
    assert left.outputs == len(rows(tmp_path)) == 36
    assert not left.finished
    fences = rows(tmp_path, "SELECT partition, epoch FROM batchwright_fences ORDER BY partition")
    assert [partition for partition, _ in fences] == [0, 1, 2, 3, 4]
    assert all(fence > 1 for partition, fence in fences if partition in (0, 1))


def test_a_new_ledger_learns_the_failures_of_a_step_that_is_finished(tmp_path: Path):
    job = Job("load", step(tmp_path), parameters={"day": 1})
    assert run_here(job).counts == (100, 90, 0, 10)
    ran = run_here(job)
    assert (ran.counts, len(ran.failures)) == ((100, 90, 0, 10), 10)
    assert {failure.partition for failure in ran.failures} == {1, 2, 3, 4}
    assert rows(tmp_path) == GOOD

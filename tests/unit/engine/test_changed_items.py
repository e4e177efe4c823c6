"""Items of sequences, generators and queries may change between two runs: what is said; that nothing was written."""

import pytest
from tests.unit.engine.runs import as_text, copying, database, refused_here, rows, run_here, url

from batchwright import Job, Status, Step
from batchwright.model.errors import GroundChangedError
from batchwright.readers import query
from batchwright.writers import insert


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ([*range(10)], ""),
        ([*range(12)], ""),
        ([0, 1, 2, 3, 4, "other", 6], ""),
        ([0, 1, 2, "other", 4, 5], "item 4, which was read, is not what it was"),
        ([0, 1], "has become shorter: 4 items"),
    ],
)
def test_a_sequence_is_compared_by_its_length_and_the_item_before(now, said, tmp_path):
    ran = run_here(copying(list(range(10)), tmp_path), limit=4)
    if said:
        assert said in refused_here(copying(now, tmp_path), ledger=ran.ledger)
    else:
        assert run_here(copying(now, tmp_path), ledger=ran.ledger).error is None
    assert len(rows(tmp_path / "t.db")) == (4 if said else len(now))


def test_a_sequence_that_has_grown_since_it_was_complete_is_said(tmp_path):
    def job(length: int) -> Job:
        return Job("j", copying(range(length), tmp_path), parameters={"month": 11})

    ran = run_here(job(5))
    with pytest.raises(GroundChangedError, match="had 5 items when it was read, now it has 7"):
        run_here(job(7), ledger=ran.ledger)


@pytest.mark.parametrize("chunk_size", [1, 3, 4, 100])
@pytest.mark.parametrize("stop", [1, 4, 5, 9])
def test_a_generator_that_is_not_repeatable_is_found_out(chunk_size, stop, tmp_path):
    given = [list(range(10)), list(range(100, 110))]

    def items():
        return iter(given[0])

    declared = Step("s", read=items, process=as_text, write=insert(url(tmp_path / "t.db"), "t"), chunk_size=chunk_size)
    ran = run_here(declared, limit=stop)
    given.pop(0)
    again = run_here(declared, ledger=ran.ledger)
    assert isinstance(again.error, GroundChangedError)
    assert "is not repeatable, or its input has changed" in again.result.error
    assert len(rows(tmp_path / "t.db")) == stop
    accepted = run_here(declared, ledger=ran.ledger, accept_input=True)
    assert accepted.result.read == 10


def test_a_step_that_stopped_at_an_error_in_mid_chunk_finds_out_too(tmp_path):
    given = [list(range(10)), list(range(100, 110))]

    def fails_at_5(item):
        if item == 5:
            raise ValueError("five")
        return as_text(item)

    def declared(process):
        return Step("s", read=lambda: iter(given[0]), process=process, write=insert(url(tmp_path / "t.db"), "t"))

    ran = run_here(declared(fails_at_5))
    assert ran.result.read == 5
    given.pop(0)
    assert "is not the one that was read before" in run_here(declared(as_text), ledger=ran.ledger).result.error


def test_items_that_a_function_changes_in_place_are_no_false_alarm(tmp_path):
    def items():
        return ({"id": number} for number in range(10))

    def spoil(item):
        if item["id"] == 7:
            raise ValueError("seven")
        item["id"] += 1_000
        return item

    def declared(process):
        return Step("s", read=items, process=process, write=insert(url(tmp_path / "t.db"), "t"), chunk_size=5)

    ran = run_here(declared(spoil))
    assert ran.result.read == 7
    assert run_here(declared(dict), ledger=ran.ledger).result.status is Status.COMPLETED


def test_items_without_a_lasting_form_are_not_compared(tmp_path):
    def items():
        return (object() for _ in range(10))

    declared = Step("s", read=items, process=lambda _: {"x": 1}, write=insert(url(tmp_path / "t.db"), "t"))
    ran = run_here(declared, limit=4)
    assert run_here(declared, ledger=ran.ledger).result.read == 10


def test_fewer_items_than_were_read_are_said(tmp_path):
    given = [list(range(10)), [1]]
    declared = Step(
        "s", read=lambda: iter(given[0]), process=as_text, write=insert(url(tmp_path / "t.db"), "t"), chunk_size=2
    )
    ran = run_here(declared, limit=4)
    given.pop(0)
    assert "ends before the checkpoint" in run_here(declared, ledger=ran.ledger).result.error


SOURCE = "CREATE TABLE s (id INTEGER PRIMARY KEY, done INTEGER); INSERT INTO s VALUES " + ", ".join(
    f"({n}, 0)" for n in range(1, 21)
)


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("id", "UPDATE s SET done = 1", ""),
        ("id", "DELETE FROM s WHERE id = 2", ""),
        ("id", "INSERT INTO s VALUES (-1, 0)", ""),
        (None, "DELETE FROM s WHERE id = 2", "is not repeatable"),
        (None, "UPDATE s SET done = 1 WHERE id = 6", "is not repeatable"),
        (None, "DELETE FROM s WHERE id > 3", "ends before the checkpoint"),
        (None, "DELETE FROM s WHERE id > 15", ""),
    ],
)
def test_rows_that_are_passed_over_are_compared(key, change, said, tmp_path):
    source = database(tmp_path / "s.db", SOURCE)

    def declared():
        return copying(query(url(source), "SELECT * FROM s", key=key, page_rows=100), tmp_path)

    ran = run_here(declared(), limit=6)
    database(source, change)
    again = run_here(declared(), ledger=ran.ledger)
    assert said in again.result.error
    assert bool(again.error) is bool(said)
    assert key is None or rows(tmp_path / "t.db", "SELECT count(*), count(DISTINCT item) FROM t") == [(20, 20)]


def test_other_parameters_of_a_query_are_another_input(tmp_path):
    source = database(tmp_path / "s.db", SOURCE)

    def declared(low):
        return copying(query(url(source), "SELECT * FROM s WHERE id > ?", (low,), key="id"), tmp_path)

    ran = run_here(declared(1), limit=3)
    with pytest.raises(GroundChangedError, match="parameters was"):
        run_here(declared(2), ledger=ran.ledger)
    assert run_here(declared(2), ledger=ran.ledger, accept_input=True).result.read > 3

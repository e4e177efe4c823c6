"""How many items may fail: by count over the lap, by rate from 1,000 items on and at the end."""

import pytest
from tests.unit.engine.runs import Blocks, as_row, bad, rows, run_here, url

from batchwright import FailureLimitError, Skip, Status, Step
from batchwright.writers import insert


def failing(bad_items, items, written, **options):
    def process(item):
        if item in bad_items:
            raise ValueError(f"bad {item}")
        return item

    return Step("s", read=range(items), process=process, write=written.extend, **options)


def test_as_many_failures_as_the_limit_are_allowed():
    ran = run_here(failing({1, 3}, 6, [], skip=Skip(limit=2)))
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert ran.counts == (6, 4, 0, 2)


def test_the_chunk_that_passes_the_limit_is_not_committed(tmp_path):
    def process(item):
        if item in (1, 5):
            raise ValueError(f"bad {item}")
        return as_row(item)

    target = insert(url(tmp_path / "t.db"), "t")
    declared = Step("s", read=range(9), process=process, write=target, chunk_size=3, skip=Skip(limit=1))
    ran = run_here(declared)
    assert isinstance(ran.error, FailureLimitError)
    assert ran.counts == (3, 2, 0, 1)
    assert [failure.ordinal for failure in ran.failures] == [1]
    assert rows(tmp_path / "t.db") == [0, 2]


def test_the_error_of_the_limit_names_counts_limit_and_the_last_error():
    ran = run_here(failing({1}, 3, [], skip=Skip(limit=0)))
    assert "1 of 3 items failed, the limit is 0" in ran.result.error
    assert "--max-failures" in ran.result.error
    assert ran.error is not None
    assert str(ran.error.__cause__) == "bad 1"


def test_a_count_holds_over_restarts():
    written: list = []
    declared = failing({0, 2, 4}, 6, written, chunk_size=1, skip=Skip(limit=2))
    ran = run_here(declared, limit=3)
    assert (ran.result.status, ran.result.failed) == (Status.STOPPED, 2)
    ran = run_here(declared, ledger=ran.ledger)
    assert isinstance(ran.error, FailureLimitError)
    assert ran.counts == (4, 2, 0, 2)


def test_max_failures_replaces_the_limit_of_the_step():
    declared = failing({0, 2, 4}, 6, [], chunk_size=1, skip=Skip(limit=1))
    ran = run_here(declared)
    assert ran.result.status is Status.FAILED
    assert run_here(declared, ledger=ran.ledger, max_failures=3).result.status is Status.COMPLETED_WITH_FAILURES
    assert run_here(declared, max_failures="1%").result.status is Status.FAILED


def test_max_failures_does_not_make_a_step_skip():
    assert run_here(failing({1}, 3, []), max_failures=9).result.status is Status.FAILED


def test_a_rate_is_not_judged_before_1000_items():
    ran = run_here(failing(set(range(10)), 1_500, [], chunk_size=100, skip=Skip(limit="1%")))
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES


def test_a_rate_is_judged_at_commits_from_1000_items_on():
    ran = run_here(failing(set(range(11)), 5_000, [], chunk_size=100, skip=Skip(limit="1%")))
    assert isinstance(ran.error, FailureLimitError)
    assert ran.result.read == 900


def test_a_rate_is_judged_at_the_end_and_again_when_it_is_run_again():
    written: list = []
    declared = failing({1}, 9, written, skip=Skip(limit="10%"))
    ran = run_here(declared)
    assert isinstance(ran.error, FailureLimitError)
    assert written == [0, 2, 3, 4, 5, 6, 7, 8]
    again = run_here(declared, ledger=ran.ledger)
    assert isinstance(again.error, FailureLimitError)
    assert run_here(declared, ledger=ran.ledger, max_failures=1).result.status is Status.COMPLETED_WITH_FAILURES
    assert written == [0, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("limit", ["0%", 0])
def test_a_limit_of_nothing_allows_no_failure(limit):
    assert run_here(failing(set(), 3, [], skip=Skip(limit=limit))).result.status is Status.COMPLETED
    assert run_here(failing({1}, 3, [], skip=Skip(limit=limit))).result.status is Status.FAILED


def test_refused_rows_and_bad_records_count_against_the_limit(tmp_path):
    target = insert(url(tmp_path / "t.db"), "t", columns={"x": "INTEGER PRIMARY KEY"})
    declared = Step("s", read=Blocks([[1, bad(), 1, 3]]), process=as_row, write=target, skip=Skip(limit=1))
    assert isinstance(run_here(declared).error, FailureLimitError)
    ran = run_here(declared, max_failures=2)
    assert ran.counts == (4, 2, 0, 2)
    assert (ran.result.counts.failed_read, ran.result.counts.failed_write) == (1, 1)

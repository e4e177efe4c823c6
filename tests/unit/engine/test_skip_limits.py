"""How many items may fail: by count over the lap, by rate from 1,000 items on and at the end."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.engine.runs import Blocks, as_row, bad, rows, run_here, url

from batchwright import FailureLimitError, Skip, Status, Step, each
from batchwright.runners import EventLoop, Processes, Threads
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
    assert "1 of 2 items failed, the limit is 0" in ran.result.error
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


def always(calls, message="bad {}"):
    def process(item):
        calls.append(item)
        raise ValueError(message.format(item))

    return process


def test_a_chunk_that_passes_a_count_is_broken_off_at_once():
    calls, written = [], []
    ran = run_here(Step("s", read=range(1_000), process=always(calls), write=written.extend, skip=Skip(limit=20)))
    assert isinstance(ran.error, FailureLimitError)
    assert len(calls) == 21
    assert (ran.counts, written) == ((0, 0, 0, 0), [])
    assert "21 of 21 items failed, the limit is 20" in ran.result.error


@pytest.mark.parametrize("runner", [Threads(4), EventLoop(4), Processes(2)])
def test_workers_are_given_no_more_once_a_count_is_passed(tmp_path, runner):
    calls = tmp_path / "calls"
    process = NotesAsync(calls) if isinstance(runner, EventLoop) else Notes(calls)
    declared = Step("s", read=range(4_000), process=process, write=len, skip=Skip(limit=20), runner=runner)
    ran = run_here(declared)
    assert isinstance(ran.error, FailureLimitError)
    assert 21 <= len(calls.read_bytes()) <= 600
    assert ran.counts == (0, 0, 0, 0)
    again = run_here(declared, ledger=ran.ledger, max_failures=4_000)
    assert again.counts == (4_000, 0, 0, 4_000)


@dataclass(frozen=True)
class Notes:
    """Fails for every item, slowly enough to be given few at a time, and leaves a byte for each call."""

    calls: Path

    def __call__(self, item):
        with self.calls.open("ab") as file:
            file.write(b".")
        time.sleep(0.001)
        raise ValueError(item)


@dataclass(frozen=True)
class NotesAsync(Notes):
    async def __call__(self, item):
        with self.calls.open("ab") as file:
            file.write(b".")
        raise ValueError(item)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("divisible", [True, False])
def test_with_workers_the_chunks_before_the_one_that_passes_are_committed(workers, divisible):
    blocks = [list(range(start, start + 5)) for start in range(0, 60, 5)]
    declared = Step(
        "s",
        read=Blocks(blocks, divisible=divisible),
        process=refuse_from_25_on,
        write=len,
        chunk_size=10,
        skip=Skip(limit=6),
        workers=workers,
    )
    ran = run_here(declared)
    assert isinstance(ran.error, FailureLimitError)
    assert ran.counts == (30, 25, 0, 5)
    assert [failure.ordinal for failure in ran.failures] == [25, 26, 27, 28, 29]
    assert "7 of 32 items failed" in ran.result.error or workers == 3
    assert "not committed: 2 items with ValueError" in ran.result.error or workers == 3


def refuse_from_25_on(item):
    if item >= 25:
        raise ValueError("too high")
    return item


@pytest.mark.parametrize("workers", [1, 3])
def test_records_that_cannot_be_read_pass_a_count_before_a_function_is_called(workers):
    calls = []
    blocks = Blocks([[1, 2], [3, bad(), bad(), 4]])
    declared = Step(
        "s", read=blocks, process=calls.append, write=len, chunk_size=6, skip=Skip(limit=1), workers=workers
    )
    ran = run_here(declared)
    assert isinstance(ran.error, FailureLimitError)
    assert calls == []
    assert (
        "2 items with MalformedRecordError: not a record (in read; first blocks line 4: raw text)" in ran.result.error
    )


def test_a_function_that_takes_outputs_is_given_none_of_a_chunk_that_passes_the_limit():
    taken = []
    for writer in (taken.extend, each(taken.append)):
        declared = Step("s", read=range(6), process=refuse({4, 5}), write=writer, skip=Skip(limit=1))
        assert isinstance(run_here(declared).error, FailureLimitError)
    assert taken == []


def test_a_function_that_fails_is_not_called_for_the_rest_of_a_chunk_that_passes_the_limit():
    calls = []
    ran = run_here(Step("s", read=range(100), write=each(always(calls)), skip=Skip(limit=3)))
    assert isinstance(ran.error, FailureLimitError)
    assert calls == [0, 1, 2, 3]
    assert "4 of 4 items failed" in ran.result.error


def test_the_error_of_the_limit_groups_what_failed_and_shows_the_first_item_of_each_cause():
    def process(item):
        if item % 3 == 0:
            raise KeyError("name")
        raise ValueError(f"no number: '{item}'")

    ran = run_here(Step("s", read=range(9), process=process, write=len, skip=Skip(limit=8)))
    assert isinstance(ran.error, FailureLimitError)
    first, second = ran.error.causes
    assert first.startswith("6 items with ValueError: no number: '1' (in process; first ")
    assert first.endswith("item 2: 1)")
    assert second.startswith("3 items with KeyError: 'name' (in process; first ")
    assert first in ran.result.error


def test_the_causes_are_few_and_short_and_keep_to_the_rules_of_payloads():
    errors = [type(f"Odd{n}Error", (ValueError,), {}) for n in range(8)]

    def process(item):
        raise errors[item["n"] % 8]("x" * 5_000 + " hidden")

    rows = [{"n": n, "email": "a@b.c"} for n in range(40)]
    for skip, shown in (
        (Skip(limit=30), True),
        (Skip(limit=30, payload=False), False),
        (Skip(limit=30, redact="email"), False),
    ):
        ran = run_here(Step("s", read=rows, process=process, write=len, skip=skip))
        assert isinstance(ran.error, FailureLimitError)
        assert ran.error.causes[-1] == "11 for other causes"
        assert len(ran.result.error) < 3_000
        assert ("a@b.c" in ran.result.error) is shown


def refuse(items):
    def process(item):
        if item in items:
            raise ValueError(f"bad {item}")
        return item

    return process

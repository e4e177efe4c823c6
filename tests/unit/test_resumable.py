"""resumable: what a loop commits, however it ends, and what its connection refuses."""

import sqlite3
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import pytest
from tests.unit.loops import ROWS, add, fail, go, loop_over, numbers, shop

import batchwright
from batchwright import AlreadyRunningError, FailureLimitError, Skip, Status, Stop, resumable
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Block, Place
from batchwright.model.codec import encode
from batchwright.model.errors import (
    BatchwrightError,
    DeclarationError,
    NotReplayableError,
    SourceError,
)
from batchwright.readers import query

__all__ = ["shop"]


def test_each_item_is_written_once_and_the_second_time_there_is_nothing_to_do(shop):
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS
    counts = loop.result.counts
    assert (loop.result.status, counts.read, counts.written, counts.commits) == (Status.COMPLETED, 10, 10, 3)
    with loop_over(shop) as again:
        go(again)
    assert again.result.already_complete
    assert again.result.run == loop.result.run
    assert numbers(shop) == ROWS


def test_it_begins_anew_when_told_to_and_says_first_that_rows_are_added(shop):
    with loop_over(shop) as loop:
        go(loop)
    with pytest.raises(BatchwrightError, match="a second time"), loop_over(shop, again=True) as loop:
        go(loop)
    with loop_over(shop, again=True, yes=True) as loop:
        go(loop)
    assert numbers(shop) == ROWS + ROWS
    assert loop.result.lap == 2


def left_at_six(shop: Path, leave) -> tuple[object, BaseException | None]:
    loop, error = loop_over(shop), None
    try:
        with loop:
            for number in loop:
                with loop.item():
                    add(loop, number)
                if number == 6:
                    leave()
                    break
    except BaseException as raised:
        error = raised
    return loop.result, error


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        (lambda: None, Status.STOPPED),
        (fail(KeyboardInterrupt()), Status.STOPPED),
        (fail(SystemExit(0)), Status.STOPPED),
        (fail(SystemExit("no")), Status.FAILED),
        (fail(GeneratorExit()), Status.STOPPED),
        (fail(LookupError("outside of the block")), Status.FAILED),
    ],
)
def test_however_it_is_left_what_is_done_is_committed_and_the_next_run_goes_on_there(shop, leave, status):
    result, error = left_at_six(shop, leave)
    assert result.status is status
    assert numbers(shop) == [0, 1, 2, 3, 4, 5, 6]
    assert error is None or type(error) in (KeyboardInterrupt, SystemExit, GeneratorExit, LookupError)
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS
    assert loop.result.status is Status.COMPLETED
    assert loop.result.read_now == 3


def test_a_break_in_front_of_the_block_leaves_the_item_to_the_next_run(shop):
    with loop_over(shop) as loop:
        for number in loop:
            if number == 2:
                break
            with loop.item():
                add(loop, number)
    assert loop.result.status is Status.STOPPED
    assert "left before the end" in loop.result.error
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS


def test_return_and_an_inner_break_and_continue_inside_of_the_block_are_as_in_any_loop(shop):
    def some() -> None:
        with loop_over(shop) as loop:
            for number in loop:
                with loop.item():
                    if number % 2:
                        continue
                    for _ in range(3):
                        break
                    add(loop, number)
                if number == 4:
                    return

    some()
    with loop_over(shop) as loop:
        for number in loop:
            with loop.item():
                if number % 2 == 0:
                    add(loop, number)
    assert numbers(shop) == [0, 2, 4, 6, 8]
    assert (loop.result.written, loop.result.filtered) == (5, 5)


def test_an_error_in_a_block_undoes_that_item_and_goes_on_to_the_caller(shop):
    loop = loop_over(shop)
    with pytest.raises(ValueError, match="no 5") as caught, loop:
        go(loop, 5, fail(ValueError("no 5")))
    assert numbers(shop) == [0, 1, 2, 3, 4]
    assert loop.result.status is Status.FAILED
    assert "while processing item 6 (list item 6) of step 'fix' of job 'fix'" in caught.value.__notes__
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS


def test_an_error_that_is_skipped_is_kept_with_place_and_payload(shop):
    with loop_over(shop, skip=Skip(on=(ValueError, sqlite3.IntegrityError))) as loop:
        for number in loop:
            with loop.item():
                add(loop, number)
                if number in (2, 3, 9):
                    raise ValueError(f"no {number}")
                add(loop, 99 if number == 5 else -number)
    good = [n for n in ROWS if n not in (2, 3, 5, 9)]
    assert numbers(shop) == [value for n in good for value in (n, -n)]
    result = loop.result
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert (result.read, result.written, result.failed, result.counts.failed_process) == (10, 6, 4, 4)
    assert [(f.ordinal, f.payload) for f in result.failures] == [(n, encode(n)) for n in (2, 3, 5, 9)]
    assert Path(result.failure_file).exists()
    with pytest.raises(NotReplayableError, match="loop"):
        batchwright.replay(result.run)


def test_more_failures_than_the_limit_end_it_and_their_chunk_is_not_committed(shop):
    loop = loop_over(shop, skip=Skip(on=ValueError, limit=0))
    with pytest.raises(FailureLimitError), loop:
        go(loop, 5, fail(ValueError()))
    assert numbers(shop) == [0, 1, 2, 3]
    assert loop.result.status is Status.FAILED


def two_blocks(loop) -> None:
    for _ in loop:
        with loop.item():
            pass
        with loop.item():
            pass


def test_items_that_are_taken_ahead_are_refused_before_any_is_lost(shop):
    with pytest.raises(DeclarationError, match="has not been gone through"), loop_over(shop) as loop:
        list(loop)
    with pytest.raises(DeclarationError, match="each item has one such block"), loop_over(shop) as loop:
        two_blocks(loop)
    with loop_over(shop) as loop:
        for number in islice(loop, 3):
            with loop.item():
                add(loop, number)
    with loop_over(shop) as loop:
        go(loop)
    assert loop.result.read == 10
    assert sorted([*numbers(shop), 0]) == ROWS  # the item that a second block was written for is done, without a row


def test_a_loop_is_entered_and_gone_through_once(shop):
    with pytest.raises(DeclarationError, match="not been entered"):
        go(loop_over(shop))
    with loop_over(shop) as loop:
        go(loop)
        with pytest.raises(DeclarationError, match="once"):
            iter(loop)
        with pytest.raises(DeclarationError, match="not ended"):
            assert loop.result
    with pytest.raises(DeclarationError, match="entered once"):
        loop.__enter__()


def test_an_error_behind_the_last_item_fails_it_and_the_next_run_completes_it(shop):
    loop = loop_over(shop)
    with suppress(LookupError), loop:
        go(loop)
        raise LookupError("afterwards")
    assert loop.result.status is Status.FAILED
    with loop_over(shop) as loop:
        go(loop)
    assert loop.result.status is Status.COMPLETED
    assert numbers(shop) == ROWS


def test_a_stop_ends_it_at_the_next_item_and_a_deadline_is_one(shop):
    stop = Stop()
    with loop_over(shop, stop=stop) as loop:
        for number in loop:
            with loop.item():
                add(loop, number)
            if number == 5:
                stop.request("enough")
    assert (loop.result.status, loop.result.error) == (Status.STOPPED, "enough")
    assert numbers(shop) == [0, 1, 2, 3, 4, 5, 6]
    with loop_over(shop, timeout_seconds=1e-9) as loop:
        go(loop)
    assert loop.result.status is Status.STOPPED
    with loop_over(shop) as loop:
        go(loop)
    assert numbers(shop) == ROWS


def test_time_commits_a_chunk_so_that_locks_are_short(shop):
    with loop_over(shop, chunk_size=1_000, chunk_seconds=1e-9) as loop:
        go(loop)
    assert loop.result.counts.commits == 10


def test_a_checkpoint_never_stands_inside_of_a_block_that_cannot_be_divided(shop):
    class Pages:
        address, seeks = "pages", True

        def read(self, after):
            assert after is None or not after.offset
            for page in range(after.anchor if after else 0, 3):
                yield Block(range(page * 3, page * 3 + 3), page, page + 1, divisible=False)

        def place(self, position):
            return Place("pages", position.ordinal)

    with loop_over(shop, Pages(), chunk_size=5, chunk_seconds=1e-9) as loop:
        for number in loop:
            with loop.item():
                add(loop, number)
            if number == 4:
                break
    assert numbers(shop) == [0, 1, 2]
    with loop_over(shop, Pages(), chunk_size=5) as loop:
        go(loop)
    assert numbers(shop) == list(range(9))


def test_without_a_database_each_item_is_a_chunk_and_only_the_one_in_hand_is_done_again(shop):
    done = []

    def loop():
        return resumable("mail", ROWS, parameters={"night": 1})

    with suppress(LookupError), loop() as first:
        for number in first:
            with first.item():
                done.append(number)
                if number == 4:
                    raise LookupError
    with loop() as second:
        for number in second:
            with second.item():
                done.append(number)
    assert done == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    assert second.result.counts.commits == 10
    with pytest.raises(DeclarationError, match="without database="), resumable("other", ROWS) as third:
        assert third.connection


def test_one_owner_and_one_lap_as_for_any_job(shop):
    with loop_over(shop) as loop, pytest.raises(AlreadyRunningError), loop_over(shop):
        pass
    assert loop.result.status is Status.STOPPED


def test_what_can_be_read_only_once_is_refused_with_the_mend(shop):
    with pytest.raises(SourceError, match="only once"), loop_over(shop, iter(ROWS)):
        pass
    with resumable("memory", iter(ROWS), ledger=MemoryLedger()) as loop:
        for _ in loop:
            with loop.item():
                pass
    assert loop.result.read == 10


def test_an_error_of_the_reader_comes_when_all_before_it_is_committed(shop):
    def rows():
        yield from range(6)
        raise OSError("the line is dead")

    loop = loop_over(shop, rows)
    with pytest.raises(OSError, match="dead"), loop:
        go(loop)
    assert numbers(shop) == [0, 1, 2, 3, 4, 5]
    assert loop.result.status is Status.FAILED


@pytest.mark.parametrize("left_at", range(10))
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_a_loop_that_takes_rows_out_of_its_own_query_goes_on_behind_the_last_one(shop, left_at, chunk_size):
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("CREATE TABLE s (id INTEGER, done INTEGER)")
        connection.executemany("INSERT INTO s VALUES (?, 0)", [(n,) for n in range(10)])
        connection.commit()

    def go_through(deadly):
        to_do = query(f"sqlite:///{shop}", "SELECT id FROM s WHERE done = 0", key="id", page_rows=8)
        with loop_over(shop, to_do, chunk_size=chunk_size) as loop:
            for row in loop:
                with loop.item():
                    if row["id"] == deadly:
                        raise KeyboardInterrupt
                    loop.connection.execute("UPDATE s SET done = done + 1 WHERE id = ?", (row["id"],))
        return loop.result

    with pytest.raises(KeyboardInterrupt):
        go_through(left_at)
    assert go_through(None).counts.read == 10
    with closing(sqlite3.connect(shop)) as connection:
        assert connection.execute("SELECT done FROM s").fetchall() == [(1,)] * 10

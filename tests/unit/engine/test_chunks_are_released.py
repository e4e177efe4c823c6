"""A chunk with failures in it is let go as soon as it is committed, garbage collector or not."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.engine.runs import run_here

from batchwright import Skip, Step

CHUNK = 50

MANY = 10_000


class Row(dict[str, Any]):
    """A row whose life can be watched."""


@contextmanager
def no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def most_alive(process, write, skip: Skip) -> int:
    """The greatest number of items alive at once."""
    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    most = 0

    def rows() -> Iterator[Row]:
        nonlocal most
        for number in range(1, 20 * CHUNK + 1):
            row = Row(id=number, price=number % CHUNK - 1)
            # By its identity: equal rows are different rows here.
            alive.add(row)
            most = max(most, len(alive))
            yield row

    Row.__hash__ = object.__hash__  # type: ignore[method-assign, assignment] # a dict has no hash
    with no_garbage_collector():
        ran = run_here(Step("s", read=rows, process=process, write=write, chunk_size=CHUNK, skip=skip))
    assert ran.counts[3] == 20
    return most


def test_items_that_fail_in_the_processor_do_not_keep_their_chunk():
    def process(row: Row) -> Row:
        try:
            assert row["price"] >= 0
        except AssertionError as error:
            raise ValueError("no price") from error
        return row

    assert most_alive(process, lambda outputs: None, Skip(on=ValueError)) <= 4 * CHUNK


def test_the_next_chunk_is_read_when_the_one_before_is_gone():
    """Two at once cost a fifth more time: the memory of the first, still warm, should serve the second."""
    living: weakref.WeakSet[Row] = weakref.WeakSet()
    alive = []

    def rows() -> Iterator[Row]:
        for number in range(10 * MANY):
            if number % MANY == MANY // 10:  # the reader is in the first block of the next chunk
                alive.append(len(living))
            row = Row(id=number)
            living.add(row)
            yield row

    Row.__hash__ = object.__hash__  # type: ignore[method-assign, assignment] # a dict has no hash
    with no_garbage_collector():
        run_here(Step("s", read=rows, process=lambda row: row, write=lambda outputs: None, chunk_size=MANY))
    assert max(alive[1:]) < MANY

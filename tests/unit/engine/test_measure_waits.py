"""Whom a step waits for is measured per chunk, and adds up."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batchwright import Step, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.waits import Waits

SECONDS = 0.3


def _slow(times: int = 1) -> None:
    until = time.perf_counter() + SECONDS / times
    while time.perf_counter() < until:
        pass


def _read() -> Iterator[int]:
    for item in range(3):
        if item == 1:
            _slow()
        yield item


def _process(item: int) -> int:
    _slow(3)
    return item


def _write(_: Any) -> None:
    _slow(3)


@pytest.mark.parametrize(
    ("read", "process", "write", "longest"),
    [
        (_read, str, len, "reading"),
        (range(3), _process, len, "processing"),
        (range(3), str, _write, "writing"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_slow_part_is_named(read: Any, process: Any, write: Callable[[Any], Any], longest: str, workers: int):
    step = Step("s", read=read, process=process, write=write, chunk_size=1, workers=workers)
    result = run(step, ledger=MemoryLedger())
    waits = result.steps[0].waits
    assert waits.longest.startswith(longest)
    assert waits.reading + waits.processing + waits.writing <= result.steps[0].seconds


def test_shares_are_told_in_words():
    assert str(Waits(1.0, 2.0, 1.0)) == "reading 25%, processing 50%, writing 25%"
    assert Waits(1.0, 2.0, 1.0).longest == "processing 50%"
    assert str(Waits()) == Waits().longest == ""

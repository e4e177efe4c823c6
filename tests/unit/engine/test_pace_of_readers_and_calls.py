"""Slow readers, and slow functions of each output: cut by time, and ended by a stop."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.engine.runs import Blocks, run_here
from tests.unit.engine.test_pace import Work, fails

from batchwright import Skip, Status, Step, each
from batchwright.model.block import Block
from batchwright.model.pace import CHUNK_SECONDS
from batchwright.testing.fake_clock import FakeClock


@dataclass(frozen=True)
class SlowBlocks(Blocks):
    """A reader whose blocks come slowly."""

    clock: FakeClock = field(default_factory=FakeClock)

    def read(self, after: Any) -> Iterator[Any]:
        for block in super().read(after):
            self.clock.advance(1.0)
            yield block


def test_what_is_read_slowly_is_committed_in_parts():
    work = Work()
    reader = SlowBlocks([[number] for number in range(30)], clock=work.clock)
    ran = work.run(reader)
    assert ran.counts == (30, 30, 0, 0)
    assert work.written == list(range(30))
    assert max(map(len, work.chunks)) <= CHUNK_SECONDS + 1


def test_a_slow_page_is_not_cut():
    work = Work()
    ran = work.run(SlowBlocks([range(10), range(10, 20)], divisible=False, clock=work.clock), chunk_size=15)
    assert ran.counts == (20, 20, 0, 0)
    assert [len(chunk) for chunk in work.chunks] == [20]


def test_after_a_stop_nothing_more_is_read_and_what_was_is_committed():
    work = Work()
    read = []

    def numbers() -> Iterator[list[int]]:
        for number in range(1_000):
            read.append(number)
            if number == 7:
                work.stop.request("test")
            yield [number]

    ran = work.run(Streamed(numbers))
    assert ran.result.status is Status.STOPPED
    assert read == list(range(8))
    assert work.written == list(range(ran.result.read))
    assert 0 < ran.result.read <= 8


@dataclass(frozen=True)
class Streamed(Blocks):
    """Blocks as a function makes them."""

    blocks: Any = ()

    def read(self, after: Any) -> Iterator[Block[int]]:
        for anchor, items in enumerate(self.blocks()):
            yield Block(items, anchor, anchor + 1)


def calls(work: Work, seconds: float) -> Any:
    def call(item: Any) -> None:
        work.clock.advance(seconds)
        work.write([item])
        work.at.get(item, lambda: None)()

    return each(call)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0])
def test_a_slow_function_of_each_output_is_committed_as_far_as_it_is(seconds: float):
    work = Work()
    step = Step("s", read=range(400), write=calls(work, seconds), chunk_size=400)
    ran = run_here(step, clock=work.clock, stop=work.stop)
    assert ran.counts == (400, 400, 0, 0)
    assert work.written == list(range(400)), "none twice, none lost, in order"
    assert ran.result.counts.commits >= 400 * seconds / (CHUNK_SECONDS + 2)


def test_a_fast_function_of_each_output_is_one_chunk():
    work = Work()
    ran = run_here(Step("s", read=range(400), write=calls(work, 0.0), chunk_size=400), clock=work.clock)
    assert ran.result.counts.commits == 1


def test_failures_of_a_slow_function_of_each_output_are_counted_once():
    work = Work(at={place: fails(ValueError("no")) for place in range(0, 60, 7)})
    step = Step("s", read=range(60), write=calls(work, 1.0), chunk_size=60, skip=Skip())
    ran = run_here(step, clock=work.clock)
    assert ran.counts == (60, 51, 0, 9)
    assert work.written == list(range(60))


def test_outputs_of_one_item_are_never_parted_by_a_slow_function():
    work = Work()

    def several(item: int) -> Iterator[tuple[int, int]]:
        yield from ((item, part) for part in range(item % 4))

    step = Step("s", read=range(40), process=several, write=calls(work, 1.0), chunk_size=40)
    ran = run_here(step, clock=work.clock)
    assert work.written == [(item, part) for item in range(40) for part in range(item % 4)]
    assert ran.counts == (40, 30, 10, 0)
    assert ran.result.counts.commits > 3


@pytest.mark.parametrize("chunk_size", [30, 400])
def test_after_a_stop_a_slow_function_is_given_no_more_and_the_next_run_goes_on_there(chunk_size: int):
    work = Work()

    def stop() -> None:
        work.stop.request("test")
        work.stop.press()  # as the watch does, from its thread

    work.at[20] = stop
    step = Step("s", read=range(400), write=calls(work, 0.3), chunk_size=chunk_size)
    ran = run_here(step, clock=work.clock, stop=work.stop)
    assert ran.result.status is Status.STOPPED
    assert 20 < len(work.written) < 30
    assert ran.result.read == len(work.written)
    assert run_here(step, clock=work.clock, ledger=ran.ledger).result.status is Status.COMPLETED
    assert work.written == list(range(400))

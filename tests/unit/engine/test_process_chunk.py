"""What becomes of items in the user's function: results, DROP, generators, async, and every way to fail."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from tests.unit.engine.runs import Blocks, Ran, bad, run_here

from batchwright import DROP, Retry, Skip, Status, Step
from batchwright.model.errors import DeclarationError, MalformedRecordError
from batchwright.model.failure import Phase


def processed(items, process=None, **options) -> tuple[Ran, list]:
    written: list = []
    read = items if isinstance(items, Blocks) else list(items)
    return run_here(Step("s", read=read, process=process, write=written.extend, **options)), written


def refuse_two(item):
    if item == 2:
        raise ValueError("two")
    return item


def test_without_a_processor_items_are_the_outputs():
    ran, written = processed(range(5), chunk_size=2)
    assert written == [0, 1, 2, 3, 4]
    assert ran.counts == (5, 5, 0, 0)
    assert ran.result.counts.commits == 3


def test_none_is_an_ordinary_value():
    ran, written = processed(range(3), lambda item: None)
    assert written == [None] * 3
    assert ran.counts == (3, 3, 0, 0)


def test_drop_filters_an_item():
    ran, written = processed(range(4), lambda item: item if item % 2 else DROP)
    assert written == [1, 3]
    assert ran.counts == (4, 2, 2, 0)


def test_a_chunk_of_nothing_but_dropped_items_is_committed():
    ran, written = processed(range(4), lambda item: DROP, chunk_size=2)
    assert written == []
    assert ran.counts == (4, 0, 4, 0)
    assert ran.result.counts.commits == 2


def test_a_generator_gives_several_outputs_and_items_are_counted_not_outputs():
    def several(item: int) -> Iterator[int]:
        for _ in range(item):
            yield item
        yield DROP

    ran, written = processed(range(4), several)
    assert written == [1, 2, 2, 3, 3, 3]
    assert ran.counts == (4, 3, 1, 0)
    assert ran.result.outputs == 6


def test_a_generator_that_fails_after_an_output_leaves_none():
    def several(item: int) -> Iterator[int]:
        yield item
        refuse_two(item)
        yield item

    ran, written = processed(range(4), several, skip=Skip())
    assert written == [0, 0, 1, 1, 3, 3]
    assert ran.counts == (4, 3, 0, 1)


def test_an_async_function_is_awaited():
    async def later(item: int) -> int:
        await asyncio.sleep(0)
        return refuse_two(item) * 10

    ran, written = processed(range(4), later, skip=Skip())
    assert written == [0, 10, 30]
    assert ran.failures[0].error_type == "ValueError"


def test_an_async_generator_gives_several_outputs():
    async def several(item: int) -> AsyncIterator[int]:
        for number in range(item):
            await asyncio.sleep(0)
            yield number

    ran, written = processed(range(3), several)
    assert written == [0, 0, 1]
    assert ran.counts == (3, 2, 1, 0)


def test_an_async_processor_works_inside_a_running_loop():
    async def later(item: int) -> int:
        return item

    async def caller() -> list:
        return processed(range(3), later)[1]

    assert asyncio.run(caller()) == [0, 1, 2]


def test_a_processor_is_recognised_through_partial_and_call():
    class Twice:
        def __call__(self, item: int) -> Iterator[int]:
            yield item
            yield item

    def times(count: int, item: int) -> Iterator[int]:
        yield from [item] * count

    assert processed([1], Twice())[1] == [1, 1]
    assert processed([1], partial(times, 3))[1] == [1, 1, 1]


def test_a_stop_iteration_is_its_items_failure_and_nothing_is_lost():
    def first(item: list) -> int:
        return next(iter(item))

    ran, written = processed([[1], [], [2], [], [3]], first, skip=Skip())
    assert written == [1, 2, 3]
    assert ran.counts == (5, 3, 0, 2)
    assert [failure.error_type for failure in ran.failures] == ["StopIteration"] * 2


@pytest.mark.parametrize("items", [[[]], [[], [1]], [[1], []]])
def test_a_stop_iteration_without_skip_stops_the_step(items):
    ran, written = processed(items, lambda item: next(iter(item)))
    assert ran.result.status is Status.FAILED
    assert isinstance(ran.error, StopIteration)
    assert len(written) == ran.result.read


@pytest.mark.parametrize("kind", ["plain", "generator", "async", "async generator"])
def test_a_system_exit_is_blamed_on_the_item(kind):
    def plain(item: int) -> int:
        if item == 2:
            raise SystemExit("bye")
        return item

    def generator(item: int) -> Iterator[int]:
        yield plain(item)

    async def coroutine(item: int) -> int:
        return plain(item)

    async def async_generator(item: int) -> AsyncIterator[int]:
        yield plain(item)

    kinds = {"plain": plain, "generator": generator, "async": coroutine, "async generator": async_generator}
    ran, written = processed(range(4), kinds[kind], skip=Skip(on=SystemExit), retry=Retry(on=SystemExit, attempts=2))
    assert written == [0, 1, 3]
    assert [(failure.error_type, failure.attempts) for failure in ran.failures] == [("SystemExit", 2)]


def test_a_system_exit_without_skip_fails_the_step_and_does_not_end_the_process():
    def leave(item):
        raise SystemExit(3)

    ran, _ = processed([1], leave)
    assert ran.result.status is Status.FAILED
    assert isinstance(ran.error, SystemExit)


@pytest.mark.parametrize("first", [0, DROP])
def test_a_function_that_returns_an_iterator_is_refused_and_nothing_is_written(first):
    returned = [first, 1] if first is DROP else [1]
    ran, written = processed(returned, lambda item: item if item is DROP else iter([item]))
    assert isinstance(ran.error, DeclarationError)
    assert "yield" in str(ran.error)
    assert written == []


def test_a_function_that_returns_a_coroutine_is_refused_without_a_warning():
    async def later(item: int) -> int:
        return item

    ran, written = processed([1, 2], lambda item: later(item))  # noqa: PLW0108 - not recognised as async, which is the point
    assert isinstance(ran.error, DeclarationError)
    assert written == []


def test_without_skip_the_step_stops_at_the_first_bad_item_with_everything_before_it_committed():
    ran, written = processed([0, 1, 2, 3, 4, 5], refuse_two, chunk_size=4)
    assert ran.result.status is Status.FAILED
    assert written == [0, 1]
    assert ran.counts == (2, 2, 0, 0)
    assert "while processing item 3 (list item 3) of step 's' of job 's'" in ran.result.error


def test_a_skip_for_another_error_does_not_help():
    ran, written = processed([0, 1, 2, 3], refuse_two, skip=Skip(on=KeyError))
    assert ran.result.status is Status.FAILED
    assert written == [0, 1]


def test_a_bad_record_without_skip_stops_the_step_in_mid_chunk():
    calls: list = []

    def note(item: int) -> int:
        calls.append(item)
        return item

    ran, written = processed(Blocks([[0, 1, bad(), 3]]), note)
    assert isinstance(ran.error, MalformedRecordError)
    assert written == calls == [0, 1]
    assert ran.counts == (2, 2, 0, 0)


def test_a_bad_record_behind_a_bad_item_does_not_end_the_step_before_it():
    ran, written = processed(Blocks([[0, 2, bad(), 3]]), refuse_two, skip=Skip(on=MalformedRecordError))
    assert isinstance(ran.error, ValueError)
    assert not isinstance(ran.error, MalformedRecordError)
    assert written == [0]


def test_a_skipped_bad_record_is_a_failure_of_reading_with_its_raw_text_and_place():
    ran, written = processed(Blocks([[0, bad(), 2], [bad(), 4]]), skip=Skip(), chunk_size=2)
    assert written == [0, 2, 4]
    assert ran.counts == (5, 3, 0, 2)
    assert [(f.phase, f.ordinal, f.place.line, f.payload) for f in ran.failures] == [
        (Phase.READ, 1, 2, "raw text"),
        (Phase.READ, 3, 4, "raw text"),
    ]


def test_a_malformed_record_is_taken_by_a_skip_of_value_errors():
    ran, written = processed(Blocks([[bad(), 1]]), skip=Skip(on=ValueError))
    assert written == [1]
    assert ran.result.failed == 1


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 100])
def test_no_checkpoint_stands_inside_an_indivisible_block(chunk_size):
    ran, written = processed(Blocks([[0, 1], [3, 2, 4], [5]], divisible=False), refuse_two, chunk_size=chunk_size)
    assert ran.result.status is Status.FAILED
    assert written == [0, 1]
    assert ran.counts == (2, 2, 0, 0)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_a_limit_in_front_of_an_indivisible_block_loses_nothing(limit, chunk_size):
    written: list = []
    step = Step(
        "s", read=Blocks([[0], [1, 2, 3], [4, 5]], divisible=False), write=written.extend, chunk_size=chunk_size
    )
    ran = run_here(step, limit=limit)
    while ran.result.status is Status.STOPPED:
        ran = run_here(step, ledger=ran.ledger, limit=limit)
    assert written == [0, 1, 2, 3, 4, 5]

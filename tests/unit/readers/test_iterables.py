import gc
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

import pytest
from tests.unit.readers.reading import records

from batchwright.model.block import Place, Position
from batchwright.model.errors import GroundChangedError, SourceError
from batchwright.ports import Measures, Reader
from batchwright.readers.iterables import IterableReader, is_one_shot, iterable_reader


class Colour(Enum):
    RED = 1
    BLUE = 2


def numbers():
    yield from range(7)


@pytest.mark.parametrize("source", [list(range(7)), tuple(range(7)), range(7), deque(range(7))])
def test_a_sequence_is_entered_at_its_index(source):
    reader = iterable_reader(source, 3)
    assert isinstance(reader, Reader)
    assert isinstance(reader, Measures)
    assert reader.seeks
    assert reader.address == type(source).__name__
    assert [list(block.items) for block in reader.read(None)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert records(reader, Position(4, 4)) == [4, 5, 6]
    assert [reader.fraction(Position(0, anchor)) for anchor in (None, 0, 7)] == [0.0, 0.0, 1.0]


def test_a_sequence_is_not_iterated_to_get_there():
    reader = iterable_reader(range(10**15), 2)
    assert list(next(iter(reader.read(Position(0, 10**14)))).items) == [10**14, 10**14 + 1]


@pytest.mark.parametrize(
    "source", [numbers, dict.fromkeys(range(7)), dict.fromkeys(range(7)).keys(), lambda: list(range(7))]
)
def test_anything_else_is_iterated_again_and_passed_over(source):
    reader = iterable_reader(source, 3)
    assert isinstance(reader, Reader)
    assert not reader.seeks
    assert [block.items for block in reader.read(None)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [(block.anchor, block.next_anchor) for block in reader.read(None)] == [(0, 3), (3, 6), (6, 7)]
    assert records(reader, Position(3, 3)) == [3, 4, 5, 6]
    assert records(reader, Position(7, 7)) == []


def test_a_function_is_named_and_a_collection_that_can_be_called_is_a_collection():
    assert iterable_reader(numbers, 1).address == "function:test_iterables.numbers"
    assert records(iterable_reader(Colour, 1)) == [Colour.RED, Colour.BLUE]


def test_none_and_falsy_items_are_items():
    assert records(iterable_reader(lambda: iter([None, 0, ""]), 2)) == [None, 0, ""]


def test_a_source_that_raises_first_hands_over_what_it_gave():
    def failing():
        yield from range(5)
        raise OSError("the line is dead")

    reading = iterable_reader(failing, 3).read(None)
    assert [next(reading).items, next(reading).items] == [[0, 1, 2], [3, 4]]
    with pytest.raises(OSError, match="the line is dead"):
        next(reading)


def test_a_source_that_raises_at_once_gives_no_empty_block():
    def failing():
        raise OSError
        yield

    with pytest.raises(OSError):
        next(iterable_reader(failing, 3).read(None))


def test_a_stop_iteration_inside_a_generator_is_an_error_and_no_end():
    def confused():
        yield 1
        next(iter(()))

    reading = iterable_reader(confused, 3).read(None)
    assert next(reading).items == [1]
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(reading)


def test_a_source_that_has_become_shorter_is_noticed():
    for source in ([1, 2], lambda: iter([1, 2])):
        with pytest.raises(GroundChangedError, match="has 2 items, 3 were done"):
            list(iterable_reader(source, 1).read(Position(3, 3)))


@pytest.mark.parametrize("source", [iter([1]), (n for n in [1]), map(str, [1]), zip([1], [2], strict=True)])
def test_an_iterator_is_read_only_once(source):
    assert is_one_shot(source)
    with pytest.raises(SourceError, match=r"read only once; got .*generator function"):
        iterable_reader(source, 1)
    reader = iterable_reader(source, 1, one_shot=True)
    assert len(records(reader)) == 1
    with pytest.raises(SourceError, match="was read before"):
        records(reader, Position(1, 1))


def test_a_function_that_returns_the_same_iterator_again_is_noticed():
    one = iter([1, 2, 3])
    reader = iterable_reader(lambda: one, 2)
    assert records(reader) == [1, 2, 3]
    with pytest.raises(SourceError, match="gave the same list_iterator again"):
        records(reader)


@pytest.mark.parametrize("source", [[1], range(3), {}, numbers, "text", None])
def test_collections_and_functions_are_not_one_shot(source):
    assert not is_one_shot(source)


def test_a_set_is_refused_where_another_process_goes_on():
    with pytest.raises(SourceError, match=r"another order in each process; got 2 items; give sorted\(…\)"):
        iterable_reader({"a", "b"}, 1)
    assert sorted(records(iterable_reader(frozenset({1, 2}), 1, one_shot=True))) == [1, 2]


def test_a_function_that_returns_nothing_to_iterate_is_refused():
    with pytest.raises(SourceError, match="must return something to iterate; it returned None"):
        list(iterable_reader(lambda: None, 1).read(None))
    with pytest.raises(SourceError, match="a int cannot be iterated"):
        iterable_reader(5, 1)


def test_a_generator_is_closed_when_reading_stops():
    closed = []

    def source():
        try:
            yield from range(9)
        finally:
            closed.append(True)

    reading = iterable_reader(source, 2).read(None)
    next(reading)
    reading.close()
    gc.collect()
    assert closed == [True]


def test_a_file_of_the_users_stays_open(tmp_path):
    with (tmp_path / "a.txt").open("w+") as file:
        assert records(iterable_reader(file, 2, one_shot=True)) == []
        assert not file.closed


def test_an_item_is_placed_by_its_number():
    for source in ([1, 2, 3], numbers):
        reader = iterable_reader(source, 2)
        assert reader.place(Position(2, 1, 1)) == Place(reader.address, detail="item 3")
        assert str(reader.place(Position(0))) == f"{reader.address} item 1"


class TickingClock:
    """Goes on with every item of a slow source."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def slowly(self, items: int, seconds: float) -> Callable[[], Iterator[int]]:
        def source() -> Iterator[int]:
            for item in range(items):
                self.now += seconds
                yield item

        return source


def test_a_slow_source_gives_short_blocks_and_a_fast_one_whole_ones():
    clock = TickingClock()
    slow = IterableReader("slow", clock.slowly(100, 0.2), 1_000, clock=clock)
    fast = IterableReader("fast", clock.slowly(100, 0.0), 30, clock=clock)
    blocks = list(slow.read(None))
    assert [item for block in blocks for item in block.items] == list(range(100))
    assert max(map(len, blocks)) <= 5
    assert [len(block) for block in fast.read(None)] == [30, 30, 30, 10]


def test_a_slow_source_that_is_passed_over_shows_that_it_is_at_work():
    clock = TickingClock()
    reader = IterableReader("slow", clock.slowly(100, 0.2), 1_000, clock=clock)
    blocks = list(reader.read(Position(95, 90, 5)))
    assert [item for block in blocks for item in block.items] == list(range(90, 100))
    empty = [block for block in blocks if not len(block)]
    assert len(empty) > 10
    with pytest.raises(GroundChangedError):
        list(reader.read(Position(101, 101)))


def test_the_fraction_moves_within_a_block():
    assert iterable_reader(range(2_000), 1_000).fraction(Position(500, 0, 500)) == 0.25

"""Chunks that are cut by time or by a request to stop, and what it costs those that are not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.engine.runs import Blocks, Ran, bad, run_here

from batchwright import Retry, Skip, Status, Step
from batchwright.engine import process_chunk
from batchwright.engine.process_chunk import Pace
from batchwright.engine.stop import Stop
from batchwright.model.pace import CHUNK_SECONDS, PASS_SECONDS
from batchwright.testing.fake_clock import FakeClock

FIRST_PASS = Pace(FakeClock(), Stop()).items

BORDERS = (FIRST_PASS, FIRST_PASS * 5, FIRST_PASS * 21)
"""Where the passes over items that take no time end: each is four times as long as the one before."""


class CountingClock(FakeClock):
    """Counts how often it is looked at."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


@dataclass
class Work:
    """A processor that takes its time, and a writer that keeps its chunks."""

    seconds: float = 0.0
    clock: CountingClock = field(default_factory=CountingClock)
    stop: Stop = field(default_factory=Stop)
    chunks: list[list[Any]] = field(default_factory=list)
    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    called: list[Any] = field(default_factory=list)

    def process(self, item: Any) -> Any:
        self.called.append(item)
        self.clock.advance(self.seconds)
        self.at.get(item, lambda: None)()
        return item

    def write(self, outputs: list[Any]) -> None:
        self.chunks.append(list(outputs))

    def run(self, read: Any, chunk_size: int = 1_000, process: Any = None, **options: Any) -> Ran:
        step = Step("s", read=read, process=process or self.process, write=self.write, chunk_size=chunk_size, **options)
        return run_here(step, clock=self.clock, stop=self.stop)

    @property
    def written(self) -> list[Any]:
        return [output for chunk in self.chunks for output in chunk]


def fails(error: Exception, times: int = 1_000) -> Callable[[], object]:
    """Raises, so many times."""
    left = iter(range(times))

    def fail() -> None:
        if next(left, None) is not None:
            raise error

    return fail


def test_a_slow_chunk_is_committed_in_parts():
    work = Work(seconds=1.0)
    ran = work.run(range(60))
    assert ran.counts == (60, 60, 0, 0)
    assert work.written == work.called == list(range(60))
    assert ran.result.counts.commits == len(work.chunks) > 60 / (CHUNK_SECONDS + FIRST_PASS)
    assert max(map(len, work.chunks[3:])) <= CHUNK_SECONDS + 1, "once it knows how slow they are, it looks in time"


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3])
def test_no_part_is_much_longer_than_it_may_be(seconds):
    work = Work(seconds=seconds)
    work.run(range(300))
    assert len(work.chunks) > 1
    for chunk in work.chunks[1:]:
        assert len(chunk) * seconds <= CHUNK_SECONDS + max(2 * PASS_SECONDS, seconds)


def test_fast_items_are_processed_in_few_passes_and_hardly_ever_look_at_the_clock():
    few, many = Work(), Work()
    few.run(range(1_000))
    many.run(range(100_000), chunk_size=100_000)
    assert len(few.chunks) == len(many.chunks) == 1
    # Passes grow by a factor: ten looks, not a look per sixteen items.
    assert few.clock.looks < 30
    assert many.clock.looks < 45


def test_once_it_knows_that_items_are_fast_a_chunk_is_one_pass():
    few, many = Work(), Work()
    few.run(range(40_000))
    many.run(range(80_000))
    assert many.clock.looks - few.clock.looks <= 40 * 5, "what forty commits need, and nothing for passes"


def test_a_chunk_that_is_no_longer_than_a_pass_is_never_cut():
    work = Work(seconds=100.0)
    work.run(range(FIRST_PASS * 3), chunk_size=FIRST_PASS)
    assert {len(chunk) for chunk in work.chunks} == {FIRST_PASS}


def test_a_stop_in_the_middle_of_a_chunk_ends_stopped_with_what_was_done_committed():
    work = Work()
    work.at[FIRST_PASS + 3] = lambda: work.stop.request("test")
    ran = work.run(range(10_000), chunk_size=10_000)
    assert ran.result.status is Status.STOPPED
    assert work.written == work.called == list(range(ran.result.read))
    assert FIRST_PASS < ran.result.read < 1_000
    work.stop = Stop()
    again = Step("s", read=range(10_000), process=work.process, write=work.write, chunk_size=10_000)
    assert run_here(again, ledger=ran.ledger).result.status is Status.COMPLETED
    assert work.written == list(range(10_000))


def test_a_stop_during_the_last_pass_of_a_chunk_ends_behind_the_chunk():
    work = Work()
    work.at[FIRST_PASS + 1] = lambda: work.stop.request("test")
    ran = work.run(range(1_000), chunk_size=FIRST_PASS + 2)
    assert ran.result.status is Status.STOPPED
    assert ran.result.read == FIRST_PASS + 2


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_failures_and_bad_records_stay_where_they_are_when_a_chunk_is_cut(seconds: float):
    items: list[Any] = list(range(100))
    for place in (4, 5, 40):
        items[place] = bad()
    work = Work(seconds=seconds, at={place: fails(ValueError("no")) for place in (0, 1, 17, 18, 47, 99)})
    ran = work.run(Blocks([items[:30], items[30:]]), skip=Skip())
    asides = [0, 1, 4, 5, 17, 18, 40, 47, 99]
    assert [failure.ordinal for failure in ran.failures] == asides
    assert ran.counts == (100, 91, 0, 9)
    assert work.written == [item for item in range(100) if item not in asides]
    assert len(work.chunks) > 1 + seconds


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0])
def test_what_is_tried_again_at_the_border_of_a_pass_is_written_once_and_counted_once(seconds: float):
    places = {border + beside for border in BORDERS for beside in (-1, 0, 1)}
    work = Work(seconds=seconds, at={place: fails(OSError("again"), 1) for place in places})
    ran = work.run(range(90), retry=Retry(on=OSError, delay_seconds=0))
    assert work.written == list(range(90))
    assert ran.result.counts.retried == len(places)
    assert len(work.chunks) >= 1 + seconds * 3


@pytest.mark.parametrize("every", [3, 10, 17])
def test_failures_do_not_keep_a_slow_chunk_from_being_cut(every):
    at = {place: fails(ValueError("no")) for place in range(0, 200, every)}
    work = Work(seconds=1.0, at=at)
    ran = work.run(range(200), skip=Skip())
    assert ran.counts == (200, 200 - len(at), 0, len(at))
    assert len(work.chunks) > 10


def test_failures_do_not_keep_a_stop_from_being_obeyed_in_mid_chunk():
    work = Work(at={place: fails(ValueError("no")) for place in range(0, 1_000, 3)})
    work.at[50] = lambda: work.stop.request("test")
    ran = work.run(range(1_000), skip=Skip())
    assert ran.result.status is Status.STOPPED
    assert ran.result.read < 1_000


@pytest.mark.parametrize("place", [0, 1, 2, 4, 5, 6, 20, 21, 22, 39])
def test_a_stop_iteration_at_the_border_of_a_pass_is_its_items_failure(place):
    for seconds in (0.0, 1.0):
        work = Work(seconds=seconds, at={place: fails(StopIteration())})
        ran = work.run(range(40), skip=Skip())
        assert work.written == [item for item in range(40) if item != place]
        assert [(failure.ordinal, failure.error_type) for failure in ran.failures] == [(place, "StopIteration")]


@pytest.mark.parametrize("place", [0, 1, 2, 4, 5, 6, 20, 21, 22, 39])
def test_without_skip_the_step_stops_there_however_its_chunk_was_cut(place):
    for seconds in (0.0, 1.0):
        work = Work(seconds=seconds, at={place: fails(ValueError("no"))})
        ran = work.run(range(40))
        assert ran.result.status is Status.FAILED
        assert isinstance(ran.error, ValueError)
        assert work.written == list(range(place))


def test_a_generator_is_cut_between_items_never_among_their_outputs():
    work = Work(seconds=1.0)

    def twice(item: int) -> Iterator[int]:
        yield work.process(item)
        yield item

    ran = work.run(range(60), process=twice)
    assert ran.counts == (60, 60, 0, 0)
    assert work.written == [item for item in range(60) for _ in range(2)]
    assert len(work.chunks) > 3
    assert all(len(chunk) % 2 == 0 for chunk in work.chunks)


@pytest.mark.parametrize("page", [1, 3, 10, 16, 25, 60])
def test_an_indivisible_block_is_never_cut(page):
    items = list(range(60))
    pages = [items[start : start + page] for start in range(0, 60, page)]
    work = Work(seconds=1.0)
    ran = work.run(Blocks(pages, divisible=False))
    assert ran.counts == (60, 60, 0, 0)
    assert work.written == items
    ends = {*range(page, 60, page), 60}
    done = 0
    for chunk in work.chunks:
        done += len(chunk)
        assert done in ends
    assert (len(work.chunks) > 1) == (page < 60)


def test_a_stop_inside_an_indivisible_block_ends_behind_it_or_before_it():
    work = Work()
    work.at[FIRST_PASS + 3] = lambda: work.stop.request("test")
    ran = work.run(Blocks([range(10), range(10, 500), range(500, 510)], divisible=False))
    assert ran.result.status is Status.STOPPED
    assert work.written == list(range(ran.result.read))
    assert ran.result.read in (10, 500, 510)


def test_a_limit_counts_what_is_read_and_not_the_parts_of_a_chunk():
    work = Work(seconds=1.0)
    step = Step("s", read=range(100), process=work.process, write=work.write, chunk_size=60)
    ran = run_here(step, clock=work.clock, limit=70)
    assert ran.result.status is Status.STOPPED
    assert work.written == list(range(70))


def test_a_pass_becomes_longer_while_it_is_fast_and_shorter_while_it_is_slow():
    clock = FakeClock()
    pace = Pace(clock, Stop(), items=16)
    began = clock.monotonic()
    assert not pace.ends_chunk(began, clock.monotonic(), whole=True)
    assert pace.items == 64
    passed = clock.monotonic()
    clock.advance(PASS_SECONDS / 2)
    assert not pace.ends_chunk(began, passed, whole=True)
    assert pace.items == 64
    for _ in range(10):
        passed = clock.monotonic()
        clock.advance(PASS_SECONDS * 1.01)
        ended = pace.ends_chunk(began, passed, whole=True)
    assert pace.items == 1
    assert ended


def test_without_the_cut_this_page_would_see_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_chunk, "CHUNK_SECONDS", 1e9)
    work = Work(seconds=1.0)
    work.run(range(60))
    assert len(work.chunks) == 1

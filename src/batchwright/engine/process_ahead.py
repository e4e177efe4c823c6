"""Process chunks ahead of the one that is committed, with workers, and give them back in the order of the input.

The one rule: workers may be done in any order; what leaves here is in order, and nothing leaves that has a gap before
it. All that is read and not yet handed over is bounded by `most` items and, where the reader knows them, by MOST_BYTES.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, pairwise
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.call_processor import refuse_iterators
from batchwright.engine.process_chunk import Processed, cut_before, split_unreadable, told_nobody
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.stop import POLL_SECONDS, Stop
from batchwright.model.errors import StopRequestedError, WriteError
from batchwright.model.failure import Phase
from batchwright.model.pace import CHUNK_SECONDS
from batchwright.model.work import Death, Outcome, SetAside, Work
from batchwright.ports import Clock
from batchwright.ports.runners import Workers

PORTION_SECONDS = 0.02
"""What one worker should be given at a time: long against handing it over, short against what others wait for."""

MOST_BYTES = 64 * 1024 * 1024
"""How many bytes of input may be read and not handed over; the chunk that is next may be larger."""


def _nobody(_ordinals: Sequence[int], _items: Sequence[Any]) -> Mapping[int, Death]:
    """No item is known to have killed its worker."""
    return {}


@dataclass(frozen=True, slots=True)
class Ahead:
    """How far to work ahead. `together` workers have all items of a portion in work at once.

    `deaths` says, by index, over which of the items at some ordinals workers have died in earlier runs; `moved` is
    told how far the chunk that is next is done without a gap.
    """

    step: str
    workers: int
    together: bool
    most: int
    many: bool
    deaths: Callable[[Sequence[int], Sequence[Any]], Mapping[int, Death]] = _nobody
    moved: Callable[[Chunk, int, float], None] = told_nobody

    @property
    def window(self) -> int:
        """How many portions may be with the workers, so that none of them waits for the next."""
        return 16 if self.together else 2 * self.workers


@dataclass(slots=True)
class _Portion:
    """Records of a chunk from `first` up to `last`; its items are the good ones among them."""

    number: int
    first: int
    last: int
    items: Sequence[Any]
    ordinals: Sequence[int]
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Flight:
    """A chunk of which not everything was handed over. `ending` is the error of the record behind it, if it ends there.

    Of its portions the first `handed` were handed over, with the records before `start`; those up to `done` have
    outcomes. `stopped` says that the last of these ended before its items did.
    """

    read: Chunk
    chunk: Processed
    ending: BaseException | None
    portions: list[_Portion]
    began: float
    start: int = 0
    handed: int = 0
    done: int = 0
    stopped: bool = False
    over_limit: bool = False

    def look(self) -> None:
        """Count the portions that are done without a gap."""
        while self.done < len(self.portions) and not self.stopped:
            portion = self.portions[self.done]
            if portion.items and portion.outcome is None:
                return
            self.done += 1
            outcome = portion.outcome
            self.stopped = outcome is not None and outcome.done < len(portion.items)


@dataclass(slots=True)
class _Ahead:
    """The state of it all."""

    chunks: Iterator[Chunk]
    workers: Workers
    bounds: Ahead
    policy: Attempts
    clock: Clock
    stop: Stop
    flights: deque[_Flight] = field(default_factory=deque)
    waiting: deque[_Portion] = field(default_factory=deque)
    given: dict[int, _Portion] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    portion: int = 1
    items: int = 0
    failing: int = 0
    exhausted: bool = False
    failed: Exception | None = None
    checked: bool = False

    @property
    def feeding(self) -> bool:
        """Whether more is to be begun: not after a request to stop, nor once what is in flight passes the limit.

        What was given out was given in order: where more of it failed than may, nothing behind it will be committed.
        """
        return self.stop.requested is None and not (self.failing and self.policy.over(self.failing))


def process_ahead(
    chunks: Iterator[Chunk], workers: Workers, bounds: Ahead, policy: Attempts, waits: tuple[Clock, Stop]
) -> Iterator[Processed]:
    """Chunks, or parts of them, processed by workers, in the order of the input.

    After a stop was requested, what is done without a gap comes, and then the end; the last may say what ended it.
    Raises what the reader raised once everything before it was handed over, and DeclarationError as `process_chunk`.
    """
    state = _Ahead(chunks, workers, bounds, policy, *waits, portion=_first_portion(bounds))
    while True:
        _read_on(state)
        _hand_out(state)
        ready = _next_in_order(state)
        if ready is not None:
            state.items -= len(ready.chunk)
            state.failing -= sum(why.phase is not Phase.READ for why in ready.failed.values())
            yield ready
            if ready.ended_by is not None:
                return
        elif not state.flights or (state.stop.requested is not None and not state.given):
            if state.failed is not None and state.stop.requested is None:
                raise state.failed
            return
        else:
            _take_in(state, workers.collect(POLL_SECONDS))


def _first_portion(bounds: Ahead) -> int:
    """A loop is fed in pieces that together keep it busy; threads begin with single items and find out."""
    return max(1, -(-2 * bounds.workers // bounds.window)) if bounds.together else 1


def _read_on(state: _Ahead) -> None:
    """Read until enough is in flight, the input ends, or an error ends it: that is kept until its turn comes."""
    while not state.exhausted and state.feeding and (not state.flights or _has_room(state)):
        try:
            chunk = next(state.chunks, None)
        except Exception as error:  # noqa: BLE001 - raised when its turn comes
            state.failed, chunk = error, None
        if chunk is None:
            state.exhausted = True
            return
        unprocessed, ending = split_unreadable(chunk, state.policy, many=state.bounds.many)
        over = bool(unprocessed.failed) and state.policy.over(len(unprocessed.failed))
        portions = [] if over else _portions(state, unprocessed.chunk)
        began = state.clock.monotonic()
        state.flights.append(_Flight(chunk, unprocessed, ending, portions, began, over_limit=over))
        state.waiting.extend(portion for portion in portions if portion.items)
        state.items += len(unprocessed.chunk)
        state.exhausted = ending is not None or over


def _has_room(state: _Ahead) -> bool:
    last = state.flights[-1]
    if state.items + len(last.chunk.chunk) > state.bounds.most:
        return False
    return sum(flight.read.size for flight in state.flights) + last.read.size <= MOST_BYTES


def _portions(state: _Ahead, chunk: Chunk) -> list[_Portion]:
    """The chunk in portions; bad records belong to the one before them."""
    good, size = chunk.good_indexes(), state.portion
    firsts = [0, *(good[at] for at in range(size, len(good), size)), len(chunk)]
    return [
        _Portion(next(state.numbers), first, last, chunk.items[at : at + size], _ordinals(chunk, good[at : at + size]))
        for at, (first, last) in zip(count(0, size), pairwise(firsts), strict=False)
    ]


def _ordinals(chunk: Chunk, indexes: Sequence[int]) -> Sequence[int]:
    if isinstance(indexes, range):
        return range(chunk.start + indexes.start, chunk.start + indexes.stop)
    return [chunk.start + index for index in indexes]


def _hand_out(state: _Ahead) -> None:
    while state.waiting and len(state.given) < state.bounds.window and state.feeding:
        portion = state.waiting.popleft()
        state.given[portion.number] = portion
        deaths = state.bounds.deaths(portion.ordinals, portion.items)
        state.workers.submit(Work(portion.number, portion.items, portion.ordinals, deaths))


def _take_in(state: _Ahead, outcome: Outcome | None) -> None:
    """Keep an outcome with its portion; the next ones are made longer or shorter by what it took."""
    if outcome is None:
        return
    portion = state.given.pop(outcome.number, None)
    if portion is None:
        return  # it came twice, as from engines that run a task twice: the first one holds
    if outcome.broken is not None:
        raise outcome.broken
    if outcome.done > len(portion.items):
        raise WriteError(
            f"step '{state.bounds.step}': a runner gave back more than it was given",
            f"{outcome.done:,} results for {len(portion.items):,} items",
            "mend the runner; batchwright.testing.RunnerSuite shows where",
        )
    if not state.bounds.many and not state.checked:
        state.checked = refuse_iterators(list(outcome.results), state.bounds.step)
    portion.outcome = outcome
    state.failing += len(outcome.failed)
    if not state.bounds.together:
        wanted = int(PORTION_SECONDS / max(outcome.seconds, 1e-9))
        most = max(1, state.bounds.most // (4 * state.bounds.workers))
        state.portion = max(1, min(wanted, 4 * state.portion, most))


def _next_in_order(state: _Ahead) -> Processed | None:
    """What can be committed next: a whole chunk, or, once its time is up or all is to end, the part that is done."""
    if not state.flights:
        return None
    flight = state.flights[0]
    flight.look()
    if flight.stopped:
        return _merged(flight, flight.portions[flight.done - 1].last)
    if flight.done == len(flight.portions):
        state.flights.popleft()
        if state.flights:
            state.flights[0].began = state.clock.monotonic()
        merged = _merged(flight, len(flight.chunk.chunk))
        return (
            replace(merged, over_limit=True)
            if flight.over_limit
            else merged.before_unreadable(flight.read, flight.start, flight.ending)
        )
    now, cut = state.clock.monotonic(), flight.portions[flight.done].first
    late = state.stop.requested is not None or now - flight.began >= CHUNK_SECONDS
    state.bounds.moved(flight.chunk.chunk, cut, now)
    if not state.given and not state.feeding and state.stop.requested is None:
        return replace(_merged(flight, cut), over_limit=True)
    if not late or flight.done == flight.handed or flight.chunk.chunk.cut_at(cut) != cut:
        return None
    merged = _merged(flight, cut)
    flight.start, flight.handed, flight.began = cut, flight.done, now
    return merged


def _merged(flight: _Flight, stop: int) -> Processed:
    """The records from the flight's start up to `stop`, with what came of the portions that are done."""
    start, whole = flight.start, flight.chunk
    chunk = whole.chunk if (start, stop) == (0, len(whole.chunk)) else whole.chunk.part(start, stop)
    bad = {index - start: why for index, why in whole.failed.items() if start <= index < stop}
    outcomes = [portion.outcome for portion in flight.portions[flight.handed : flight.done] if portion.outcome]
    results = list(chain.from_iterable(outcome.results for outcome in outcomes))
    aside: dict[int, SetAside] = {}
    good, taken = chunk.good_indexes(), 0
    for outcome in outcomes:
        if outcome.failed:
            aside.update({good[taken + index]: why for index, why in outcome.failed.items()})
        taken += outcome.done
    retried = sum(outcome.retried for outcome in outcomes)
    if flight.stopped:
        error = outcomes[-1].ended_by or StopRequestedError()
        return cut_before(Processed(chunk, (), whole.many, bad), good[taken], results, aside, retried, error)
    return Processed(chunk, results, whole.many, {**bad, **aside}, retried)

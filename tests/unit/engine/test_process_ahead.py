"""Whatever order workers finish in, what is committed is what the loop without them commits."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.runs import Blocks, Ran, bad, run_here

from batchwright import Retry, Skip, Status, Step, Stop
from batchwright.engine import process_ahead
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Block, Position
from batchwright.model.errors import DeclarationError
from batchwright.model.work import Outcome, Work
from batchwright.ports.runners import Task, Workers
from batchwright.runners import EventLoop, Threads


@dataclass
class Shuffled:
    """A runner on the caller's own thread that is done in an order made by a seed."""

    seed: int
    workers: int = 3
    together: bool = False
    most: int = 0
    started: list[Any] = field(default_factory=list)

    def start(self, task: Task) -> Workers:
        self.started.append(ShuffledWorkers(task, random.Random(self.seed), self))
        return self.started[-1]


class ShuffledWorkers:
    def __init__(self, task: Task, chance: random.Random, seen: Shuffled) -> None:
        self._task, self._chance, self._seen = task, chance, seen
        self._given: list[Work] = []
        self.closed = False

    def submit(self, work: Work) -> None:
        self._given.append(work)
        self._seen.most = max(self._seen.most, len(self._given))

    def collect(self, timeout_seconds: float) -> Outcome | None:
        del timeout_seconds
        if not self._given or self._chance.random() < 0.1:
            return None
        return self._task.run(self._given.pop(self._chance.randrange(len(self._given))))

    def cancel(self) -> None:
        self._given.clear()

    def close(self) -> None:
        self.closed = True


@dataclass
class Choosy:
    """A function that refuses some items, drops some, and needs some twice."""

    refused: frozenset[int]
    again: frozenset[int]
    written: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def process(self, item: int) -> Iterator[int]:
        if item in self.refused:
            raise ValueError("refused")
        if item in self.again and item not in self.seen:
            self.seen.add(item)
            raise OSError("again")
        yield from [item] * (item % 3)

    def write(self, chunk: Any) -> None:
        self.written.extend(chunk)


items = st.frozensets(st.integers(0, 59), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=6),
    divisible=st.booleans(),
    chunk_size=st.integers(1, 30),
    refused=items,
    again=items,
    unreadable=items,
    skips=st.booleans(),
    seed=st.integers(0, 10_000),
    most=st.one_of(st.none(), st.integers(1, 40)),
)
def test_workers_change_nothing(sizes, divisible, chunk_size, refused, again, unreadable, skips, seed, most):  # noqa: PLR0913, PLR0917 - what is drawn
    numbers = iter(range(10_000))
    blocks = [[bad() if (n := next(numbers)) in unreadable else n for _ in range(size)] for size in sizes]

    def ran(**options: Any) -> tuple[Any, ...]:
        work, ledger = Choosy(refused, again), MemoryLedger()
        outcome: list[Any] = []
        for limit in (17, None):
            step = Step(
                "s",
                read=Blocks(blocks, divisible),
                process=work.process,
                write=work.write,
                chunk_size=chunk_size,
                skip=Skip() if skips else None,
                retry=Retry(on=OSError, delay_seconds=0),
                **options,
            )
            once = run_here(step, ledger=ledger, limit=limit)
            notes = getattr(once.error, "__notes__", [])
            failed = [(failure.ordinal, failure.phase, failure.attempts) for failure in once.failures]
            outcome.append((once.result.status, once.counts, failed, str(once.error), notes))
        return work.written, outcome

    assert ran(runner=Shuffled(seed), max_in_flight=most) == ran()


def ran_with(runner: Any, read: Any, process: Any, **options: Any) -> tuple[Ran, list[Any]]:
    written: list[Any] = []
    ran = run_here(Step("s", read=read, process=process, write=written.extend, runner=runner, **options))
    return ran, written


def test_an_error_of_the_reader_comes_after_everything_that_was_read_before_it():
    ran, written = ran_with(Shuffled(1), Blocks([[0, 1, 2], OSError("gone")]), lambda item: item, chunk_size=2)
    assert written == [0, 1, 2]
    assert isinstance(ran.error, OSError)


def test_no_more_is_read_than_may_be_in_flight():
    pulled = 0
    most = 0
    committed = 0

    def numbers() -> Iterator[int]:
        nonlocal pulled, most
        for number in range(300):
            pulled += 1
            most = max(most, pulled - committed)
            yield number

    def write(chunk: Any) -> None:
        nonlocal committed
        committed += len(chunk)

    step = Step("s", read=numbers, process=abs, write=write, chunk_size=10, runner=Shuffled(5), max_in_flight=40)
    assert run_here(step).result.status is Status.COMPLETED
    # The adapter of generators takes a chunk at a time, and looks one item further.
    assert most <= 40 + 10 + 1


class Heavy(Blocks):
    """Blocks of a thousand bytes each; `ahead` is how many were read and not committed, at most."""

    read_so_far = committed = ahead = 0

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        for block in super().read(after):
            self.read_so_far += len(block)
            self.ahead = max(self.ahead, self.read_so_far - self.committed)
            yield replace(block, size=1_000)

    def write(self, chunk: Any) -> None:
        self.committed += len(chunk)


@pytest.mark.parametrize(("chunk_size", "least", "most"), [(10, 40, 50), (20, 40, 50), (200, 200, 200)])
def test_no_more_bytes_are_read_ahead_than_may_be(
    monkeypatch: pytest.MonkeyPatch, chunk_size: int, least: int, most: int
):
    monkeypatch.setattr(process_ahead, "MOST_BYTES", 5_000)
    heavy = Heavy([range(start, start + 10) for start in range(0, 600, 10)])
    options = {"chunk_size": chunk_size, "max_in_flight": 600, "runner": Shuffled(5)}
    ran = run_here(Step("s", read=heavy, process=abs, write=heavy.write, **options))
    assert ran.result.counts.written == 600
    assert least <= heavy.ahead <= most


def test_workers_are_closed_whatever_ends_the_step():
    for process in (abs, lambda item: 1 / (item - 5), lambda item: iter((item,))):
        runner = Shuffled(3)
        with contextlib.suppress(DeclarationError):
            ran_with(runner, range(20), process)
        assert [workers.closed for workers in runner.started] == [True]


def test_a_function_that_returns_iterators_is_refused_wherever_it_runs():
    ran, written = ran_with(Shuffled(3), range(20), lambda item: iter((item,)))
    assert isinstance(ran.error, DeclarationError)
    assert written == []


def test_what_is_done_of_a_chunk_that_takes_long_is_committed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process_ahead, "CHUNK_SECONDS", 0.0)
    ran, written = ran_with(Shuffled(3), range(50), abs, chunk_size=50)
    assert written == list(range(50))
    assert ran.result.counts.commits > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": True}, "workers must be at least 1"),
        ({"max_in_flight": 0}, "max_in_flight must be at least 1"),
        ({"runner": 4}, "runner must be a runner"),
        ({"runner": Threads(2), "workers": 2}, "say the same twice"),
        ({"runner": EventLoop(2)}, "cannot call process"),
        ({"process": None, "workers": 2}, "nothing to do|something to do"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(options: dict[str, Any], words: str):
    with pytest.raises(DeclarationError, match=words):
        Step("s", read=range(3), write=len, **{"process": abs, **options})


@pytest.mark.parametrize("runner", [Threads, EventLoop])
def test_a_runner_without_workers_is_refused(runner: Any):
    with pytest.raises(DeclarationError, match="workers must be at least 1; got 0"):
        runner(0)


def test_a_stop_during_a_wait_between_attempts_makes_no_failure():
    stop = Stop()
    written: list[Any] = []

    def process(item: int) -> int:
        if item == 5:
            stop.request("enough")
            raise OSError("again")
        return item

    retry = Retry(on=OSError, delay_seconds=10)
    step = Step("s", read=range(20), process=process, write=written.extend, skip=Skip(), retry=retry, workers=2)
    ran = run_here(step, stop=stop)
    assert ran.result.status is Status.STOPPED
    assert ran.counts[3] == 0
    assert written == list(range(ran.result.read))

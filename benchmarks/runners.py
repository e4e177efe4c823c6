"""What runners cost and gain: `python benchmarks/runners.py [NAME]`. Ratios within one run only.

The one rule: it reports and never judges. Waiting is compared with the least time that it could take; processes with
one process, and what handing a portion over costs with a bare ProcessPoolExecutor and the same portions.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from batchwright import Step, run
from batchwright.engine.process_portion import PortionTask
from batchwright.engine.tell_time import SystemClock
from batchwright.job import one_step_job
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.work import Work
from batchwright.runners import EventLoop, Processes, Threads

ROUNDS = 3

PORTION = 100


def wait_5_ms(item: int) -> int:
    time.sleep(0.005)
    return item


async def wait_5_ms_async(item: int) -> int:
    await asyncio.sleep(0.005)
    return item


async def wait_50_ms_async(item: int) -> int:
    await asyncio.sleep(0.05)
    return item


def compute(item: int) -> int:
    """About 200 µs of Python on a machine of 2024."""
    total = item
    for number in range(3_000):
        total += number * number % 7
    return total


def compute_and_time(item: int) -> float:
    began = time.perf_counter()
    compute(item)
    return time.perf_counter() - began


def same(item: int) -> int:
    return item


def same_portion(items: list[int]) -> list[int]:
    return list(map(same, items))


def threads() -> Iterator[tuple[str, float]]:
    """50 threads, 5 ms an item."""
    items = 10_000
    took = min(_seconds(wait_5_ms, items, Threads(50)) for _ in range(ROUNDS))
    yield "50 threads, 5 ms an item: of the best possible (0.90)", items * 0.005 / 50 / took


def event_loop() -> Iterator[tuple[str, float]]:
    """500 at a time."""
    for function, wait, items in ((wait_50_ms_async, 0.05, 50_000), (wait_5_ms_async, 0.005, 50_000)):
        took = min(_seconds(function, items, EventLoop(500)) for _ in range(ROUNDS))
        bare = min(_bare_loop(function, items) for _ in range(ROUNDS))
        yield f"asyncio, 500 at a time, {wait * 1000:g} ms: of the best possible (0.90)", items * wait / 500 / took
        yield "  a bare loop of 500 tasks, written by hand: of it (1.0)", bare / took


def processes() -> Iterator[tuple[str, float]]:
    """A function that keeps Python busy."""
    items, ratios = 12_000, []
    for _ in range(ROUNDS):
        one = _seconds(compute, items, Processes(1))
        ratios.append(one / _seconds(compute, items, Processes(2)))
    yield "200 µs an item: 2 processes against 1 (1.8, if nothing else is at work)", max(ratios)
    yield "  the share of their time that 2 processes spend in the function", max(_busy(items) for _ in range(ROUNDS))


def handing_over() -> Iterator[tuple[str, float]]:
    """What a portion costs, with nothing to do."""
    portions = [list(range(PORTION)) for _ in range(5_000)]
    ratios = []
    for _ in range(ROUNDS):
        ours = _hand_over(portions)
        with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
            list(pool.map(same_portion, portions[:50]))
            began = time.perf_counter()
            list(pool.map(same_portion, portions))
            theirs = time.perf_counter() - began
        ratios.append(ours / theirs)
    yield f"a portion of {PORTION} items there and back, of a bare ProcessPoolExecutor.map (1.2)", min(ratios)


def _hand_over(portions: list[list[int]]) -> float:
    runner = Processes(2)
    step = Step("s", read=(), process=same, write=len, runner=runner)
    recipe = bind(one_step_job(step), durable=False)["s"].recipe
    workers = runner.start(PortionTask("s", same, None, None, None, SystemClock(), recipe=recipe))
    try:
        for number in range(4):
            workers.submit(Work(number, portions[number]))
        for _ in range(4):
            assert workers.collect(60)
        began, given, back = time.perf_counter(), 0, 0
        while back < len(portions):
            while given < len(portions) and given - back < 4:
                workers.submit(Work(given + 4, portions[given]))
                given += 1
            outcome = workers.collect(60)
            assert outcome is not None
            back += 1
        return time.perf_counter() - began
    finally:
        workers.close()


def _seconds(function: Callable[..., Any], items: int, runner: Any) -> float:
    """From the first item that is written to the last, so that starting workers does not count."""
    times: list[tuple[float, int]] = []
    step = Step(
        "s",
        read=range(items),
        process=function,
        write=lambda outputs: times.append((time.perf_counter(), len(outputs))),
        runner=runner,
        chunk_size=1_000,
    )
    began = time.perf_counter()
    run(step, ledger=MemoryLedger())
    if runner.together or isinstance(runner, Threads):
        return time.perf_counter() - began
    (first, skipped), (last, _) = times[0], times[-1]
    return (last - first) * items / (items - skipped)


def _busy(items: int) -> float:
    """While other programs share the cores this says what the ratio above cannot."""
    seen: list[tuple[float, float]] = []
    step = Step(
        "s",
        read=range(items),
        process=compute_and_time,
        write=lambda outputs: seen.append((time.perf_counter(), sum(outputs))),
        runner=Processes(2),
        chunk_size=500,
    )
    run(step, ledger=MemoryLedger())
    return sum(spent for _, spent in seen[1:]) / (seen[-1][0] - seen[0][0]) / 2


def _bare_loop(function: Callable[..., Any], items: int) -> float:
    async def drive() -> None:
        left = iter(range(items))

        async def work() -> None:
            for item in left:
                await function(item)

        await asyncio.gather(*(work() for _ in range(500)))

    began = time.perf_counter()
    asyncio.run(drive())
    return time.perf_counter() - began


CASES = (threads, event_loop, processes, handing_over)

if __name__ == "__main__":
    for case in CASES:
        if case.__name__ in (sys.argv[1:] or [case.__name__]):
            for what, ratio in case():
                print(f"{what:76}{ratio:8.2f}", flush=True)

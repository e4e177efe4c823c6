"""Functions for the suite of runners, each in the kinds that a runner may be given; any process can import them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from batchwright.model.drop import DROP

SLOW = 3
"""The item that takes much longer than others."""


def double(item: int) -> Any:
    """Twice the item; every seventh is dropped."""
    return DROP if item % 7 == 0 else item * 2


def spread(item: int) -> Iterator[int]:
    """No output, one or two."""
    yield from [item] * (item % 3)


def fails(item: int) -> int:
    """Every tenth item is refused, once with a StopIteration."""
    if item == 20:
        raise StopIteration
    if item % 10 == 0:
        raise ValueError(f"item {item} is refused")
    return item


def ends(item: int) -> int:
    """One item ends the step."""
    if item == 35:
        raise KeyError(f"item {item} ends it")
    return fails(item)


def holds(item: int) -> int:
    """One item takes much longer than the others."""
    time.sleep(0.3 if item == SLOW else 0.001)
    return item


async def double_async(item: int) -> Any:
    """See `double`."""
    await asyncio.sleep(0)
    return double(item)


async def spread_async(item: int) -> AsyncIterator[int]:
    """See `spread`."""
    for output in spread(item):
        await asyncio.sleep(0)
        yield output


async def fails_async(item: int) -> int:
    """See `fails`; a StopIteration cannot leave a coroutine as itself."""
    await asyncio.sleep(0)
    return fails(item)


async def ends_async(item: int) -> int:
    """See `ends`."""
    await asyncio.sleep(0)
    return ends(item)


async def holds_async(item: int) -> int:
    """See `holds`."""
    await asyncio.sleep(0.3 if item == SLOW else 0.001)
    return item


IN_KIND: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "double": (double, double_async),
    "spread": (spread, spread_async),
    "fails": (fails, fails_async),
    "ends": (ends, ends_async),
    "holds": (holds, holds_async),
}
"""Each of them as a plain function and as an async one."""

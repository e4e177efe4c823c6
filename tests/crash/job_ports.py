"""What the reference jobs read and write beside the readers and writers of the product.

The one rule: a function that writes reaches a fault point on both sides of it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from tests.crash.job_tables import ITEMS

from batchwright.engine.tell_time import SystemClock
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import Block, Place, Position
from batchwright.model.fault_points import reach
from batchwright.model.idempotency import _running_step
from batchwright.ports import Scope, Writer


class Pages:
    """A reader whose blocks have no place for a checkpoint inside."""

    address, seeks, items = "pages", True, 5

    def read(self, after: Position | None) -> Iterator[Block[int]]:
        """A page has no inside to go on from."""
        if after is not None and after.offset:
            raise AssertionError(f"a checkpoint stands inside a page, at {after}")
        for start in range(after.anchor or 0 if after else 0, ITEMS, self.items):
            yield Block(range(start, start + self.items), start, start + self.items, divisible=False)

    def place(self, position: Position) -> Place:
        """Nowhere: none of its items fails."""
        return Place("pages", position.ordinal)


class AppendIds:
    """A function of a chunk: appends it in one call."""

    def __init__(self, path: Path) -> None:
        self._append = append_to(path)

    def __call__(self, sales: list[dict[str, Any]]) -> None:
        self._append(*sales)


def append_to(path: Path) -> Callable[..., None]:
    """A function that appends the ids of its arguments, a line each; reaches a fault point on both sides of it."""
    reached = count()

    def append(*sales: dict[str, Any]) -> None:
        reach("K8" if next(reached) else "K7")
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, "".join(f"{sale['id']}\n" for sale in sales).encode())
        os.close(descriptor)
        reach("K9")

    return append


def claim(target: Writer[Any], partition: int) -> None:
    """Claim the partition that this thread works on, as somebody does who takes it over, and dies of it."""
    key = _running_step.get()
    assert key.partition == partition
    with closing(target.open(Scope(key, MemoryLedger(), SystemClock(), claims=True))) as successor:
        successor.recall()

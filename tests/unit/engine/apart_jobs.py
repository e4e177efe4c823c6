"""Jobs in partitions whose partitions are worked on by processes; those load this file.

The one rule: what an item does to its process is said by the job's parameters, so that the job built again does it too.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tests.crash.killers import die

from batchwright import Job, NonIdentifying, Skip, Step
from batchwright.model.block import Block, Place, Position
from batchwright.model.errors import WorkerDiedError
from batchwright.runners import Processes
from batchwright.writers import insert

ITEMS = 120


class SevenError(ValueError):
    """An error of the job's own."""


def work(folder: str, killers: dict[int, str], item: dict[str, int]) -> dict[str, int]:
    number = item["id"]
    if number in killers:
        die(killers[number])
    if number % 10 == 7:
        raise SevenError("a seven")
    with (Path(folder) / f"pid-{os.getpid()}").open("a") as file:
        file.write(".")
    return item


def load(
    folder: str,
    killers: str = "",
    workers: Annotated[int, NonIdentifying] = 2,
    limit: int = 100,
    memory: int = 0,
    seconds: int = 0,
) -> Job:
    kinds = {int(number): kind for number, _, kind in (text.partition(":") for text in killers.split())}
    step = Step(
        "load",
        read=[{"id": n} for n in range(ITEMS)],
        process=partial(work, folder, kinds),
        write=insert(f"sqlite:///{folder}/t.db", "t"),
        chunk_size=7,
        partitions=4,
        runner=Processes(workers, memory_limit=memory or None),
        skip=Skip(on=(ValueError, WorkerDiedError, TimeoutError, MemoryError), limit=limit),
        item_timeout_seconds=seconds or None,
    )
    return Job("load", step)


@dataclass(frozen=True)
class DeadlyRows:
    """A reader of numbers that can be split; reading the 50th kills whoever reads it."""

    only: tuple[int, int] = (0, 100)
    address: str = "deadly"
    seeks: bool = True
    undivided: str = ""

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        start = self.only[0] if after is None or after.anchor is None else after.anchor
        for first in range(start, self.only[1], 10):
            if first == 50:
                os.kill(os.getpid(), signal.SIGKILL)
            yield Block([{"id": n} for n in range(first, first + 10)], first, first + 10)

    def place(self, position: Position) -> Place:
        return Place("deadly", (self.only[0] if position.anchor is None else position.anchor) + position.offset + 1)

    def split(self, most: int) -> Sequence[Any]:
        return [[n, n + 20] for n in range(0, 100, 20)][:most]

    def part(self, spec: Any) -> "DeadlyRows":
        return DeadlyRows(tuple(spec))


def reading(folder: str) -> Job:
    write = insert(f"sqlite:///{folder}/t.db", "t")
    return Job("reading", Step("copy", read=DeadlyRows(), write=write, partitions=5, runner=Processes(2), chunk_size=5))


LONG = 300


def slow(seconds: float, item: dict[str, int]) -> dict[str, int]:
    """The first items of each partition come soon."""
    time.sleep(seconds if item["id"] % (LONG // 4) >= 10 else 0)
    return item


def long(folder: str, seconds: Annotated[float, NonIdentifying] = 0.01) -> Job:
    write = insert(f"sqlite:///{folder}/t.db", "t")
    read = [{"id": n} for n in range(LONG)]
    how: Any = {"partitions": 4, "runner": Processes(2), "chunk_size": 5}
    return Job("long", Step("load", read=read, process=partial(slow, seconds), write=write, **how))

"""What the tests of the engine share: a job run on the memory ledger with a fake clock, readers and writers to order.

The one rule: nothing here stands in for a part of ours; readers and writers are a user's own, or wrap ours.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batchwright.engine.announce import Announcer
from batchwright.engine.run_job import run_job
from batchwright.engine.set_up_run import RunOptions, Surroundings
from batchwright.engine.stop import Stop
from batchwright.job import Job, one_step_job
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.block import BadRecord, Block, Place, Position
from batchwright.model.errors import GroundChangedError, MalformedRecordError
from batchwright.model.failure import Failure
from batchwright.model.result import JobResult
from batchwright.ports import Observer, Scope, Sink, Writer
from batchwright.step import Step
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert


@dataclass(frozen=True)
class Ran:
    """How a run ended, and what it was run on."""

    result: JobResult
    error: BaseException | None
    clock: FakeClock
    ledger: MemoryLedger

    @property
    def failures(self) -> list[Failure]:
        return list(self.result.failures)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        counts = self.result.counts
        return counts.read, counts.written, counts.filtered, counts.failed


def run_here(
    work: Job | Step[Any, Any],
    *,
    ledger: MemoryLedger | None = None,
    clock: FakeClock | None = None,
    stop: Stop | None = None,
    observers: Sequence[Observer] = (),
    **options: Any,
) -> Ran:
    """Run as `run` does, but for the clock; the counts of every step must add up."""
    job = one_step_job(work) if isinstance(work, Step) else work
    kept, clock, announcer = ledger or MemoryLedger(), clock or FakeClock(), Announcer(observers)
    around = Surroundings(kept, clock, stop or Stop(), announcer, kept.failures, lambda run: "")
    try:
        result, error = run_job(job, bind(job, durable=False), RunOptions(**options), around)
    finally:
        announcer.close()
    assert all(step.counts.balanced for step in result.steps), result.steps
    assert len(list(result.failures)) == result.failed
    return Ran(result, error, clock, kept)


def refused_here(work: Job | Step[Any, Any], *, ledger: MemoryLedger, **options: Any) -> str:
    """Why a run is refused for its ground. The ledger must not know of it: nothing was done."""
    before = ledger.runs()
    with pytest.raises(GroundChangedError) as caught:
        run_here(work, ledger=ledger, **options)
    assert caught.value.exit_code == 2
    assert ledger.runs() == before
    return str(caught.value)


@dataclass(frozen=True)
class Blocks:
    """A reader of blocks as they are listed; an anchor is the index of a block. Items that are errors are bad records.

    An exception instead of a list is raised, each time but for those after `heals` attempts.
    """

    blocks: Sequence[Any]
    divisible: bool = True
    heals: int = 1_000
    address: str = "blocks"
    seeks: bool = True
    opened: list[Any] = field(default_factory=list)

    def read(self, after: Position | None) -> Iterator[Block[Any]]:
        start = 0 if after is None or after.anchor is None else after.anchor
        self.opened.append(None if after is None else after.ordinal)
        for anchor in range(start, len(self.blocks)):
            found = self.blocks[anchor]
            if isinstance(found, Exception):
                if len(self.opened) <= self.heals:
                    raise found
                continue
            bad = [BadRecord(n, item, "raw text") for n, item in enumerate(found) if isinstance(item, Exception)]
            good = [item for item in found if not isinstance(item, Exception)]
            yield Block(good, anchor, anchor + 1, bad, self.divisible)

    def place(self, position: Position) -> Place:
        return Place("blocks", position.ordinal + 1)


def bad(text: str = "not a record") -> MalformedRecordError:
    return MalformedRecordError(text)


@dataclass(frozen=True)
class Breaking:
    """A writer around another: before each call of its sink, `before(name, call number)` may raise."""

    writer: Writer[Any]
    before: Callable[[str, int], None]

    @property
    def guarantee(self) -> Any:
        return self.writer.guarantee

    @property
    def address(self) -> str:
        return self.writer.address

    def open(self, scope: Scope) -> Sink[Any]:
        sink: Any = BreakingSink(self.writer.open(scope), self.before)
        return sink


class BreakingSink:
    """See `Breaking`."""

    def __init__(self, sink: Sink[Any], before: Callable[[str, int], None]) -> None:
        self._sink, self._before = sink, before
        self._calls = dict.fromkeys(("write", "commit", "finish", "settle"), 0)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sink, name)
        if name not in self._calls:
            return found

        def call(*arguments: Any) -> Any:
            self._calls[name] += 1
            self._before(name, self._calls[name])
            return found(*arguments)

        return call

    # The protocols look for these on the class.
    def settle(self, ordinals: Sequence[int], *state: Any) -> None:
        self.__getattr__("settle")(ordinals, *state)

    def last_lap(self) -> int:
        return int(self.__getattr__("last_lap")())

    def explain(self, error: BaseException) -> BaseException:
        explained: BaseException = self.__getattr__("explain")(error)
        return explained


def rows(path: Path, sql: str = "SELECT * FROM t ORDER BY rowid") -> list[Any]:
    """The rows of a query; a single column comes without its tuple."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(sql).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def database(path: Path, script: str) -> Path:
    """A database made by a script."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def as_row(item: Any) -> dict[str, Any]:
    return {"x": item}


def copying(read: Any, folder: Path, chunk_size: int = 1_000) -> Step[Any, Any]:
    """A step that writes the text of each item into the table `t` of the folder's `t.db`."""
    return Step("copy", read=read, process=as_text, write=insert(url(folder / "t.db"), "t"), chunk_size=chunk_size)


def as_text(item: Any) -> dict[str, str]:
    return {"item": str(item)}

"""`resumable`: a loop that exists already, made to survive: the escape hatch for scripts that are no jobs yet.

The one rule: the loop's body stays the user's; what is around it, from ownership to the last commit, is a job's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from batchwright.engine.announce import Announcer
from batchwright.engine.run_job import never_begun
from batchwright.engine.run_loop import END, LoopRun
from batchwright.engine.set_up_run import RunOptions
from batchwright.engine.stop import Stop, pause
from batchwright.job import Job
from batchwright.launch import SystemClock, bind, surroundings
from batchwright.model.errors import DeclarationError, StopRequestedError
from batchwright.model.execution import Origin
from batchwright.model.policy import Skip
from batchwright.model.result import JobResult
from batchwright.model.timeouts import check_seconds
from batchwright.opening import open_patiently
from batchwright.places import ledger_place, without_password
from batchwright.ports import Ledger, Observer, Source
from batchwright.step import Step, set_fields
from batchwright.writers.loop_bodies import body_writer

In = TypeVar("In")

ITEMS_A_CHUNK = 500

CHUNK_SECONDS = 1.0
"""How long a loop's items share one transaction at most: meanwhile it holds the database's locks."""


def resumable(  # noqa: PLR0913 - the public call: everything but name and rows is optional
    name: str,
    rows: Source[In],
    *,
    database: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    chunk_size: int | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    skip: Skip | None = None,
    ledger: Ledger | str | Path | None = None,
    observers: Sequence[Observer] = (),
    again: bool = False,
    yes: bool = False,
    stop: Stop | None = None,
    timeout_seconds: float | None = None,
) -> "Loop[In]":
    """A loop over `rows` that goes on where it was, however it ended; its body stands in `with loop.item():`.

    `rows` is what a step reads: a reader, a collection, or a function that returns a fresh iterator each time. With
    `database` (`sqlite:///…` or `postgresql://…`) what the body writes by `loop.connection` is committed together with
    the checkpoint, every `chunk_size` items (500) or `chunk_seconds`: exactly once. Without, each item's effects are
    the body's own, and the one in hand when the process dies is done again: at least once (`chunk_size` is 1 then).
    `parameters` say which work it is: finished work does nothing, unless `again` (with `yes`, since its rows may be
    added a second time). `stop`, `timeout_seconds`, `ledger` and `observers` are as for `run`.

    An error in an item's block that `skip` covers is kept as a failure with what the item has written undone; any other
    goes on to the caller, with everything before it committed. There is no `retry=`: a block cannot be run a second
    time. For the same reason a deadlock, or a connection that is lost, ends the loop; running it again goes on there.
    """
    caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001 - the ledger's place follows the caller's file
    check_seconds(f"loop {name!r}: timeout_seconds", timeout_seconds)
    check_seconds(f"loop {name!r}: chunk_seconds", chunk_seconds)
    size = (1 if database is None else ITEMS_A_CHUNK) if chunk_size is None else chunk_size
    step: Step[Any, Any] = Step(name, read=rows, write=body_writer(database), chunk_size=size, skip=skip)
    job = Job(name, step, parameters=parameters, timeout_seconds=timeout_seconds)
    if Path(caller).is_file():
        set_fields(job, origin=Origin(str(Path(caller).resolve()), ""))
    return Loop(
        job, Path(caller), RunOptions(again=again, confirmed=yes), _Settings(ledger, observers, stop, chunk_seconds)
    )


class _Settings:
    """What a loop is run with."""

    def __init__(
        self, ledger: Ledger | str | Path | None, observers: Sequence[Observer], stop: Stop | None, chunk_seconds: float
    ) -> None:
        self.ledger: Ledger | str | Path | None = ledger
        self.observers: Sequence[Observer] = observers
        self.stop: Stop = stop or Stop()
        self.chunk_seconds: float = chunk_seconds


class Loop(Generic[In]):
    """A loop in work: to be entered once, gone through once, by one thread.

    What ends it says how: its input's end, COMPLETED; `break`, `return`, a stop or Ctrl-C, STOPPED; an error, FAILED,
    and the error goes on to the caller. In each case the items whose block has ended are committed.
    """

    def __init__(self, job: Job, source: Path, options: RunOptions, settings: _Settings) -> None:
        """Open nothing yet. Made by `resumable`."""
        self._job = job
        self._source = source
        self._options = options
        self._settings = settings
        self._opened = ExitStack()
        self._run: LoopRun | None = None
        self._block: ItemBlock | None = None
        self._result: JobResult | None = None
        self._iterated = False

    def __enter__(self) -> "Loop[In]":
        """Own the work, and find where it goes on.

        Raises AlreadyRunningError, or another ConfigurationError, where nothing could be started.
        """
        if self._run is not None or self._result is not None:
            raise DeclarationError("a loop can be entered once", "", "call resumable(…) again")
        settings, job = self._settings, self._job
        stop, clock = settings.stop, SystemClock()
        try:
            kept, close = open_patiently(settings.ledger, self._source, partial(pause, clock, stop))
        except StopRequestedError:
            place = ledger_place(self._source, cast("str | Path | None", settings.ledger))
            self._result = never_begun(job, without_password(place), stop)
            return self
        with ExitStack() as opened:
            if close:
                opened.callback(kept.close)
            announcer = Announcer(settings.observers)
            opened.callback(announcer.close)
            around = surroundings(kept, announcer, stop, job.name, self._source)
            bound = bind(job, durable=kept.durable)
            self._run = LoopRun(job, bound, self._options, around, settings.chunk_seconds)
            self._run.begin()
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit what is done, and close the run: as its end says. The body's error goes on to the caller."""
        with closing(self._opened):
            if self._run is not None:
                self._run.end(error)

    def __iter__(self) -> Iterator[In]:
        """The items that are still to be done."""
        if self._run is None and self._result is None:
            raise DeclarationError("the loop has not been entered", "", "write `with resumable(…) as loop:`")
        if self._iterated:
            raise DeclarationError("a loop can be gone through once", "", "call resumable(…) again: it goes on there")
        self._iterated = True
        return self

    def __next__(self) -> In:
        """The next item. Raises DeclarationError if the block of the one before has not been gone through."""
        item: Any = END if self._run is None else self._run.take()
        if item is END:
            raise StopIteration
        return cast("In", item)

    def item(self) -> "ItemBlock":
        """The block of the item in hand, as `with loop.item():` around all that the body does with it, once an item.

        An error in it that `skip` covers is kept, and the loop goes on behind the block.
        """
        if self._block is not None:
            return self._block
        if self._run is None:
            raise DeclarationError("there is no item in hand for `with loop.item():`", "the loop has nothing to do")
        self._block = ItemBlock(self._run)
        return self._block

    @property
    def connection(self) -> Any:
        """The database's connection, to be used inside `with loop.item():` only.

        It has `execute`, `executemany`, `cursor` and `row_factory`, and refuses to commit, to roll back, and to begin.
        """
        if self._run is None:
            raise DeclarationError("loop.connection is used outside of the loop", "the loop has nothing to do")
        return self._run.connection

    @property
    def result(self) -> JobResult:
        """How the loop ended: status, counts, failures. Raises DeclarationError while it has not."""
        result = self._result if self._run is None else self._run.result
        if result is None:
            raise DeclarationError("the loop has not ended, and has no result yet", "", "ask behind its with block")
        return result


class ItemBlock:
    """The block around what a loop's body does with one item."""

    def __init__(self, run: LoopRun) -> None:
        """Nothing is begun yet."""
        self._run = run

    def __enter__(self) -> None:
        """Begin it. Raises DeclarationError if there is no item in hand, or its block was gone through already."""
        self._run.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End it: the item is done, or its error is set aside, or everything it has written is undone."""
        return self._run.leave(error)

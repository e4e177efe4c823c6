"""Call the user's function over the items of a chunk: plain, generator, async, or none.

The one rule: nothing is done per item that can be done per chunk. `results.extend(map(function, items))`, resumed on
the same iterator after each error, is the fastest loop there is.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from batchwright.model.drop import DROP
from batchwright.model.errors import DeclarationError
from batchwright.model.processor import ProcessorKind, processor_kind

if TYPE_CHECKING:
    import asyncio
    import threading


_PLAIN_OUTPUTS = frozenset({dict, tuple, list, str, int})
"""Surely no iterators; most outputs are of these types, and asking takes longer than a look here."""


class Processor(Protocol):
    """A processor as the engine calls it. `many` says that a result is a list of outputs."""

    many: bool

    def run(self, results: list[Any], items: Iterator[Any]) -> None:
        """Append one result per item, until the items end or one raises."""
        ...

    def one(self, item: Any) -> Any:
        """The result for one item."""
        ...

    def __enter__(self) -> Self:
        """Ready to be called."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Release everything."""
        ...


def processor_for(function: Callable[[Any], Any] | None, item_seconds: float | None = None) -> Processor:
    """How to call this function; where there is none, items are the outputs. Only async ones can be timed out."""
    kind = processor_kind(function)
    if function is None:
        return PassThrough()
    if kind is ProcessorKind.GENERATOR:
        return FunctionProcessor(lambda item: list(function(item)), many=True)
    if kind in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR):
        return AsyncProcessor(async_call(function, item_seconds), many=kind is ProcessorKind.ASYNC_GENERATOR)
    return FunctionProcessor(function, many=False)


def async_call(function: Callable[[Any], Any], item_seconds: float | None = None) -> Callable[[Any], Awaitable[Any]]:
    """How to await this async function, or the list of what this async generator yields, in this time."""
    call = function
    if processor_kind(function) is ProcessorKind.ASYNC_GENERATOR:
        call = partial(_collected, function)
    return call if item_seconds is None else partial(_in_time, call, item_seconds)


class PassThrough:
    """Items are the outputs."""

    many = False

    def run(self, results: list[Any], items: Iterator[Any]) -> None:
        """See `Processor`."""
        results.extend(items)

    def one(self, item: Any) -> Any:
        """See `Processor`."""
        return item

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""


class FunctionProcessor:
    """Calls on the caller's own thread."""

    def __init__(self, function: Callable[[Any], Any], *, many: bool) -> None:
        """Keep the function."""
        self.one = function
        self.many = many

    def run(self, results: list[Any], items: Iterator[Any]) -> None:
        """See `Processor`. A StopIteration from the function ends this silently: the caller counts."""
        results.extend(map(self.one, items))

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""


class AsyncProcessor:
    """Awaits one item at a time on an event loop in a thread of its own, so that it works inside a running loop too."""

    def __init__(self, function: Callable[[Any], Any], *, many: bool) -> None:
        """Start nothing yet."""
        self._function = function
        self.many = many
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the loop."""
        import asyncio
        import threading

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batchwright-event-loop", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel what is left, stop the loop, wait for its thread."""
        import asyncio

        assert self._loop is not None  # noqa: S101 - entered before
        assert self._thread is not None  # noqa: S101 - entered before
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, results: list[Any], items: Iterator[Any]) -> None:
        """See `Processor`."""
        self._wait(self._drive(results, items))

    def one(self, item: Any) -> Any:
        """See `Processor`."""
        results: list[Any] = []
        self._wait(self._drive(results, iter((item,))))
        return results[0]

    async def _drive(self, results: list[Any], items: Iterator[Any]) -> BaseException | None:
        function = self._function
        try:
            for item in items:
                results.append(await function(item))  # noqa: PERF401 - what came before an error has to be kept
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised in a task, these two would end the loop's thread, and the caller would wait for ever.
            return error
        return None

    def _wait(self, coroutine: Any) -> None:
        import asyncio

        assert self._loop is not None  # noqa: S101 - entered before
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            error = future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        if error is not None:
            raise error


def refuse_iterators(results: list[Any], step: str) -> bool:
    """Whether the first output among these results was looked at; False if there is none yet.

    Raises DeclarationError if it is an iterator or an awaitable: a plain function's result would be written as one.
    """
    first = next((result for result in results if result is not DROP), DROP)
    if type(first) in _PLAIN_OUTPUTS:
        return True
    if not isinstance(first, Iterator | AsyncIterator) and not inspect.isawaitable(first):
        return first is not DROP
    for result in results:
        if inspect.iscoroutine(result):
            result.close()
    raise DeclarationError(
        f"step '{step}': process returned {type(first).__name__}, which is not an output",
        "a function that returns an iterator or an awaitable is not recognised as a generator or async function",
        "write it with yield or async def, or return a list",
    )


async def _in_time(function: Callable[[Any], Any], seconds: float, item: Any) -> Any:
    """The function's result. Raises TimeoutError, an item's failure as any other, where it takes longer."""
    import asyncio

    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            return await function(item)
    except TimeoutError as error:
        # The function may have a time-out of its own, whose words are better.
        if timeout.expired():
            raise TimeoutError(f"the item took longer than item_timeout_seconds={seconds:g}") from error
        raise


async def _collected(function: Callable[[Any], AsyncIterator[Any]], item: Any) -> list[Any]:
    return [output async for output in function(item)]


async def _cancel_all() -> None:
    import asyncio

    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

"""Kill this process at a chosen moment, so that a test can run the job again and compare.

The one rule: a process that is told to die dies of SIGKILL, as in a power cut: nothing of Python runs any more. So call
these in a process of its own, started for the test.

    crash_at("K10", 3)      the third time that a checkpoint was written and is not yet committed
    crash_after(500)        before the 500th line of batchwright's own code from here on
    crash_on_marker(…)      when an item of the input says so: put CRASH among the items
"""

import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import wraps
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from batchwright.model.distinct import Distinct
from batchwright.model.drop import DROP
from batchwright.model.errors import DeclarationError
from batchwright.model.fault_points import FAULT_POINTS
from batchwright.model.processor import ProcessorKind, processor_kind

CRASH = "batchwright CRASH"
"""An item that kills; so does any text that begins with it, each different text once."""

_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"


def crash_at(point: str, hit: int = 1) -> None:
    """Kill this process as soon as it reaches this fault point for the `hit`-th time, in whichever thread.

    The points are listed in `batchwright.model.fault_points`. This cannot be taken back, and children made by fork
    inherit it. Raises DeclarationError for a point that does not exist.
    """
    if point not in FAULT_POINTS:
        raise DeclarationError("there is no such fault point", f"got {point!r}", f"they are {', '.join(FAULT_POINTS)}")
    if hit < 1:
        raise DeclarationError("crash_at: hit must be at least 1", f"got {hit}")
    wanted, hits = f"batchwright.{point}", count(1)

    def watch(event: str, _: tuple[Any, ...]) -> None:
        if event == wanted and next(hits) == hit:
            _die()

    sys.addaudithook(watch)


def crash_after(lines: int) -> None:
    """Kill this process before it executes so many more lines of batchwright's code, in the thread that calls this.

    Together with a random number this kills anywhere, and again in the same place. Raises DeclarationError below 1.
    """
    if lines < 1:
        raise DeclarationError("crash_after: lines must be at least 1", f"got {lines}")
    passed = count(1)

    def inside(_: FrameType, event: str, __: Any) -> Any:
        if event == "line" and next(passed) == lines:
            _die()
        return inside

    def entered(frame: FrameType, _: str, __: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(_PACKAGE) else None

    sys.settrace(entered)


def crash_on_marker(process: Callable[[Any], Any] | None, folder: str | os.PathLike[str]) -> Callable[[Any], Any]:
    """A processor that does what `process` does, and kills this process when it first meets a marker.

    A marker is a text that begins with `CRASH`, or a dict with such a value. Each kills once: a file in `folder` says
    so, and from then on that item has no output. The wrapped processor is of the same kind as `process`.
    """
    if isinstance(process, Distinct):
        return replace(process, then=crash_on_marker(process.then, folder))
    marks, kind = Path(folder), processor_kind(process)
    call: Any = process if process is not None else _unchanged
    if kind is ProcessorKind.GENERATOR:
        return _generator(call, marks)
    if kind is ProcessorKind.ASYNC_GENERATOR:
        return _async_generator(call, marks)
    if kind is ProcessorKind.ASYNC:
        return _async_function(call, marks)

    @wraps(call)
    def wrapped(item: Any) -> Any:
        return DROP if _dies_of(item, marks) else call(item)

    return wrapped


def _generator(call: Any, marks: Path) -> Callable[[Any], Any]:
    @wraps(call)
    def wrapped(item: Any) -> Iterator[Any]:
        if not _dies_of(item, marks):
            yield from call(item)

    return wrapped


def _async_generator(call: Any, marks: Path) -> Callable[[Any], Any]:
    @wraps(call)
    async def wrapped(item: Any) -> AsyncIterator[Any]:
        if not _dies_of(item, marks):
            async for output in call(item):
                yield output

    return wrapped


def _async_function(call: Any, marks: Path) -> Callable[[Any], Any]:
    @wraps(call)
    async def wrapped(item: Any) -> Any:
        return DROP if _dies_of(item, marks) else await call(item)

    return wrapped


def _dies_of(item: Any, marks: Path) -> bool:
    """Whether this is a marker that has done its work; one that has not does it now."""
    texts = item.values() if isinstance(item, dict) else (item,)
    marker = next((text for text in texts if isinstance(text, str) and text.startswith(CRASH)), None)
    if marker is None:
        return False
    mark = marks / f"{hashlib.sha256(marker.encode()).hexdigest()[:16]}.crashed"
    if not mark.exists():
        marks.mkdir(parents=True, exist_ok=True)
        mark.touch()
        _die()
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _unchanged(item: Any) -> Any:
    return item

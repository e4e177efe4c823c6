"""A worker process: does what it is told over its socket, and nothing else.

The one rule: it changes nothing outside. What it prints goes to standard error; signals that ask processes to end are
the run's affair; it ends at once when the run is gone, and when its socket is closed.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

from batchwright.model.fork import end_if_forked
from batchwright.ports.runners import Task, Tells
from batchwright.runners.process_messages import (
    DONE,
    READY,
    REFUSED,
    STOP,
    TOLD,
    UNREADABLE,
    pack,
    receive_frame,
    send_frame,
    unpack,
)
from batchwright.runners.process_outcomes import pack_error, pack_outcome

_PR_SET_PDEATHSIG = 1

_OOM_SCORE = "700"


def work(line: socket.socket, memory_limit: int | None) -> None:
    """Take the task, then work after work, until the socket is closed."""
    prefer_to_be_killed()
    limit_memory(memory_limit)
    process, inbox = os.getpid(), queue.SimpleQueue[tuple[bytes, bytes]]()
    asked, tasks = threading.Event(), list[Task]()
    threading.Thread(target=_listen, args=(line, inbox, asked, tasks), name="batchwright-line", daemon=True).start()
    _, message = inbox.get()
    try:
        task: Task = unpack(message)
    except BaseException as error:  # noqa: BLE001 - whatever loading a user's module does
        send_frame(line, REFUSED, pack(pack_error(error, trace=True)))
        _flush()
        return
    tasks.append(task)
    if isinstance(task, Tells):
        task.tell_by(lambda told: send_frame(line, TOLD, pack(told)))
    if asked.is_set():
        task.stop_soon()
    send_frame(line, READY)
    while True:
        _, message = inbox.get()
        answer = _done(task, message)
        end_if_forked(process)
        send_frame(line, *answer)
        _flush()


def _done(task: Task, message: bytes) -> tuple[bytes, bytes]:
    number, packed = unpack(message)
    try:
        given = unpack(packed)
    except Exception as error:  # noqa: BLE001 - anything can be wrong with a user's object
        return UNREADABLE, pack((number, pack_error(error).text))
    return DONE, pack_outcome(task.run(given), given, task)


def _listen(
    line: socket.socket, inbox: "queue.SimpleQueue[tuple[bytes, bytes]]", asked: threading.Event, tasks: list[Task]
) -> None:
    """Hand on what comes, while the worker is busy too; end the process when the run closes the socket, or is gone."""
    while (frame := receive_frame(line)) is not None:
        if frame[0] != STOP:
            inbox.put(frame)
            continue
        asked.set()
        for task in tasks:
            task.stop_soon()
    os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or none: nobody reads it
            stream.flush()


def limit_memory(limit: int | None) -> None:
    """Let the process have so many bytes of address space; beyond it, Python raises MemoryError."""
    if limit is not None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def prefer_to_be_killed() -> None:
    """Where the system kills processes because memory is short (Linux), let it be this one before the run."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def leave_signals_to_the_run() -> None:
    """What asks processes to end asks the run; a worker is ended by it. Programs that a worker starts are asked."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _ignore)  # a handler, since an ignored signal would be inherited


def end_with_parent(number: int) -> None:
    """Get this signal when the parent process is gone (Linux); elsewhere its socket tells."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """See `leave_signals_to_the_run`."""

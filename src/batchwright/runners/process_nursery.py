"""A small process that starts the workers of a step, says how each has ended, and ends them all when the run is gone.

The one rule: it has one thread and never calls the user's code, so that it may fork; the run itself never does.

    the run ──socket── nursery ──fork── worker, worker, …       each in a process group of its own
       └──────────────── a socket each ───┘

A worker's group is ended with it: programs that its function has started do not outlive it. When the run dies, the
nursery sees its socket close (on Linux it gets a signal too), ends every group and itself; when the nursery dies, the
kernel ends the workers (Linux), or their sockets do.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from batchwright.runners.process_messages import Line, receive_frame, send_frame
from batchwright.runners.process_worker import end_with_parent, leave_signals_to_the_run, work

START, KILL = b"+", b"-"

_ORDER = struct.Struct("!cI")

_DEATH = struct.Struct("!Ii")

GOODBYE_SECONDS = 5.0


class Nursery:
    """The nursery as the run sees it. Closing it ends all workers."""

    def __init__(self, preload: Sequence[str], memory_limit: int | None) -> None:
        """Start it; it loads these modules of ours, once for all workers."""
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                _command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=_standard_error(),
                process_group=0,
            )
        self._told = bytearray()
        send_frame(self._line, START, json.dumps([list(preload), sys.path, memory_limit]).encode())

    def fileno(self) -> int:
        """The socket's number, for whoever waits for it."""
        return self._line.fileno()

    def start(self, key: int) -> Line:
        """Start a worker; the other end of its socket is ours."""
        ours, theirs = socket.socketpair()
        # That the nursery is gone is told by `deaths`, and a worker's line that leads to nobody is closed.
        with theirs, contextlib.suppress(OSError):
            socket.send_fds(self._line, [_ORDER.pack(START, key)], [theirs.fileno()])
        return Line(ours)

    def kill(self, key: int) -> None:
        """End a worker, if it has not ended; its death is told like every other."""
        with contextlib.suppress(OSError):
            self._line.sendall(_ORDER.pack(KILL, key))

    def deaths(self) -> list[tuple[int, int]]:
        """Who has died, and how: an exit code, or a signal's number below zero. Raises EOFError if the nursery has."""
        try:
            while part := self._line.recv(4096, socket.MSG_DONTWAIT):
                self._told += part
            raise EOFError
        except BlockingIOError:
            pass
        except ConnectionError as error:  # it left an order unread
            raise EOFError from error
        whole = len(self._told) - len(self._told) % _DEATH.size
        deaths = list(_DEATH.iter_unpack(self._told[:whole]))
        del self._told[:whole]
        return [(key, code) for key, code in deaths]

    def close(self) -> None:
        """End all workers and the nursery, and wait for it."""
        self._line.close()
        try:
            self._process.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _command(descriptor: int) -> list[str]:
    root = str(Path(__file__).parents[2])
    begin = f"import sys; sys.path.append({root!r}); from {__name__} import serve; serve({descriptor})"
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-P", "-c", begin]  # type: ignore[attr-defined] # noqa: SLF001 - as multiprocessing does


def _standard_error() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def serve(descriptor: int) -> NoReturn:
    """Be the nursery: start and end workers as told, until the run is gone."""
    line = socket.socket(fileno=descriptor)
    leave_signals_to_the_run()
    signal.signal(signal.SIGUSR2, _leave)
    end_with_parent(signal.SIGUSR2)
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    workers: dict[int, int] = {}
    try:
        frame = receive_frame(line)
        if frame is not None:
            _serve(line, woken, wake, workers, json.loads(frame[1]))
    finally:
        for pid in workers.values():
            _end_group(pid)
    os._exit(0)


def _serve(
    line: socket.socket,
    woken: socket.socket,
    wake: socket.socket,
    workers: dict[int, int],
    given: tuple[list[str], list[str], int | None],
) -> None:
    preload, path, memory_limit = given
    for name in preload:
        importlib.import_module(name)
    sys.path[:] = path  # only now: a job's folder may hold a csv.py, which is not ours
    signal.signal(signal.SIGCHLD, _note_death)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            woken.recv(4096)
        _tell_deaths(line, workers)
        if line in ready:
            told, descriptors, _, _ = socket.recv_fds(line, _ORDER.size, 1)
            if not told:
                return
            kind, key = _ORDER.unpack(told)
            if kind == START:
                _start(key, descriptors[0], workers, (line, woken, wake), memory_limit)
            elif key in workers:
                _end_group(workers[key])


def _start(
    key: int,
    descriptor: int,
    workers: dict[int, int],
    ours: tuple[socket.socket, ...],
    memory_limit: int | None,
) -> None:
    pid = os.fork()
    if pid == 0:
        _become_worker(descriptor, ours, memory_limit)
    os.close(descriptor)
    with contextlib.suppress(OSError):  # it was faster, or is gone
        os.setpgid(pid, pid)
    workers[key] = pid


def _become_worker(descriptor: int, ours: tuple[socket.socket, ...], memory_limit: int | None) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        os.setpgid(0, 0)
        parent = os.getppid()
        end_with_parent(signal.SIGKILL)
        for end in ours:
            end.close()
        if os.getppid() == parent:  # else the nursery died before the kernel was asked
            work(socket.socket(fileno=descriptor), memory_limit)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the nursery may go on in a child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _tell_deaths(line: socket.socket, workers: dict[int, int]) -> None:
    for key, pid in list(workers.items()):
        died, status = os.waitpid(pid, os.WNOHANG)
        if died:
            _end_group(pid)
            del workers[key]
            with contextlib.suppress(OSError):  # the run is gone, as `line` will show
                line.sendall(_DEATH.pack(key, os.waitstatus_to_exitcode(status)))


def _end_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _note_death(_number: int, _frame: FrameType | None) -> None:
    """The signal only ends the wait."""


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """The run is gone."""
    raise SystemExit(0)

"""What goes between a run and its worker processes: pickles in frames, over sockets that no other process has.

The one rule: pickle is spoken here only, and only with processes that this run has started; nothing stored is one.
"""

import io
import pickle
import socket
import struct
import types
from typing import Any

_LENGTH = struct.Struct("!Q")

_AT_ONCE = 1 << 18

TASK, WORK, STOP = b"T", b"W", b"S"
"""What a worker is told: the task, once; work, again and again; that a stop was requested."""

READY, DONE, UNREADABLE, REFUSED, TOLD = b"R", b"D", b"U", b"X", b"E"
"""What it answers: it has the task; an outcome; work that cannot be unpickled there; a task that cannot be; what the
task tells meanwhile."""


def pack(value: Any) -> bytes:
    """The value as a message. Raises whatever the value's own pickling raises."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def unpack(message: bytes) -> Any:
    """The value of a message of our own child, or our own parent."""
    return pickle.loads(message)  # noqa: S301 - see the module's rule


def pack_with_modules(value: Any) -> tuple[bytes, set[str]]:
    """The same as `pack`, and the modules in which the classes and functions stand that it refers to."""
    into = io.BytesIO()
    pickler = _Noting(into)
    pickler.dump(value)
    return into.getvalue(), pickler.modules


class _Noting(pickle.Pickler):
    """Notes where classes and functions come from."""

    def __init__(self, into: io.BytesIO) -> None:
        super().__init__(into, pickle.HIGHEST_PROTOCOL)
        self.modules: set[str] = set()

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, (type, types.FunctionType)):
            self.modules.add(found.__module__)
        return NotImplemented


class Line:
    """A socket to a process: whole frames, without waiting. What cannot be sent at once is kept."""

    def __init__(self, end: socket.socket) -> None:
        """Takes the socket over."""
        self._end = end
        self._unsent = bytearray()
        self._read = bytearray()
        self.closed: bool = False

    def fileno(self) -> int:
        """The socket's number, for whoever waits for it."""
        return self._end.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something is left for `flush`."""
        return bool(self._unsent)

    def send(self, kind: bytes, message: bytes = b"") -> None:
        """Send a frame, or the beginning of it. A process that is gone is no error here: it shows otherwise."""
        self._unsent += _LENGTH.pack(len(message) + 1) + kind + message
        self.flush()

    def flush(self) -> None:
        """Send what goes through now."""
        try:
            while self._unsent:
                sent = self._end.send(memoryview(self._unsent)[:_AT_ONCE], socket.MSG_DONTWAIT)
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    def receive(self) -> list[tuple[bytes, bytes]]:
        """The frames that have come, each with its kind; `closed` once the other end is."""
        try:
            while not self.closed:
                part = self._end.recv(_AT_ONCE, socket.MSG_DONTWAIT)
                self.closed = not part
                self._read += part
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return self._frames()

    def close(self) -> None:
        """Close the socket: the process at the other end takes it as its end."""
        self._end.close()

    def _frames(self) -> list[tuple[bytes, bytes]]:
        frames, start, whole = [], 0, bytes(self._read) if len(self._read) < _AT_ONCE else self._read
        while (begin := start + _LENGTH.size) <= len(whole):
            (length,) = _LENGTH.unpack_from(whole, start)
            if len(whole) < begin + length:
                break
            frames.append((bytes(whole[begin : begin + 1]), bytes(whole[begin + 1 : begin + length])))
            start = begin + length
        del self._read[:start]
        return frames


def send_frame(end: socket.socket, kind: bytes, message: bytes = b"") -> None:
    """Send a frame, and wait until it is sent."""
    end.sendall(_LENGTH.pack(len(message) + 1) + kind + message)


def receive_frame(end: socket.socket) -> tuple[bytes, bytes] | None:
    """Wait for a frame: its kind and message; None if the other end is closed."""
    head = _exactly(end, _LENGTH.size)
    if head is None:
        return None
    message = _exactly(end, _LENGTH.unpack(head)[0])
    return None if message is None else (bytes(message[:1]), bytes(message[1:]))


def _exactly(end: socket.socket, size: int) -> bytearray | None:
    received = bytearray()
    while len(received) < size:
        try:
            part = end.recv(min(size - len(received), _AT_ONCE))
        except OSError:
            return None
        if not part:
            return None
        received += part
    return received

"""A PostgreSQL connection that waits for no answer without end, whatever has become of server and network.

The one rule: whoever gives up closes the connection, and asks on another one what has become of the work.

Who ends a wait, by what has happened:
  the server works or waits for a lock    the server: statement_timeout, lock_timeout; or a request to cancel
  it is gone, and its system says so      the network: an error at once
  packets vanish                          our system: tcp_user_timeout, keepalives; connect_timeout before that
  somebody takes packets and says nothing (a frozen server, a dead proxy): nobody but we, by `silence_seconds`
"""

import contextlib
import time
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen

Result = TypeVar("Result")

CANCEL_SECONDS = 2.0
"""How long the server may take to hear that a statement is to be cancelled, and as long again to end it."""

CONNECT_SECONDS = 10.0
"""How long a connection that was just made may be silent."""

_POLL_SECONDS = 0.1


def connect_bounded(url: str, **options: Any) -> psycopg.Connection[Any]:
    """A connection in autocommit mode on which no wait is without end."""
    return _BoundedConnection.connect(url, autocommit=True, **options)


def bound_silence(connection: psycopg.Connection[Any], seconds: float) -> None:
    """How long a server may be silent on this connection before it counts as gone."""
    _ours(connection).silence_seconds = seconds


def hurry(connection: psycopg.Connection[Any]) -> None:
    """Be patient no more, for as long as this connection lives. From any thread."""
    _ours(connection).hurry()


def interrupt(connection: psycopg.Connection[Any]) -> None:
    """Have the statement that runs cancelled; a server that does not even hear of it is given up. From any thread.

    Raises whatever the request to cancel raises.
    """
    _ours(connection).interrupt()


def _ours(connection: psycopg.Connection[Any]) -> "_BoundedConnection":
    assert isinstance(connection, _BoundedConnection)  # noqa: S101 - we open no other
    return connection


class _BoundedConnection(psycopg.Connection[Any]):
    """A connection on which a server that is silent for `silence_seconds` counts as gone: OperationalError."""

    silence_seconds: float = CONNECT_SECONDS
    _hurried_at: float = 0.0

    def wait(self, gen: PQGen[Result], interval: float = _POLL_SECONDS, timeout: float | None = None) -> Result:
        """Wait for an answer. Everything that psycopg waits for on an open connection comes through here."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return waiting.wait(self._bounded(gen), self.pgconn.socket, interval=interval)
        except KeyboardInterrupt:
            self._break_off(gen)
            raise

    def hurry(self) -> None:
        """Be patient no more, for as long as this connection lives. From any thread."""
        self._hurried_at = self._hurried_at or time.monotonic()

    def interrupt(self) -> None:
        """Have the statement that runs cancelled; a server that does not even hear of it is given up. From any thread.

        Raises whatever the request to cancel raises.
        """
        self.hurry()
        self.cancel_safe(timeout=CANCEL_SECONDS)

    def _bounded(self, waits: PQGen[Result]) -> PQGen[Result]:
        """The same waits, ended once nothing has come for too long; the driver looks in every `interval`."""
        since, ready = time.monotonic(), 0
        while True:
            try:
                # None begins it; and sent to one that was broken off, it means what 0 does: nothing has come.
                wanted = waits.send(ready or None)  # type: ignore[arg-type]  # psycopg sends None itself, by next()
            except StopIteration as ended:
                result: Result = ended.value
                return result
            ready = yield wanted
            if ready:
                since = time.monotonic()
            elif self._too_long(since):
                self.pgconn.finish()
                silent = time.monotonic() - since
                raise psycopg.OperationalError(f"no answer within {silent:.0f} seconds: connection given up")

    def _too_long(self, since: float) -> bool:
        now, hurried = time.monotonic(), self._hurried_at
        if hurried and now - hurried >= 2 * CANCEL_SECONDS and now - since >= CANCEL_SECONDS:
            return True
        return now - since >= self.silence_seconds

    def _break_off(self, waits: PQGen[Any]) -> None:
        """After an interruption: leave no statement behind, neither on the server nor half read; or no connection."""
        active = psycopg.pq.TransactionStatus.ACTIVE
        with contextlib.suppress(Exception):
            if self.pgconn.transaction_status == active:
                self.interrupt()
                waiting.wait(self._bounded(waits), self.pgconn.socket, interval=_POLL_SECONDS)
        if self.pgconn.transaction_status == active:
            self.pgconn.finish()

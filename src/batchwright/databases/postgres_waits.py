"""Waits for a lock of PostgreSQL, ended from another thread.

The one rule: a statement that works is left alone. Only the server knows which one waits for a lock: it is asked on a
connection of its own, and cancels in the same breath.
"""

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from batchwright.databases.postgres import Database, close, connect, executing

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

ASK_SECONDS = 2
"""How long the server may take to be reached, and to answer."""

PAUSE_SECONDS = 1.0
"""How long a server that could not be asked is left alone; then `lock_timeout` has to end the wait."""

_END_WAIT = (
    "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity "
    "WHERE pid = %s AND wait_event_type = 'Lock'"
)


class LockWaits:
    """Ends the waits for locks of connections to one database. For any thread; of several at once only one asks."""

    def __init__(self, database: Database) -> None:
        """Open nothing yet."""
        self._database = database
        self._asking: Connection | None = None
        self._one = threading.Lock()
        self._not_before = 0.0

    def end(self, waiting: "Connection | None") -> None:
        """End the statement that this connection executes, if it waits for a lock. Never raises."""
        if not executing(waiting) or not self._one.acquire(blocking=False):
            return
        try:
            if waiting is not None and time.monotonic() >= self._not_before:
                self._ask(waiting.info.backend_pid)
        except Exception:  # noqa: BLE001 - who cannot be asked ends the wait by its `lock_timeout`
            self._not_before = time.monotonic() + PAUSE_SECONDS
            self._let_go()
        finally:
            self._one.release()

    def close(self) -> None:
        """Let the server go. Never raises."""
        with self._one:
            self._let_go()

    def _ask(self, pid: int) -> None:
        if self._asking is None:
            self._asking = connect(self._database, statement_seconds=ASK_SECONDS, connect_seconds=ASK_SECONDS)
        self._asking.execute(_END_WAIT, [pid])

    def _let_go(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            with contextlib.suppress(Exception):
                close(asking)

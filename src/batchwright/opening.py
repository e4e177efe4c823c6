"""Open the ledger that is named, and its history.

The one rule: only here is it decided, by its place, which kind of ledger it is.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import cast

from batchwright.databases.postgres_errors import classify
from batchwright.engine.attempt import tries_again, wait_seconds
from batchwright.model.errors import LedgerError
from batchwright.model.guarantee import Fault
from batchwright.places import ledger_place
from batchwright.ports import History, Ledger
from batchwright.ports.partitions import OpensAgain


def open_patiently(
    given: Ledger | str | Path | None, source_file: Path | None, wait: Callable[[float], None]
) -> tuple[Ledger, bool]:
    """As `open_ledger`; a server that cannot be reached now is waited for, as a target is.

    `wait` may raise to end that.
    """
    tries = 0
    while True:
        try:
            return open_ledger(given, source_file)
        except LedgerError as error:
            tries += 1
            away = error.__cause__ is not None and classify(error.__cause__) is Fault.TRANSIENT
            if not away or not tries_again(None, error, Fault.TRANSIENT, tries):
                raise
            if tries == 1:
                logging.getLogger("batchwright").warning("%s; waiting for it", error.wrong)
            wait(wait_seconds(None, tries))


def open_ledger(given: Ledger | str | Path | None, source_file: Path | None) -> tuple[Ledger, bool]:
    """The ledger to use, and whether it is ours to close. Raises LedgerError if it cannot be opened."""
    if given is not None and not isinstance(given, str | Path):
        return given, False
    place = ledger_place(source_file, given)
    if isinstance(place, str):
        from batchwright.ledgers.postgres import PostgresLedger

        return PostgresLedger(place), True
    from batchwright.ledgers.sqlite import SqliteLedger

    return SqliteLedger(place), True


def another_ledger(ledger: Ledger) -> AbstractContextManager[Ledger]:
    """The same ledger once more, for another thread; one that lives in this process only is shared."""
    if ledger.durable and isinstance(ledger, OpensAgain):
        return closing(cast("Ledger", ledger.another()))
    return nullcontext(ledger)


def open_history(ledger: Ledger | str | Path) -> History:
    """The readers' side of a ledger. Raises LedgerError if there is none."""
    if not isinstance(ledger, str | Path):
        if not ledger.durable:
            return cast("History", ledger)
        # One that is reached with a password opens its history itself: its address has none.
        if hasattr(ledger, "history"):
            return cast("History", ledger.history())
        ledger = ledger.address
    place = ledger_place(None, ledger)
    if isinstance(place, str):
        from batchwright.ledgers.postgres_history import PostgresHistory

        return PostgresHistory(place)
    from batchwright.ledgers.sqlite_history import SqliteHistory

    return SqliteHistory(place)


def asking(ledger: Ledger, run: int) -> AbstractContextManager[Callable[[], str]]:
    """A function that says who asks in the ledger that a run stops. A ledger of this process only is not asked."""
    return closing(StopRequests(ledger, run)) if ledger.durable else nullcontext(str)


class StopRequests:
    """Whether somebody asks in the ledger that a run stops; read on a connection of its own, opened when needed."""

    def __init__(self, ledger: Ledger, run: int) -> None:
        """Open nothing yet."""
        self._ledger, self._run = ledger, run
        self._history: History | None = None
        self._warned = False

    def __call__(self) -> str:
        """Who asks, and when; empty: nobody, or nobody that could be heard."""
        try:
            if self._history is None:
                self._history = open_history(self._ledger)
            found = self._history.run(self._run)
        except Exception as error:  # noqa: BLE001 - the run goes on, and whoever asks is heard when it is readable again
            if not self._warned:
                logging.getLogger("batchwright").warning("requests to stop cannot be read: %s", error)
            self._warned = True
            return ""
        return found.stop_requested if found is not None else ""

    def close(self) -> None:
        """Let the ledger go."""
        if self._history is not None:
            self._history.close()

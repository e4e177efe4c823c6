"""Opening the record that a command reads, and finding a run in it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchwright.model.errors import LedgerError
from batchwright.model.execution import JobExecution
from batchwright.ports import History


@dataclass(frozen=True, slots=True)
class OpenedHistory:
    """A history, and the path to name in commands: None where they would find it by themselves."""

    history: History
    path: Path | str
    named: Path | str | None

    def execution(self, run: int | None) -> JobExecution:
        """One run, or the latest. Raises LedgerError if it is not there."""
        if run is None:
            latest = self.history.runs(limit=1)
            if not latest:
                raise LedgerError("there are no runs yet", f"in {self.history.address}")
            return latest[0]
        found = self.history.run(run)
        if found is None:
            newest = self.history.runs(limit=1)
            known = f"its latest run is {newest[0].id}" if newest else "it has no runs"
            raise LedgerError(
                f"there is no run {run} in {self.history.address}", known, "batchwright status lists them"
            )
        return found


@contextlib.contextmanager
def opened_history(given: Path | str | None) -> Iterator[OpenedHistory]:
    """The history of the ledger given, else of the one that `launch.ledger_place` finds. Raises LedgerError."""
    from batchwright.launch import ledger_place, open_history

    path = ledger_place(None, given)
    history = open_history(path)
    try:
        yield OpenedHistory(history, path, given)
    finally:
        history.close()

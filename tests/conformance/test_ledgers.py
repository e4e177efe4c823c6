"""Every ledger against the public suite."""

import contextlib
from pathlib import Path

import pytest

from batchwright.ledgers.memory import MemoryLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.testing.ledger_suite import LedgerSuite


class TestMemoryLedger(LedgerSuite):
    def ledger(self):
        return MemoryLedger()

    def history(self, ledger):
        return ledger


class TestSqliteLedger(LedgerSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path):
        self.path = tmp_path / ".batchwright" / "ledger.db"
        with contextlib.ExitStack() as self.opened:
            yield

    def ledger(self):
        assert not self.path.exists(), "a test asks for one ledger"
        return self._open()

    def reopened(self, ledger):
        return self._open()

    def history(self, ledger):
        return self.opened.enter_context(contextlib.closing(SqliteHistory(self.path)))

    def _open(self):
        ledger = SqliteLedger(self.path, lock_wait_seconds=0.05)
        return self.opened.enter_context(contextlib.closing(ledger))

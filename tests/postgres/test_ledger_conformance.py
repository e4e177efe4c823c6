"""The public suite of ledgers, run against PostgreSQL."""

import contextlib

import pytest
from tests.postgres.server import Fresh

from batchwright.ledgers.postgres import PostgresLedger
from batchwright.testing.ledger_suite import LedgerSuite


class TestPostgresLedger(LedgerSuite):
    @pytest.fixture(autouse=True)
    def _database(self, fresh: Fresh):
        self.url = fresh.url
        with contextlib.ExitStack() as self.opened:
            yield

    def ledger(self):
        return self.opened.enter_context(contextlib.closing(PostgresLedger(self.url)))

    def reopened(self, ledger):
        return self.ledger()

    def history(self, ledger):
        return self.opened.enter_context(contextlib.closing(ledger.history()))

"""The conformance suite of ledgers: what every ledger has to keep, whatever it keeps it in.

The one rule: the suite speaks to the two ports only. Derive from it in a test module of your own:

    class TestMyLedger(LedgerSuite):
        def ledger(self) -> Ledger: ...
        def reopened(self, ledger: Ledger) -> Ledger: ...
        def history(self, ledger: Ledger) -> History: ...
"""

from batchwright.testing.ledger_suite_deaths import LedgerDeathsSuite
from batchwright.testing.ledger_suite_effects import LedgerEffectsSuite
from batchwright.testing.ledger_suite_forgetting import LedgerForgettingSuite
from batchwright.testing.ledger_suite_history import LedgerHistorySuite
from batchwright.testing.ledger_suite_keys import LedgerKeysSuite
from batchwright.testing.ledger_suite_partitions import LedgerPartitionsSuite
from batchwright.testing.ledger_suite_records import LedgerRecordsSuite
from batchwright.testing.ledger_suite_runs import LedgerRunsSuite


class LedgerSuite(
    LedgerRunsSuite,
    LedgerRecordsSuite,
    LedgerKeysSuite,
    LedgerEffectsSuite,
    LedgerDeathsSuite,
    LedgerPartitionsSuite,
    LedgerHistorySuite,
    LedgerForgettingSuite,
):
    """All tests of a ledger and of its history."""

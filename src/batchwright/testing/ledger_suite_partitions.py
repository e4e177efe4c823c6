"""What every ledger keeps for steps in partitions: who works on which, and what is told of them.

The one rule: a partition has one owner at a time, whatever thread or process that is; owning one owns nothing else.
"""

from dataclasses import replace

from batchwright.model.errors import AlreadyRunningError
from batchwright.ports.partitions import OwnsPartitions
from batchwright.testing.ledger_examples import KEY, LedgerUnderTest, Raising, step_key


class LedgerPartitionsSuite(LedgerUnderTest):
    """Partitions are owned one by one, and a step is listed as a whole."""

    def test_a_partition_has_one_owner_at_a_time(self) -> None:
        """Another is told so at once, and has it when the first has let it go."""
        ledger, key = self.ledger(), step_key(partition=1)
        assert isinstance(ledger, OwnsPartitions)
        with ledger.own_partition(key) as ownership:
            ownership.check()
            with Raising(AlreadyRunningError), ledger.own_partition(key):
                pass
            with ledger.own_partition(replace(key, partition=2)), ledger.own_partition(replace(key, step="other")):
                pass
        with ledger.own_partition(key):
            pass

    def test_owning_a_partition_is_not_owning_its_instance(self) -> None:
        """Whoever owns the instance is not in the way of workers, nor they in his."""
        ledger = self.ledger()
        assert isinstance(ledger, OwnsPartitions)
        with ledger.own(KEY), ledger.own_partition(step_key(partition=1)):
            pass
        with ledger.own_partition(step_key(partition=1)), ledger.own(KEY):
            pass

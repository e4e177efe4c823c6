"""What every ledger keeps for steps in partitions: who works on which, and what is told of them.

The one rule: a partition has one owner at a time, whatever thread or process that is; owning one owns nothing else.
"""

from dataclasses import replace

from batchwright.model.checkpoint import Counts
from batchwright.model.errors import AlreadyRunningError
from batchwright.model.execution import StepOutcome
from batchwright.model.status import Status
from batchwright.ports.partitions import OwnsPartitions
from batchwright.testing.ledger_examples import KEY, LedgerUnderTest, Raising, start_run, step_key


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

    def test_a_step_that_is_not_complete_has_the_counts_of_its_partitions(self) -> None:
        """Its own are as old as the last report of the process that started the run, and that one may be dead."""
        ledger = self.ledger()
        counts = [Counts(read=n, written=n, outputs=n) for n in (7, 5)]
        with ledger.own(KEY):
            run = start_run(ledger)
            whole = ledger.begin_step(run.id, step_key(), "in", "out", "exactly once")
            ledger.note_progress(whole.id, StepOutcome(Status.RUNNING, counts[0]), ())
            for number, count in enumerate(counts, start=1):
                part = ledger.begin_step(run.id, step_key(partition=number), "in", "out", "exactly once")
                ledger.end_step(part.id, StepOutcome(Status.COMPLETED, count), ())
            (step,) = self.history(ledger).steps(run.id)
            assert (step.key.partition, step.counts.read, step.counts.outputs) == (0, 12, 12)
            ledger.end_step(whole.id, StepOutcome(Status.COMPLETED, counts[1]), ())
            (step,) = self.history(ledger).steps(run.id)
            assert step.counts.read == 5

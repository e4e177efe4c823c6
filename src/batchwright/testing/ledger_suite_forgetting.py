"""What every ledger can forget of work that is over.

The one rule: whatever is forgotten, what stays is told as before.
"""

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.errors import LedgerError
from batchwright.model.execution import JobExecution
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.model.status import Status
from batchwright.ports import Ledger
from batchwright.ports.pruning import ForgetfulLedger
from batchwright.testing.ledger_examples import (
    KEY,
    OTHER_KEY,
    LedgerUnderTest,
    Raising,
    a_failure,
    an_outcome,
    ordinals,
    run_to,
    start_run,
    step_key,
)


class LedgerForgettingSuite(LedgerUnderTest):
    """Runs, failures and checkpoints of laps that are over."""

    def test_runs_go_with_their_steps_and_numbers_are_not_given_twice(self) -> None:
        """Those of other instances stay, whatever the numbers say."""
        ledger = self.ledger()
        first, second = self.run_with_a_step(ledger), self.run_with_a_step(ledger)
        other = run_to(ledger, Status.COMPLETED, key=OTHER_KEY)
        with ledger.own(KEY):
            forgotten = self.forgetful(ledger).forget(KEY, Forgetting(runs=(first.id, other.id, 99)))
        assert forgotten == Forgotten(executions=1)
        history = self.history(ledger)
        assert [run.id for run in history.runs()] == [other.id, second.id]
        assert history.run(first.id) is None
        assert [step.run for step in history.steps(second.id)] == [second.id]
        assert run_to(ledger, Status.COMPLETED).id > other.id

    def test_the_newest_run_may_go_and_the_lap_is_known_all_the_same(self) -> None:
        """An instance is never forgotten whole."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        again = run_to(ledger, Status.COMPLETED, next_lap=True)
        with ledger.own(KEY):
            self.forgetful(ledger).forget(KEY, Forgetting(runs=(run.id, again.id)))
        assert run_to(ledger, Status.COMPLETED, next_lap=True).lap == 3

    def test_keys_that_count_across_laps_stay_known_and_others_go_with_their_checkpoint(self) -> None:
        """Those of a lap that was not finished go, and those that a failure may still ask for stay."""
        ledger, keys = self.ledger(), [bytes([number]) * 16 for number in range(3)]
        run_to(ledger, Status.COMPLETED)
        for lap, finished, failures in ((1, True, []), (2, False, [a_failure(1)]), (3, True, [])):
            step, checkpoint = step_key(lap=lap), Checkpoint(Position(lap), finished=finished)
            across, alone = SeenKeys(KeySpace(step, across_laps=True), keys[lap - 1 : lap]), KeySpace(step)
            ledger.save_checkpoint(step, Checkpoint(Position(lap)), failures, across)
            ledger.save_checkpoint(step, Checkpoint(Position(lap)), (), SeenKeys(alone, keys))
            ledger.save_checkpoint(step, checkpoint, (), across)
        with ledger.own(KEY):
            assert self.forgetful(ledger).forget(KEY, Forgetting(checkpoints_below=3)).checkpoints == 2
        assert ledger.known_keys(KeySpace(step_key(lap=4), across_laps=True), keys) == {keys[0], keys[2]}
        assert ledger.known_keys(KeySpace(step_key(lap=1)), keys) == set()
        assert ledger.known_keys(KeySpace(step_key(lap=2)), keys) == set(keys)

    def test_failures_that_are_open_stay_unless_they_may_go(self) -> None:
        """Only those of the given laps."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        for lap in (1, 2):
            ledger.save_checkpoint(step_key(lap=lap), Checkpoint(Position(9)), [a_failure(n) for n in (1, 2, 3)])
            ledger.settle_failures(step_key(lap=lap), [2])
        with ledger.own(KEY):
            assert self.forgetful(ledger).forget(KEY, Forgetting(failure_laps=(1,))) == Forgotten(failures=1)
            assert ordinals(ledger) == [1, 3]
            what = Forgetting(failure_laps=(1,), with_open=True)
            assert self.forgetful(ledger).forget(KEY, what) == Forgotten(failures=2)
        assert (ordinals(ledger), ordinals(ledger, step_key(lap=2))) == ([], [1, 2, 3])

    def test_of_each_step_the_newest_checkpoint_stays(self) -> None:
        """It is how a ledger that shares its tables with a target says which lap there was."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        for step, laps in (("load", (1, 2, 3)), ("audit", (1, 2))):
            for lap in laps:
                ledger.save_checkpoint(step_key(step, lap), Checkpoint(Position(lap)), [])
        ledger.save_checkpoint(step_key(key=OTHER_KEY), Checkpoint(Position(7)), [])
        with ledger.own(KEY):
            forgotten = self.forgetful(ledger).forget(KEY, Forgetting(checkpoints_below=3))
        assert forgotten == Forgotten(checkpoints=3)
        kept = [(step, lap) for step in ("load", "audit") for lap in (1, 2, 3) if self.has(ledger, step, lap)]
        assert kept == [("load", 3), ("audit", 2)]
        assert ledger.load_checkpoint(step_key(key=OTHER_KEY)) is not None

    def test_a_lap_in_fewer_partitions_lets_all_of_the_one_before_go(self) -> None:
        """Partition 0, the plan, is there in each."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        for lap, partitions in ((1, 4), (2, 2)):
            for partition in range(partitions):
                ledger.save_checkpoint(step_key(lap=lap, partition=partition), Checkpoint(Position(lap)), [])
        with ledger.own(KEY):
            assert self.forgetful(ledger).forget(KEY, Forgetting(checkpoints_below=2)) == Forgotten(checkpoints=4)
        assert all(ledger.load_checkpoint(step_key(lap=2, partition=partition)) for partition in (0, 1))

    def test_only_the_owner_may_forget(self) -> None:
        """Whoever owns may be at work on it."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        with Raising(LedgerError):
            self.forgetful(ledger).forget(KEY, Forgetting(runs=(run.id,)))
        assert self.history(ledger).run(run.id) is not None

    def test_a_ledger_can_shrink_while_it_is_read(self) -> None:
        """It says so if it could not."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        history = self.history(ledger)
        assert history.run(run.id) is not None
        assert self.forgetful(ledger).shrink() == ""
        assert history.run(run.id) is not None

    def forgetful(self, ledger: Ledger) -> ForgetfulLedger:
        """The ledger, which must be able to forget."""
        assert isinstance(ledger, ForgetfulLedger)
        return ledger

    def has(self, ledger: Ledger, step: str, lap: int) -> bool:
        """Whether there is a checkpoint."""
        return ledger.load_checkpoint(step_key(step, lap)) is not None

    def run_with_a_step(self, ledger: Ledger) -> JobExecution:
        """A run that is complete, with one step."""
        with ledger.own(KEY):
            run = start_run(ledger)
            step = ledger.begin_step(run.id, step_key(), "in", "out", "exactly once")
            ledger.end_step(step.id, an_outcome(Status.COMPLETED), [])
            ledger.move_run(run.id, Status.COMPLETED)
        return run

"""What every ledger keeps of items that killed their worker processes.

The one rule: the last word about an item is the only one, and it is durable when `note_death` returns.
"""

from batchwright.model.forgetting import Forgetting
from batchwright.model.status import Status
from batchwright.model.work import Death
from batchwright.ports.pruning import ForgetfulLedger
from batchwright.testing.ledger_examples import (
    KEY,
    OTHER_KEY,
    LedgerUnderTest,
    an_outcome,
    keys_that_differ,
    run_to,
    start_run,
    step_key,
)

SEGFAULT = Death(1, -11, "0123456789abcdef")


class LedgerDeathsSuite(LedgerUnderTest):
    """The log of deaths."""

    def test_a_death_comes_back_as_it_was_noted_last(self) -> None:
        """From another object on the same record."""
        ledger, key = self.ledger(), step_key()
        ledger.note_death(key, 7, Death(0, 3))
        ledger.note_death(key, 2**40, Death(2, None, "abc"))
        ledger.note_death(key, 7, SEGFAULT)
        assert self.reopened(ledger).load_deaths(key) == {7: SEGFAULT, 2**40: Death(2, None, "abc")}

    def test_deaths_of_other_keys_keep_apart(self) -> None:
        """Job, parameters, lap, step and partition all count."""
        ledger, keys = self.ledger(), keys_that_differ()
        for number, each in enumerate(keys):
            ledger.note_death(each, 0, Death(number, 1))
        for number, each in enumerate(keys):
            assert ledger.load_deaths(each) == {0: Death(number, 1)}

    def test_deaths_outlive_a_run_that_was_killed_or_stopped_and_no_other(self) -> None:
        """Whoever closes a step in another way knows what became of its items."""
        ledger = self.ledger()
        for status in (None, Status.STOPPED, Status.FAILED, Status.COMPLETED):
            with ledger.own(KEY):
                run = start_run(ledger, next_lap=True)
                step = ledger.begin_step(run.id, step_key(lap=run.lap), "from", "to", "exactly once")
                ledger.note_death(step.key, 7, SEGFAULT)
                ledger.note_death(step_key("other", lap=run.lap), 7, SEGFAULT)
                if status is not None:
                    ledger.end_step(step.id, an_outcome(status), ())
            with ledger.own(KEY):
                ledger.close_lost(KEY)
            found = self.reopened(ledger).load_deaths(step.key)
            assert found == ({7: SEGFAULT} if status in (None, Status.STOPPED) else {}), status
            assert ledger.load_deaths(step_key("other", lap=run.lap)) == {7: SEGFAULT}

    def test_deaths_are_forgotten_with_the_checkpoints_of_their_laps(self) -> None:
        """Those of later laps and of other work stay."""
        ledger = self.ledger()
        assert isinstance(ledger, ForgetfulLedger)
        run_to(ledger, Status.COMPLETED)
        keys = [step_key(), step_key(lap=2), step_key(key=OTHER_KEY)]
        for key in keys:
            ledger.note_death(key, 0, SEGFAULT)
        with ledger.own(KEY):
            ledger.forget(KEY, Forgetting(checkpoints_below=2))
        assert [len(self.reopened(ledger).load_deaths(key)) for key in keys] == [0, 1, 1]

"""What every ledger keeps under a step's key: checkpoints and failures.

The one rule: what comes back is compared in type as well as in value.
"""

from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import CodecError
from batchwright.model.failure import FailureState, PayloadKind, Phase
from batchwright.model.status import Status
from batchwright.testing.ledger_examples import (
    COUNTS,
    EVERY_TYPE,
    LedgerUnderTest,
    Raising,
    a_failure,
    assert_same,
    keys_that_differ,
    last_run,
    ordinals,
    run_to,
    step_key,
)


class LedgerRecordsSuite(LedgerUnderTest):
    """Checkpoints and failures."""

    def test_a_checkpoint_of_every_type_comes_back_with_its_failures(self) -> None:
        """Anchor and state hold whatever the codec knows."""
        ledger, key = self.ledger(), step_key()
        checkpoint = Checkpoint(Position(100, EVERY_TYPE, 7), COUNTS, EVERY_TYPE, finished=True)
        failures = [a_failure(ordinal, position=Position(ordinal, EVERY_TYPE, 3)) for ordinal in (2, 40, 99)]
        ledger.save_checkpoint(key, Checkpoint(Position(50)), failures[:2])
        ledger.save_checkpoint(key, checkpoint, failures[2:])
        ledger = self.reopened(ledger)
        found = ledger.load_checkpoint(key)
        assert found == checkpoint
        assert_same(found.position.anchor, EVERY_TYPE)
        assert_same(found.state, EVERY_TYPE)
        assert list(ledger.load_failures(key)) == failures

    def test_what_cannot_be_stored_leaves_checkpoint_and_failures_as_they_were(self) -> None:
        """Both or neither."""
        ledger, key = self.ledger(), step_key()
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(1)])
        with Raising(CodecError):
            ledger.save_checkpoint(key, Checkpoint(Position(20, object())), [a_failure(15)])
        assert ledger.load_checkpoint(key) == Checkpoint(Position(10))
        assert ordinals(ledger) == [1]

    def test_keys_that_differ_in_one_part_keep_apart(self) -> None:
        """Job, parameters, lap, step and partition all count."""
        ledger = self.ledger()
        keys = keys_that_differ()
        for ordinal, each in enumerate(keys):
            ledger.save_checkpoint(each, Checkpoint(Position(ordinal)), [a_failure(ordinal, step=each.step)])
        for ordinal, each in enumerate(keys):
            assert ledger.load_checkpoint(each) == Checkpoint(Position(ordinal))
            assert [failure.ordinal for failure in ledger.load_failures(each)] == [ordinal]

    def test_failures_come_back_whole_and_by_ordinal(self) -> None:
        """Large payloads, NUL characters, missing lines, more than a page."""
        ledger, key = self.ledger(), step_key()
        failures = [
            a_failure(1000, phase=Phase.READ, payload="a\x00b;ü🛫", payload_kind=PayloadKind.RAW),
            a_failure(7, error="", place=Place("orders", None, None, "id 7"), payload=None),
            a_failure(30, payload="x" * 1_000_000, payload_kind=PayloadKind.TRUNCATED, attempts=5),
            *(a_failure(ordinal) for ordinal in range(2000, 2350)),
        ]
        ledger.save_checkpoint(key, Checkpoint(Position(3000)), failures)
        assert list(self.reopened(ledger).load_failures(key)) == sorted(failures, key=lambda failure: failure.ordinal)

    def test_a_lone_surrogate_in_a_text_keeps_nothing_from_being_recorded(self) -> None:
        """Undecodable names of files end up in error texts."""
        ledger = self.ledger()
        ledger.save_checkpoint(step_key(), Checkpoint(Position(1, "\udcff")), [a_failure(0, error="bad \udcff")])
        run_to(ledger, Status.FAILED, error="bad name \udcff")
        assert last_run(ledger).error.startswith("bad name ")
        assert ledger.load_checkpoint(step_key()) == Checkpoint(Position(1, "\udcff"))
        assert [failure.error[:4] for failure in ledger.load_failures(step_key())] == ["bad "]

    def test_a_failure_added_again_is_kept_once_and_keeps_its_state(self) -> None:
        """A replayed failure is not opened again."""
        ledger, key = self.ledger(), step_key()
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(1), a_failure(2)])
        ledger.settle_failures(key, [1])
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(1), a_failure(2)])
        states = [failure.state for failure in self.reopened(ledger).load_failures(key)]
        assert states == [FailureState.REPLAYED, FailureState.OPEN]

    def test_only_open_failures_at_the_given_ordinals_are_settled(self) -> None:
        """Ignored ones stay ignored."""
        ledger, key = self.ledger(), step_key()
        ignored = a_failure(3, state=FailureState.IGNORED)
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(1), a_failure(2), ignored])
        ledger.save_checkpoint(step_key(lap=2), Checkpoint(Position(10)), [a_failure(2)])
        ledger.settle_failures(key, [2, 3, 9])
        states = [failure.state for failure in ledger.load_failures(key)]
        assert states == [FailureState.OPEN, FailureState.REPLAYED, FailureState.IGNORED]
        assert [failure.state for failure in ledger.load_failures(step_key(lap=2))] == [FailureState.OPEN]

    def test_failures_are_ignored_with_a_note_and_opened_again_and_what_is_replayed_stays_so(self) -> None:
        """Each state has one that it is reached from; a checkpoint is stored together with the move."""
        ledger, key = self.ledger(), step_key()
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(1, digest="d"), a_failure(2), a_failure(3)])
        ledger.settle_failures(key, [1, 2], FailureState.IGNORED, "test \udcff data", Checkpoint(Position(11)))
        ledger.settle_failures(key, [1, 3])
        ledger.settle_failures(key, [2, 3], FailureState.OPEN)
        ledger = self.reopened(ledger)
        assert ledger.load_checkpoint(key) == Checkpoint(Position(11))
        found = list(ledger.load_failures(key))
        assert [failure.state for failure in found] == [FailureState.IGNORED, FailureState.OPEN, FailureState.REPLAYED]
        assert (found[0].note[:5], found[0].note[-5:], found[0].digest, found[1].note) == ("test ", " data", "d", "")

    def test_failures_at_or_past_an_ordinal_are_forgotten_and_may_come_again(self) -> None:
        """Their items are read again."""
        ledger, key = self.ledger(), step_key()
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(ordinal) for ordinal in (1, 4, 5, 9)])
        ledger.save_checkpoint(step_key(lap=2), Checkpoint(Position(10)), [a_failure(9)])
        ledger.void_failures(key, 5)
        assert ordinals(self.reopened(ledger)) == [1, 4]
        assert ordinals(ledger, step_key(lap=2)) == [9]
        ledger.save_checkpoint(key, Checkpoint(Position(10)), [a_failure(5, error="another")])
        assert ordinals(ledger) == [1, 4, 5]

    def test_failures_may_be_settled_while_they_are_read(self) -> None:
        """A replay does just that."""
        ledger, key = self.ledger(), step_key()
        ledger.save_checkpoint(key, Checkpoint(Position(500)), [a_failure(ordinal) for ordinal in range(250)])
        for failure in ledger.load_failures(key):
            ledger.settle_failures(key, [failure.ordinal])
        assert {failure.state for failure in ledger.load_failures(key)} == {FailureState.REPLAYED}

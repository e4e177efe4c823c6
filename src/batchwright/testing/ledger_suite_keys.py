"""What every ledger keeps for `distinct`: the keys that a step has seen.

The one rule: keys and checkpoint are stored together or not at all, and a lap that was not finished counts for itself.
"""

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.errors import CodecError
from batchwright.testing.ledger_examples import LedgerUnderTest, Raising, step_key

KEYS = [bytes([number]) * 16 for number in range(1, 6)]


class LedgerKeysSuite(LedgerUnderTest):
    """Keys of one lap and of several."""

    def test_keys_come_back_for_the_lap_that_saw_them(self) -> None:
        """More than a statement takes, asked for with others between them."""
        ledger, key = self.ledger(), step_key()
        many = [number.to_bytes(16, "big") for number in range(3_000)]
        ledger.save_checkpoint(key, Checkpoint(Position(1)), (), SeenKeys(KeySpace(key), many[::2]))
        ledger.save_checkpoint(key, Checkpoint(Position(2)), (), SeenKeys(KeySpace(key), KEYS))
        ledger = self.reopened(ledger)
        assert ledger.known_keys(KeySpace(key), many) == set(many[::2])
        assert ledger.known_keys(KeySpace(key), KEYS[:2]) == set(KEYS[:2])
        assert ledger.known_keys(KeySpace(key), []) == set()
        for other in (step_key(lap=2), step_key(step="other")):
            assert ledger.known_keys(KeySpace(other), KEYS) == set()

    def test_keys_of_a_checkpoint_that_cannot_be_stored_are_not_stored(self) -> None:
        """Both or neither."""
        ledger, key = self.ledger(), step_key()
        with Raising(CodecError):
            ledger.save_checkpoint(key, Checkpoint(Position(20, object())), (), SeenKeys(KeySpace(key), KEYS))
        assert ledger.known_keys(KeySpace(key), KEYS) == set()

    def test_keys_of_a_finished_lap_are_deleted_unless_a_replay_may_ask_for_them(self) -> None:
        """A failure may be replayed later: what has its key by then must still be known."""
        ledger = self.ledger()
        for lap, counts, left in ((1, Counts(), set()), (2, Counts(failed_write=1), set(KEYS))):
            key = step_key(lap=lap)
            ledger.save_checkpoint(key, Checkpoint(Position(1)), (), SeenKeys(KeySpace(key), KEYS[:2]))
            ledger.save_checkpoint(key, Checkpoint(Position(2), counts), (), SeenKeys(KeySpace(key), KEYS[2:]))
            assert ledger.known_keys(KeySpace(key), KEYS) == set(KEYS)
            ledger.save_checkpoint(key, Checkpoint(Position(2), counts, finished=True), (), SeenKeys(KeySpace(key)))
            assert ledger.known_keys(KeySpace(key), KEYS) == left

    def test_across_laps_keys_count_once_their_lap_is_finished(self) -> None:
        """Until then they count in their own lap only, and a later one may see them anew."""
        ledger = self.ledger()
        first, second = (KeySpace(step_key(lap=lap), across_laps=True) for lap in (1, 2))
        ledger.save_checkpoint(first.step, Checkpoint(Position(2)), (), SeenKeys(first, KEYS[:3]))
        assert ledger.known_keys(first, KEYS) == set(KEYS[:3])
        assert ledger.known_keys(second, KEYS) == set()
        ledger.save_checkpoint(second.step, Checkpoint(Position(1)), (), SeenKeys(second, KEYS[:1]))
        ledger.save_checkpoint(first.step, Checkpoint(Position(2), finished=True), (), SeenKeys(first))
        assert self.reopened(ledger).known_keys(second, KEYS) == set(KEYS[:3])

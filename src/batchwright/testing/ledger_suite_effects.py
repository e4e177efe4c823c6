"""What every ledger keeps of what steps do outside.

The one rule: the last word about an effect is the only one, and it is durable when `save_effects` returns.
"""

from dataclasses import replace
from typing import Any

from batchwright.model.effect import Effect, EffectCount, EffectState
from batchwright.model.forgetting import Forgetting
from batchwright.model.status import Status
from batchwright.ports.pruning import ForgetfulLedger
from batchwright.testing.ledger_examples import (
    KEY,
    OTHER_KEY,
    LedgerUnderTest,
    keys_that_differ,
    run_to,
    start_run,
    step_key,
)


class LedgerEffectsSuite(LedgerUnderTest):
    """The effect log."""

    def test_an_effect_comes_back_as_it_was_saved_last(self) -> None:
        """Field by field, from another object on the same record."""
        ledger, key = self.ledger(), step_key()
        intent = an_effect(3, state=EffectState.INTENT, stored_receipt=None)
        ledger.save_effects(key, [intent])
        assert list(ledger.load_effects(key, 0, 10)) == [intent]
        done = an_effect(3, error="Zoë \x00🛫")
        ledger.save_effects(key, [done])
        assert list(self.reopened(ledger).load_effects(key, 0, 10)) == [done]

    def test_effects_come_by_item_and_output_and_only_those_asked_for(self) -> None:
        """From the first ordinal up to, not including, the last."""
        ledger, key = self.ledger(), step_key()
        places = [(2, 0), (0, 1), (10, 0), (0, 0), (3, 0), (2, 1)]
        ledger.save_effects(key, [an_effect(*place) for place in places])
        assert [place_of(effect) for effect in ledger.load_effects(key, 0, 3)] == [(0, 0), (0, 1), (2, 0), (2, 1)]
        assert [place_of(effect) for effect in ledger.load_effects(key, 3, 10)] == [(3, 0)]
        assert list(ledger.load_effects(key, 4, 10)) == []

    def test_effects_come_backwards_a_page_at_a_time(self) -> None:
        """So they are undone."""
        ledger, key = self.ledger(), step_key()
        ledger.save_effects(key, [an_effect(ordinal, index) for ordinal in range(3) for index in range(2)])
        first = ledger.last_effects(key, None, 4)
        assert [place_of(effect) for effect in first] == [(2, 1), (2, 0), (1, 1), (1, 0)]
        second = ledger.last_effects(key, place_of(first[-1]), 4)
        assert [place_of(effect) for effect in second] == [(0, 1), (0, 0)]
        assert list(ledger.last_effects(key, (0, 0), 4)) == []

    def test_effects_of_other_keys_keep_apart(self) -> None:
        """Job, parameters, lap, step and partition all count."""
        ledger = self.ledger()
        keys = keys_that_differ()
        for number, each in enumerate(keys):
            ledger.save_effects(each, [an_effect(0, key=f"key {number}")])
        for number, each in enumerate(keys):
            assert [effect.key for effect in ledger.load_effects(each, 0, 9)] == [f"key {number}"]
            assert [effect.key for effect in ledger.last_effects(each, None, 9)] == [f"key {number}"]

    def test_effects_of_a_lap_are_counted_by_step_and_state(self) -> None:
        """Over all partitions; not those of other laps."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        undone = EffectState.COMPENSATED
        ledger.save_effects(step_key("pay"), [an_effect(0), an_effect(1), an_effect(2, state=undone)])
        ledger.save_effects(step_key("pay", partition=1), [an_effect(0)])
        ledger.save_effects(step_key("mail"), [an_effect(0, state=EffectState.INTENT)])
        ledger.save_effects(step_key("mail", lap=2), [an_effect(0)])
        history = self.history(ledger)
        assert history.effect_counts(run.id) == [
            EffectCount("mail", EffectState.INTENT, 1),
            EffectCount("pay", undone, 1),
            EffectCount("pay", EffectState.DONE, 3),
        ]
        assert history.effect_counts(run.id + 1) == []

    def test_the_owner_saves_effects_while_a_run_lasts(self) -> None:
        """As the engine does it."""
        ledger = self.ledger()
        run = run_to(ledger, Status.FAILED)
        with ledger.own(run.key):
            start_run(ledger)
            ledger.save_effects(step_key(), [an_effect(7), an_effect(8)])
        assert [effect.ordinal for effect in self.reopened(ledger).load_effects(step_key(), 0, 100)] == [7, 8]

    def test_effects_are_forgotten_with_the_checkpoints_of_their_laps(self) -> None:
        """Those of later laps and of other work stay."""
        ledger = self.ledger()
        assert isinstance(ledger, ForgetfulLedger)
        keys = [step_key(), step_key(lap=2), step_key(key=OTHER_KEY)]
        for key in keys:
            ledger.save_effects(key, [an_effect(0)])
        with ledger.own(KEY):
            ledger.forget(KEY, Forgetting(checkpoints_below=2))
        assert [len(self.reopened(ledger).load_effects(key, 0, 9)) for key in keys] == [0, 1, 1]


def an_effect(ordinal: int, index: int = 0, **changes: Any) -> Effect:
    """An effect that is done, with these fields changed."""
    effect = Effect(
        ordinal, index, f"key of {ordinal}.{index}", EffectState.DONE, '{"v":1,"value":["output"]}', '{"v":1,"value":7}'
    )
    return replace(effect, **changes)


def place_of(effect: Effect) -> tuple[int, int]:
    """Which output of which item."""
    return effect.ordinal, effect.index

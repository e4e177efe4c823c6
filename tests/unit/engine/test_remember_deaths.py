"""What is known of items over which workers died: noted once per death, believed of the same item only."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from batchwright import Skip, Step, run
from batchwright.engine.remember_deaths import Deaths, recall_deaths
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import WorkerDiedError
from batchwright.model.work import Death, Work
from batchwright.runners import Processes

KEY = StepKey("job", "hash", 1, "step")


def test_a_death_is_known_of_the_same_item_at_the_same_ordinal():
    ledger = MemoryLedger()
    recall_deaths(ledger, KEY).note(Work(5, ["a", "b"], [10, 12]), 1, Death(1, -11))
    deaths = recall_deaths(ledger, KEY)
    assert deaths.among([10, 12], ["a", "b"]) == {1: Death(1, -11, deaths.known[12].digest)}
    assert deaths.among(range(12, 14), ["b", "c"]).keys() == {0}


def test_an_item_that_was_mended_is_a_new_one():
    ledger = MemoryLedger()
    recall_deaths(ledger, KEY).note(Work(5, ["b"], [12]), 0, Death(1, -11))
    assert recall_deaths(ledger, KEY).among([12], ["mended"]) == {}


def test_items_that_cannot_be_compared_are_taken_for_the_same():
    ledger = MemoryLedger()
    recall_deaths(ledger, KEY).note(Work(5, [object()], [12]), 0, Death(1, 3))
    assert recall_deaths(ledger, KEY).among([12], [object()]).keys() == {0}


def never(item: int) -> int:
    if item == 3:
        raise AssertionError("it was called")
    return item


def ran(ledger: MemoryLedger, **options: Any) -> tuple[list[int], Any]:
    written: list[int] = []
    step = Step("s", read=range(8), process=never, write=written.extend, runner=Processes(1), chunk_size=8, **options)
    return written, run(step, ledger=ledger, check=False)


class KnowsADeath(MemoryLedger):
    """A ledger of a run that was killed when a worker had died of item 3."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self._death = death

    def load_deaths(self, key: StepKey) -> dict[int, Death]:
        found: Callable[..., None] = partial(Deaths(self, key, {}).note, Work(0, [3], [3]), 0, self._death)
        found()
        return dict(super().load_deaths(key))


@pytest.mark.parametrize(("code", "error"), [(-11, "was ended by SIGSEGV"), (None, "its process was ended")])
def test_an_item_with_no_attempt_left_fails_without_a_call(code: int | None, error: str):
    written, result = ran(KnowsADeath(Death(1, code)), skip=Skip(on=(WorkerDiedError, TimeoutError)))
    assert written == [0, 1, 2, 4, 5, 6, 7]
    assert [(failure.ordinal, failure.attempts) for failure in result.failures] == [(3, 1)]
    assert error in next(iter(result.failures)).error


def test_without_skip_the_step_ends_there_and_tries_it_again_in_the_next_run():
    ledger = KnowsADeath(Death(1, -11))
    written, result = ran(ledger)
    assert written == [0, 1, 2]
    assert result.status == "FAILED"
    assert MemoryLedger.load_deaths(ledger, StepKey("s", result.steps[0].name, 1, "s")) == {}


def test_an_item_that_is_suspected_only_is_called():
    written, result = ran(KnowsADeath(Death(0, -9)), skip=Skip())
    assert written == [0, 1, 2, 4, 5, 6, 7]
    assert "it was called" in next(iter(result.failures)).error

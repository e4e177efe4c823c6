"""Effects as a target: which calls are made, under which keys, and what the log says of them."""

import json
from typing import Annotated

import pytest
from tests.unit.engine.runs import run_here

from batchwright import DROP, Effect, Job, Retry, Secret, Skip, Status, Step, Stop, replay, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import StepKey
from batchwright.model.effect import EffectState, effect_key
from batchwright.model.errors import CodecError, ConfirmationError, DeclarationError, LedgerError
from batchwright.model.guarantee import Guarantee
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.writers import effects


class Receiver:
    """Notes each call with its key, and answers with a number; fails, or dies, where it is told to."""

    def __init__(self, *, fails: dict | None = None, dies_at: object = None, dies_after: bool = False) -> None:
        self.calls: list[tuple[object, str]] = []
        self.fails = fails or {}
        self.dies_at, self.dies_after = dies_at, dies_after
        self.asked: list[str] = []
        self.known: dict[str, object] = {}

    def __call__(self, output, key):
        if output == self.dies_at and not self.dies_after:
            raise KeyboardInterrupt
        self.calls.append((output, key))
        if self.fails.get(output, 0) > 0:
            self.fails[output] -= 1
            raise OSError(f"no {output}")
        self.known[key] = {"id": len(self.calls)}
        if output == self.dies_at:
            raise KeyboardInterrupt
        return self.known[key]

    def ask(self, key):
        self.asked.append(key)
        return self.known.get(key)

    @property
    def outputs(self):
        return [output for output, _ in self.calls]


def step_of(write, read=range(5), **options):
    return Step("pay", read=read, write=write, **{"chunk_size": 2, **options})


def log_of(ledger: MemoryLedger) -> list[Effect]:
    return list(ledger.last_effects(next(iter(ledger._logs.effects)), None, 10_000))[::-1]


def states_of(ledger: MemoryLedger) -> dict[int, str]:
    return {effect.ordinal: effect.state.value for effect in log_of(ledger)}


def interrupted(step, ledger):
    with pytest.raises(KeyboardInterrupt):
        run_here(step, ledger=ledger)


def test_every_output_is_called_for_once_and_its_receipt_is_kept():
    receiver = Receiver()
    ran = run_here(step_of(effects(receiver), process=lambda n: DROP if n == 3 else n))
    assert receiver.outputs == [0, 1, 2, 4]
    assert ran.counts == (5, 4, 1, 0)
    logged = log_of(ran.ledger)
    assert [(effect.ordinal, effect.output, effect.receipt["id"]) for effect in logged] == [
        (0, 0, 1), (1, 1, 2), (2, 2, 3), (4, 4, 4),
    ]  # fmt: skip
    assert {effect.state for effect in logged} == {EffectState.DONE}
    assert [key for _, key in receiver.calls] == [effect.key for effect in logged]


def test_each_output_of_an_item_has_a_key_of_its_own():
    def twice(number):
        yield number
        yield number + 100

    receiver = Receiver()
    ran = run_here(step_of(effects(receiver), read=range(2), process=twice))
    assert [(effect.ordinal, effect.index, effect.output) for effect in log_of(ran.ledger)] == [
        (0, 0, 0), (0, 1, 100), (1, 0, 1), (1, 1, 101),
    ]  # fmt: skip
    assert len({key for _, key in receiver.calls}) == 4


def test_a_key_depends_on_the_work_and_the_place_alone():
    key = StepKey("bill", "abc", 1, "pay")
    assert effect_key(key, 7, 0) == effect_key(StepKey("bill", "abc", 1, "pay"), 7, 0)
    others = [StepKey("bill", "abc", 2, "pay"), StepKey("bill", "abd", 1, "pay"), StepKey("bill", "abc", 1, "mail")]
    keys = [effect_key(key, 7, 0), effect_key(key, 7, 1), effect_key(key, 8, 0), *(effect_key(k, 7, 0) for k in others)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("after", [False, True])
def test_a_call_that_was_interrupted_is_made_again_under_its_key_and_no_other_is(after):
    ledger, receiver = MemoryLedger(), Receiver(dies_at=3, dies_after=after)
    interrupted(step_of(effects(receiver), chunk_size=5), ledger)
    assert states_of(ledger) == {0: "done", 1: "done", 2: "done", 3: "intent"}
    receiver.dies_at = None
    assert run_here(step_of(effects(receiver), chunk_size=5), ledger=ledger).counts == (5, 5, 0, 0)
    assert receiver.outputs == [0, 1, 2, 3, 3, 4] if after else [0, 1, 2, 3, 4]
    assert len({key for output, key in receiver.calls if output == 3}) == 1


def test_a_call_that_was_interrupted_is_asked_for_where_one_can_ask():
    ledger, receiver = MemoryLedger(), Receiver(dies_at=3, dies_after=True)
    step = step_of(effects(receiver, ask=receiver.ask), chunk_size=5)
    interrupted(step, ledger)
    assert run_here(step, ledger=ledger).result.status is Status.COMPLETED
    assert receiver.outputs == [0, 1, 2, 3, 4]
    assert len(receiver.asked) == 1
    assert {effect.ordinal: effect.receipt for effect in log_of(ledger)}[3] == {"id": 4}


def test_a_call_that_never_got_through_is_asked_for_and_then_made():
    ledger, receiver = MemoryLedger(), Receiver(dies_at=3)
    step = step_of(effects(receiver, ask=receiver.ask), chunk_size=5)
    interrupted(step, ledger)
    receiver.dies_at = None
    run_here(step, ledger=ledger)
    assert receiver.outputs == [0, 1, 2, 3, 4]
    assert len(receiver.asked) == 1


def test_an_interrupted_call_is_repeated_as_it_was_announced_even_if_the_step_has_another_output_now():
    ledger, receiver = MemoryLedger(), Receiver(dies_at="old 3")
    interrupted(step_of(effects(receiver), process=lambda n: f"old {n}", chunk_size=5), ledger)
    receiver.dies_at = None
    run_here(step_of(effects(receiver), process=lambda n: f"new {n}", chunk_size=5), ledger=ledger)
    assert receiver.outputs == ["old 0", "old 1", "old 2", "old 3", "new 4"]


def test_a_call_that_raises_is_tried_again_and_the_log_says_done():
    receiver = Receiver(fails={1: 2})
    ran = run_here(step_of(effects(receiver), read=range(3), retry=Retry(attempts=3)))
    assert receiver.outputs == [0, 1, 1, 1, 2]
    assert ran.counts == (3, 3, 0, 0)
    assert set(states_of(ran.ledger).values()) == {"done"}


def test_a_call_that_keeps_raising_is_its_items_failure_and_is_closed_as_failed():
    ran = run_here(step_of(effects(Receiver(fails={1: 9})), read=range(3), skip=Skip()))
    assert ran.counts == (3, 2, 0, 1)
    assert states_of(ran.ledger) == {0: "done", 1: "failed", 2: "done"}
    assert log_of(ran.ledger)[1].error == "OSError: no 1"
    assert not log_of(ran.ledger)[1].certain


def test_a_call_that_stops_the_step_is_made_again_by_the_next_run_and_what_was_done_is_not():
    receiver = Receiver(fails={2: 1})
    ran = run_here(step_of(effects(receiver), chunk_size=5))
    assert ran.result.status is Status.FAILED
    assert run_here(step_of(effects(receiver), chunk_size=5), ledger=ran.ledger).counts == (5, 5, 0, 0)
    assert receiver.outputs == [0, 1, 2, 2, 3, 4]


def test_outputs_behind_one_that_failed_are_not_announced():
    def three(number):
        yield from (number * 10, number * 10 + 1, number * 10 + 2)

    ran = run_here(step_of(effects(Receiver(fails={1: 9})), read=range(2), process=three, skip=Skip()))
    assert [(effect.output, effect.state.value) for effect in log_of(ran.ledger)] == [
        (0, "done"), (1, "failed"), (10, "done"), (11, "done"), (12, "done"),
    ]  # fmt: skip


def test_a_replay_makes_calls_under_the_keys_of_their_items_and_none_that_was_made():
    def twice(number):
        yield from (number, number + 1_000)

    receiver = Receiver(fails={1_003: 1, 900: 1})
    job = Job("billing", step_of(effects(receiver), read=range(901), process=twice, chunk_size=50, skip=Skip()))
    ledger = MemoryLedger()
    done = run(job, ledger=ledger)
    assert done.failed == 2
    keys = {effect.output: effect.key for effect in log_of(ledger)}
    made = len(receiver.calls)
    assert replay(done.run, ledger=ledger, job=job).replayed == 2
    assert receiver.outputs[made:] == [1_003, 900, 1_900]
    assert [key for _, key in receiver.calls[made:]][:2] == [keys[1_003], keys[900]]
    assert {effect.state.value for effect in log_of(ledger)} == {"done"}


def test_slow_calls_are_committed_as_far_as_they_are_when_their_time_is_up_or_a_stop_is_requested():
    clock, stop, made = FakeClock(), Stop(), []

    def slow(output, key):
        made.append(output)
        clock.sleep(2)
        if output == 7:
            stop.request("enough")

    step = step_of(effects(slow), read=range(20), chunk_size=20)
    ran = run_here(step, clock=clock, stop=stop)
    assert ran.result.status is Status.STOPPED
    # Who presses for the stop is another thread: the third part may get its last call before that.
    assert made in (list(range(8)), list(range(9)))
    assert ran.counts == (len(made), len(made), 0, 0)
    assert ran.result.counts.commits == 3
    run_here(step, ledger=ran.ledger)
    assert made == list(range(20))


def test_a_receipt_that_cannot_be_kept_stops_the_step_and_the_call_is_not_made_again():
    made = []

    def returns_an_object(output, key):
        made.append(output)
        return object() if output == 1 else None

    ran = run_here(step_of(effects(returns_an_object), read=range(3)))
    assert "returned a object" in ran.result.error
    assert run_here(step_of(effects(returns_an_object), read=range(3)), ledger=ran.ledger).counts == (3, 3, 0, 0)
    assert made == [0, 1, 2]


def test_a_receipt_that_is_too_large_is_one_of_those():
    ran = run_here(step_of(effects(lambda output, key: "x" * 70_000), read=range(1)))
    assert "64 KiB" in ran.result.error


def test_an_output_that_cannot_be_kept_is_called_for_all_the_same_but_nobody_can_read_it():
    ran = run_here(step_of(effects(lambda output, key: 1), read=[object(), "x" * 70_000]))
    assert ran.counts == (2, 2, 0, 0)
    for effect in log_of(ran.ledger):
        with pytest.raises(CodecError, match="undo it by its key or its receipt"):
            _ = effect.output


def test_neither_secrets_nor_redacted_fields_are_kept():
    def bill(token: Annotated[str, Secret]) -> Job:
        def pay(output, key):
            return {"seen": f"with {token}"} if output["id"] else fail()

        def fail():
            raise ValueError(f"refused {token}")

        rows = [{"id": 1, "card": "4111", "note": f"token {token}"}, {"id": 0, "card": "4112", "note": ""}]
        return Job("bill", step_of(effects(pay, redact=["card"]), read=rows, skip=Skip()))

    ran = run_here(Job.of(bill, token="s3cr3t-word"))
    texts = json.dumps([[e.stored_output, e.stored_receipt, e.error] for e in log_of(ran.ledger)])
    assert "s3cr3t" not in texts
    assert "411" not in texts
    assert log_of(ran.ledger)[0].output == {"id": 1, "card": "***", "note": "token ***"}


def test_the_guarantee_says_whether_an_interrupted_call_can_take_effect_twice():
    receiver = Receiver()
    assert effects(receiver).guarantee is Guarantee.AT_LEAST_ONCE
    assert effects(receiver, ask=receiver.ask).guarantee is Guarantee.EFFECTIVELY_ONCE
    assert effects(receiver, honours_key=True).guarantee is Guarantee.EFFECTIVELY_ONCE


async def asynchronous(output, key): ...


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (lambda: effects(print_one), r"takes \(output\); write def print_one\(output, key\)"),
        (lambda: effects(asynchronous), "plain function"),
        (lambda: effects(7), "must be given a function"),
        (lambda: effects(Receiver(), ask=lambda: None), "ask must be given a function of key"),
        (lambda: effects(Receiver(), redact="card"), "list of names"),
        (lambda: step_of(effects(Receiver()), chunk_timeout_seconds=5), "can undo a chunk"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(declared, words):
    with pytest.raises(DeclarationError, match=words):
        declared()


def print_one(output): ...


def test_a_store_without_a_log_is_refused():
    with pytest.raises(LedgerError, match="keeps no log of effects"):
        effects(Receiver()).open(Scope(StepKey("j", "p", 1, "s"), MemoryStore(), FakeClock()))


def test_beginning_again_makes_every_call_under_another_key_and_asks_for_a_yes():
    receiver = Receiver()
    ran = run_here(step_of(effects(receiver)))
    with pytest.raises(ConfirmationError, match="a second time"):
        run_here(step_of(effects(receiver)), ledger=ran.ledger, again=True)
    run_here(step_of(effects(receiver)), ledger=ran.ledger, again=True, confirmed=True)
    assert receiver.outputs == [0, 1, 2, 3, 4] * 2
    assert len({key for _, key in receiver.calls}) == 10

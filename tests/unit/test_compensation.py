"""Rolling back: what is undone, in which order, how often; what is refused; what comes after."""

import pytest

from batchwright import (
    ConfigurationError,
    Effect,
    Job,
    JobFailedError,
    Retry,
    Skip,
    Status,
    Step,
    Stop,
    rollback,
    run,
)
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import (
    AlreadyRunningError,
    CompensationFailedError,
    ConfirmationError,
    DeclarationError,
    LedgerError,
    NotCompensableError,
    RolledBackError,
)
from batchwright.writers import effects, insert


class Bank:
    """Pays and pays back; notes both. Refuses, or dies, where it is told to."""

    def __init__(self) -> None:
        self.paid: dict[str, object] = {}
        self.calls: list[str] = []
        self.given: list[Effect] = []
        self.refuses: set[object] = set()
        self.dies: set[object] = set()

    def pay(self, output, key):
        self.calls.append(f"pay {output}")
        if output in self.refuses:
            raise OSError(f"no {output}")
        self.paid[key] = output
        if output in self.dies:
            raise KeyboardInterrupt
        return {"receipt": output}

    def back(self, effect):
        self.given.append(effect)
        self.calls.append(f"back {effect.output}")
        if ("back", effect.output) in self.refuses:
            raise OSError(f"no way back for {effect.output}")
        self.paid.pop(effect.key, None)
        if ("back", effect.output) in self.dies:
            raise KeyboardInterrupt

    def ask(self, key):
        return {"receipt": self.paid[key]} if key in self.paid else None


def billing(bank, items=(0, 1, 2), *, on_failure=None, ask=False, **options):
    write = effects(bank.pay, ask=bank.ask if ask else None)
    steps = [
        Step("pay", read=list(items), write=write, compensate=bank.back, **{"chunk_size": 2, **options}),
        Step("tell", read=[10, 11], write=effects(bank.pay), compensate=bank.back),
    ]
    return Job("billing", *steps, parameters={"month": 11}, on_failure=on_failure)


def test_effects_are_undone_newest_first_over_steps_in_reverse_order_each_once():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    bank.calls.clear()
    result = rollback(done.run, ledger=ledger, job=billing(bank))
    assert bank.calls == ["back 11", "back 10", "back 2", "back 1", "back 0"]
    assert (result.status, bank.paid) == (Status.COMPENSATED, {})
    assert [(step.step, step.compensated, step.left) for step in result.steps] == [("tell", 2, 0), ("pay", 3, 0)]
    assert ledger.run(done.run).status is Status.COMPENSATED


def test_a_compensation_is_given_key_output_and_receipt_and_a_key_of_its_own():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    keys = set(bank.paid)
    rollback(done.run, ledger=ledger, job=billing(bank))
    assert {effect.key for effect in bank.given} == keys
    assert [effect.receipt for effect in bank.given[-3:]] == [{"receipt": 2}, {"receipt": 1}, {"receipt": 0}]
    assert all(effect.certain for effect in bank.given)
    assert len({effect.compensation_key for effect in bank.given} | keys) == 10


def test_rolling_back_again_says_that_it_is_done_and_undoes_nothing():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    first = rollback(done.run, ledger=ledger, job=billing(bank))
    bank.calls.clear()
    again = rollback(done.run, ledger=ledger, job=billing(bank))
    assert (again.already, again.steps, bank.calls) == (True, first.steps, [])


def test_what_is_rolled_back_is_not_gone_on_with_but_may_begin_anew_without_a_yes():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    rollback(done.run, ledger=ledger, job=billing(bank))
    with pytest.raises(RolledBackError, match=r"rolled back with these parameters; run 1; .*--again"):
        run(billing(bank), ledger=ledger)
    assert run(billing(bank), ledger=ledger, again=True).status is Status.COMPLETED
    assert sorted(bank.paid.values()) == [0, 1, 2, 10, 11]


def test_what_is_rolled_back_in_part_asks_for_a_yes_before_it_begins_anew():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    bank.refuses = {("back", 1)}
    assert rollback(done.run, ledger=ledger, job=billing(bank), check=False).error
    with pytest.raises(RolledBackError, match="in part: it is COMPENSATION_FAILED; finish that"):
        run(billing(bank), ledger=ledger)
    with pytest.raises(ConfirmationError):
        run(billing(bank), ledger=ledger, again=True)


def test_a_compensation_that_fails_ends_it_there_and_the_next_rollback_goes_on():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    bank.refuses = {("back", 1)}
    bank.calls.clear()
    with pytest.raises(CompensationFailedError, match="effects left: 2 of step 'pay'") as failed:
        rollback(done.run, ledger=ledger, job=billing(bank))
    assert "no way back for 1" in str(failed.value)
    assert "item 2 of step 'pay'" in str(failed.value)
    assert failed.value.result.status is Status.COMPENSATION_FAILED
    assert failed.value.exit_code == 1
    bank.refuses = set()
    assert rollback(done.run, ledger=ledger, job=billing(bank)).status is Status.COMPENSATED
    assert bank.calls == ["back 11", "back 10", "back 2", "back 1", "back 1", "back 0"]


def test_a_compensation_is_retried_as_its_step_says():
    bank, ledger = Bank(), MemoryLedger()
    job = billing(bank, retry=Retry(attempts=3, delay_seconds=0))
    done = run(job, ledger=ledger)
    bank.refuses = {("back", 1)}
    bank.calls.clear()
    assert rollback(done.run, ledger=ledger, job=job, check=False).error
    assert bank.calls.count("back 1") == 3


def test_a_compensation_that_was_interrupted_is_repeated_under_its_key_and_no_other_is():
    bank, ledger = Bank(), MemoryLedger()
    done = run(billing(bank), ledger=ledger)
    bank.dies = {("back", 1)}
    with pytest.raises(KeyboardInterrupt):
        rollback(done.run, ledger=ledger, job=billing(bank))
    assert ledger.run(done.run).status is Status.COMPENSATION_FAILED
    bank.dies = set()
    rollback(done.run, ledger=ledger, job=billing(bank))
    assert [effect.output for effect in bank.given] == [11, 10, 2, 1, 1, 0]
    assert len({effect.compensation_key for effect in bank.given if effect.output == 1}) == 1


def test_a_run_that_failed_can_be_rolled_back_and_calls_that_failed_are_not_undone():
    bank, ledger = Bank(), MemoryLedger()
    bank.refuses = {1}
    failed = run(billing(bank), ledger=ledger, check=False)
    bank.calls.clear()
    result = rollback(failed.run, ledger=ledger, job=billing(bank))
    assert bank.calls == ["back 0"]
    assert [(step.step, step.compensated, step.failed) for step in result.steps] == [("tell", 0, 0), ("pay", 1, 1)]


def test_a_call_that_nobody_can_be_asked_about_is_undone_and_said_to_be_uncertain():
    bank, ledger = Bank(), MemoryLedger()
    bank.dies = {1}
    with pytest.raises(KeyboardInterrupt):
        run(billing(bank), ledger=ledger)
    rollback(1, ledger=ledger, job=billing(bank))
    assert [(effect.output, effect.certain, effect.receipt) for effect in bank.given] == [
        (1, False, None), (0, True, {"receipt": 0}),
    ]  # fmt: skip


@pytest.mark.parametrize(("took_effect", "undone"), [(True, [1, 0]), (False, [0])])
def test_a_call_that_can_be_asked_about_is_undone_only_if_it_was_made(took_effect, undone):
    bank, ledger = Bank(), MemoryLedger()
    bank.dies = {1}
    with pytest.raises(KeyboardInterrupt):
        run(billing(bank, ask=True), ledger=ledger)
    if not took_effect:
        bank.paid = {key: output for key, output in bank.paid.items() if output != 1}
    rollback(1, ledger=ledger, job=billing(bank, ask=True))
    assert [effect.output for effect in bank.given] == undone
    assert all(effect.certain for effect in bank.given)
    assert bank.paid == {}


def test_a_run_that_fails_is_rolled_back_at_once_where_its_job_says_so():
    bank, ledger = Bank(), MemoryLedger()
    bank.refuses = {2}
    with pytest.raises(JobFailedError, match=r"no 2.*what it did outside is undone") as failed:
        run(billing(bank, on_failure="compensate"), ledger=ledger)
    assert failed.value.exit_code == 1
    assert failed.value.result.status is Status.COMPENSATED
    assert bank.calls == ["pay 0", "pay 1", "pay 2", "back 1", "back 0"]
    assert "step 'pay': 2 effects are undone" in failed.value.result.warnings


def test_a_rollback_at_once_that_fails_says_how_to_go_on():
    bank, ledger = Bank(), MemoryLedger()
    bank.refuses = {2, ("back", 0)}
    with pytest.raises(JobFailedError, match="batchwright rollback 1") as failed:
        run(billing(bank, on_failure="compensate"), ledger=ledger)
    assert failed.value.result.status is Status.COMPENSATION_FAILED
    bank.refuses = set()
    assert rollback(1, ledger=ledger, job=billing(bank)).status is Status.COMPENSATED


def test_a_run_that_is_stopped_or_completes_with_failures_is_not_rolled_back_by_itself():
    bank, ledger = Bank(), MemoryLedger()
    assert run(billing(bank, on_failure="compensate"), ledger=ledger, limit=1).status is Status.STOPPED
    bank.refuses = {2}
    job = billing(bank, on_failure="compensate", skip=Skip())
    assert run(job, ledger=ledger).status is Status.COMPLETED_WITH_FAILURES
    assert not bank.given


def test_a_stop_ends_a_rollback_between_two_effects():
    bank, ledger, stop = Bank(), MemoryLedger(), Stop()
    done = run(billing(bank), ledger=ledger)

    def back(effect):
        bank.back(effect)
        if effect.output == 2:
            stop.request("the operator")

    job = billing(bank)
    object.__setattr__(job.steps[0], "compensate", back)
    result = rollback(done.run, ledger=ledger, job=job, stop=stop)
    assert (result.status, result.stopped, result.error) == (Status.COMPENSATION_FAILED, "the operator", "")
    assert [step.left for step in result.steps] == [0, 2]
    assert rollback(done.run, ledger=ledger, job=job).status is Status.COMPENSATED
    assert [effect.output for effect in bank.given] == [11, 10, 2, 1, 0]


def test_an_older_lap_is_rolled_back_without_touching_the_newer_one():
    bank, ledger = Bank(), MemoryLedger()
    first = run(billing(bank), ledger=ledger)
    second = run(billing(bank), ledger=ledger, again=True, yes=True)
    rollback(first.run, ledger=ledger, job=billing(bank))
    assert sorted(bank.paid.values()) == [0, 1, 2, 10, 11]
    assert ledger.run(second.run).status is Status.COMPLETED
    assert run(billing(bank), ledger=ledger).already_complete


def test_steps_that_cannot_compensate_are_named_with_what_they_wrote(tmp_path):
    bank, ledger = Bank(), MemoryLedger()
    rows = Step("rows", read=[{"id": 1}], write=insert(f"sqlite:///{tmp_path}/shop.db", "rows"))
    mail = Step("mail", read=[5], write=effects(lambda output, key: None))
    job = Job("billing", rows, mail, *billing(bank).steps, parameters={"month": 11})
    done = run(job, ledger=ledger)
    assert rollback(done.run, ledger=ledger, job=job).kept == ("mail", "rows")


def test_a_run_none_of_whose_steps_can_compensate_is_refused():
    ledger = MemoryLedger()
    job = Job("j", Step("mail", read=[5], write=effects(lambda output, key: None)), parameters={"a": 1})
    done = run(job, ledger=ledger)
    with pytest.raises(NotCompensableError, match="none of its steps has compensate="):
        rollback(done.run, ledger=ledger, job=job)
    assert ledger.run(done.run).status is Status.COMPLETED


def test_a_live_run_an_unknown_one_and_another_job_are_refused():
    bank, ledger = Bank(), MemoryLedger()
    job = billing(bank)
    done = run(job, ledger=ledger)
    with ledger.own(job.key), pytest.raises(AlreadyRunningError):
        rollback(done.run, ledger=ledger, job=job)
    with pytest.raises(LedgerError, match="there is no run 99"):
        rollback(99, ledger=ledger, job=job)
    with pytest.raises(ConfigurationError, match="other work"):
        rollback(done.run, ledger=ledger, job=Job("other", *job.steps))
    assert not bank.given


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (lambda: Step("s", read=[1], write=print, compensate=print), "keeps a log of its effects"),
        (lambda: Step("s", read=[1], write=insert("sqlite:///x.db", "t"), compensate=print), "by a step of effects"),
        (lambda: Step("s", read=[1], write=effects(lambda a, b: 1), compensate=7), "plain function of an effect"),
        (lambda: Job("j", Step("s", read=[1], write=print), on_failure="compensate"), "needs a step with compensate="),
        (lambda: Job("j", Step("s", read=[1], write=print), on_failure="retry"), "must be 'compensate' or None"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(declared, words):
    with pytest.raises(DeclarationError, match=words):
        declared()

"""Steps in order, and what holds when one of them fails, stops or is complete already."""

import pytest
from tests.unit.engine.runs import run_here

from batchwright import Job, Skip, Status, Step
from batchwright.engine.stop import Stop
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import AbandonedError, AlreadyRunningError
from batchwright.model.result import JobResult


class Tracing:
    """Makes steps that note their names when they run; those in `broken` fail."""

    def __init__(self, *broken: str) -> None:
        self.ran: list[str] = []
        self.broken = set(broken)

    def __call__(self, name, after=None):
        def write(outputs):
            self.ran.append(name)
            if name in self.broken:
                raise RuntimeError(f"{name} is broken")

        return Step(name, read=[1], write=write, after=after)


def statuses(result: JobResult) -> dict:
    return {step.name: step.status for step in result.steps}


def test_steps_run_in_the_order_in_which_they_are_listed():
    step = Tracing()
    assert run_here(Job("j", step("c"), step("a"), step("b"))).result.status is Status.COMPLETED
    assert step.ran == ["c", "a", "b"]


def test_after_replaces_the_order_for_its_step_only():
    step = Tracing()
    run_here(Job("j", step("report", after="load"), step("mail"), step("load", after=())))
    assert step.ran == ["load", "report", "mail"]


def test_steps_that_follow_a_failed_one_do_not_start_and_independent_ones_do():
    step = Tracing("load")
    job = Job(
        "j", step("load"), step("report"), step("mail"), step("other", after=()), step("last", after=["other", "mail"])
    )
    ran = run_here(job)
    assert step.ran == ["load", "other"]
    assert statuses(ran.result) == {
        "load": Status.FAILED,
        "report": None,
        "mail": None,
        "other": Status.COMPLETED,
        "last": None,
    }
    assert ran.result.status is Status.FAILED
    assert "report: not started" in str(ran.result)


def test_the_next_run_does_only_what_is_left():
    step = Tracing("report")
    job = Job("j", step("load"), step("report"), step("mail"))
    ran = run_here(job)
    step.broken.clear()
    ran = run_here(job, ledger=ran.ledger)
    assert step.ran == ["load", "report", "report", "mail"]
    assert [result.already_complete for result in ran.result.steps] == [True, False, False]
    assert ran.result.lap == 1
    assert ran.result.read == 3


def test_a_finished_job_with_parameters_does_nothing():
    step = Tracing()
    job = Job("j", step("load"), parameters={"day": 1})
    first = run_here(job)
    again = run_here(job, ledger=first.ledger)
    assert step.ran == ["load"]
    assert again.result.already_complete
    assert (again.result.run, again.result.status, again.result.read) == (1, Status.COMPLETED, 1)
    assert "already complete (run 1)" in str(again.result)
    assert len(first.ledger.runs()) == 1


def test_a_finished_job_that_had_failures_says_so_again():
    declared = Step("s", read=[1, 0], process=lambda n: 1 / n, write=len, skip=Skip())
    job = Job("j", declared, parameters={"day": 1})
    first = run_here(job)
    again = run_here(job, ledger=first.ledger)
    assert again.result.status is Status.COMPLETED_WITH_FAILURES
    assert [failure.error_type for failure in again.failures] == ["ZeroDivisionError"]


def test_other_parameters_are_other_work():
    step = Tracing()
    first = run_here(Job("j", step("load"), parameters={"day": 1}))
    run_here(Job("j", step("load"), parameters={"day": 2}), ledger=first.ledger)
    assert step.ran == ["load", "load"]


def test_a_job_without_parameters_begins_its_next_lap_when_it_was_finished():
    step = Tracing()
    job = Job("j", step("load"))
    ran = run_here(job)
    ran = run_here(job, ledger=ran.ledger)
    assert step.ran == ["load", "load"]
    assert (ran.result.lap, ran.result.read) == (2, 1)


def test_a_job_without_parameters_that_failed_goes_on_in_its_lap():
    step = Tracing("load")
    job = Job("j", step("load"))
    ran = run_here(job)
    step.broken.clear()
    assert run_here(job, ledger=ran.ledger).result.lap == 1


def test_again_begins_a_finished_and_an_unfinished_job_from_its_start():
    step = Tracing("report")
    job = Job("j", step("load"), step("report"), parameters={"day": 1})
    ran = run_here(job)
    step.broken.clear()
    ran = run_here(job, ledger=ran.ledger, again=True)
    ran = run_here(job, ledger=ran.ledger, again=True)
    assert step.ran == ["load", "report"] * 3
    assert ran.result.lap == 3


def test_again_for_work_that_was_never_done_is_its_first_lap():
    assert run_here(Job("j", Tracing()("load"), parameters={"day": 1}), again=True).result.lap == 1


def test_an_abandoned_lap_is_final_and_again_opens_the_next():
    step = Tracing("load")
    job = Job("j", step("load"), parameters={"day": 1})
    ran = run_here(job)
    ran.ledger.move_run(1, Status.ABANDONED)
    step.broken.clear()
    with pytest.raises(AbandonedError, match="--again") as caught:
        run_here(job, ledger=ran.ledger)
    assert caught.value.exit_code == 2
    assert run_here(job, ledger=ran.ledger, again=True).result.lap == 2


def test_work_that_another_owns_is_not_started():
    step, ledger = Tracing(), MemoryLedger()
    job = Job("j", step("load"), parameters={"day": 1})
    with ledger.own(job.key), pytest.raises(AlreadyRunningError) as caught:
        run_here(job, ledger=ledger)
    assert caught.value.exit_code == 4
    assert (step.ran, ledger.runs()) == ([], [])


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_a_limit_ends_stopped_and_the_next_run_goes_on(chunk_size):
    written: list = []
    job = Job("j", Step("a", read=range(7), write=written.extend, chunk_size=chunk_size), Tracing()("b"))
    ran = run_here(job, limit=4)
    assert ran.result.status is Status.STOPPED
    assert written == [0, 1, 2, 3]
    assert statuses(ran.result) == {"a": Status.STOPPED, "b": None}
    ran = run_here(job, ledger=ran.ledger, limit=4)
    assert written == [0, 1, 2, 3, 4, 5, 6]
    assert ran.result.status is Status.COMPLETED
    assert ran.result.lap == 1


def test_a_step_that_a_limit_has_stopped_holds_back_independent_ones_too():
    step = Tracing()
    job = Job("j", Step("a", read=range(7), write=len), step("b", after=()))
    ran = run_here(job, limit=4)
    assert (ran.result.status, step.ran) == (Status.STOPPED, [])
    run_here(job, ledger=ran.ledger)
    assert step.ran == ["b"]


def test_a_limit_as_long_as_the_input_still_has_the_step_to_finish():
    job = Job("j", Step("a", read=range(4), write=len), parameters={"day": 1})
    ran = run_here(job, limit=4)
    assert (ran.result.status, ran.result.read) == (Status.STOPPED, 4)
    assert run_here(job, ledger=ran.ledger).result.status is Status.COMPLETED


def test_a_stop_ends_the_run_at_the_next_chunk_boundary():
    stop, written = Stop(), []

    def process(item):
        if item == 2:
            stop.request("the evening")
        return item

    step = Tracing()
    job = Job("j", Step("a", read=range(9), process=process, write=written.extend, chunk_size=2), step("b", after=()))
    ran = run_here(job, stop=stop)
    assert ran.result.status is Status.STOPPED
    assert written == [0, 1, 2, 3]
    assert step.ran == []
    assert run_here(job, ledger=ran.ledger).result.status is Status.COMPLETED
    assert written == list(range(9))


def test_a_stop_before_the_start_runs_nothing_and_is_gone_on_with():
    stop, step = Stop(), Tracing()
    stop.request("too early")
    job = Job("j", step("load"), parameters={"day": 1})
    ran = run_here(job, stop=stop)
    assert (ran.result.status, step.ran) == (Status.STOPPED, [])
    assert run_here(job, ledger=ran.ledger).result.status is Status.COMPLETED


def test_the_first_reason_to_stop_holds():
    stop = Stop()
    stop.request("first")
    stop.request("second")
    assert stop.requested == "first"


def test_the_ledger_knows_counts_statuses_and_times_of_every_step():
    job = Job("j", Step("a", read=[1, 0], process=lambda n: 1 / n, write=len, skip=Skip()), Tracing()("b"))
    ran = run_here(job)
    run, steps = ran.ledger.run(1), ran.ledger.steps(1)
    assert run is not None
    assert run.status is Status.COMPLETED_WITH_FAILURES
    assert [(step.key.step, step.status, step.counts.read) for step in steps] == [
        ("a", Status.COMPLETED_WITH_FAILURES, 2),
        ("b", Status.COMPLETED, 1),
    ]
    assert all(step.ended_at is not None and step.peak_memory_bytes > 0 for step in steps)


def test_counts_are_those_of_the_lap_after_a_restart():
    job = Job("j", Step("a", read=range(5), write=len, chunk_size=1))
    ran = run_here(job, limit=2)
    ran = run_here(job, ledger=ran.ledger)
    assert (ran.result.read, ran.result.counts.commits) == (5, 5)
    assert [step.counts.read for step in ran.ledger.steps(1)] == [2]


def test_a_step_without_items_is_complete():
    ran = run_here(Step("s", read=[], write=len))
    assert ran.result.status is Status.COMPLETED
    assert ran.counts == (0, 0, 0, 0)

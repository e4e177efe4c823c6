"""Functions as writers: what they did cannot be undone, so nothing is called twice that need not be."""

import pytest
from tests.unit.engine.runs import run_here

from batchwright import DROP, ItemsFailed, Retry, Skip, Status, Step, each
from batchwright.model.errors import JobFailedError, WriteError


class Calls:
    """Notes every call, and fails for some outputs."""

    def __init__(self, *refused, times: int = 1_000, error: type[BaseException] = ValueError) -> None:
        self.refused, self.times, self.error, self.made = refused, times, error, []

    def __call__(self, output):
        self.made.append(output)
        if output in self.refused and self.made.count(output) <= self.times:
            raise self.error(f"no {output}")


def test_each_is_called_once_for_every_output():
    calls = Calls()
    ran = run_here(Step("s", read=range(5), process=lambda n: DROP if n == 3 else n, write=each(calls), chunk_size=2))
    assert calls.made == [0, 1, 2, 4]
    assert ran.counts == (5, 4, 1, 0)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_each_calls_nothing_twice_when_outputs_fail(chunk_size):
    calls = Calls(0, 3, 4, 9)
    ran = run_here(Step("s", read=range(10), write=each(calls), chunk_size=chunk_size, skip=Skip()))
    assert calls.made == list(range(10))
    assert ran.counts == (10, 6, 0, 4)
    assert [failure.ordinal for failure in ran.failures] == [0, 3, 4, 9]


def test_each_is_retried_for_the_output_that_failed_alone():
    calls = Calls(1, 2, times=2)
    ran = run_here(Step("s", read=range(4), write=each(calls), retry=Retry(attempts=3)))
    assert calls.made == [0, 1, 1, 1, 2, 2, 2, 3]
    assert ran.counts == (4, 4, 0, 0)
    assert ran.result.counts.retried == 4


def test_each_that_stays_bad_is_a_failure_with_its_attempts():
    ran = run_here(Step("s", read=range(3), write=each(Calls(1)), retry=Retry(attempts=4), skip=Skip()))
    assert [(failure.phase, failure.attempts) for failure in ran.failures] == [("write", 4)]


def test_each_that_fails_without_skip_stops_there_with_what_came_before_committed():
    calls = Calls(2)
    ran = run_here(Step("s", read=range(6), write=each(calls)))
    assert ran.result.status is Status.FAILED
    assert calls.made == [0, 1, 2]
    assert ran.counts == (2, 2, 0, 0)
    calls.refused = ()
    assert run_here(Step("s", read=range(6), write=each(calls)), ledger=ran.ledger).counts == (6, 6, 0, 0)
    assert calls.made == [0, 1, 2, 2, 3, 4, 5]


def test_a_system_exit_in_each_is_blamed_on_the_item():
    ran = run_here(Step("s", read=range(3), write=each(Calls(1, error=SystemExit)), skip=Skip(on=SystemExit)))
    assert ran.counts == (3, 2, 0, 1)


def test_outputs_of_an_item_behind_a_failed_one_are_not_written():
    calls = Calls(10)

    def several(item):
        yield from (item * 10, item * 10 + 1)

    ran = run_here(Step("s", read=range(3), process=several, write=each(calls), skip=Skip()))
    assert calls.made == [0, 1, 10, 20, 21]
    assert ran.counts == (3, 2, 0, 1)
    assert ran.result.outputs == 4


def test_a_function_gets_a_list_of_its_own_for_every_chunk():
    given: list = []

    def write(outputs):
        given.append(list(outputs))
        outputs.clear()

    ran = run_here(Step("s", read=range(5), write=write, chunk_size=2))
    assert given == [[0, 1], [2, 3], [4]]
    assert ran.counts == (5, 5, 0, 0)


def test_a_function_is_not_called_for_a_chunk_without_outputs():
    given: list = []
    run_here(Step("s", read=range(4), process=lambda n: DROP, write=given.append, chunk_size=2))
    assert given == []


def test_a_function_that_fails_stops_the_step_and_is_not_called_again():
    calls: list = []

    def write(outputs):
        calls.append(outputs)
        if 2 in outputs:
            raise OSError("down")

    ran = run_here(Step("s", read=range(6), write=write, chunk_size=2, skip=Skip(), retry=Retry()))
    assert ran.result.status is Status.FAILED
    assert isinstance(ran.error, OSError)
    assert calls == [[0, 1], [2, 3]]
    assert ran.counts == (2, 2, 0, 0)


def test_a_system_exit_in_a_function_fails_the_step():
    def write(outputs):
        raise SystemExit(1)

    ran = run_here(Step("s", read=[1], write=write))
    assert ran.result.status is Status.FAILED
    assert ran.ledger.steps(1)[0].status is Status.FAILED


def test_items_failed_names_the_outputs_that_a_function_did_not_write():
    def write(outputs):
        raise ItemsFailed({index: ValueError(f"no {n}") for index, n in enumerate(outputs) if n % 3 == 0})

    ran = run_here(Step("s", read=range(8), write=write, chunk_size=5, skip=Skip()))
    assert [(failure.ordinal, failure.error) for failure in ran.failures] == [(0, "no 0"), (3, "no 3"), (6, "no 6")]
    assert ran.counts == (8, 5, 0, 3)


def test_items_failed_is_retried_item_by_item():
    tries: list = []

    def write(outputs):
        tries.append(list(outputs))
        if len(tries) == 1:
            raise ItemsFailed({1: ValueError("once")})

    ran = run_here(Step("s", read=range(3), write=write, retry=Retry()))
    assert tries == [[0, 1, 2], [1]]
    assert ran.counts == (3, 3, 0, 0)


def test_items_failed_without_skip_stops_the_step():
    def write(outputs):
        raise ItemsFailed({1: ValueError("second")})

    ran = run_here(Step("s", read=range(4), write=write))
    assert ran.counts == (1, 1, 0, 0)
    assert "second (while writing item 2" in ran.result.error


@pytest.mark.parametrize(
    "answer",
    [
        ItemsFailed({4: ValueError()}),
        ItemsFailed({-1: ValueError()}),
        ItemsFailed({}, attempted=0),
        ItemsFailed({2: ValueError()}, attempted=1),
    ],
    ids=["behind", "before", "nothing attempted", "not attempted"],
)
def test_an_answer_that_cannot_be_stops_the_step_and_says_why(answer):
    def write(outputs):
        raise answer

    ran = run_here(Step("s", read=range(4), write=write, skip=Skip()))
    assert isinstance(ran.error, WriteError)
    assert "ItemsFailed does not fit" in ran.result.error
    assert ran.counts == (0, 0, 0, 0)


def test_a_job_error_of_a_user_is_not_mistaken_for_ours():
    def write(outputs):
        raise KeyError("key")

    ran = run_here(Step("s", read=[1], write=write))
    assert JobFailedError(ran.result, ran.error).exit_code == 1

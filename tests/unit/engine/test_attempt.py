"""Trying again: which errors, how often, how long between, and that the waits can be interrupted."""

import pytest
from tests.unit.engine.runs import Blocks, run_here

from batchwright import DROP, Retry, Skip, Status, Step
from batchwright.engine.stop import Stop
from batchwright.ledgers.memory import MemoryLedger
from batchwright.runners import EventLoop, Processes, Threads
from batchwright.testing.fake_clock import FakeClock


class Flaky:
    """A processor that fails the first so many times on each item."""

    def __init__(self, times: int, error: type[Exception] = OSError) -> None:
        self.times, self.error, self.calls = times, error, {}

    def __call__(self, item):
        self.calls[item] = self.calls.get(item, 0) + 1
        if self.calls[item] <= self.times:
            raise self.error(f"attempt {self.calls[item]}")
        return item


def step(process, write, **options):
    return Step("s", read=range(3), process=process, write=write, **options)


def test_a_retried_item_that_succeeds_is_written_and_its_retries_are_counted():
    written, flaky = [], Flaky(2)
    ran = run_here(step(flaky, written.extend, retry=Retry(on=OSError, attempts=3)))
    assert written == [0, 1, 2]
    assert flaky.calls == {0: 3, 1: 3, 2: 3}
    assert ran.result.counts.retried == 6
    assert ran.result.failed == 0


def test_a_retried_item_may_be_dropped_in_the_end():
    written, flaky = [], Flaky(1)
    ran = run_here(step(lambda item: DROP if flaky(item) == 1 else item, written.extend, retry=Retry()))
    assert written == [0, 2]
    assert ran.counts == (3, 2, 1, 0)


def test_an_item_that_stays_bad_is_skipped_with_its_attempts():
    written: list = []
    ran = run_here(step(Flaky(9), written.extend, retry=Retry(attempts=4), skip=Skip()))
    assert written == []
    assert [(failure.attempts, failure.error) for failure in ran.failures] == [(4, "attempt 4")] * 3


def test_an_error_that_is_not_to_be_retried_is_not():
    flaky = Flaky(1, KeyError)
    ran = run_here(step(flaky, len, retry=Retry(on=OSError), skip=Skip()))
    assert flaky.calls == {0: 1, 1: 1, 2: 1}
    assert [failure.attempts for failure in ran.failures] == [1, 1, 1]
    assert ran.clock.slept == []


class AnsweredError(OSError):
    """What a service says; `args` hold the code."""


def busy(error):
    return error.args != (404,)


class Service:
    """Answers the code of an item the first two times; 404 always."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, code):
        self.calls.append(code)
        if code == 404 or self.calls.count(code) <= 2:
            raise AnsweredError(code)
        return code

    async def later(self, code):
        return self(code)


@pytest.mark.parametrize("runner", [None, Threads(2), EventLoop(2)])
def test_errors_of_one_class_are_told_apart(runner):
    service, written = Service(), []
    process = service.later if isinstance(runner, EventLoop) else service
    retry = Retry(on=OSError, attempts=3, delay_seconds=0, when=busy)
    read = [503, 404, 429]
    ran = run_here(
        Step("s", read=read, process=process, write=written.extend, retry=retry, skip=Skip(limit=1), runner=runner)
    )
    assert written == [503, 429]
    assert sorted(service.calls) == [404, 429, 429, 429, 503, 503, 503]
    assert [(failure.error, failure.attempts) for failure in ran.failures] == [("404", 1)]


@pytest.mark.parametrize("runner", [None, Threads(2), EventLoop(2), Processes(2)])
def test_a_condition_that_raises_ends_the_step_with_its_error(runner):
    process = raises_later if isinstance(runner, EventLoop) else raises
    retry = Retry(on=OSError, when=divides_by_zero)
    ran = run_here(Step("s", read=range(3), process=process, write=len, retry=retry, skip=Skip(), runner=runner))
    assert isinstance(ran.error, ZeroDivisionError)
    assert ran.counts == (0, 0, 0, 0)


def raises(item):
    raise OSError(item)


async def raises_later(item):
    raise OSError(item)


def divides_by_zero(error):
    return 1 / 0


def test_a_reader_is_opened_again_where_the_condition_says_so():
    for says, status in ((True, Status.COMPLETED), (False, Status.FAILED)):
        blocks = Blocks([[1], OSError("away"), [2]], heals=1)
        ran = run_here(Step("s", read=blocks, write=len, retry=Retry(on=OSError, when=lambda error, s=says: s)))
        assert ran.result.status is status


def test_the_error_of_the_last_attempt_decides():
    errors = iter([OSError("first"), KeyError("second")])

    def fail(item):
        raise next(errors)

    ran = run_here(Step("s", read=[0], process=fail, write=len, retry=Retry(on=OSError, attempts=9), skip=Skip()))
    assert [(failure.error_type, failure.attempts) for failure in ran.failures] == [("KeyError", 2)]


def test_without_skip_an_item_that_stays_bad_stops_the_step():
    ran = run_here(step(Flaky(9), len, retry=Retry(attempts=2)))
    assert ran.result.status is Status.FAILED
    assert str(ran.error) == "attempt 2"


def test_waits_are_exponential_with_full_jitter():
    retry = Retry(attempts=20, delay_seconds=0.5, multiplier=2, max_delay_seconds=3)
    for made, ceiling in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (19, 3.0), (5_000, 3.0)):
        waits = [retry.wait_seconds(made) for _ in range(400)]
        assert 0 <= min(waits) < ceiling * 0.2
        assert ceiling * 0.8 < max(waits) <= ceiling


def test_the_engine_waits_as_long_as_the_policy_says():
    retry = Retry(attempts=5, delay_seconds=1, multiplier=3, max_delay_seconds=10)
    ran = run_here(Step("s", read=[0], process=Flaky(4), write=len, retry=retry))
    assert 0 < sum(ran.clock.slept) <= 1 + 3 + 9 + 10
    assert max(ran.clock.slept) <= 0.05 + 1e-9


def test_a_stop_ends_a_wait_and_the_item_is_done_again_later():
    stop, written = Stop(), []

    class Stopping(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            stop.request("enough")

    flaky = Flaky(1)
    declared = Step(
        "s",
        read=range(3),
        process=lambda n: flaky(n) if n == 1 else n,
        write=written.extend,
        retry=Retry(delay_seconds=1e9),
    )
    ran = run_here(declared, clock=Stopping(), stop=stop)
    assert ran.result.status is Status.STOPPED
    assert written == [0]
    assert run_here(declared, ledger=ran.ledger).result.status is Status.COMPLETED
    assert written == [0, 1, 2]


def test_a_reader_that_raises_is_opened_again_at_the_last_position():
    written, reader = [], Blocks([[0, 1], [2, 3], OSError("gone"), [4]], heals=2)
    ran = run_here(Step("s", read=reader, write=written.extend, chunk_size=3, retry=Retry(attempts=3)))
    assert written == [0, 1, 2, 3, 4]
    assert reader.opened == [None, 4, 4]
    assert ran.counts == (5, 5, 0, 0)


def test_a_reader_that_goes_on_raising_stops_the_step_with_everything_before_it_committed():
    written, reader = [], Blocks([[0, 1], OSError("gone")])
    ran = run_here(Step("s", read=reader, write=written.extend, chunk_size=9, retry=Retry(attempts=3), skip=Skip()))
    assert ran.result.status is Status.FAILED
    assert written == [0, 1]
    assert len(reader.opened) == 3
    assert "gone" in ran.result.error
    assert "after item 2" in ran.result.error


def test_without_retry_a_reader_is_not_opened_again():
    reader = Blocks([[0], OSError("gone")])
    ran = run_here(Step("s", read=reader, write=len))
    assert reader.opened == [None]
    assert isinstance(ran.error, OSError)


def test_a_reader_that_gets_further_each_time_may_fail_more_often_than_attempts():
    class Restless(Blocks):
        def read(self, after):
            for block in super().read(after):
                yield block
                raise OSError("again")

    written: list = []
    run_here(Step("s", read=Restless([[n] for n in range(9)]), write=written.extend, retry=Retry(attempts=2)))
    assert written == list(range(9))


def test_a_system_exit_in_a_reader_fails_the_step():
    def numbers():
        yield 1
        raise SystemExit("leave")

    ran = run_here(Step("s", read=numbers, write=len))
    assert ran.result.status is Status.FAILED
    assert ran.ledger.steps(1)[0].status is Status.FAILED


@pytest.mark.parametrize("where", ["process", "write", "read"])
def test_a_keyboard_interrupt_leaves_the_run_stopped_and_it_is_gone_on_with(where):
    written, interrupts = [], [KeyboardInterrupt()]

    def interrupt(place: str) -> None:
        if place == where and interrupts:
            raise interrupts.pop()

    def numbers():
        for number in range(6):
            if number == 4:
                interrupt("read")
            yield number

    def process(number):
        if number == 4:
            interrupt("process")
        return number

    def write(numbers):
        if 4 in numbers:
            interrupt("write")
        written.extend(numbers)

    events: list = []
    declared = Step("s", read=numbers, process=process, write=write, chunk_size=2)
    ledger = MemoryLedger()
    with pytest.raises(KeyboardInterrupt):
        run_here(declared, ledger=ledger, observers=[events.append])
    run = ledger.run(1)
    assert run is not None
    assert (run.status, run.error) == (Status.STOPPED, "interrupted")
    assert type(events[-1]).__name__ == "JobFinished"
    assert events[-1].result.status is Status.STOPPED
    assert run_here(declared, ledger=ledger).counts == (6, 6, 0, 0)
    assert written == list(range(6))

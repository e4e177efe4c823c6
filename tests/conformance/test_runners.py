"""Each runner against the public suite; and the engine against runners that do what engines elsewhere do."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from batchwright.model.work import Outcome, Work
from batchwright.ports.runners import Runner, Task, Workers
from batchwright.runners import EventLoop, Processes, Threads
from batchwright.testing.runner_suite import RunnerSuite


class TestThreads(RunnerSuite):
    def runner(self) -> Runner:
        return Threads(4)


class TestOneThread(RunnerSuite):
    def runner(self) -> Runner:
        return Threads(1)


class TestEventLoop(RunnerSuite):
    def runner(self) -> Runner:
        return EventLoop(8)


class TestOneCoroutine(RunnerSuite):
    def runner(self) -> Runner:
        return EventLoop(1)


class TestProcesses(RunnerSuite):
    def runner(self) -> Runner:
        return Processes(2)


@dataclass
class Here:
    """A runner on the caller's own thread, whose workers are made to order."""

    kind: Callable[[Task], Workers]
    workers: int = 3
    together: bool = False

    def start(self, task: Task) -> Workers:
        return self.kind(task)


class Backwards:
    """Gives back last what was submitted first."""

    times = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        self._given: list[Work] = []

    def submit(self, work: Work) -> None:
        self._given += [work] * self.times

    def collect(self, timeout_seconds: float) -> Outcome | None:
        del timeout_seconds
        return self._task.run(self._given.pop()) if self._given else None

    def cancel(self) -> None:
        self._given.clear()

    def close(self) -> None:
        self._given.clear()


class Twice(Backwards):
    """Runs everything twice, as engines do that believe a worker dead."""

    times = 2


class TestOutOfOrder(RunnerSuite):
    def runner(self) -> Runner:
        return Here(Backwards)


class TestEverythingTwice(RunnerSuite):
    def runner(self) -> Runner:
        return Here(Twice)


class Inventing(Backwards):
    """Says that it is done with more than it was given."""

    def collect(self, timeout_seconds: float) -> Outcome | None:
        outcome = super().collect(timeout_seconds)
        return None if outcome is None else Outcome(outcome.number, [*outcome.results, "one more"])


class Mixing(Backwards):
    """Gives the results of a piece of work in another order."""

    def collect(self, timeout_seconds: float) -> Outcome | None:
        outcome = super().collect(timeout_seconds)
        return None if outcome is None else Outcome(outcome.number, outcome.results[::-1], outcome.failed)


@pytest.mark.parametrize("kind", [Inventing, Mixing])
def test_the_suite_sees_a_runner_that_is_wrong(kind: Callable[[Task], Workers]):
    class Wrong(RunnerSuite):
        def runner(self) -> Runner:
            return Here(kind)

    with pytest.raises(AssertionError):
        Wrong().test_outputs_come_in_the_order_of_the_input_whatever_the_chunk_size()

"""What every runner must prove. Subclass `RunnerSuite` in a test module and give it a runner.

    class TestThreads(RunnerSuite):
        def runner(self): return Threads(4)

The one rule: whatever runs the items, output, counts, failures and restart are those of the loop without a runner.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from batchwright.engine.stop import Stop
from batchwright.launch import run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.policy import Retry, Skip
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.ports.runners import Runner
from batchwright.step import Step
from batchwright.testing.runner_examples import IN_KIND, SLOW

ITEMS = 400

CHUNK_SIZES = (1, 7, 100, 1_000)


class RunnerSuite:
    """Tests of one runner."""

    def runner(self) -> Runner:
        """A new runner, with more than one worker."""
        raise NotImplementedError

    def test_outputs_come_in_the_order_of_the_input_whatever_the_chunk_size(self) -> None:
        """And so do the counts."""
        for chunk_size in CHUNK_SIZES:
            assert self._ran("double", chunk_size) == self._ran("double", chunk_size, inline=True)

    def test_an_item_may_have_no_output_or_several(self) -> None:
        """They stay together."""
        for chunk_size in CHUNK_SIZES:
            assert self._ran("spread", chunk_size) == self._ran("spread", chunk_size, inline=True)

    def test_items_that_fail_are_set_aside_with_their_places(self) -> None:
        """Tried as often as without the runner."""
        policy: dict[str, Any] = {"skip": Skip(limit=200), "retry": Retry(on=ValueError, attempts=2, delay_seconds=0)}
        for chunk_size in CHUNK_SIZES:
            assert self._ran("fails", chunk_size, **policy) == self._ran("fails", chunk_size, inline=True, **policy)

    def test_without_a_skip_the_step_ends_before_the_first_item_that_fails(self) -> None:
        """What came before it is written, nothing behind it is."""
        written, result = self._run("fails", 7, MemoryLedger(), Stop())
        assert result.status is Status.FAILED
        assert written == []
        written, result = self._run("ends", 7, MemoryLedger(), skip=Skip(on=(ValueError, *_STOPS)))
        assert written == [item for item in range(35) if item % 10]
        assert (result.read, result.failed) == (35, 4)

    def test_a_step_that_ended_goes_on_where_it_was(self) -> None:
        """Nothing is written twice, nothing is left out."""
        ledger = MemoryLedger()
        first, result = self._run("ends", 7, ledger, skip=Skip(on=(ValueError, *_STOPS)))
        assert result.status is Status.FAILED
        second, result = self._run("ends", 7, ledger, skip=Skip())
        assert result.status.complete
        assert first + second == [item for item in range(ITEMS) if item % 10 and item != 35]

    def test_a_stop_leaves_no_gap_and_the_next_run_goes_on(self) -> None:
        """Whatever was in work when it came."""
        ledger, stop = MemoryLedger(), Stop()
        first, result = self._run("double", 5, ledger, stop)
        assert result.status is Status.STOPPED
        second, result = self._run("double", 5, ledger)
        assert result.status.complete
        assert first + second == [item * 2 for item in range(ITEMS) if item % 7]
        assert first

    def test_a_slow_item_holds_back_nobody(self) -> None:
        """The others go on meanwhile, in the chunks behind it too."""
        began = time.monotonic()
        written, result = self._run("holds", 10, MemoryLedger(), max_in_flight=1_000)
        assert written == list(range(ITEMS))
        assert result.status.complete
        assert SLOW < ITEMS
        assert time.monotonic() - began < 30

    def test_nothing_is_left_at_work(self) -> None:
        """Workers end with their step."""
        before = set(threading.enumerate())
        self._ran("double", 7)
        assert set(threading.enumerate()) <= before

    def _ran(self, name: str, chunk_size: int, *, inline: bool = False, **options: Any) -> tuple[Any, ...]:
        written, result = self._run(name, chunk_size, MemoryLedger(), inline=inline, **options)
        counts = result.steps[0].counts
        failures = [(failure.ordinal, failure.error_type, failure.attempts) for failure in result.failures]
        kept = (counts.read, counts.written, counts.filtered, counts.failed, counts.outputs, counts.retried)
        return written, result.status, kept, failures

    def _run(
        self, name: str, chunk_size: int, ledger: MemoryLedger, stop: Stop | None = None, **options: Any
    ) -> tuple[list[Any], JobResult]:
        """What was written, and the result. With `stop`, the run is asked to stop as soon as something was."""
        written: list[Any] = []

        def write(outputs: Sequence[Any]) -> None:
            written.extend(outputs)
            if stop is not None:
                stop.request("enough")

        runner = self.runner()
        if not options.pop("inline", False):
            options["runner"] = runner
        function = IN_KIND[name][1 if runner.together else 0]
        step = Step("s", read=range(ITEMS), process=function, write=write, chunk_size=chunk_size, **options)
        return written, run(step, ledger=ledger, stop=stop, check=False)


_STOPS = (StopIteration, RuntimeError)
"""What a StopIteration is, and what Python makes of it where it leaves a coroutine."""

"""A suite proves something only if it fails for a ledger that is wrong: each bug here must be caught."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import AlreadyRunningError
from batchwright.model.failure import FailureState
from batchwright.model.status import Status
from batchwright.testing.ledger_suite import LedgerSuite


class OwnsForEverybody(MemoryLedger):
    @contextlib.contextmanager
    def _own(self, key):
        before = self._owned.get(key)
        self._owned[key] = True
        yield
        self._owned.pop(key, before)


class NeverFreesAfterAnError(MemoryLedger):
    @contextlib.contextmanager
    def _own(self, key):
        if key in self._owned:
            raise AlreadyRunningError(key.job, "process 1 on host-a", None)
        self._owned[key] = datetime.now(UTC)
        yield
        del self._owned[key]


class MovesWithoutLooking(MemoryLedger):
    def move_run(self, run, status, error=""):
        self._keep_run(replace(self._runs[run], status=status, error=error))


class LeavesTheDeadAlive(MemoryLedger):
    def _close_lost(self, key):
        pass


class BeginsForAnybody(MemoryLedger):
    def begin_run(self, request):
        self._owned.setdefault(request.key, None)
        return super().begin_run(request)


class OpensFailuresAgain(MemoryLedger):
    def _add_failures(self, key, failures):
        self._failures.setdefault(key, {}).update({failure.ordinal: failure for failure in failures})


class SettlesWhatIsIgnored(MemoryLedger):
    def settle_failures(self, key, ordinals, state=FailureState.REPLAYED, note="", checkpoint=None):
        known = self._failures[key]
        for ordinal in known.keys() & set(ordinals):
            known[ordinal] = replace(known[ordinal], state=FailureState.REPLAYED)


class ForgetsOneTooFew(MemoryLedger):
    def void_failures(self, key, from_ordinal):
        super().void_failures(key, from_ordinal + 1)


class StoresFailuresApartFromTheCheckpoint(MemoryLedger):
    def save_checkpoint(self, key, checkpoint, failures):
        self._add_failures(key, failures)
        super().save_checkpoint(key, checkpoint, [])


class KeepsWhatItWasGiven(MemoryLedger):
    def save_checkpoint(self, key, checkpoint, failures):
        self._checkpoints[key] = checkpoint
        self._add_failures(key, failures)


class ForgetsTheLap(MemoryLedger):
    def load_checkpoint(self, key):
        return next((kept for known, kept in self._checkpoints.items() if replace(known, lap=key.lap) == key), None)


class StaysInItsLap(MemoryLedger):
    def begin_run(self, request):
        return super().begin_run(replace(request, next_lap=False))


class KnowsNoLapButItsOwn(MemoryLedger):
    def begin_run(self, request):
        return super().begin_run(replace(request, at_least_lap=1))


class CountsReplaysAsRuns(MemoryLedger):
    def last_run(self, key):
        return next((run for run in reversed(self._runs.values()) if run.key == key), None)


class EndsStepsTwice(MemoryLedger):
    def end_step(self, step_execution, outcome, failures):
        found = self._steps.get(step_execution)
        if found is not None:
            self._keep_step(replace(found, status=Status.RUNNING))
        super().end_step(step_execution, outcome, failures)


class LosesPeakMemory(MemoryLedger):
    def end_step(self, step_execution, outcome, failures):
        super().end_step(step_execution, replace(outcome, peak_memory_bytes=0), failures)


class TellsNobodyIsLost(MemoryLedger):
    def _judged(self, run):
        return run


class TellsEveryLapsFailures(MemoryLedger):
    def failures(self, run, *, step=None, open_only=False):
        for key in list(self._failures):
            if isinstance(key, StepKey) and step in (None, key.step):
                yield from (
                    failure
                    for failure in self.load_failures(key)
                    if not open_only or failure.state is FailureState.OPEN
                )


BUGS = [value for value in list(globals().values()) if isinstance(value, type) and MemoryLedger in value.__bases__]

TESTS = [name for name in dir(LedgerSuite) if name.startswith("test_")]


def failing_tests(kind):
    class Suite(LedgerSuite):
        def ledger(self):
            return kind()

        def history(self, ledger):
            return ledger

    failing = []
    for name in TESTS:
        try:
            getattr(Suite(), name)()
        except Exception:
            failing.append(name)
    return failing


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(bug):
    assert failing_tests(bug)


def test_a_ledger_without_a_bug_passes():
    assert failing_tests(MemoryLedger) == []
    assert len(TESTS) >= 40

"""Statuses move along the one table, in every ledger, whatever is tried in whatever order."""

import contextlib
import multiprocessing
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batchwright.ledgers.memory import MemoryLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, FencedError, LedgerError
from batchwright.model.execution import StepOutcome
from batchwright.model.status import TRANSITIONS, Status, without_owner
from batchwright.testing.ledger_examples import KEY, a_request, step_key

STORED = [status for status in Status if status not in (Status.LOST, Status.COMPENSATION_LOST)]
RACES = 25


class LedgerMachine(RuleBasedStateMachine):
    """Two ledgers and a model of one instance, moved about at random by an owner, by nobody, and by passers-by."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "ledger.db"
        self.opened = contextlib.ExitStack()
        self.sqlite = self.opened.enter_context(contextlib.closing(SqliteLedger(path, lock_wait_seconds=0)))
        self.told = self.opened.enter_context(contextlib.closing(SqliteHistory(path)))
        self.memory = MemoryLedger()
        self.ledgers = (self.sqlite, self.memory)
        self.owned = contextlib.ExitStack()
        self.owns, self.statuses, self.steps = False, [], {}
        self.asked = set()

    def teardown(self):
        self.owned.close()
        self.opened.close()
        self.folder.cleanup()

    def everywhere(self, call, refused):
        """Do it in both ledgers: both do it, or both refuse it."""
        for ledger in self.ledgers:
            if refused is None:
                call(ledger)
            else:
                with pytest.raises(refused):
                    call(ledger)

    def live(self):
        return [number for number, status in enumerate(self.statuses) if status.live]

    def close_live(self):
        for number in self.live():
            compensating = self.statuses[number] is Status.COMPENSATING
            self.statuses[number] = Status.COMPENSATION_FAILED if compensating else Status.FAILED
            self.steps.pop(number, None)

    @rule()
    def own(self):
        if not self.owns:
            for ledger in self.ledgers:
                self.owned.enter_context(ledger.own(KEY))
            self.owns = True

    @rule()
    def die(self):
        """The owner is gone, and has closed nothing."""
        self.owned.close()
        self.owns = False

    @rule(next_lap=st.booleans())
    def begin_run(self, next_lap):
        self.everywhere(
            lambda ledger: ledger.begin_run(a_request(next_lap=next_lap)), None if self.owns else LedgerError
        )
        if self.owns:
            self.close_live()
            self.statuses.append(Status.STARTING)

    @rule()
    def close_lost(self):
        self.everywhere(lambda ledger: ledger.close_lost(KEY), None if self.owns else LedgerError)
        if self.owns:
            self.close_live()

    @precondition(lambda self: self.statuses)
    @rule(data=st.data(), wanted=st.sampled_from(STORED))
    def move(self, data, wanted):
        number = data.draw(st.integers(0, len(self.statuses) - 1))
        found = self.statuses[number]
        others_live = any(other != number for other in self.live())
        if wanted.live and not found.live and others_live:
            return  # of one instance one execution is live: SQLite refuses that by an index of its own
        allowed = wanted in TRANSITIONS[found]
        self.everywhere(lambda ledger: ledger.move_run(number + 1, wanted), None if allowed else BatchwrightError)
        if allowed:
            self.statuses[number] = wanted

    @precondition(lambda self: self.live())
    @rule(ends=st.sampled_from([Status.COMPLETED, Status.FAILED, Status.STOPPED]))
    def run_a_step(self, ends):
        number = self.live()[-1]
        if number in self.steps:
            for ledger, step in zip(self.ledgers, self.steps.pop(number), strict=True):
                step_outcome = StepOutcome(ends, step.counts)
                ledger.end_step(step.id, step_outcome, [])
                with pytest.raises(FencedError):
                    ledger.end_step(step.id, step_outcome, [])
        else:
            self.steps[number] = [
                ledger.begin_step(number + 1, step_key(), "in", "out", "exactly once") for ledger in self.ledgers
            ]

    @precondition(lambda self: self.statuses)
    @rule(data=st.data())
    def ask_to_stop(self, data):
        number = data.draw(st.integers(0, len(self.statuses) - 1))
        answers = {ledger.request_stop(number + 1, "somebody") for ledger in self.ledgers}
        assert answers == {self.statuses[number].live}
        if self.statuses[number].live:
            self.asked.add(number)

    def as_read(self, number, status):
        """A run at work that was asked to stop reads as STOPPING."""
        if status.live and not self.owns:
            return without_owner(status)
        at_work = status in (Status.STARTING, Status.RUNNING)
        return Status.STOPPING if at_work and number in self.asked else status

    @invariant()
    def every_ledger_says_what_the_model_says(self):
        for history in (self.told, self.memory):
            found = [run.status for run in reversed(history.runs(limit=1_000))]
            expected = [self.as_read(number, status) for number, status in enumerate(self.statuses)]
            assert found == expected


TestTransitions = LedgerMachine.TestCase
TestTransitions.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("found", STORED)
@pytest.mark.parametrize("wanted", STORED)
def test_every_pair_of_statuses_is_allowed_or_refused_by_the_table(tmp_path, found, wanted):
    path = next((path for path in paths_from_the_start() if path[-1] is found), None)
    assert path is not None, "every status can be reached"
    with contextlib.closing(SqliteLedger(tmp_path / "ledger.db")) as ledger, ledger.own(KEY):
        run = ledger.begin_run(a_request())
        for status in path[1:]:
            ledger.move_run(run.id, status)
        if wanted in TRANSITIONS[found]:
            ledger.move_run(run.id, wanted)
        else:
            with pytest.raises((LedgerError, FencedError)):
                ledger.move_run(run.id, wanted)
        assert ledger.last_run(KEY).status is (wanted if wanted in TRANSITIONS[found] else found)


def paths_from_the_start():
    paths, seen = [(Status.STARTING,)], {Status.STARTING}
    for path in paths:
        for status in sorted(TRANSITIONS[path[-1]] - seen):
            seen.add(status)
            paths.append((*path, status))
    return paths


def attempt(path, what, gate, answers):
    """One of several processes that want the same stopped work, at the same instant."""
    with contextlib.closing(SqliteLedger(path, lock_wait_seconds=0)) as ledger:
        gate.wait()
        try:
            if what == "stop":
                answers.put((what, ledger.request_stop(1, "somebody")))
                return
            with ledger.own(KEY):
                if what == "abandon":
                    ledger.close_lost(KEY)
                    ledger.move_run(1, Status.ABANDONED)
                elif ledger.last_run(KEY).status is Status.ABANDONED:
                    answers.put((what, False))
                    return
                else:
                    run = ledger.begin_run(a_request())
                    ledger.move_run(run.id, Status.RUNNING)
                    ledger.move_run(run.id, Status.COMPLETED)
                answers.put((what, True))
        except (AlreadyRunningError, BatchwrightError):
            answers.put((what, False))


@pytest.mark.parametrize("others", [("abandon", "run"), ("abandon", "abandon"), ("run", "run"), ("stop", "abandon")])
def test_of_processes_that_want_the_same_work_each_gets_it_whole_or_not_at_all(tmp_path, others):
    """Whoever came first, the ledger tells one story: an abandoned run is never gone on with, and none is lost."""
    context = multiprocessing.get_context("fork")
    for number in range(RACES // len(others)):
        path = tmp_path / f"{number}.db"
        with contextlib.closing(SqliteLedger(path)) as ledger, ledger.own(KEY):
            run = ledger.begin_run(a_request())
            ledger.move_run(run.id, Status.RUNNING)
            if number % 2:
                ledger.move_run(run.id, Status.STOPPED)
        gate, answers = context.Barrier(len(others)), context.Queue()
        racers = [context.Process(target=attempt, args=(path, what, gate, answers)) for what in others]
        for racer in racers:
            racer.start()
        told = [answers.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join(60)
        with contextlib.closing(SqliteHistory(path)) as history:
            statuses = {run.id: run.status for run in history.runs()}
        ran = sum(done for what, done in told if what == "run")
        gave_up = sum(done for what, done in told if what == "abandon")
        assert len(statuses) == 1 + ran
        assert gave_up <= 1
        if gave_up and not ran:
            assert statuses == {1: Status.ABANDONED}
        if ran:
            assert statuses[1 + ran] is Status.COMPLETED

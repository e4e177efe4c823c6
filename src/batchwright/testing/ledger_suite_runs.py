"""What every ledger keeps about instances, runs and steps, and who may change it.

The one rule: every change is tried by somebody who may not make it, too.
"""

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from batchwright.model.checkpoint import Counts
from batchwright.model.errors import AlreadyRunningError, CodecError, FencedError, LedgerError
from batchwright.model.execution import OWNER_GONE, TARGET_ASKED, Origin, StepOutcome
from batchwright.model.status import Status
from batchwright.model.waits import Waits
from batchwright.testing.ledger_examples import (
    COUNTS,
    EVERY_TYPE,
    KEY,
    OTHER_KEY,
    LedgerUnderTest,
    Raising,
    a_failure,
    a_request,
    an_outcome,
    assert_same,
    last_run,
    ordinals,
    run_to,
    start_run,
    status_of,
    step_key,
)


class LedgerRunsSuite(LedgerUnderTest):
    """Laps, ownership, transitions and executions of steps."""

    def test_a_new_ledger_knows_nothing(self) -> None:
        """Asking for what was never stored is no error."""
        ledger, key = self.ledger(), step_key()
        assert ledger.last_run(KEY) is None
        assert ledger.last_step(key) is None
        assert ledger.load_checkpoint(key) is None
        assert list(ledger.load_failures(key)) == []
        assert self.history(ledger).runs() == []
        assert self.history(ledger).run(1) is None

    def test_a_run_begins_in_lap_1_and_a_rerun_stays_in_its_lap(self) -> None:
        """An attempt that failed is gone on with, in the same lap."""
        ledger = self.ledger()
        first = run_to(ledger, Status.FAILED)
        second = run_to(ledger, Status.COMPLETED)
        assert (first.lap, second.lap) == (1, 1)
        assert second.id > first.id

    def test_next_lap_opens_the_next_lap_and_the_runs_after_it_stay_there(self) -> None:
        """The very first run is lap 1, asked for the next lap or not."""
        ledger = self.ledger()
        laps = [run_to(ledger, Status.COMPLETED, next_lap=again).lap for again in (True, False, True, True, False)]
        assert laps == [1, 1, 2, 3, 3]

    def test_a_lap_that_the_targets_know_is_not_opened_again(self) -> None:
        """Another ledger, or a lost one, may have been further."""
        ledger = self.ledger()
        laps = [run_to(ledger, Status.COMPLETED, next_lap=True, at_least_lap=least).lap for least in (4, 1, 9, 2)]
        assert laps == [4, 5, 9, 10]

    def test_a_lap_that_only_the_targets_know_is_gone_on_with(self) -> None:
        """A ledger that is new opens no lap that was there before; one that knows more is not set back."""
        ledger = self.ledger()
        laps = [run_to(ledger, Status.COMPLETED, at_least_lap=lap).lap for lap in (4, 1, 6)]
        assert laps == [4, 4, 6]
        assert run_to(ledger, Status.COMPLETED, next_lap=True, at_least_lap=6).lap == 7

    def test_instances_have_laps_of_their_own(self) -> None:
        """Other parameters are other work."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        run_to(ledger, Status.COMPLETED, next_lap=True)
        assert run_to(ledger, Status.COMPLETED, key=OTHER_KEY).lap == 1

    def test_a_begun_run_is_as_requested_and_starting(self) -> None:
        """Everything in the request is recorded, and who runs it."""
        ledger, before = self.ledger(), datetime.now(UTC)
        request = a_request(origin=Origin("/jobs/sales.py", "daily_sales", "abc"), parameters={"day": date(2026, 1, 2)})
        with ledger.own(KEY):
            run = ledger.begin_run(request)
        assert run.status is Status.STARTING
        assert (run.key, run.parameters, run.steps, run.origin) == (
            KEY, request.parameters, request.steps, request.origin,
        )  # fmt: skip
        assert run.pid > 0
        assert run.host
        assert before - timedelta(seconds=1) <= run.started_at <= datetime.now(UTC) + timedelta(seconds=1)
        assert run.ended_at is None

    def test_parameters_of_every_type_come_back_equal_and_of_the_same_types(self) -> None:
        """Also through another object and through the history."""
        ledger = self.ledger()
        with ledger.own(KEY):
            run = ledger.begin_run(a_request(parameters=EVERY_TYPE))
        for found in (run, self.reopened(ledger).last_run(KEY), self.history(ledger).run(run.id)):
            assert found is not None
            assert_same(found.parameters, EVERY_TYPE)

    def test_parameters_that_cannot_be_stored_are_refused_and_leave_no_run(self) -> None:
        """Refused before anything is recorded."""
        ledger = self.ledger()
        with ledger.own(KEY), Raising(CodecError):
            ledger.begin_run(a_request(parameters={"ratio": float("nan")}))
        assert ledger.last_run(KEY) is None

    def test_last_run_is_the_newest_of_kind_run(self) -> None:
        """Replays and other instances do not count."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED_WITH_FAILURES)
        run_to(ledger, Status.COMPLETED, kind="replay")
        run_to(ledger, Status.COMPLETED, key=OTHER_KEY)
        found = self.reopened(ledger).last_run(KEY)
        assert found is not None
        assert (found.id, found.status) == (run.id, Status.COMPLETED_WITH_FAILURES)

    def test_a_run_moves_along_the_table_and_its_end_is_recorded(self) -> None:
        """From STARTING to an end, with the time of the end."""
        ledger = self.ledger()
        with ledger.own(KEY):
            run = ledger.begin_run(a_request())
            for status in (Status.RUNNING, Status.STOPPING, Status.STOPPED):
                ledger.move_run(run.id, status)
                assert status_of(ledger, run) is status
        ended = last_run(self.reopened(ledger))
        assert ended.ended_at is not None
        assert ended.ended_at >= ended.started_at

    def test_an_error_is_kept_when_a_later_move_brings_none(self) -> None:
        """ABANDONED does not wipe out why it failed."""
        ledger = self.ledger()
        run = run_to(ledger, Status.FAILED, error="ValueError: no such shop 'Zoë'")
        ledger.move_run(run.id, Status.ABANDONED)
        abandoned = last_run(ledger)
        assert (abandoned.status, abandoned.error) == (Status.ABANDONED, "ValueError: no such shop 'Zoë'")

    def test_a_move_that_the_table_forbids_is_refused_and_changes_nothing(self) -> None:
        """LOST is never stored."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        for forbidden in (Status.ABANDONED, Status.STARTING, Status.LOST):
            with Raising(LedgerError):
                ledger.move_run(run.id, forbidden)
        assert status_of(ledger, run) is Status.COMPLETED

    def test_a_closed_run_fences_whoever_thinks_it_is_live(self) -> None:
        """A compare-and-set: the first word stands."""
        ledger = self.ledger()
        run = run_to(ledger, Status.FAILED, error="first word")
        for status in (Status.RUNNING, Status.COMPLETED, Status.FAILED):
            with Raising(FencedError):
                ledger.move_run(run.id, status, "second word")
        assert (status_of(ledger, run), last_run(ledger).error) == (Status.FAILED, "first word")

    def test_anybody_may_ask_a_live_run_to_stop_and_the_first_request_stays(self) -> None:
        """It changes nothing else, needs no ownership, and is not there for the next run. Readers see it STOPPING."""
        ledger = self.ledger()
        with ledger.own(KEY):
            run = start_run(ledger)
            other = self.reopened(ledger)
            assert other.request_stop(run.id, "Zoë on one")
            assert other.request_stop(run.id, "somebody on two")
            asked = self.history(ledger).run(run.id)
            assert asked is not None
            assert asked.stop_requested.startswith("Zoë on one at ")
            assert replace(asked, stop_requested="") == replace(run, status=Status.STOPPING)
            assert status_of(ledger, run) is Status.RUNNING
            ledger.move_run(run.id, Status.STOPPED)
            assert start_run(ledger).stop_requested == ""

    def test_only_a_live_run_is_asked_to_stop(self) -> None:
        """What has ended, and what never was, is left alone."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED)
        assert not ledger.request_stop(run.id, "somebody")
        assert not ledger.request_stop(99, "somebody")
        assert last_run(ledger).stop_requested == ""

    def test_an_unknown_run_or_step_is_refused(self) -> None:
        """A change that touches no row is an error."""
        ledger = self.ledger()
        with Raising(LedgerError):
            ledger.move_run(99, Status.RUNNING)
        with Raising(LedgerError):
            ledger.begin_step(99, step_key(), "in", "out", "exactly once")
        with Raising(LedgerError):
            ledger.note_progress(99, an_outcome(), [])
        with Raising(LedgerError):
            ledger.end_step(99, an_outcome(Status.COMPLETED), [])

    def test_an_owned_instance_cannot_be_owned_again_until_it_is_free(self) -> None:
        """Other instances are not kept waiting; the refusal names the owner."""
        ledger = self.ledger()
        with ledger.own(KEY):
            with Raising(AlreadyRunningError) as caught, self.reopened(ledger).own(KEY):
                pass
            with ledger.own(OTHER_KEY):
                pass
        assert "daily-sales" in str(caught.error)
        assert "process" in str(caught.error)
        with self.reopened(ledger).own(KEY):
            pass

    def test_an_instance_is_free_after_an_error_in_its_owner(self) -> None:
        """The context gives it back whatever happens."""
        ledger = self.ledger()
        with Raising(ZeroDivisionError), ledger.own(KEY):
            raise ZeroDivisionError
        with ledger.own(KEY):
            pass

    def test_of_many_threads_one_owns(self) -> None:
        """Threads of one process exclude each other."""
        ledger, won, lost, all_have_tried = self.ledger(), list[int](), list[int](), threading.Barrier(4, timeout=30)

        def start(number: int) -> None:
            try:
                with self.reopened(ledger).own(KEY):
                    won.append(number)
                    all_have_tried.wait()
            except AlreadyRunningError:
                lost.append(number)
                all_have_tried.wait()

        threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 3)

    def test_a_run_cannot_be_begun_without_owning_its_instance(self) -> None:
        """Beginning closes what is live: only the owner knows that it is dead."""
        ledger = self.ledger()
        with Raising(LedgerError):
            ledger.begin_run(a_request())
        with ledger.own(OTHER_KEY), Raising(LedgerError):
            ledger.begin_run(a_request())
        assert ledger.last_run(KEY) is None

    def test_a_dead_owners_run_and_step_are_closed_as_failed_by_the_next(self) -> None:
        """And the dead, should they wake up, are fenced."""
        ledger = self.ledger()
        with ledger.own(KEY):
            dead = start_run(ledger)
            step = ledger.begin_step(dead.id, step_key(), "in", "out", "exactly once")
            ledger.note_progress(step.id, an_outcome(), [])
        ledger = self.reopened(ledger)
        with ledger.own(KEY):
            next_run = ledger.begin_run(a_request())
            closed = self.history(ledger).run(dead.id)
            assert closed is not None
            assert (closed.status, closed.lap) == (Status.FAILED, next_run.lap)
            assert f"ended without closing (pid {dead.pid}, host {dead.host})" in closed.error
            assert closed.ended_at is not None
            closed_step = ledger.last_step(step_key())
            assert closed_step is not None
            assert (closed_step.status, closed_step.counts) == (Status.FAILED, COUNTS)
            with Raising(FencedError):
                ledger.end_step(step.id, an_outcome(Status.COMPLETED), [a_failure(1)])
            with Raising(FencedError):
                ledger.note_progress(step.id, an_outcome(), [a_failure(1)])
        assert list(ledger.load_failures(step_key())) == []

    def test_an_owner_can_close_what_a_dead_owner_left_without_beginning_a_run(self) -> None:
        """Nobody else can; what has ended is left alone; closing again changes nothing."""
        ledger = self.ledger()
        run_to(ledger, Status.STOPPED)
        with ledger.own(KEY):
            run = start_run(ledger)
            ledger.begin_step(run.id, step_key(), "in", "out", "exactly once")
        with Raising(LedgerError):
            ledger.close_lost(KEY)
        for _ in range(2):
            with ledger.own(KEY):
                ledger.close_lost(KEY)
            step = ledger.last_step(step_key())
            assert step is not None
            assert (status_of(ledger, run), step.status) == (Status.FAILED, Status.FAILED)
            assert "ended without closing" in last_run(ledger).error
        statuses = [found.status for found in self.history(ledger).runs()]
        assert statuses == [Status.FAILED, Status.STOPPED]
        ledger.move_run(run.id, Status.ABANDONED)
        assert status_of(ledger, run) is Status.ABANDONED

    def test_what_a_dead_owner_did_not_report_is_noted_by_the_next_one_and_by_nobody_else(self) -> None:
        """Counts and failures come from a target; the status stays, and no other execution is touched."""
        ledger = self.ledger()
        with ledger.own(KEY):
            lost = ledger.begin_step(start_run(ledger).id, step_key(), "in", "out", "exactly once")
        told = replace(an_outcome(Status.FAILED), error=f"{OWNER_GONE}; {TARGET_ASKED}")
        with ledger.own(KEY):
            with Raising(LedgerError):
                ledger.note_lost(lost.id, told, [a_failure(1)])
            ledger.close_lost(KEY)
            in_part = ledger.last_step(step_key())
        with Raising(LedgerError):
            ledger.note_lost(lost.id, told, [a_failure(1)])
        with ledger.own(KEY):
            for _ in range(2):
                ledger.note_lost(lost.id, told, [a_failure(1)])
            found = ledger.last_step(step_key())
            other = ledger.begin_step(start_run(ledger).id, step_key(), "in", "out", "exactly once")
            ledger.end_step(other.id, an_outcome(Status.FAILED), [])
            with Raising(LedgerError):
                ledger.note_lost(other.id, told, [a_failure(2)])
        assert in_part is not None
        assert found is not None
        assert (in_part.known_in_part, in_part.counts) == (True, Counts())
        assert (found.known_in_part, found.counts, found.status) == (False, COUNTS, Status.FAILED)
        assert ordinals(ledger) == [1]

    def test_only_one_execution_of_a_lap_is_live_and_other_instances_are_left_alone(self) -> None:
        """However often a run is begun."""
        ledger = self.ledger()
        with ledger.own(KEY), ledger.own(OTHER_KEY):
            other = start_run(ledger, key=OTHER_KEY)
            step = ledger.begin_step(other.id, step_key(key=OTHER_KEY), "in", "out", "exactly once")
            for _ in range(3):
                newest = start_run(ledger)
            live = [run.id for run in self.history(ledger).runs() if run.status.live]
            ledger.note_progress(step.id, an_outcome(), [])
        assert live == [newest.id, other.id]

    def test_a_step_is_recorded_with_its_counts_times_memory_and_error(self) -> None:
        """Every field of the outcome comes back."""
        ledger = self.ledger()
        with ledger.own(KEY):
            run = start_run(ledger)
            step = ledger.begin_step(run.id, step_key(), "csv:in.csv", "sqlite:t", "exactly once")
            assert (step.status, step.counts, step.ended_at) == (Status.RUNNING, Counts(), None)
            error, waits = "ValueError: 'a\x00b' 🛫", Waits(0.25, 1.0, 0.5)
            ledger.end_step(step.id, StepOutcome(Status.FAILED, COUNTS, 1.5, 2**33, error, waits=waits), [])
        found = self.reopened(ledger).last_step(step_key())
        assert found is not None
        assert found.ended_at is not None
        assert found == replace(
            step,
            status=Status.FAILED,
            counts=COUNTS,
            seconds=1.5,
            peak_memory_bytes=2**33,
            error="ValueError: 'a\x00b' 🛫",
            waits=waits,
            ended_at=found.ended_at,
        )
        assert (found.source, found.target, found.guarantee) == ("csv:in.csv", "sqlite:t", "exactly once")

    def test_progress_is_noted_together_with_failures_and_the_step_keeps_running(self) -> None:
        """The same failure may come again at the end."""
        ledger = self.ledger()
        with ledger.own(KEY):
            step = ledger.begin_step(start_run(ledger).id, step_key(), "in", "out", "exactly once")
            ledger.note_progress(step.id, an_outcome(), [a_failure(3)])
            found = self.reopened(ledger).last_step(step_key())
            assert found is not None
            assert (found.status, found.counts, found.ended_at) == (Status.RUNNING, COUNTS, None)
            ledger.end_step(step.id, an_outcome(Status.COMPLETED_WITH_FAILURES), [a_failure(3), a_failure(5)])
        assert ordinals(ledger) == [3, 5]

    def test_a_step_goes_on_from_the_counts_of_its_lap(self) -> None:
        """Counts are those of the lap; another lap starts from zero."""
        ledger = self.ledger()
        with ledger.own(KEY):
            step = ledger.begin_step(start_run(ledger).id, step_key(), "in", "out", "exactly once")
            ledger.end_step(step.id, an_outcome(Status.STOPPED), [])
            run = start_run(ledger)
            assert ledger.begin_step(run.id, step_key(), "in", "out", "exactly once").counts == COUNTS
            assert ledger.begin_step(run.id, step_key(lap=2), "in", "out", "exactly once").counts == Counts()

    def test_a_step_is_ended_once(self) -> None:
        """The first end stands."""
        ledger = self.ledger()
        with ledger.own(KEY):
            step = ledger.begin_step(start_run(ledger).id, step_key(), "in", "out", "exactly once")
            ledger.end_step(step.id, an_outcome(Status.FAILED), [])
            with Raising(FencedError):
                ledger.end_step(step.id, an_outcome(Status.COMPLETED), [])
            found = ledger.last_step(step_key())
        assert found is not None
        assert found.status is Status.FAILED

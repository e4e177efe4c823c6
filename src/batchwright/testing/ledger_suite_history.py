"""What every history tells of a ledger.

The one rule: everything is written through the ledger's port and read through the history's.
"""

from dataclasses import replace

from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.execution import FailureGroup
from batchwright.model.failure import FailureState, Phase
from batchwright.model.status import Status
from batchwright.ports import Ledger
from batchwright.testing.ledger_examples import (
    COUNTS,
    KEY,
    OTHER_KEY,
    LedgerUnderTest,
    a_failure,
    an_outcome,
    run_to,
    start_run,
    step_key,
)


class LedgerHistorySuite(LedgerUnderTest):
    """Runs, steps, failures and their groups."""

    def test_runs_are_told_newest_first_up_to_a_limit(self) -> None:
        """Of all jobs, or of one."""
        ledger = self.ledger()
        other_job = replace(KEY, job="other")
        made = [run_to(ledger, Status.COMPLETED, key=key).id for key in (KEY, other_job, KEY, OTHER_KEY)]
        history = self.history(ledger)
        assert [run.id for run in history.runs()] == made[::-1]
        assert [run.id for run in history.runs(limit=2)] == made[:1:-1]
        assert [run.id for run in history.runs(job="other")] == [made[1]]
        assert [run.id for run in history.runs(job=KEY.job, limit=1)] == [made[3]]
        assert history.runs(job="nobody") == []

    def test_runs_can_be_paged_and_narrowed_to_an_instance(self) -> None:
        """Each page begins behind the last run of the one before."""
        ledger = self.ledger()
        made = [run_to(ledger, Status.COMPLETED, key=key, next_lap=True).id for key in (KEY, OTHER_KEY, KEY, KEY)]
        history = self.history(ledger)
        assert [run.id for run in history.runs(key=KEY)] == [made[3], made[2], made[0]]
        assert [run.id for run in history.runs(key=KEY, before=made[3], limit=1)] == [made[2]]
        assert [run.id for run in history.runs(before=made[2])] == [made[1], made[0]]
        assert history.runs(job=KEY.job, before=made[0]) == []

    def test_instances_are_told_by_their_newest_run_with_what_is_open(self) -> None:
        """Replays are no newest run; other laps' failures do not count; pages are whole."""
        ledger = self.ledger()
        other_job = replace(KEY, job="another")
        first = run_to(ledger, Status.FAILED)
        others = [run_to(ledger, Status.COMPLETED, key=key).id for key in (OTHER_KEY, other_job)]
        newest = run_to(ledger, Status.COMPLETED_WITH_FAILURES, next_lap=True)
        replay = run_to(ledger, Status.COMPLETED, kind="replay")
        ledger.save_checkpoint(step_key(lap=2), Checkpoint(Position(9)), [a_failure(7), a_failure(8)])
        ledger.save_checkpoint(step_key(lap=1), Checkpoint(Position(9)), [a_failure(7)])
        ledger.settle_failures(step_key(lap=2), [8])
        history = self.history(ledger)
        told = history.instances()
        assert [summary.run.id for summary in told] == [newest.id, others[1], others[0]]
        assert [(summary.executions, summary.open_failures) for summary in told] == [(3, 1), (1, 0), (1, 0)]
        assert told[0].run == history.run(newest.id)
        assert [summary.run.id for summary in history.instances(before=newest.id, limit=1)] == [others[1]]
        assert [summary.run.id for summary in history.instances(job=KEY.job)] == [newest.id, others[0]]
        assert history.instances(job="nobody") == []
        assert history.jobs() == ["another", KEY.job]
        assert first.id < replay.id

    def test_an_instance_whose_owner_is_gone_reads_as_lost(self) -> None:
        """As its run does."""
        ledger = self.ledger()
        with ledger.own(KEY):
            start_run(ledger)
            assert [summary.run.status for summary in self.history(ledger).instances()] == [Status.RUNNING]
        assert [summary.run.status for summary in self.history(ledger).instances()] == [Status.LOST]

    def test_a_history_reads_the_checkpoints_that_the_ledger_stored(self) -> None:
        """Not those that targets keep."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        ledger.save_checkpoint(step_key(), Checkpoint(Position(9), COUNTS), [])
        history = self.history(ledger)
        assert history.load_checkpoint(step_key()) == Checkpoint(Position(9), COUNTS)
        assert history.load_checkpoint(step_key("audit")) is None

    def test_a_run_is_told_as_the_ledger_tells_it(self) -> None:
        """Field by field."""
        ledger = self.ledger()
        run = run_to(ledger, Status.FAILED, error="boom", parameters={"shop": "Zoë"})
        assert self.history(ledger).run(run.id) == ledger.last_run(KEY)
        assert self.history(ledger).run(run.id + 1) is None

    def test_a_history_that_is_open_sees_what_is_written_later(self) -> None:
        """It is no snapshot."""
        ledger = self.ledger()
        history = self.history(ledger)
        with ledger.own(KEY):
            run = start_run(ledger)
            assert [found.status for found in history.runs()] == [Status.RUNNING]
            ledger.move_run(run.id, Status.STOPPED)
            assert [found.status for found in history.runs()] == [Status.STOPPED]

    def test_a_live_run_that_nobody_owns_reads_as_lost_with_its_steps(self) -> None:
        """And the ledger still says what its owner said last."""
        ledger = self.ledger()
        with ledger.own(KEY):
            run = start_run(ledger)
            done = ledger.begin_step(run.id, step_key("load"), "in", "out", "exactly once")
            ledger.end_step(done.id, an_outcome(Status.COMPLETED), [])
            ledger.begin_step(run.id, step_key("report"), "in", "out", "exactly once")
            assert self.statuses(ledger, run.id) == [Status.RUNNING, Status.COMPLETED, Status.RUNNING]
        assert self.statuses(ledger, run.id) == [Status.LOST, Status.COMPLETED, Status.LOST]
        stored = ledger.last_run(KEY)
        assert stored is not None
        assert stored.status is Status.RUNNING

    def test_steps_are_the_newest_of_the_lap_up_to_the_run_in_the_jobs_order(self) -> None:
        """Later runs do not change what an earlier one is told to have been."""
        ledger = self.ledger()
        with ledger.own(KEY):
            first = start_run(ledger, steps=("load", "audit"))
            load = ledger.begin_step(first.id, step_key("load"), "in", "out", "exactly once")
            ledger.end_step(load.id, an_outcome(Status.COMPLETED), [])
            audit = ledger.begin_step(first.id, step_key("audit"), "in", "out", "exactly once")
            ledger.end_step(audit.id, an_outcome(Status.FAILED), [])
            ledger.move_run(first.id, Status.FAILED)
            second = start_run(ledger, steps=("load", "audit"))
            again = ledger.begin_step(second.id, step_key("audit"), "in", "out", "exactly once")
            ledger.end_step(again.id, an_outcome(Status.COMPLETED), [])
            ledger.move_run(second.id, Status.COMPLETED)
            third = start_run(ledger, steps=("load", "audit"), next_lap=True)
            history = self.history(ledger)
            assert [step.id for step in history.steps(first.id)] == [load.id, audit.id]
            assert [step.id for step in history.steps(second.id)] == [load.id, again.id]
            assert history.steps(third.id) == []
        assert history.steps(99) == []
        told = history.steps(second.id)[1]
        assert (told.status, told.counts, told.run) == (Status.COMPLETED, COUNTS, second.id)

    def test_a_replay_has_steps_of_its_own_which_are_not_those_of_the_lap(self) -> None:
        """Their counts begin at nothing, and how the lap's step ended stays as it was."""
        ledger, key = self.ledger(), step_key("load")
        with ledger.own(KEY):
            run = start_run(ledger, steps=("load",), kept={"audit": 1})
            done = ledger.begin_step(run.id, key, "in", "out", "exactly once")
            ledger.end_step(done.id, an_outcome(Status.COMPLETED_WITH_FAILURES), [])
            ledger.move_run(run.id, Status.COMPLETED_WITH_FAILURES)
            replay = start_run(ledger, steps=("load",), kind="replay")
            again = ledger.begin_step(replay.id, key, "in", "out", "exactly once")
            assert (again.kind, again.counts.read) == ("replay", 0)
            ledger.end_step(again.id, an_outcome(Status.FAILED), [])
            ledger.move_run(replay.id, Status.FAILED)
            last = ledger.last_step(key)
            assert last is not None
            assert (last.id, last.kind, last.status) == (done.id, "run", Status.COMPLETED_WITH_FAILURES)
            history = self.history(ledger)
            assert [step.id for step in history.steps(replay.id)] == [again.id]
            assert [step.id for step in history.steps(run.id)] == [done.id]
        kept = ledger.last_run(KEY)
        assert kept is not None
        assert dict(kept.kept) == {"audit": 1}

    def test_failures_of_the_lap_are_told_by_step_and_ordinal(self) -> None:
        """All, of one step, or only those that are open; not those of other laps."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED_WITH_FAILURES)
        loads = [a_failure(ordinal) for ordinal in (3, 200, 1000)]
        audits = [a_failure(ordinal, step="audit") for ordinal in range(250)]
        ledger.save_checkpoint(step_key("load"), Checkpoint(Position(2000)), loads)
        ledger.save_checkpoint(step_key("audit"), Checkpoint(Position(2000)), audits)
        ledger.save_checkpoint(step_key("load", lap=2), Checkpoint(Position(9)), [a_failure(7)])
        ledger.settle_failures(step_key("load"), [200])
        loads[1] = replace(loads[1], state=FailureState.REPLAYED)
        history = self.history(ledger)
        assert list(history.failures(run.id)) == audits + loads
        assert list(history.failures(run.id, step="load")) == loads
        assert list(history.failures(run.id, step="load", open_only=True)) == [loads[0], loads[2]]
        assert list(history.failures(run.id, open_only=True)) == [*audits, loads[0], loads[2]]
        assert list(history.failures(99)) == []

    def test_failures_of_partitions_are_all_told(self) -> None:
        """Equal ordinals in two partitions are two failures."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED_WITH_FAILURES)
        for partition in (1, 0):
            key = step_key(partition=partition)
            ledger.save_checkpoint(key, Checkpoint(Position(500)), [a_failure(ordinal) for ordinal in range(150)])
        told = [failure.ordinal for failure in self.history(ledger).failures(run.id)]
        assert told == [*range(150), *range(150)]

    def test_failures_are_grouped_by_cause_the_most_frequent_first(self) -> None:
        """Messages that differ in numbers and quoted parts are one cause."""
        ledger = self.ledger()
        run = run_to(ledger, Status.COMPLETED_WITH_FAILURES)
        failures = [
            a_failure(0, error="row 17: bad", phase=Phase.WRITE, place=Place("orders", None, None, "id 4")),
            *(a_failure(ordinal, error=f"no shop '{ordinal}x' in 2026-11-{ordinal}") for ordinal in (11, 12, 13)),
            a_failure(20, error="no shop 'a' in 2026-11-20", error_type="KeyError"),
        ]
        ledger.save_checkpoint(step_key(), Checkpoint(Position(30)), failures)
        ledger.settle_failures(step_key(), [12, 13])
        assert self.history(ledger).failure_groups(run.id) == [
            FailureGroup(
                "load", "process", "ValueError", "no shop '…' in N", 3, 1,
                "in/sales.csv line 13", "no shop '11x' in 2026-11-11",
            ),
            FailureGroup("load", "write", "ValueError", "row N: bad", 1, 1, "orders id 4", "row 17: bad"),
            FailureGroup(
                "load", "process", "KeyError", "no shop '…' in N", 1, 1,
                "in/sales.csv line 22", "no shop 'a' in 2026-11-20",
            ),
        ]  # fmt: skip
        assert self.history(ledger).failure_groups(99) == []

    def test_the_summary_counts_what_there_is(self) -> None:
        """For `doctor`."""
        ledger = self.ledger()
        run_to(ledger, Status.COMPLETED)
        run_to(ledger, Status.COMPLETED, next_lap=True)
        ledger.save_checkpoint(step_key(), Checkpoint(Position(30)), [a_failure(1), a_failure(2), a_failure(3)])
        summary = self.history(ledger).summary()
        assert summary["integrity"] == "ok"
        assert (summary["instances"], summary["executions"], summary["failures"]) == (1, 2, 3)

    def statuses(self, ledger: Ledger, run: int) -> list[Status]:
        """The status of a run as told, then those of its steps."""
        history = self.history(ledger)
        found = history.run(run)
        assert found is not None
        return [found.status, *(step.status for step in history.steps(run))]

"""A result that is printed, and errors that carry it."""

from batchwright.model.block import Place
from batchwright.model.checkpoint import Counts
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, GroundChangedError, JobFailedError
from batchwright.model.result import Failures, JobResult, StepResult
from batchwright.model.status import Status

NONE = Failures(lambda: iter(()), 0)


def result(*steps, status=Status.COMPLETED, **options) -> JobResult:
    return JobResult("daily", 7, 1, status, steps, NONE, **options)


def test_a_result_prints_counts_of_every_step_and_what_a_person_should_know():
    load = StepResult("load", Status.COMPLETED_WITH_FAILURES, Counts(1_500, 1_480, 15, 2, 2, 1))
    text = str(
        result(
            load,
            StepResult("report", None),
            status=Status.FAILED,
            seconds=1.25,
            error="boom",
            failure_file="f.jsonl",
            warnings=("beware",),
        )
    )
    assert text.splitlines() == [
        "daily: FAILED (run 7, 1.2 s)",
        "  load: COMPLETED_WITH_FAILURES, read 1,500 = written 1,480 + filtered 15 + failed 5",
        "  report: not started",
        "  error: boom",
        "  failures: f.jsonl",
        "  warning: beware",
    ]


def test_the_counts_of_a_result_are_sums_over_its_steps():
    found = result(
        StepResult("a", Status.COMPLETED, Counts(3, 1, 1, 1, outputs=4), peak_memory_bytes=5),
        StepResult("b", Status.COMPLETED, Counts(2, 2, outputs=2), peak_memory_bytes=9),
    )
    assert (found.read, found.written, found.filtered, found.failed, found.outputs) == (5, 3, 1, 1, 6)
    assert found.peak_memory_bytes == 9
    assert result().peak_memory_bytes == 0


def test_counts_are_balanced_when_every_item_is_accounted_for():
    assert Counts(4, 1, 1, 1, 1, 0).balanced
    assert not Counts(4, 1, 1, 1, 0, 0).balanced


def test_an_error_is_one_line_of_what_is_there():
    assert str(BatchwrightError("wrong", "", "mend")) == "wrong; mend"
    assert str(AlreadyRunningError("j", "process 7", None)).startswith(
        "job 'j' is already running with these parameters"
    )


def test_a_failed_job_names_its_step_and_takes_the_exit_code_of_its_cause():
    failed = result(StepResult("load", Status.FAILED, error="boom"), status=Status.FAILED, error="boom")
    error = JobFailedError(failed, GroundChangedError("changed"))
    assert str(error) == "step 'load' of job 'daily' failed; boom; mend it and run it again: run 7 goes on"
    mended = JobFailedError(failed, GroundChangedError("changed", "", "restore it"))
    assert str(mended) == "step 'load' of job 'daily' failed; boom; then run it again: run 7 goes on"
    assert (error.exit_code, JobFailedError(failed).exit_code) == (1, 1)
    assert error.result is failed


def test_a_place_is_words():
    assert str(Place("in/sales.csv", 1044, 99_000)) == "in/sales.csv line 1044"
    assert str(Place("shop.db", detail="id=7")) == "shop.db id=7"

"""A dry run: says what a run would do, and leaves no trace."""

from contextlib import suppress

import pytest

from batchwright import DROP, Job, Retry, Secret, Skip, Step, dry_run, run
from batchwright.model.errors import JobFailedError, SourceError
from batchwright.readers import csv_rows, query, text_lines
from batchwright.writers import csv_file, insert, text_file


def check(number):
    if number % 10 == 7:
        raise ValueError(f"no {number}")
    return DROP if number % 10 == 5 else {"n": number}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_job(skip=None, **options):
    load = Step("load", read=range(30), process=check, write=insert("sqlite:///out.db", "t"), skip=skip, **options)
    return Job("load", load)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_counts_shows_and_writes_nothing(folder):
    (step,) = dry_run(a_job(Skip(on=ValueError))).steps
    counts = step.counts
    assert (counts.read, counts.written, counts.filtered, counts.failed, counts.outputs) == (30, 24, 3, 3, 24)
    assert (step.whole, step.error, step.samples) == (True, "", ("{'n': 0}", "{'n': 1}", "{'n': 2}"))
    assert [failure.ordinal for failure in step.failures] == [7, 17, 27]
    assert names(folder) == []


def test_it_tries_so_many_items_however_long_the_chunks(folder):
    for size in (1, 4, 1_000):
        (step,) = dry_run(a_job(Skip(), chunk_size=size), limit=9).steps
        assert (step.counts.read, step.counts.failed, step.whole) == (9, 1, False)


def test_an_error_that_would_end_the_run_is_said_with_its_place(folder):
    trial = dry_run(a_job(retry=Retry(on=OSError)))
    assert trial.would_fail
    assert "no 7" in trial.steps[0].error
    assert "item 8" in trial.steps[0].error
    assert trial.steps[0].counts.read == 7


@pytest.mark.parametrize(("limit", "fails"), [(2, True), (3, False), ("1%", True), ("50%", False)])
def test_too_many_failures_would_fail_it(folder, limit, fails):
    assert dry_run(a_job(Skip(limit=limit))).would_fail is fails
    assert dry_run(a_job(Skip(limit=0)), max_failures=limit).would_fail is fails


def test_records_that_cannot_be_read_are_counted(folder):
    (folder / "in.csv").write_text("a,b\n1,2\n3\n5,6\n")
    job = Job("load", Step("load", read=csv_rows("in.csv"), write=csv_file("out.csv"), skip=Skip()))
    (step,) = dry_run(job).steps
    assert (step.counts.read, step.counts.failed_read, step.counts.written) == (3, 1, 2)


def test_a_missing_input_and_a_wrong_target_would_fail_it(folder):
    missing = Job("load", Step("load", read=text_lines("in.txt"), write=print))
    assert "in.txt" in dry_run(missing).steps[0].error
    (folder / "out.txt").mkdir()
    taken = Job("load", Step("load", read=range(3), process=str, write=text_file("out.txt")))
    assert "out.txt" in dry_run(taken).steps[0].error


def test_a_step_whose_input_is_made_by_the_steps_before_it_is_not_tried(folder):
    first = Step("first", read=range(3), process=str, write=text_file("between.txt"))
    second = Step("second", read=text_lines("between.txt"), write=text_file("out.txt"))
    third = Step("third", read=range(3), write=print)
    trial = dry_run(Job("three", first, second, third))
    assert not trial.would_fail
    assert [bool(step.untried) for step in trial.steps] == [False, True, True]
    assert "made by the steps before" in trial.steps[1].untried


def test_a_table_that_a_step_before_it_makes_is_not_read_yet(folder):
    first = Step("first", read=[{"n": 1}], write=insert("sqlite:///out.db", "t"))
    second = Step("second", read=query("sqlite:///out.db", "SELECT n FROM t", key="n"), write=csv_file("out.csv"))
    trial = dry_run(Job("two", first, second))
    assert (trial.would_fail, bool(trial.steps[1].untried)) == (False, True)
    assert names(folder) == []


@pytest.mark.parametrize("limit", [None, 3])
def test_the_work_may_be_interrupted_or_finished(folder, limit):
    job = a_job(Skip(on=ValueError), chunk_size=5)
    with suppress(JobFailedError):
        run(job, ledger="ledger.db", limit=limit)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert dry_run(job).steps[0].counts.read == 30
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_secrets_and_what_is_not_to_be_kept_are_not_shown(folder):
    from typing import Annotated

    def fetch(token: Annotated[str, Secret]) -> Job:
        rows = [{"who": "Zoe", "key": token}]
        return Job("fetch", Step("load", read=rows, write=print, skip=Skip(redact=("who",))))

    (sample,) = dry_run(Job.of(fetch, token="t0ps3cret")).steps[0].samples
    assert sample == "{'who': '***', 'key': '***'}"
    kept = Job("none", Step("load", read=[{"who": "Zoe"}], write=print, skip=Skip(payload=False)))
    assert dry_run(kept).steps[0].samples == ("<dict>",)


def test_a_one_shot_iterator_is_refused_as_by_a_run(folder):
    with pytest.raises(SourceError, match="only once"):
        dry_run(Job("load", Step("load", read=iter([1]), write=print)))

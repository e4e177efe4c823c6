"""`batchwright prune`: what it asks for, what it says."""

import pytest


@pytest.fixture
def twice(shop):
    for again in ((), ("--again", "--yes")):
        shop.call("run", "jobs.py:again", *again)
    shop.call("run", "jobs.py:sales", "--day", "2026-11-22")
    return shop


def test_it_says_what_it_forgets_and_the_work_stays_complete(twice):
    ended = twice.call("prune", "--older-than", "0h", "--job", "again")
    assert ended.code == 0
    assert ended.err == (
        "forgotten in the ledger: 1 runs, 0 failures, 0 checkpoints, 0 failure files, of 1 pieces of work\n"
    )
    assert twice.call("prune", "--older-than", "0h").err == "nothing to forget in the ledger\n"
    assert [each["run"] for each in twice.call("list", "--json").document["jobs"]] == [3, 2]


def test_a_dry_run_changes_nothing(twice):
    assert twice.call("prune", "--keep", "1", "--dry-run").err.startswith("would be forgotten in the ledger: 1 runs")
    found = twice.call("prune", "--keep", "1", "--dry-run", "--json").document
    assert (found["dry_run"], found["executions"], found["instances"]) == (True, 1, 1)
    assert len(twice.call("status", "--json").document["runs"]) == 3


def test_failures_that_are_open_go_with_their_file_when_they_may(twice):
    file = twice.folder / ".batchwright" / "failures-3.jsonl"
    assert file.exists()
    found = twice.call("prune", "--older-than", "0d", "--with-failures", "--json").document
    assert (found["failures"], found["files"]) == (2, 1)
    assert not file.exists()
    assert twice.call("run", "jobs.py:sales", "--day", "2026-11-22").err.count("already complete") == 1


def test_the_targets_of_a_job_forget_its_earlier_laps(twice):
    found = twice.call("prune", "--targets", "again", "--json").document
    assert (found["checkpoints"], found["problems"]) == (1, [])
    assert twice.call("prune", "--targets", "again").err == "nothing to forget in the targets\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say what may go"),
        (("--older-than", "soon"), "'soon' is no age"),
        (("--keep", "0"), "--keep"),
        (("--keep", "1", "--job", "agian"), "did you mean 'again'?"),
        (("--targets", "agian"), "did you mean 'again'?"),
        (("--targets", "again", "--keep", "1"), "--targets goes without"),
    ],
)
def test_what_cannot_be_meant_is_wrong_use(twice, arguments, told):
    ended = twice.call("prune", *arguments)
    assert (ended.code, told in ended.err) == (2, True)

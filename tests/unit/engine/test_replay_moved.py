"""Decision 0036: what has moved is replayed, what has changed needs a yes, and a good record is never doubled."""

import pytest
from tests.unit.engine.runs import rows, run_here, url

from batchwright import Job, Skip, Step, replay
from batchwright.engine import reread_items
from batchwright.model.errors import MalformedRecordError
from batchwright.readers import csv_rows
from batchwright.writers import insert

LINES = [f"{n},{'bad' if n in (3, 6) else n}" for n in range(9)]


class Mendable:
    """A processor that takes `bad` once it is mended."""

    def __init__(self) -> None:
        self.mended = False

    def __call__(self, row):
        if row["value"] == "bad" and not self.mended:
            raise ValueError("bad")
        return {"id": int(row["id"]), "value": row["value"]}


def deliver(folder, lines):
    (folder / "in.csv").write_text("\n".join(["id,value", *lines]) + "\n")


def loaded(folder):
    """A run with two failures, whose cause is mended since."""
    deliver(folder, LINES)
    process = Mendable()
    read, write = csv_rows(folder / "in.csv"), insert(url(folder / "t.db"), "t")
    job = Job("j", Step("load", read=read, process=process, write=write, chunk_size=2, skip=Skip(on=ValueError)))
    ran = run_here(job)
    assert ran.result.failed == 2
    process.mended = True
    return job, ran.ledger


def ids(folder):
    return sorted(row[0] for row in rows(folder / "t.db"))


def wrong_after_a_line_above(folder):
    """What is wrong once a line was added above, and the failures are replayed without any yes."""
    job, ledger = loaded(folder)
    deliver(folder, ["100,100", *LINES])
    result = replay(1, ledger=ledger, job=job, accept_changed=True)
    found = [] if (result.replayed, result.still_open) == (2, 0) else [f"{result}"]
    return found if ids(folder) == list(range(9)) else [*found, f"{ids(folder)}"]


def wrong_after_the_failed_line_is_gone(folder):
    """What is wrong once a failed line was removed: a good one stands in its place."""
    job, ledger = loaded(folder)
    deliver(folder, [line for line in LINES if line != "3,bad"])
    result = replay(1, ledger=ledger, job=job, accept_changed=True)
    found = [] if (result.replayed, result.still_open) == (1, 1) else [f"{result}"]
    return found if ids(folder) == [0, 1, 2, 4, 5, 6, 7, 8] else [*found, f"{ids(folder)}"]


@pytest.mark.parametrize("wrong", [wrong_after_a_line_above, wrong_after_the_failed_line_is_gone])
def test_what_has_moved_goes_in_once_and_no_good_record_goes_in_again(wrong, tmp_path):
    assert wrong(tmp_path) == []


def taken_without_looking(patch):
    """What stands at the number of a failed item is taken for it."""
    patch(reread_items.Rereader, "_from_input", lambda self, failure: self._counted(failure)[0])


def taken_without_a_yes(patch):
    """What failed is looked for; where it is not found, what stands in its place is taken unasked."""

    def unasked(self, failure):
        found, place = self._counted(failure)
        if failure.ordinal in self._taken:
            raise MalformedRecordError("taken")
        del place
        return found

    patch(reread_items.Rereader, "_changed", unasked)


@pytest.mark.parametrize("bug", [taken_without_looking, taken_without_a_yes])
def test_a_planted_replay_that_takes_moved_records_without_a_yes_is_caught(bug, tmp_path, monkeypatch):
    bug(monkeypatch.setattr)
    found = []
    for wrong in (wrong_after_a_line_above, wrong_after_the_failed_line_is_gone):
        folder = tmp_path / wrong.__name__
        folder.mkdir()
        found += wrong(folder)
    assert found, "and nobody has noticed"


def test_a_changed_record_needs_a_yes_and_both_are_shown_for_every_one(tmp_path):
    deliver(tmp_path, [f"{n},bad" for n in range(12)])
    process = Mendable()
    read, write = csv_rows(tmp_path / "in.csv"), insert(url(tmp_path / "t.db"), "t")
    job = Job("j", Step("load", read=read, process=process, write=write, skip=Skip(on=ValueError)))
    ledger = run_here(job).ledger
    deliver(tmp_path, [f"{n},{n * 1_000}" for n in range(12)])
    for dry_run in (True, False):
        (step,) = replay(1, ledger=ledger, job=job, accept_changed=True, dry_run=dry_run).steps
        assert (step.replayed, step.unaccepted, len(step.reasons)) == (0, 12, 12)
        assert "then {'id': '11', 'value': 'bad'}; now {'id': '11', 'value': '11000'}" in step.reasons[-1]
    assert replay(1, ledger=ledger, job=job, accept_changed=True, yes=True).replayed == 12
    assert ids(tmp_path) == list(range(12))

"""What has changed since a run ended, on the command line: one line, exit code 2, the flags, and what `show` names."""

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

JOB = """
from pathlib import Path
from batchwright import Job, Step
from batchwright.readers import csv_rows
from batchwright.writers import insert

HERE = Path(__file__).parent


def bill(month: str) -> Job:
    write = insert(f"sqlite:///{HERE}/bills.db", "bills")
    return Job("bill", Step("load", read=csv_rows(HERE / "in.csv"), write=write, chunk_size=2))


def nightly() -> Job:
    return Job("nightly", Step("add", read=["a", "b"], process=as_row, write=insert(f"sqlite:///{HERE}/n.db", "n")))


def as_row(text):
    return {"text": text}
"""

BILL = ("run", "bill.py:bill", "--month", "11")


@pytest.fixture
def bills(shop):
    Path("bill.py").write_text(JOB)
    Path("in.csv").write_text("name,cents\nann,1\nbob,2\ncem,3\n")
    return shop


def test_a_changed_input_is_exit_code_2_in_one_line_and_accepted_by_its_flag(bills):
    assert bills.call(*BILL, "--limit", "2").code == 5
    Path("in.csv").write_text("name,cents\nann,9\nbob,2\ncem,3\n")
    refused = bills.call(*BILL)
    assert refused.code == 2
    (line,) = [line for line in refused.err.splitlines() if line.startswith("error")]
    for words in ("'load'", "was changed", "--accept-input", "--again"):
        assert words in line
    assert "next: " not in refused.err, "the same command would be refused again"
    assert [run["run"] for run in bills.call("status", "--json").document["runs"]] == [1]
    assert bills.call(*BILL, "--json").document["run"] is None
    assert bills.call(*BILL, "--accept-input", "--json").document["steps"][0]["counts"]["written"] == 3


def test_complete_work_with_a_longer_input_is_exit_code_2(bills):
    assert bills.call(*BILL).code == 0
    with Path("in.csv").open("a") as file:
        file.write("dee,4\n")
    refused = bills.call(*BILL)
    assert refused.code == 2
    assert "has grown" in refused.err
    assert "leave it finished as it is with --accept-input" in refused.err
    accepted = bills.call(*BILL, "--accept-input")
    assert accepted.code == 0
    assert "warning: step 'load' is left finished as it is, though " in accepted.err
    assert bills.call(*BILL).code == 2


def test_another_declaration_is_exit_code_2(bills):
    assert bills.call(*BILL, "--limit", "2").code == 5
    sys.modules.pop("bill", None)  # in one process a job file is loaded once
    Path("bill.py").write_text(JOB.replace('Step("load"', 'Step("import"'))
    refused = bills.call(*BILL)
    assert refused.code == 2
    assert "step 'load' is now called 'import'" in refused.err


def test_a_new_ledger_asks_about_finished_work_of_a_job_without_parameters(bills):
    assert bills.call("run", "bill.py:nightly").code == 0
    other = ("run", "bill.py:nightly", "--ledger", "other.db")
    refused = bills.call(*other)
    assert refused.code == 2
    assert "--adopt" in refused.err
    assert "--again" in refused.err
    assert bills.call(*other, "--adopt").code == 0
    assert bills.call(*other, "--again", "--yes").code == 0


def test_flags_that_are_not_needed_are_harmless(bills):
    assert bills.call(*BILL, "--adopt", "--accept-input").code == 0
    assert bills.call(*BILL, "--adopt", "--accept-input").code == 0


def test_show_names_what_is_compared_before_an_interrupted_run_goes_on(bills):
    bills.call(*BILL, "--limit", "2")
    shown = bills.call("show", "1").out
    assert "version  batchwright" in shown
    assert "the first 2 items of csv:" in shown
    assert "has all that was committed to it" in shown
    bills.call(*BILL)
    assert "compared before" not in bills.call("show", "2").out


def what_would_be_said(bills, *words):
    """The refusal of a run, and that of a dry run before it, which has to be the same and to leave no trace."""
    before = names(bills)
    dry = bills.call(*words, "--dry-run", "--json")
    assert names(bills) == before
    told = bills.call(*words, "--dry-run")
    refused = bills.call(*words)
    (line,) = [line for line in refused.err.splitlines() if line.startswith("error: ")]
    assert (dry.code, told.code) == (refused.code, refused.code)
    assert dry.document["refused"] == line.removeprefix("error: ")
    assert f"as it stands: would be refused: {dry.document['refused']}" in told.out
    assert "next: " not in told.err
    return dry.document["refused"]


def names(bills):
    """Files with the times of their last changes, without what readers of SQLite share, and compiled Python."""
    passing = ("-shm", "-wal", ".pyc", "__pycache__")
    found = [path for path in bills.folder.rglob("*") if not path.name.endswith(passing)]
    return sorted((str(path), path.stat().st_mtime_ns) for path in found if path.is_file())


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("name,cents\nann,9\nbob,2\ncem,3\n", "--accept-input"),
        ("name,cents\n", "nothing to go on from"),
        ("", "nothing to go on from"),
    ],
)
def test_a_dry_run_sees_an_input_that_has_changed(now, said, bills):
    bills.call(*BILL, "--limit", "2")
    Path("in.csv").write_text(now)
    assert said in what_would_be_said(bills, *BILL)
    if said == "--accept-input":
        accepted = bills.call(*BILL, "--accept-input", "--dry-run")
        assert accepted.code == 0
        assert accepted.err.endswith("next: batchwright run bill.py:bill --month 11 --accept-input\n")


def test_a_dry_run_sees_an_input_that_is_missing(bills):
    bills.call(*BILL, "--limit", "2")
    Path("in.csv").unlink()
    assert "in.csv" in what_would_be_said(bills, *BILL)


def test_a_dry_run_sees_that_a_finished_input_has_grown(bills):
    bills.call(*BILL)
    with Path("in.csv").open("a") as file:
        file.write("dee,4\n")
    assert "has grown" in what_would_be_said(bills, *BILL)


@pytest.mark.parametrize("how", ["gone", "restored", "another"])
def test_a_dry_run_sees_another_target(how, bills):
    bills.call(*BILL, "--limit", "1")
    Path("bills.db").rename("first.db")
    if how == "restored":
        shutil.copy("first.db", "bills.db")
        bills.call(*BILL, "--limit", "1")
        shutil.copy("first.db", "bills.db")
    if how == "another":
        bills.call(*BILL, "--limit", "2", "--ledger", "other.db")
    assert "--adopt" in what_would_be_said(bills, *BILL)


def test_a_dry_run_that_adopts_says_that_finished_work_is_gone_on_with(bills):
    bills.call(*BILL)
    with closing(sqlite3.connect("bills.db")) as database, database:
        database.execute("DELETE FROM batchwright_checkpoints")
    tried = bills.call(*BILL, "--adopt", "--dry-run")
    assert "its targets do not show it; would go on as they say" in tried.out
    assert "already complete" not in tried.out
    assert bills.call(*BILL, "--adopt", "--json").document["steps"][0]["counts"]["read"] == 3


def test_a_dry_run_sees_a_ledger_that_does_not_know_finished_work(bills):
    bills.call("run", "bill.py:nightly")
    assert "--adopt" in what_would_be_said(bills, "run", "bill.py:nightly", "--ledger", "other.db")


def test_a_dry_run_names_what_abandoned_work_asks_for(bills):
    bills.call(*BILL, "--limit", "2")
    bills.call("abandon", "1", "--yes")
    assert "--again" in what_would_be_said(bills, *BILL)
    assert "say yes with --yes" in what_would_be_said(bills, *BILL, "--again")
    assert bills.call(*BILL, "--again", "--yes", "--dry-run").code == 0


def test_a_dry_run_looks_at_a_file_that_is_not_finished_without_touching_it(bills):
    Path("bill.py").write_text(
        JOB.replace("writers import insert", "writers import csv_file, insert").replace(
            'insert(f"sqlite:///{HERE}/bills.db", "bills")', 'csv_file(HERE / "bills.csv")'
        )
    )
    bills.call(*BILL, "--limit", "2")
    (stage,) = bills.folder.glob(".bills.csv.*.stage")
    with stage.open("a") as file:
        file.write("not committed")
    before = names(bills)
    assert bills.call(*BILL, "--dry-run").code == 0
    assert names(bills) == before
    stage.unlink()
    assert "is not as it was left" in what_would_be_said(bills, *BILL)

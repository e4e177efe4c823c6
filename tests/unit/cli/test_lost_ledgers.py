"""A ledger that is gone, or restored from a backup, and steps that call outside: who knows what was called?"""

import shutil
import sys
from pathlib import Path

import pytest

JOBS = """
from pathlib import Path
from batchwright import Job, Step
from batchwright.writers import each, effects, insert

HERE = Path(__file__).parent
BOOKS = HERE / "books.txt"


def note(text):
    with BOOKS.open("a") as books:
        books.write(text + "\\n")


def pay(output, key):
    note(f"{output} {key}")
    return {"id": output}


def ask(key):
    found = [line for line in BOOKS.read_text().splitlines() if line.endswith(key)] if BOOKS.exists() else []
    return {"id": found[0]} if found else None


def mail(output):
    note(f"{output} mail")


WRITERS = {
    "plain": effects(pay), "honours": effects(pay, honours_key=True), "asked": effects(pay, ask=ask), "each": each(mail)
}


def paying(kind: str) -> Job:
    return Job("paying", Step("pay", read=range(4), write=WRITERS[kind], chunk_size=2))


def loading(kind: str) -> Job:
    load = Step("load", read=range(4), process=row, write=insert(f"sqlite:///{HERE}/t.db", "t"), chunk_size=2)
    return Job("loading", load, Step("pay", read=range(4), write=WRITERS[kind], chunk_size=2))


def row(n):
    return {"n": n}


def plain_nightly() -> Job:
    return Job("nightly", Step("pay", read=range(4), write=WRITERS["honours"]))
"""


@pytest.fixture
def bank(shop):
    (shop.folder / "bank.py").write_text(JOBS)
    yield shop
    sys.modules.pop("bank", None)


def books(bank):
    found = bank.folder / "books.txt"
    return found.read_text().splitlines() if found.exists() else []


def the_ledger(bank):
    return bank.folder / ".batchwright" / "ledger.db"


def lose_the_ledger(bank, how):
    """All that is beside it, or the file alone."""
    if how == "folder":
        shutil.rmtree(the_ledger(bank).parent)
    for path in the_ledger(bank).parent.glob("ledger.db*"):
        path.unlink()


def refused(bank, *words):
    """The refusal: nothing is called or recorded, and a dry run foresees it."""
    before = books(bank)
    assert bank.call(*words, "--dry-run").code == 2
    ended = bank.call(*words)
    assert (ended.code, books(bank)) == (2, before)
    if the_ledger(bank).exists():
        runs = bank.call("status", "--json")
        assert runs.code == 2 or all(run["status"] != "FAILED" for run in runs.document["runs"])
    return ended.err


CASES = [("loading", "folder"), ("loading", "file"), ("paying", "file")]


@pytest.mark.parametrize(("job", "how"), CASES)
@pytest.mark.parametrize("kind", ["plain", "each"])
def test_calls_that_may_have_been_made_are_not_made_again_without_a_word(job, how, kind, bank):
    run = ("run", f"bank.py:{job}", "--kind", kind)
    assert bank.call(*run).code == 0
    before = books(bank)
    lose_the_ledger(bank, how)
    told = refused(bank, *run)
    for words in ("this ledger does not know", "restore the ledger", "--adopt", "--again", "--yes"):
        assert words in told
    assert "say yes with --yes" in refused(bank, *run, "--again")
    assert bank.call(*run, "--adopt").code == 0
    assert books(bank) == before * 2, "under the same keys"
    assert bank.call(*run).code == 0
    assert bank.call(*run, "--again", "--yes").code == 0
    assert len(books(bank)) == 12
    assert kind == "each" or set(books(bank)[8:]).isdisjoint(before)


@pytest.mark.parametrize(("job", "how"), CASES)
def test_a_receiver_that_can_be_asked_is_asked_and_nothing_is_done_twice(job, how, bank):
    run = ("run", f"bank.py:{job}", "--kind", "asked")
    assert bank.call(*run).code == 0
    before = books(bank)
    lose_the_ledger(bank, how)
    assert bank.call(*run, "--limit", "2").code == 5
    assert bank.call(*run).code == 0, "and so is it by the run that goes on"
    assert books(bank) == before


@pytest.mark.parametrize(("job", "how"), CASES)
def test_a_receiver_that_honours_keys_is_given_the_same_ones(job, how, bank):
    run = ("run", f"bank.py:{job}", "--kind", "honours")
    assert bank.call(*run).code == 0
    before = books(bank)
    lose_the_ledger(bank, how)
    assert bank.call(*run).code == 0
    assert books(bank) == before * 2


def test_a_step_that_cannot_have_begun_is_not_asked_about(bank):
    run = ("run", "bank.py:loading", "--kind", "plain")
    assert bank.call(*run, "--limit", "2").code == 5
    lose_the_ledger(bank, "file")
    assert bank.call(*run).code == 0
    assert len(books(bank)) == 4


def test_a_ledger_restored_from_a_backup_is_told_by_the_mark_beside_it(bank):
    run = ("run", "bank.py:paying", "--kind", "plain")
    assert bank.call(*run, "--limit", "2").code == 5
    shutil.copy(the_ledger(bank), bank.folder / "backup.db")
    assert bank.call(*run).code == 0
    shutil.copy(bank.folder / "backup.db", the_ledger(bank))
    for name in ("ledger.db-wal", "ledger.db-shm"):
        the_ledger(bank).with_name(name).unlink(missing_ok=True)
    assert "this ledger does not know" in refused(bank, *run)
    assert bank.call(*run, "--adopt").code == 0
    assert len(books(bank)) == 6


def test_work_without_parameters_begins_no_lap_whose_keys_its_receiver_knows(bank):
    """It would do nothing for them, and tonight's calls would be lost."""
    run = ("run", "bank.py:plain_nightly")
    assert [bank.call(*run).code for _ in range(2)] == [0, 0]
    lose_the_ledger(bank, "file")
    assert "--again" in refused(bank, *run)
    assert bank.call(*run, "--again", "--yes").code == 0
    assert len(set(books(bank))) == len(books(bank)) == 12


def test_rows_are_not_added_again_by_a_ledger_that_does_not_know_of_them(bank):
    run = ("run", "bank.py:loading", "--kind", "honours")
    assert bank.call(*run).code == 0
    lose_the_ledger(bank, "folder")
    assert "writes 4 of them a second time" in refused(bank, *run, "--again")


def test_a_first_run_that_was_refused_leaves_no_mark(bank):
    assert bank.call("run", "bank.py:paying", "--kind", "plain", "--from", "nothing", "--again").code == 2
    assert bank.call("run", "bank.py:paying", "--kind", "plain").code == 0
    assert Path(the_ledger(bank)).exists()

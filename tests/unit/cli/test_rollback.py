"""`batchwright rollback`: says what it will undo, asks, undoes, and says what is left and what comes next."""

import pytest

JOBS = """
import os, signal
from pathlib import Path
from batchwright import Job, Step
from batchwright.writers import effects

BOOKS = Path(__file__).with_name("books.txt")

def note(text):
    with BOOKS.open("a") as books:
        books.write(text + "\\n")

def pay(output, key):
    note(f"pay {output}")
    return {"id": output}

def back(effect):
    if Path(__file__).with_name("closed").exists() and effect.output == 1:
        raise OSError("the bank is closed")
    if Path(__file__).with_name("killed").exists() and effect.output == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    note(f"back {effect.output}")

def billing(month: int) -> Job:
    return Job("billing", Step("pay", read=[0, 1, 2], write=effects(pay, honours_key=True), compensate=back))

def plain() -> Job:
    return Job("plain", Step("pay", read=[0], write=effects(pay)))
"""

RUN = ("run", "bank.py:billing", "--month", "11")


@pytest.fixture
def bank(shop):
    (shop.folder / "bank.py").write_text(JOBS)
    assert shop.call(*RUN).code == 0
    return shop


def books(bank):
    return (bank.folder / "books.txt").read_text().split("\n")[3:-1]


def test_without_a_terminal_it_says_what_it_would_undo_and_asks_for_a_yes(bank):
    ended = bank.call("rollback", "1")
    assert ended.code == 2
    assert "to undo of pay: 3 effects" in ended.err
    assert ended.err.endswith("say yes with --yes\n")
    assert books(bank) == []


def test_it_undoes_and_names_how_to_begin_anew(bank):
    ended = bank.call("rollback", "1", "--yes")
    assert ended.code == 0
    assert ended.err.splitlines()[-3:] == [
        "run 1 of billing: COMPENSATED",
        "  pay: 3 undone, 0 left",
        "to begin anew: batchwright run bank.py:billing --month 11 --again",
    ]
    assert books(bank) == ["back 2", "back 1", "back 0"]
    refused = bank.call(*RUN)
    assert (refused.code, "was rolled back" in refused.err) == (2, True)
    assert bank.call(*RUN, "--again").code == 0


def test_a_second_time_needs_no_yes_and_says_so(bank):
    bank.call("rollback", "1", "--yes")
    found = bank.call("rollback", "1", "--json")
    assert (found.code, found.document["already"], found.document["steps"][0]["compensated"]) == (0, True, 3)
    assert len(books(bank)) == 3


def test_one_that_fails_exits_with_1_and_is_gone_on_with(bank):
    (bank.folder / "closed").touch()
    ended = bank.call("rollback", "1", "--yes")
    assert ended.code == 1
    assert "  pay: 1 undone, 2 left" in ended.err
    assert "the bank is closed" in ended.err
    assert ended.err.endswith("next: batchwright rollback 1\n")
    assert "next: batchwright rollback 1" in bank.call("show", "1").out + bank.call("show", "1").err
    (bank.folder / "closed").unlink()
    assert bank.call("rollback", "1", "--yes").code == 0
    assert books(bank) == ["back 2", "back 1", "back 0"]


def test_show_lists_effects_by_state(bank):
    assert bank.call("show", "1", "--json").document["effects"] == {"pay": {"done": 3}}
    shown = bank.call("show", "1")
    assert "3 done" in shown.out + shown.err
    bank.call("rollback", "1", "--yes")
    assert bank.call("show", "1", "--json").document["effects"] == {"pay": {"compensated": 3}}


def test_a_job_that_cannot_compensate_is_refused(bank):
    bank.call("run", "bank.py:plain")
    ended = bank.call("rollback", "2", "--yes")
    assert (ended.code, "none of its steps has compensate=" in ended.err) == (2, True)


def test_a_rollback_that_was_killed_is_shown_gone_on_with_and_not_given_up(bank):
    (bank.folder / "killed").touch()
    assert bank.spawn("rollback", "1", "--yes").code == -9
    listed = bank.call("list", "--json").document["jobs"][0]
    assert (listed["status"], listed["next"]) == ("COMPENSATION_LOST", ["batchwright rollback 1"])
    said = [bank.call(*words) for words in (("status",), ("show", "1"))]
    assert all("COMPENSATION_LOST" in ended.out and "rollback 1" in ended.err for ended in said)
    for refused in ("resume", "abandon"):
        ended = bank.call(refused, "1", *(["--yes"] if refused == "abandon" else []))
        assert (ended.code, "rolled back in part" in ended.err, "rollback 1" in ended.err) == (2, True, True)
    (bank.folder / "killed").unlink()
    assert bank.call("rollback", "1", "--yes").code == 0
    assert books(bank) == ["back 2", "back 1", "back 0"]

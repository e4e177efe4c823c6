"""`batchwright abandon`: asks, says what is left, and names how to begin anew."""

import subprocess
import sys

import pytest

AGAIN = ("run", "jobs.py:again")


@pytest.fixture
def stopped(shop):
    shop.call(*AGAIN, "--limit", "2")
    return shop


def test_without_a_terminal_it_asks_for_a_yes(stopped):
    ended = stopped.call("abandon", "1")
    assert ended.code == 2
    assert ended.err.endswith("nobody can be asked here; say yes with --yes\n")
    assert stopped.call("list", "--json").document["jobs"][0]["status"] == "STOPPED"


def test_it_says_what_is_left_and_how_to_begin_anew(stopped):
    ended = stopped.call("abandon", "1", "--yes")
    assert ended.code == 0
    head, step, anew = ended.err.replace("building\n", "").splitlines()
    assert head == "run 1 of again is abandoned"
    assert step == f"  add: leaves 2 outputs in sqlite:///{stopped.folder}/shop.db log"
    assert anew == "to begin anew: batchwright run jobs.py:again --again --yes  # what it added is added a second time"
    assert stopped.call(*AGAIN).code == 2
    assert stopped.call("resume", "1").code == 2
    assert stopped.call(*AGAIN, "--again", "--yes").code == 0


def test_a_second_time_needs_no_yes_and_changes_nothing(stopped):
    stopped.call("abandon", "1", "--yes")
    found = stopped.call("abandon", "1", "--json").document
    assert (found["status"], found["already"], found["steps"][0]["outputs"]) == ("ABANDONED", True, 2)


def test_a_killed_run_can_be_given_up(shop):
    assert shop.spawn("run", "jobs.py:killed").code == -9
    ended = shop.call("abandon", "1", "--yes")
    assert (ended.code, "leaves 5 outputs" in ended.err) == (0, True)
    shop.mend()
    assert shop.call("run", "jobs.py:killed").code == 2


def test_what_is_complete_is_refused(shop):
    shop.call(*AGAIN)
    for words in ((), ("--yes",)):
        ended = shop.call("abandon", "1", *words)
        assert (ended.code, "is COMPLETED" in ended.err) == (2, True), "refused before anything is asked"


def test_an_older_run_is_refused_before_anything_is_asked(stopped):
    stopped.call(*AGAIN, "--limit", "1")
    ended = stopped.call("abandon", "1")
    assert (ended.code, "is not the newest of its work; that is run 2, STOPPED" in ended.err) == (2, True)


def test_a_job_whose_file_is_gone_is_given_up_all_the_same(stopped):
    (stopped.folder / "jobs.py").unlink()
    ended = stopped.call("abandon", "1", "--yes")
    assert ended.code == 0
    assert "its job cannot be built again, so nothing is cleaned up" in ended.err
    assert "not looked at" in ended.err


LOOP = """
import os
from batchwright import resumable
with resumable("loop", [1, 2, 3], database="sqlite:///t.db", parameters={"d": 1}, chunk_size=1) as loop:
    loop.connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    for item in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO t VALUES (?)", (item,))
            if item == 3:
                os._exit(9)
"""


def test_of_a_killed_loop_nobody_says_that_nothing_is_committed_or_left(shop):
    (shop.folder / "loop.py").write_text(LOOP)
    subprocess.run([sys.executable, "loop.py"], cwd=shop.folder, check=False, capture_output=True)
    shown = shop.call("show", "1")
    assert "what is committed is not known" in " ".join(shown.out.split())
    ended = shop.call("abandon", "1", "--yes")
    assert ended.code == 0, ended.err
    assert "is not known; not looked at" in ended.err
    assert "nothing is left" not in ended.err


LEFT = """
import os, signal
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.writers import csv_file, effects, insert

HERE = Path(__file__).parent


def check(row):
    if row["id"] == 1:
        raise ValueError("one")
    if row["id"] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return row


def killed_late(target: str = "table") -> Job:
    write = csv_file(HERE / "out.csv") if target == "file" else insert(f"sqlite:///{HERE}/t.db", "t")
    rows = [{"id": number} for number in range(10)]
    more = {"skip": Skip(on=ValueError), "checkpoint_seconds": 0}
    return Job("late", Step("load", read=rows, process=check, write=write, chunk_size=5, **more))


def charge(output, key):
    if output == 4:
        raise RuntimeError("four")
    return key


def uncharge(effect):
    if effect.ordinal == 1:
        raise RuntimeError("closed")


def charging() -> Job:
    return Job("charging", Step("charge", read=range(6), write=effects(charge), compensate=uncharge))
"""


@pytest.fixture
def left(shop):
    (shop.folder / "left.py").write_text(LEFT)
    return shop


def test_failures_that_only_the_target_knows_are_brought_into_the_ledger(left):
    """The ledger's copy follows about once a second; this run was killed before that."""
    assert left.spawn("run", "left.py:killed_late").code == -9
    assert "those of its last report" in left.call("failures", "1").err
    assert "those of its last report" in left.call("show", "1").err
    assert left.call("failures", "1", "--json").document["causes"] == [], "the premise of this test"
    assert "leaves 4 outputs in" in left.call("abandon", "1", "--yes").err
    ended = left.call("failures", "1", "--json")
    assert [(cause["message"], cause["open"]) for cause in ended.document["causes"]] == [("one", 1)]
    assert "last report" not in ended.err
    counts = left.call("show", "1", "--json").document["counts"]
    assert (counts["read"], counts["written"], counts["failed"]) == (5, 4, 1)


def test_of_what_was_staged_nothing_is_said_to_be_left(left):
    assert left.spawn("run", "left.py:killed_late", "--target", "file").code == -9
    assert "load: nothing is left, removed: stage" in left.call("abandon", "1", "--yes").err
    assert "load: nothing is left in csv:" in left.call("abandon", "1", "--yes").err
    refused = left.call("run", "left.py:killed_late", "--target", "file")
    assert refused.code == 2
    assert "run 1; nothing of it is to be seen; begin again with --again" in refused.err


def test_effects_that_are_undone_are_not_left(left):
    assert left.call("run", "left.py:charging").code == 1
    assert left.call("rollback", "1", "--yes").code == 1
    ended = left.call("abandon", "1", "--yes")
    assert "charge: leaves 2 outputs in" in ended.err, "of four, 3 and 2 are undone"


def causes(left, run="1"):
    ended = left.call("failures", run, "--json")
    return [(cause["message"], cause["open"]) for cause in ended.document["causes"]]


def test_what_only_the_target_knows_is_brought_in_when_the_work_begins_anew_instead(left):
    assert left.spawn("run", "left.py:killed_late").code == -9
    (left.folder / "left.py").write_text(LEFT.replace("== 7", "== 99"))
    assert left.call("run", "left.py:killed_late", "--again", "--yes").code == 3
    assert causes(left) == [("one", 1)]
    shown = left.call("show", "1", "--json").document
    assert (shown["status"], shown["counts"]["failed"], shown["last_report"]) == ("FAILED", 1, None)


@pytest.mark.parametrize("away", ["the job's file", "the target"])
def test_what_is_away_while_the_work_is_given_up_is_brought_in_by_giving_it_up_once_more(left, away):
    assert left.spawn("run", "left.py:killed_late").code == -9
    gone = left.folder / ("left.py" if away == "the job's file" else "t.db")
    kept = gone.rename(gone.with_name("kept"))
    if away == "the target":
        gone.mkdir()
    assert left.call("abandon", "1", "--yes").code == 0
    assert causes(left) == [], "the premise of this test"
    for command in ("show", "failures"):
        assert "its targets could not be asked when it was closed" in left.call(command, "1").err
    assert "could not be asked" in left.call("show", "1", "--json").document["last_report"]
    if away == "the target":
        gone.rmdir()
    kept.rename(gone)
    sys.modules.pop("left", None)
    assert left.call("abandon", "1").code == 0
    assert causes(left) == [("one", 1)]
    shown = left.call("show", "1")
    assert "last report" not in shown.err
    assert left.call("show", "1", "--json").document["counts"]["failed"] == 1


def test_a_run_that_was_closed_without_its_target_says_so_until_it_is_gone_on_with(left):
    assert left.spawn("run", "left.py:killed_late").code == -9
    (left.folder / "t.db").rename(left.folder / "kept.db")
    (left.folder / "t.db").mkdir()
    (left.folder / "left.py").write_text(LEFT.replace("== 7", "== 99"))
    assert left.call("run", "left.py:killed_late").code in (1, 2)
    assert "last report" in left.call("show", "1").err
    (left.folder / "t.db").rmdir()
    (left.folder / "kept.db").rename(left.folder / "t.db")
    assert left.call("run", "left.py:killed_late").code == 3
    assert "last report" not in left.call("show").err + left.call("failures", "1").err
    assert causes(left) == [("one", 1)]


def test_that_effects_cannot_be_undone_any_more_is_said_before_the_question(left):
    assert left.call("run", "left.py:charging").code == 1
    asked = left.call("abandon", "1")
    assert asked.code == 2
    assert "4 effects outside stay, and cannot be rolled back any more; to undo them first: " in asked.err
    assert "batchwright rollback 1" in asked.err


def test_the_number_of_a_replay_is_no_work_to_give_up(shop):
    sales = ("run", "jobs.py:sales", "--day", "2026-11-22")
    assert shop.call(*sales).code == 3
    shop.mend()
    assert shop.call("replay", "1").code == 0
    ended = shop.call("abandon", "2")
    assert ended.code == 2
    for words in ("run 2 of job 'sales' is a replay", "the newest run of its work is 1, COMPLETED", "failures 1"):
        assert words in ended.err


PARTS = """
import os, signal
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.writers import insert

HERE = Path(__file__).parent


def check(number):
    if number % 10 == 1:
        raise ValueError(f"no {number}")
    if number == 45:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": number}


def parts() -> Job:
    write = insert(f"sqlite:///{HERE}/t.db", "t")
    more = {"skip": Skip(on=ValueError), "chunk_size": 5, "partitions": 4, "workers": 1}
    return Job("parts", Step("load", read=range(100), process=check, write=write, **more))
"""


def test_what_only_the_target_knows_of_partitions_is_brought_in_too(shop):
    (shop.folder / "parts.py").write_text(PARTS)
    assert shop.spawn("run", "parts.py:parts").code == -9
    (cause,) = shop.call("failures", "1", "--json").document["causes"]
    assert cause["count"] == 3, "the premise: those of the partition that is finished"
    assert shop.call("abandon", "1", "--yes").code == 0
    (cause,) = shop.call("failures", "1", "--json").document["causes"]
    assert (cause["count"], cause["open"]) == (5, 5)
    counts = shop.call("show", "1", "--json").document["counts"]
    assert (counts["read"], counts["written"], counts["failed"]) == (45, 40, 5)

"""`batchwright abandon`: asks, says what is left, and names how to begin anew."""

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
    assert anew == "to begin anew: batchwright run jobs.py:again --again"
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
    ended = shop.call("abandon", "1", "--yes")
    assert (ended.code, "is COMPLETED" in ended.err) == (2, True)


def test_a_job_whose_file_is_gone_is_given_up_all_the_same(stopped):
    (stopped.folder / "jobs.py").unlink()
    ended = stopped.call("abandon", "1", "--yes")
    assert ended.code == 0
    assert "its job cannot be built again, so nothing is cleaned up" in ended.err
    assert "not looked at" in ended.err

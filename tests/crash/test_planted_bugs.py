"""Each planted bug is seen by every suite that claims the guarantee it breaks. That the suites pass without one is
shown beside this file."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.crash.commands import kill_and_compare
from tests.crash.faults import POWER, Life, Schedule, at_every_point
from tests.crash.fork_client import ForkClient
from tests.crash.planted import BUGS, SHOWS_IN
from tests.crash.suites import SUITES

KILLS = ("every_point", "recoveries", "another_ledger", "at_random_places")

ALL = (*KILLS, "power_cuts")

CLAIMS = {
    "checkpoint_outside_the_transaction": ALL,
    "no_fsync": ("power_cuts", "at_random_places"),
    "no_savepoint": ALL,
    "trigger_behind_a_cascade_overlooked": ALL,
    "position_asked_at_commit_time": ALL,
    "failures_stored_apart": ALL,
    "keys_before_the_commit": KILLS,
    "keys_in_memory_only": KILLS,
    "published_without_its_mark": ("around_publishing",),
    "staging_dropped_apart": ("around_publishing",),
    "staged_rows_without_their_checkpoint": ("every_point", "around_publishing"),
    "chunks_of_one_transaction_committed": ("every_point", "around_publishing"),
    "files_of_a_set_not_cut_back": KILLS,
    "set_published_file_by_file": ("every_point", "recoveries", "another_ledger"),  # its window is too small for chance
    "each_table_committed_alone": KILLS,
    "ledger_local_keys": ("another_ledger", "at_random_places"),
    "claimed_without_an_epoch": KILLS,
}


def likeliest_first(schedules: Iterable[Schedule], bug: str) -> list[Schedule]:
    """All of them, in another order: what surely does not break a job's guarantee is tried after what may."""
    return sorted(schedules, key=lambda schedule: schedule.job not in SHOWS_IN.get(bug, ()))


@pytest.mark.parametrize(("bug", "suite"), [(bug, suite) for bug, suites in CLAIMS.items() for suite in suites])
def test_a_suite_that_claims_to_would_see(bug: str, suite: str, server: ForkClient, lives: dict[str, Life]):
    # Chance spread over all jobs would meet the window of a bug in one of them too seldom.
    of_them = {job: lives[job] for job in SHOWS_IN.get(bug, lives)} if suite == "at_random_places" else lives
    report = server.run_all(likeliest_first(SUITES[suite](of_them), bug), bug, first_only=True)
    assert report.problems, f"{report}, and nobody has noticed"
    assert_seen_for_what_it_does(report.problems)


@pytest.mark.parametrize("job", ["files", "tables"])
def test_a_power_cut_shows_a_lacking_sync_in_files_and_in_tables(job: str, server: ForkClient, lives: dict[str, Life]):
    report = server.run_all(at_every_point(job, lives[job], POWER), "no_fsync", first_only=True)
    assert report.problems, f"{report}, and nobody has noticed"
    assert_seen_for_what_it_does(report.problems)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug != "no_fsync" and not bug.startswith("keys_")])
def test_real_processes_would_see(bug: str, tmp_path: Path):
    found = kill_and_compare(tmp_path, bug, new_ledger=bug == "ledger_local_keys")
    assert found
    assert_seen_for_what_it_does(found)


def assert_seen_for_what_it_does(problems: list[str]) -> None:
    """And not because it was planted wrongly."""
    for word in ("Traceback", "AttributeError", "NameError", "was not killed", "unexpected keyword"):
        assert word not in problems[0]


def test_every_bug_is_claimed_and_every_suite_claims_something():
    assert set(CLAIMS) == set(BUGS)
    assert set(SHOWS_IN) <= set(BUGS)
    assert {suite for suites in CLAIMS.values() for suite in suites} == set(SUITES)

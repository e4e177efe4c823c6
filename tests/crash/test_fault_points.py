"""Every job, killed at every point that it reaches, and again while it recovers; with another ledger; without power."""

from pathlib import Path

import pytest
from tests.crash.effect_schedules import EFFECT_POINTS
from tests.crash.faults import Life, at_every_point, at_random
from tests.crash.fork_client import ForkClient, fork_client
from tests.crash.jobs import JOBS
from tests.crash.suites import SUITES

from batchwright.model.fault_points import FAULT_POINTS

ON_DISK = 12


def test_between_them_the_jobs_reach_every_fault_point(lives: dict[str, Life]):
    reached = {point for life in lives.values() for point in life.hits}
    # Those of effects are reached, and killed at, by the schedules of test_effects.py.
    elsewhere = {*EFFECT_POINTS}
    assert reached | elsewhere == set(FAULT_POINTS)
    assert not reached & elsewhere


@pytest.mark.parametrize("job", JOBS)
def test_how_often_a_point_is_reached_does_not_depend_on_the_machine(
    job: str, server: ForkClient, lives: dict[str, Life]
):
    assert server.life_of(job).hits == lives[job].hits


def test_time_cuts_the_chunks_of_slow_items_and_files_are_durable_between_chunks(lives: dict[str, Life]):
    steps, commits = lives["slow"].hits["K21"], lives["slow"].hits["K6"]
    assert commits > 3 * steps, "each step has its whole input for a chunk, and commits several times"
    synced, chunks = lives["files"].hits["K14"], lives["files"].hits["K6"]
    assert steps < synced < chunks


@pytest.mark.parametrize("job", JOBS)
def test_killed_at_any_point_and_run_again_a_job_ends_as_if_it_had_not_been(
    job: str, server: ForkClient, lives: dict[str, Life]
):
    server.run_all(at_every_point(job, lives[job])).assert_clean()


@pytest.mark.parametrize("suite", ["recoveries", "another_ledger", "power_cuts", "around_publishing"])
def test_killed_again_or_in_other_circumstances_it_does_so_too(suite: str, server: ForkClient, lives: dict[str, Life]):
    server.run_all(SUITES[suite](lives)).assert_clean()


def test_on_a_disk_it_does_so_too(tmp_path: Path, lives: dict[str, Life]):
    with fork_client(tmp_path) as client:
        client.run_all(at_random(7, number, lives) for number in range(ON_DISK)).assert_clean()

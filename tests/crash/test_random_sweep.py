"""Kill at random: `BATCHWRIGHT_CRASH_SCHEDULES` times, from `BATCHWRIGHT_SEED`; `SEED:NUMBER` replays one schedule."""

import os
import random
import sys

import pytest
from tests.crash.faults import Life, at_random
from tests.crash.fork_client import run_side_by_side

SCHEDULES = 300

SERVERS = 2


def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_there_twice(
    lives: dict[str, Life], capsys: pytest.CaptureFixture[str]
):
    schedules = int(os.environ.get("BATCHWRIGHT_CRASH_SCHEDULES") or SCHEDULES)
    seed, _, only = (os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))).partition(":")
    numbers = [int(only)] if only else range(schedules)
    named = {f"replay with BATCHWRIGHT_SEED={seed}:{number}": at_random(int(seed), number, lives) for number in numbers}
    report = run_side_by_side(named, SERVERS)
    with capsys.disabled():
        print(f"\n{report}, seed {seed}", file=sys.stderr)  # noqa: T201 - that is what it is run for
    report.assert_clean()
    assert report.schedules == len(named)

"""Effects, killed at every point of a call and of its undoing: none lost, none twice, none that is known made again."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash.effect_schedules import BUGS, schedules
from tests.crash.fork_client import ROOT


def told(folder: Path, bug: str = "-") -> list[str]:
    seed = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.effect_schedules", str(folder), bug, seed],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_killed_at_any_point_no_call_is_lost_and_none_that_is_known_is_made_again(tmp_path: Path):
    expected = len(list(schedules("0")))
    (line,) = told(tmp_path)
    numbers = [int(word) for word in line.replace(",", "").split() if word.isdigit()]
    assert numbers[0] == expected, line
    assert numbers[1] >= expected * 3 // 4, f"most must have been killed: {line}"


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(bug: str, tmp_path: Path):
    found = told(tmp_path, bug)
    assert not found[0].startswith("schedules:"), f"{bug}: nobody has noticed"
    assert "child" not in found[0]
    assert "ended with" not in found[0]

"""Replays into a table, files and a function, killed at points and lines, and replayed again.

`BATCHWRIGHT_REPLAY_SWEEP=1000 pytest tests/crash/test_replays.py` kills more of them; the seed is printed.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.crash.fork_client import ROOT
from tests.crash.replay_sweep import BUGS

SCHEDULES = int(os.environ.get("BATCHWRIGHT_REPLAY_SWEEP", "60"))


def swept(folder: Path, seed: str, bug: str = "-") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.crash.replay_sweep", str(folder), str(SCHEDULES), seed, bug]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + 5 * SCHEDULES, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_killed_anywhere_and_replayed_again_nothing_is_lost_and_nothing_is_in_twice(tmp_path: Path):
    seed = os.environ.get("BATCHWRIGHT_SEED", str(random.randrange(1_000_000)))
    print(f"seed {seed}")  # noqa: T201 - with it a failure is run again
    report = swept(tmp_path, seed)
    print(f"{report['schedules']} schedules, {report['kills']} kills")  # noqa: T201 - how much was done
    assert not report["problems"], report["problems"][:3]
    assert report["kills"] >= SCHEDULES // 2


@pytest.mark.parametrize("bug", BUGS)
def test_the_sweep_would_see(bug: str, tmp_path: Path):
    report = swept(tmp_path, "7", bug)
    assert report["problems"], f"{report}, and nobody has noticed"
    assert not any(word in report["problems"][0] for word in ("Traceback", "AttributeError", "NameError"))

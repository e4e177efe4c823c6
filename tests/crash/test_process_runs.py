"""Runs with worker processes, killed at random and started again: nothing lost, nothing twice, the killer reported.

`BATCHWRIGHT_SEED` replays the kills of a message; `BATCHWRIGHT_PROCESS_RUNS` says how many runs there are of each kind.
"""

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.crash.fork_client import ROOT
from tests.crash.process_jobs import EXPECTED, KILLER

JOBS = Path(__file__).with_name("process_jobs.py")

POINTS = {"tables": ("K7", "K9", "K10", "K11", "K13", "K17"), "files": ("K4", "K13", "K14", "K15", "K16", "K17")}

DEEPEST = {"K15": 1, "K16": 1, "K17": 1}

KILLED = -9


def start(name: str, folder: Path, kill: str) -> int:
    command = [sys.executable, "-m", "tests.crash.drive", kill, "-", "run", f"{JOBS}:{name}", "--folder", str(folder)]
    options = ["--ledger", str(folder / "ledger.db"), "--no-progress"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (KILLED, 3), done.stderr
    return done.returncode


def rows(name: str, folder: Path) -> list[int]:
    if name == "files":
        return [int(line) for line in (folder / "rows.txt").read_text().splitlines()]
    with closing(sqlite3.connect(folder / "rows.db")) as database:
        return [number for (number,) in database.execute("SELECT n FROM rows ORDER BY rowid")]


def failures(folder: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT ordinal, error_type FROM batchwright_failures").fetchall()


@pytest.mark.parametrize("name", ["tables", "files"])
def test_runs_with_worker_processes_survive_any_kill(tmp_path: Path, name: str):
    seed = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))
    chance = random.Random(f"{seed} {name}")
    for number in range(int(os.environ.get("BATCHWRIGHT_PROCESS_RUNS", "1"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        points = chance.choices(POINTS[name], k=2)
        kills = [f"{point}:{chance.randint(1, DEEPEST.get(point, 9))}" for point in points]
        said = f"BATCHWRIGHT_SEED={seed}: {name} {number} {' '.join(kills)}"
        ended = [start(name, folder, kill) for kill in kills]
        assert ended[0] == KILLED, said
        start(name, folder, "-")
        assert rows(name, folder) == EXPECTED, said
        if name == "files":
            assert failures(folder) == [(KILLER, "WorkerDiedError")], said

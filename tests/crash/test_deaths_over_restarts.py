"""An item that kills its worker, in a run that is killed each time: its attempts are counted all the same."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.crash.fork_client import ROOT
from tests.crash.killed_at_notes import ATTEMPTS, ITEMS, KILLERS
from tests.crash.killers import calls

MOST_STARTS = ATTEMPTS + 2
"""A first death may be noted as a suspicion only; the last start is not killed."""


def start(folder: Path, *options: str) -> int:
    command = [sys.executable, "-m", "tests.crash.killed_at_notes", str(folder), *options]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


def rows(folder: Path, file: str, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / file)) as database:
        return database.execute(sql).fetchall()


def test_attempts_of_items_that_kill_survive_runs_that_are_killed(tmp_path: Path):
    starts = 1
    while start(tmp_path) == -signal.SIGKILL:
        before = {killer: calls(tmp_path, killer) for killer in KILLERS}
        starts += 1
        assert starts <= MOST_STARTS
    assert starts > ATTEMPTS
    assert {killer: calls(tmp_path, killer) for killer in KILLERS} == before, "called again, with no attempt left"
    written = [number for (number,) in rows(tmp_path, "rows.db", "SELECT n FROM rows ORDER BY rowid")]
    assert written == [item for item in range(ITEMS) if item not in KILLERS]
    found = rows(tmp_path, "ledger.db", "SELECT ordinal, error_type, attempts FROM batchwright_failures")
    assert sorted(found) == [(killer, "WorkerDiedError", ATTEMPTS) for killer in sorted(KILLERS)]
    assert rows(tmp_path, "ledger.db", "SELECT * FROM batchwright_deaths") == []


def test_a_ledger_that_forgets_them_is_seen(tmp_path: Path):
    assert {start(tmp_path, "forgetful") for _ in range(MOST_STARTS)} == {-signal.SIGKILL}

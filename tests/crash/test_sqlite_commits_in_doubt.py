"""The disk fails while SQLite commits: the step ends, the file is asked by the next run, nothing is lost or twice.

`fdatasync` on the write-ahead log fails once, by strace. After that SQLite says "disk I/O error", and the commit has
often taken effect nevertheless: both a retry and a shrug would be wrong.
"""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="5 failing disks: needs strace"),
]

ITEMS = 60

JOB = f"""
from batchwright import Job, Skip, Step
from batchwright.writers import execute, insert

DB = "sqlite:///out.db"

def row(n):
    if n % 7 == 0:
        raise ValueError("seven")
    return {{"n": n}}

def doubt(day: int = 1) -> Job:
    return Job("doubt",
        Step("add", read=range({ITEMS}), process=row, write=insert(DB, "t"), chunk_size=5, skip=Skip(on=ValueError)),
        Step("move", read=range({ITEMS}), process=lambda n: (n,), chunk_size=5,
             write=execute(DB, "UPDATE balance SET total = total + ?")))
"""

DONE = "SELECT count(*), count(DISTINCT n), sum(n), (SELECT total FROM balance) FROM t"


def start(folder: Path, *around: str) -> subprocess.CompletedProcess[str]:
    command = [
        *around,
        sys.executable,
        "-m",
        "batchwright",
        "run",
        "job.py:doubt",
        "--day",
        "2",
        "--ledger",
        "ledger.db",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("failing", [2, 4, 9, 16, 22])
def test_a_disk_that_fails_at_a_commit_ends_the_step_and_the_next_run_goes_on(failing, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    database = tmp_path / "out.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript("CREATE TABLE balance (total int); INSERT INTO balance VALUES (0)")
    inject = f"inject=fdatasync:error=EIO:when={failing}"
    broken = start(tmp_path, "strace", "-f", "-qq", "-o", "calls", "-P", f"{database}-wal", "-e", inject)
    assert (tmp_path / "calls").read_text().count("(INJECTED)") == 1
    assert broken.returncode == 1, broken.stderr
    assert "disk I/O error" in broken.stderr
    assert "Traceback" not in broken.stderr
    again = start(tmp_path)
    assert again.returncode == 3, again.stderr
    good = [n for n in range(ITEMS) if n % 7]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(DONE).fetchone() == (len(good), len(good), sum(good), sum(range(ITEMS)))
        failures = connection.execute("SELECT ordinal FROM batchwright_failures ORDER BY 1").fetchall()
        assert [ordinal for (ordinal,) in failures] == [n for n in range(ITEMS) if n % 7 == 0]
        counts = connection.execute("SELECT step, commits, finished FROM batchwright_checkpoints ORDER BY 1").fetchall()
        assert counts == [("add", ITEMS // 5, 1), ("move", ITEMS // 5, 1)]

"""A function of the job forks, and the child comes back into the run: it is ended, nothing is lost or done twice."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

JOB = """
import os, sys
from batchwright import Skip, Step, run
from batchwright.runners import Processes
from batchwright.writers import insert

def forks(n):
    if n == 55 and os.fork() == 0:
        if sys.argv[2] == "raises":
            os.execvp("no-such-tool", ["no-such-tool"])
    return {"id": n}

async def awaits(n):
    return forks(n)

if __name__ == "__main__":
    how, function, write = {}, forks, insert("sqlite:///t.db", "t")
    if sys.argv[1] == "threads":
        how = {"workers": 3}
    elif sys.argv[1] == "loop":
        how, function = {"workers": 3}, awaits
    elif sys.argv[1] == "processes":
        how = {"runner": Processes(1)}
    step = Step("s", read=range(200), process=function, write=write, chunk_size=20, skip=Skip(limit=5), **how)
    result = run(step, ledger="ledger.db")
    print("RESULT", result.read, result.written, result.failed)
"""


@pytest.mark.parametrize("child", ["returns", "raises"])
@pytest.mark.parametrize("runner", ["inline", "threads", "loop", "processes"])
def test_a_forked_child_that_comes_back_is_ended(tmp_path: Path, runner: str, child: str):
    (tmp_path / "job.py").write_text(JOB)
    done = subprocess.run(
        [sys.executable, "job.py", runner, child], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["RESULT 200 200 0"]
    assert "was forked by a function of the job" in done.stderr
    with sqlite3.connect(tmp_path / "t.db") as database:
        found = [row for (row,) in database.execute("SELECT id FROM t ORDER BY id")]
    assert found == list(range(200))

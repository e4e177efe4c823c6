"""`batchwright worker` as a process: what it says, and where."""

import json
import subprocess
import sys
from pathlib import Path

JOB = """
import atexit, os, subprocess, sys, time
from pathlib import Path
from batchwright import Job, Step
from batchwright.writers import insert

HERE = Path(__file__).parent
LEDGER = str(HERE / "ledger.db")

def process(row):
    print("the user prints", row["n"])
    if "JOINED" in os.environ:
        (HERE / "joined").touch()
    elif row["n"] == 0:
        # It begins behind our own partition, and has done something before we go on.
        command = [sys.executable, "-m", "batchwright", "worker", "1", "--json", "--index", "2", "--of", "4"]
        with (HERE / "out").open("w") as out:
            worker = subprocess.Popen([*command, "--ledger", LEDGER], env={**os.environ, "JOINED": "1"}, stdout=out)
        atexit.register(worker.wait, 60)
        while not (HERE / "joined").exists() and worker.poll() is None:
            time.sleep(0.01)
    return row

def load():
    rows, write = [{"n": n} for n in range(40)], insert(f"sqlite:///{HERE}/t.db", "t")
    return Job("load", Step("load", read=rows, process=process, write=write, partitions=4, chunk_size=5))
"""


def test_with_json_standard_output_is_for_data_whatever_the_job_prints(tmp_path: Path):
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "-m", "batchwright", "run", "job.py:load", "--ledger", str(tmp_path / "ledger.db")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (step,) = json.loads((tmp_path / "out").read_text())["steps"]
    assert (step["name"], step["unfinished_partitions"]) == ("load", 0)

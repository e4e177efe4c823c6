"""`batchwright worker` as a process: what it says, and where."""

import json
import os
import signal
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


DYING = """
import os, signal, sys
from pathlib import Path
from batchwright import Job, Step
from batchwright.writers import insert

HERE = Path(__file__).parent

def process(row):
    if "JOINED" in os.environ:
        (HERE / "joined").touch()
        while not (HERE / "gone").exists():
            pass
    elif row["n"] == 7:
        (HERE / "begun").touch()
        while not (HERE / "joined").exists():
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return row

def load():
    rows, write = [{"n": n} for n in range(40)], insert(f"sqlite:///{HERE}/t.db", "t")
    return Job("load", Step("load", read=rows, process=process, write=write, partitions=4, chunk_size=5))
"""


def test_a_worker_whose_run_was_killed_says_what_it_did_itself_and_that_somebody_has_to_go_on(tmp_path: Path):
    (tmp_path / "job.py").write_text(DYING)
    program = [sys.executable, "-m", "batchwright"]
    ran = subprocess.Popen([*program, "run", "job.py:load", "-q"], cwd=tmp_path)
    while not (tmp_path / "begun").exists() and ran.poll() is None:
        pass
    joined = {"env": {**os.environ, "JOINED": "1"}, "stderr": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([*program, "worker", "1", "--index", "1", "--of", "4"], cwd=tmp_path, **joined)
    assert ran.wait(60) == -signal.SIGKILL
    (tmp_path / "gone").touch()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 5, said
    assert said.splitlines() == [
        "load: read 35 = written 35 + filtered 0 + failed 0, by this worker",
        "load: read 40 = written 40 + filtered 0 + failed 0, over all workers",
        "the process that started the run is gone: the step is finished by whoever goes on with it",
        "next: batchwright resume 1",
    ]

"""The command line, killed and started again; what it says then; what a kill leaves, and what a living owner keeps."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic

from tests.crash.commands import KILLED, SECONDS, command, kill_and_compare, new_folder, start
from tests.crash.fork_client import ROOT
from tests.crash.jobs import tables
from tests.crash.outcome import difference, ledger_of, outcome_of

from batchwright import Job
from batchwright.ledgers.locks import is_held

HELD_JOB = """
from pathlib import Path
from batchwright import Job, Step
from batchwright.writers import text_file

def wait(number: int) -> str:
    if number == 3:
        with open(Path(__file__).with_name("gate")) as gate:
            gate.read()
    return str(number)

def held() -> Job:
    return Job("held", Step("wait", read=range(6), process=wait, write=text_file(Path(__file__).with_name("out.txt"))))
"""

SLACK_SECONDS = 3.0


def test_real_processes_that_are_killed_and_started_again_end_as_if_they_had_not_been(tmp_path: Path):
    assert kill_and_compare(tmp_path) == []


def test_with_a_new_ledger_they_go_on_where_their_targets_say(tmp_path: Path):
    assert kill_and_compare(tmp_path, new_ledger=True) == []


def test_a_job_that_is_killed_from_outside_at_any_moment_ends_as_if_it_had_not_been(tmp_path: Path):
    undisturbed = new_folder(tmp_path, "undisturbed")
    start("tables", undisturbed)
    folder, kills = new_folder(tmp_path, "killed"), 0
    # Later each time, until it comes through.
    for hundredths in range(20, 100, 15):
        process = subprocess.Popen(command("tables", folder), cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            process.wait(hundredths / 100)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += process.wait() == KILLED
    assert kills
    assert start("tables", folder).returncode in (0, 3)
    assert not difference(outcome_of("tables", folder), outcome_of("tables", undisturbed))


def test_the_next_start_says_that_it_goes_on_and_does_so_at_once(tmp_path: Path):
    began = monotonic()
    first = start("tables", new_folder(tmp_path, "undisturbed"))
    undisturbed_seconds = monotonic() - began
    assert "tables starts: run 1" in first.stderr
    folder = new_folder(tmp_path, "killed")
    assert start("tables", folder, "K13:20").returncode == KILLED
    began = monotonic()
    second = start("tables", folder)
    assert second.returncode == 3
    assert "tables goes on: run 2" in second.stderr
    assert monotonic() - began < undisturbed_seconds + SLACK_SECONDS
    third = start("tables", folder)
    assert third.returncode == 3, "its failures are still open"
    assert "already complete" in third.stderr


def test_a_kill_leaves_no_lock(tmp_path: Path):
    folder = new_folder(tmp_path, "killed")
    assert start("tables", folder, "K10:5").returncode == KILLED
    assert not is_held(ledger_of(folder).parent / "locks", Job.of(tables, folder=folder).key)
    for path in (folder / "shop.db", ledger_of(folder)):
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    assert start("tables", folder).returncode == 3


def test_a_living_owner_keeps_others_out_and_a_dead_one_does_not(tmp_path: Path):
    job = tmp_path / "held.py"
    job.write_text(HELD_JOB)
    os.mkfifo(tmp_path / "gate")
    run = [sys.executable, "-m", "batchwright", "run", f"{job}:held", "--no-progress"]
    for ending in (signal.SIGKILL, None):
        owner = subprocess.Popen(run, cwd=tmp_path, stderr=subprocess.DEVNULL)
        # This returns when the owner's processor has opened the other end.
        gate = os.open(tmp_path / "gate", os.O_WRONLY)
        other = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert other.returncode == 4
        assert f"already running with these parameters; process {owner.pid} on " in other.stderr
        assert " since " in other.stderr
        assert "Traceback" not in other.stderr
        if ending is not None:
            owner.send_signal(ending)
        os.close(gate)
        assert owner.wait(SECONDS) == (-ending if ending else 0)
    assert (tmp_path / "out.txt").read_text() == "0\n1\n2\n3\n4\n5\n"

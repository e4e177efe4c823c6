"""A run in a process of its own, held where it takes long, so that it can be asked to stop there.

The one rule: the job says by a pipe that it is there, and nothing waits for a time instead.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from tests.crash.commands import SECONDS

PROGRAM = [sys.executable, "-m", "batchwright"]

GATE = """
import os, time
from pathlib import Path
from batchwright import Job, Step

HERE = Path(__file__).parent

def say_that_it_begins():
    if not (HERE / "begun").exists():
        (HERE / "begun").touch()
        open(HERE / "gate", "w").close()

def process(number):
    if number == 3_000:
        say_that_it_begins()
    return {"i": number}

def process_slowly(number):
    if number == 2:
        say_that_it_begins()
    time.sleep(0.2)
    return {"i": number}

def numbers():
    yield from range(3)
    say_that_it_begins()
    yield from range(3, 2_000)

def numbers_then_lock():
    yield from range(3)
    say_that_it_begins()
    (HERE / "go").read_text()
    yield from range(3, 2_000)

def slow_numbers():
    for number in range(5_000):
        time.sleep(0.2)
        if number == 2:
            say_that_it_begins()
        yield number

def write_slowly(number):
    if number == 2:
        say_that_it_begins()
    time.sleep(0.2)
"""
"""What the files of jobs begin with."""


class Held:
    """A run of a job that takes minutes, somewhere in the middle of what it does."""

    def __init__(self, folder: Path, jobs: str, job: str, *options: str) -> None:
        self.folder = folder
        (folder / "jobs.py").write_text(jobs)
        os.mkfifo(folder / "gate")
        os.mkfifo(folder / "go")
        self._run = [*PROGRAM, "run", f"jobs.py:{job}", "--no-progress", *options]
        self._said = ""
        self.process = subprocess.Popen(self._run, cwd=folder, stderr=subprocess.PIPE, text=True)

    def wait_for_it(self) -> None:
        """Until it is where it takes long."""
        (self.folder / "gate").read_text()
        self.lasts(0.5)

    def lasts(self, seconds: float) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def seconds_to_the_end(self) -> float:
        began = monotonic()
        self.process.wait(SECONDS)
        return monotonic() - began

    def hears(self) -> None:
        """Until it says that it has heard a request, or is gone: a second signal that came sooner might be lost."""
        assert self.process.stderr is not None
        while (line := self.process.stderr.readline()) and "stopping at the end of this chunk" not in line:
            self._said += line
        self._said += line

    def said(self) -> str:
        assert self.process.stderr is not None
        self._said += self.process.stderr.read()
        return self._said

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def told(self) -> dict:
        return json.loads(self.call("show", "1", "--json").stdout)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def report(what: str, seconds: float) -> None:
    """A figure for whoever runs this with `-s`."""
    sys.stdout.write(f"\n{what}: {seconds:.2f} s\n")

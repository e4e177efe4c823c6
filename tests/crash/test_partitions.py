"""Runs in partitions whose processes are killed at random: nothing is lost, and nothing is in twice.

The one rule: coordinators and workers are real commands, killed with SIGKILL when the target has so many rows; each
start has other workers and chunks than the one before. BATCHWRIGHT_PARTITION_SCHEDULES says how many.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.crash.families import children_of
from tests.crash.partition_job import DEADLINE_SECONDS, KILLS, SEED, environment, lay_out

SCHEDULES = int(os.environ.get("BATCHWRIGHT_PARTITION_SCHEDULES", "2"))
ROWS = 3_000

LOAD = """
def load(month: str) -> Job:
    add = "UPDATE balance SET total = total + :id, many = many + 1"
    return job(insert("sqlite:///t.db", "t"), execute("sqlite:///t.db", add, commutes=True))
"""

GOOD = [n for n in range(ROWS) if n % 500 != 3]


class Schedule:
    """One job, started and killed until it is complete."""

    def __init__(self, folder: Path, seed: int, runner: str = "threads") -> None:
        self.folder, self.random, self.runner = folder, random.Random(seed), runner
        lay_out(folder, LOAD, ROWS)
        with closing(sqlite3.connect(folder / "t.db")) as target:
            target.execute("PRAGMA journal_mode = WAL")
            target.executescript(
                "CREATE TABLE balance (total INTEGER, many INTEGER); INSERT INTO balance VALUES (0, 0);"
            )

    def run(self) -> None:
        for _ in range(KILLS):
            if self._killed():
                return
        assert self.start("run", "job.py:load", "--month", "may").wait(DEADLINE_SECONDS) == 3, self.said()

    def _killed(self) -> bool:
        """Start, and kill after some more rows; whether it was complete before that."""
        coordinator = self.start("run", "job.py:load", "--month", "may")
        workers = []
        until, more = time.monotonic() + DEADLINE_SECONDS, self.done() + self.random.randrange(1, ROWS)
        while coordinator.poll() is None and self.done() < more:
            assert time.monotonic() < until, self.said()
            if not workers and self.done() and (number := self._run_number()):
                workers = [
                    self.start("worker", str(number), "--workers", "2") for _ in range(self.random.choice((0, 1, 2)))
                ]
        if self.runner == "processes" and self.random.random() < 0.5:
            self._kill_one_of(coordinator.pid)
            coordinator.wait(DEADLINE_SECONDS)
        victims = (
            [coordinator, *workers] if self.random.random() < 0.5 else self.random.sample([coordinator, *workers], 1)
        )
        for victim in victims:
            victim.kill()
        if coordinator not in victims:
            coordinator.wait(DEADLINE_SECONDS)
        for process in workers:
            if process not in victims and self.random.random() < 0.5:
                process.kill()
        for process in (coordinator, *workers):
            process.wait(DEADLINE_SECONDS)
        return coordinator.returncode == 3

    def _kill_one_of(self, coordinator: int) -> None:
        """Kill a process that the run has started to work on partitions, if it has one by now."""
        grandchildren = sorted(children_of(coordinator) - children_of(coordinator, deep=False))
        if grandchildren:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(grandchildren), signal.SIGKILL)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return self.start_with(["batchwright"], *arguments)

    def start_with(self, module: list[str], *arguments: str) -> "subprocess.Popen[bytes]":
        settings = environment(self.random, self.runner, str(self.folder / "ledger" / "ledger.db"))
        with (self.folder / "said.txt").open("ab") as said:
            command = [sys.executable, "-m", *module, *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=settings, stdout=said, stderr=said)

    def done(self) -> int:
        """How many rows and additions are in the target."""
        with closing(sqlite3.connect(self.folder / "t.db")) as target:
            (there,) = target.execute("SELECT count(*) FROM sqlite_master WHERE name = 't'").fetchone()
            rows = target.execute("SELECT count(*) FROM t").fetchone()[0] if there else 0
            return int(rows + target.execute("SELECT many FROM balance").fetchone()[0])

    def _run_number(self) -> int:
        with closing(sqlite3.connect(self.folder / "ledger" / "ledger.db")) as ledger:
            return int(ledger.execute("SELECT max(id) FROM batchwright_job_executions").fetchone()[0] or 0)

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()[-4_000:]

    def check(self) -> None:
        with closing(sqlite3.connect(self.folder / "t.db")) as target:
            assert [n for (n,) in target.execute("SELECT id FROM t ORDER BY id")] == GOOD, self.said()
            assert target.execute("SELECT * FROM balance").fetchone() == (sum(GOOD), len(GOOD)), self.said()
        with closing(sqlite3.connect(self.folder / "ledger" / "ledger.db")) as ledger:
            counts = "SELECT read, written, filtered, failed_process FROM batchwright_step_executions "
            whole = f"{counts} WHERE partition = 0 AND status = 'COMPLETED_WITH_FAILURES'"
            assert set(ledger.execute(whole).fetchall()) == {(ROWS, len(GOOD), 0, ROWS - len(GOOD))}
            assert ledger.execute("SELECT count(*) FROM batchwright_failures").fetchone() == (2 * (ROWS - len(GOOD)),)


@pytest.mark.parametrize("runner", ["threads", "processes"])
@pytest.mark.parametrize("number", range(SCHEDULES))
def test_killed_at_random_nothing_is_lost_and_nothing_is_in_twice(tmp_path: Path, number: int, runner: str):
    print(f"BATCHWRIGHT_PARTITION_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    schedule = Schedule(tmp_path, SEED + number, runner)
    schedule.run()
    schedule.check()


@pytest.mark.parametrize("step", [1, 2])
def test_killed_when_only_the_plan_is_in_the_target_it_goes_on_by_that(tmp_path: Path, step: int):
    schedule = Schedule(tmp_path, SEED)
    killed = schedule.start_with(["tests.crash.drive", f"K28:{step}", "-"], "run", "job.py:load", "--month", "may")
    assert killed.wait(DEADLINE_SECONDS) == -signal.SIGKILL, schedule.said()
    assert schedule.start("run", "job.py:load", "--month", "may").wait(DEADLINE_SECONDS) == 3, schedule.said()
    schedule.check()

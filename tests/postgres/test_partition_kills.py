"""Runs in partitions on PostgreSQL, ledger and target, whose processes are killed at random: as if nobody had been.

The one rule: what a killed month leaves is compared with what a month leaves in which nobody was killed: rows without a
key, a running balance, failures, counts. BATCHWRIGHT_PARTITION_SCHEDULES says how many months are killed.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.crash.families import children_of
from tests.crash.partition_job import DEADLINE_SECONDS, KILLS, SEED, environment, lay_out
from tests.postgres.server import Fresh

SCHEDULES = int(os.environ.get("BATCHWRIGHT_PARTITION_SCHEDULES", "1"))
ROWS = 2_000

LOAD = """
def load(month: str) -> Job:
    add = f"UPDATE balance SET total = total + %(id)s, many = many + 1 WHERE month = '{month}'"
    url = os.environ["TARGET"]
    return job(insert(url, f"t_{month}"), execute(url, add, commutes=True))
"""


class Months:
    """One job for several months: undisturbed, or started and killed until it is complete."""

    def __init__(self, fresh: Fresh, folder: Path, seed: int) -> None:
        self.fresh, self.folder, self.random = fresh, folder, random.Random(seed)
        lay_out(folder, LOAD, ROWS)
        fresh.connection.execute("CREATE TABLE balance (month text, total bigint, many bigint)")

    def begin(self, month: str) -> None:
        self.fresh.connection.execute("INSERT INTO balance VALUES (%s, 0, 0)", [month])

    def run(self, month: str, runner: str) -> None:
        assert self.start(runner, "run", "job.py:load", "--month", month).wait(DEADLINE_SECONDS) == 3, self.said()

    def kill(self, month: str, runner: str) -> bool:
        """Start, and kill after some more rows; whether it was complete before that."""
        coordinator = self.start(runner, "run", "job.py:load", "--month", month)
        workers: list[Any] = []
        until, more = time.monotonic() + DEADLINE_SECONDS, self.done(month) + self.random.randrange(1, ROWS)
        while coordinator.poll() is None and self.done(month) < more:
            assert time.monotonic() < until, self.said()
            if not workers and self.done(month):
                many = self.random.choice((0, 1, 2))
                workers = [self.start(runner, "worker", self.run_number(), "--workers", "2") for _ in range(many)]
        ours = {process.pid: process for process in (coordinator, *workers)}
        everybody = [*ours]
        if runner == "processes":
            everybody += children_of(coordinator.pid)
        how = self.random.random()
        victims = everybody if how < 0.3 else self.random.sample(everybody, self.random.randint(1, len(everybody)))
        for victim in victims:
            if victim in ours:
                ours[victim].kill()  # the number of one that has ended may be another process's by now
                continue
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        for process in (coordinator, *workers):
            process.wait(DEADLINE_SECONDS)
        return coordinator.returncode == 3

    def start(self, runner: str, *arguments: str) -> "subprocess.Popen[bytes]":
        settings = environment(self.random, runner, self.fresh.url, TARGET=self.fresh.url)
        with (self.folder / "said.txt").open("ab") as said:
            command = [sys.executable, "-m", "batchwright", *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=settings, stdout=said, stderr=said)

    def done(self, month: str) -> int:
        """How many rows and additions are in the target."""
        try:
            ((rows,),) = self.fresh.rows(f"SELECT count(*) FROM t_{month}")
        except psycopg.errors.UndefinedTable:
            rows = 0
        ((many,),) = self.fresh.rows(f"SELECT many FROM balance WHERE month = '{month}'")
        return int(rows + many)

    def run_number(self) -> str:
        ((number,),) = self.fresh.rows(f"SELECT max(id) FROM {self.fresh.records}.batchwright_job_executions")
        return str(number)

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()[-4_000:]

    def outcome(self, month: str) -> dict[str, Any]:
        """All that a month has left behind, but for how it was split."""
        records, of_it = self.fresh.records, f"parameters LIKE '%{month}%'"
        runs = f"SELECT id FROM {records}.batchwright_job_executions WHERE {of_it}"
        counts = "step, status, read, written, filtered, failed_process, outputs"
        whole = f"partition = 0 AND status LIKE 'COMPLETED%' AND run IN ({runs})"
        steps = f"{records}.batchwright_step_executions WHERE {whole}"
        hashes = f"SELECT parameters_hash FROM {records}.batchwright_job_executions WHERE {of_it}"
        kept = f"{records}.batchwright_failures WHERE parameters_hash IN ({hashes})"
        return {
            "rows": self.fresh.rows(f"SELECT id FROM t_{month} ORDER BY id"),
            "balance": self.fresh.rows(f"SELECT total, many FROM balance WHERE month = '{month}'"),
            "steps": sorted(set(self.fresh.rows(f"SELECT {counts} FROM {steps}"))),
            "failures": self.fresh.rows(f"SELECT DISTINCT step, line, error FROM {kept} ORDER BY step, line"),
        }


@pytest.mark.crash
@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_a_month_of_kills_ends_as_one_without(fresh: Fresh, tmp_path: Path, runner: str):
    print(f"BATCHWRIGHT_PARTITION_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    months = Months(fresh, tmp_path, SEED)
    months.begin("quiet")
    months.run("quiet", runner)
    expected = months.outcome("quiet")
    assert [len(found) for found in expected.values()] == [ROWS - 4, 1, 2, 8]
    for number in range(SCHEDULES):
        month = f"m{number}"
        months.begin(month)
        if not any(months.kill(month, runner) for _ in range(KILLS)):
            months.run(month, runner)
        assert months.outcome(month) == expected, months.said()

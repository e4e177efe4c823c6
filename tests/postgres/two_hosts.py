"""Runs of one job on two hosts with a server in a third place, and what they leave in its tables."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.postgres.hosts import Network
from tests.postgres.moving_job import ITEMS
from tests.postgres.server import Fresh

SECONDS = 120

SCRIPT = Path(__file__).with_name("moving_job.py")

TABLES = "CREATE TABLE rows (n int); CREATE TABLE balance (total bigint, moves int); INSERT INTO balance VALUES (0, 0)"

UNINTERRUPTED = (Counter(range(ITEMS)), [(sum(range(ITEMS)), ITEMS)])


class World:
    """One place in the database. `parameters` are added to the address by which hosts know it."""

    def __init__(self, network: Network, fresh: Fresh, folder: Path, lease_seconds: float) -> None:
        self.network, self.fresh, self.folder, self.lease_seconds = network, fresh, folder, lease_seconds
        fresh.connection.execute(TABLES)

    def url(self, **parameters: str) -> str:
        """The same on every host; each has the server's address for itself in its environment."""
        settings = {"search_path": self.fresh.name, "idle_in_transaction_session_timeout": "1000"}
        known = {
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "records_schema": self.fresh.records,
            "lease_seconds": f"{self.lease_seconds:g}",
            "sslmode": "disable",
            **parameters,
        }
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in known.items())
        return f"postgresql://postgres@db:{self.fresh.server.port}/postgres?{words}"

    def start(
        self, host: str, kind: str, *options: str, url: str | None = None, **environment: object
    ) -> subprocess.Popen[str]:
        """`batchwright run` on this host."""
        own = self.place(host)
        own.mkdir(exist_ok=True)
        here = {
            **os.environ,
            "PGHOSTADDR": self.network.server_address(host),
            "TARGET": url or self.url(),
            "FOLDER": str(own),
            **{name: str(value) for name, value in environment.items()},
        }
        run = [
            sys.executable,
            "-m",
            "batchwright",
            "run",
            f"{SCRIPT}:job",
            "--kind",
            kind,
            "--ledger",
            url or self.url(),
        ]
        command = [*self.network.inside(host), *run, "--no-progress", *options]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=own, env=here
        )

    def place(self, host: str) -> Path:
        return self.folder / host

    def wait_for(self, sql: str) -> None:
        """Until a question has an answer that is true."""
        for _ in range(SECONDS * 50):
            if self.fresh.rows(sql)[0][0]:
                return
            self.fresh.connection.execute("SELECT pg_sleep(0.02)")
        raise AssertionError(sql)

    def wait_for_gate(self, host: str, process: subprocess.Popen[str]) -> None:
        for _ in range(SECONDS * 50):
            if (self.place(host) / "waits").exists():
                return
            assert process.poll() is None, process.communicate()
            self.fresh.connection.execute("SELECT pg_sleep(0.02)")
        raise AssertionError("it does not come to its gate")

    def open_gate(self, host: str) -> None:
        (self.place(host) / "go").touch()

    def take_over(self, host: str, kind: str, **environment: Any) -> tuple[int, int, str]:
        """Start it there until it is not refused any more: its exit code, how often it was, and its last word."""
        refused = 0
        while True:
            code, said = ended(self.start(host, kind, **environment))
            if code != 4:
                return code, refused, said
            assert "on host-" in said, said
            refused += 1

    def held(self) -> tuple[Counter[int], list[tuple]]:
        return Counter(row[0] for row in self.fresh.rows("SELECT n FROM rows")), self.fresh.rows(
            "SELECT * FROM balance"
        )

    def calls(self) -> list[int]:
        file = self.folder / "calls.txt"
        return sorted(map(int, file.read_text().split())) if file.exists() else []

    def recorded(self) -> list[object]:
        """Everything that a run could write to."""
        tables = ("checkpoints", "failures", "fences", "job_executions", "step_executions")
        rows = [
            self.fresh.rows(f"SELECT * FROM {self.fresh.records}.batchwright_{table} ORDER BY 1, 2, 3")
            for table in tables
        ]
        return [*rows, self.held(), self.calls()]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said

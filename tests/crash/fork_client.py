"""Asks a fork server (see there) to run schedules, and gathers what came of them.

The one rule: a report that counts fewer kills than it promised is a failure, like one with a difference.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.faults import Life, Schedule

ROOT = Path(__file__).resolve().parents[2]

MEMORY = Path("/dev/shm")

SHOWN = 3


@dataclass
class Report:
    """What came of many schedules. `problems` holds a text for each that went wrong."""

    schedules: int = 0
    missed: list[str] = field(default_factory=list)
    kills: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, verdict: dict[str, Any], name: str = "") -> None:
        """Add a verdict; `name` says how to replay it."""
        self.schedules += 1
        for count in ("kills", "lost", "twice"):
            setattr(self, count, getattr(self, count) + verdict[count])
        text = f"{name or 'schedule'}: {verdict['schedule']}"
        if not verdict["kills"] and not verdict["problems"]:
            self.missed.append(text)
        self.problems += [f"{text}\n{problem}" for problem in verdict["problems"]]

    def __str__(self) -> str:
        return f"{self.schedules} schedules, {self.kills} kills, {self.lost} lost, {self.twice} twice"

    def assert_clean(self) -> None:
        """Every fault was injected, and none made a difference."""
        shown = "\n".join(self.problems[:SHOWN])
        assert not self.problems, f"{self}; {len(self.problems)} went wrong, among them\n{shown}"
        assert not self.missed, f"{self}; in {len(self.missed)} nothing was killed, as in {self.missed[0]}"
        assert self.kills >= self.schedules > 0, str(self)


class ForkClient:
    """One server. Not for several threads at once."""

    def __init__(self, root: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.fork_server", str(root)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def life_of(self, job: str) -> Life:
        """How a job goes without a fault."""
        return Life(**self._ask({"job": job}))

    def run(self, schedule: Schedule, bug: str = "") -> dict[str, Any]:
        """The verdict on a schedule."""
        return self._ask({"schedule": str(schedule), "bug": bug})

    def run_all(self, schedules: Iterable[Schedule], bug: str = "", *, first_only: bool = False) -> Report:
        """The verdicts on schedules; with `first_only`, up to the first that goes wrong."""
        report = Report()
        for schedule in schedules:
            report.add(self.run(schedule, bug))
            if first_only and report.problems:
                break
        return report

    def close(self) -> None:
        """Let it end."""
        self._server.communicate()

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{request}: {answer['error']}")
        return answer


@contextlib.contextmanager
def fork_client(folder: Path | None = None) -> Iterator[ForkClient]:
    """A server that works in memory where that can be, else in this folder of its own."""
    root = Path(tempfile.mkdtemp(prefix="batchwright-crash-", dir=folder or (MEMORY if MEMORY.is_dir() else None)))
    client = ForkClient(root)
    try:
        yield client
    finally:
        client.close()
        shutil.rmtree(root, ignore_errors=True)


def run_side_by_side(named: dict[str, Schedule], servers: int) -> Report:
    """The verdicts on schedules, several at a time."""
    report, waiting = Report(), list(named.items())

    def work(share: list[tuple[str, Schedule]]) -> None:
        with fork_client() as client:
            for name, schedule in share:
                report.add(client.run(schedule), name)

    with ThreadPoolExecutor(servers) as pool:
        list(pool.map(work, (waiting[start::servers] for start in range(servers))))
    return report

"""A process that has loaded batchwright and runs schedules in children made by fork: tens of them a second.

The one rule: it has one thread and no open database, so that a fork is safe. `fork_client.py` starts it; it takes a
request a line on its input, and answers each with a line on its output.
"""

import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from tests.crash import power
from tests.crash.clock import CLOCK, run_by_it
from tests.crash.faults import EAGER, FRESH, POWER, Life, Schedule, arm, count_lines, parse, seconds_of
from tests.crash.job_tables import prepare
from tests.crash.outcome import (
    difference,
    ledger_of,
    outcome_of,
    run_job_in,
    seen_in_part,
    sets_seen_in_part,
    wrong_calls,
    wrong_rows,
)
from tests.crash.planted import BUGS

from batchwright.databases import sqlite_keys
from batchwright.engine import run_step
from batchwright.model.fault_points import FAULT_POINTS
from batchwright.readers import line_files
from batchwright.writers import sqlite as sql

HUNG_SECONDS = 30.0

DONE, NOTHING_TO_DO, OUR_BUG = (0, 3), 10, 70

MOST_TRIES = 6


@dataclass
class Verdict:
    """What came of a schedule."""

    schedule: str
    kills: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)


class Server:
    """Runs schedules, each in a new folder below this one."""

    def __init__(self, root: Path) -> None:
        self._root, self._input = root, root / "input"
        self._expected: dict[str, Counter[str]] = {}

    def answer(self, request: dict[str, str]) -> Any:
        """How a job's life goes without a fault, or the verdict on a schedule."""
        if "job" in request:
            return asdict(self._life_of(request["job"]))
        schedule, bug = parse(request["schedule"]), request.get("bug", "")
        for _ in range(MOST_TRIES):
            verdict = self._in_new_folder(partial(self._run, schedule, bug))
            after = seconds_of(schedule.kills[0])
            if verdict.kills or verdict.problems or after is None:
                break
            schedule = replace(schedule, kills=(f"seconds:{after / 2:.5f}", *schedule.kills[1:]))
        return asdict(verdict)

    def _life_of(self, job: str) -> Life:
        began = monotonic()
        hits = self._in_new_folder(lambda folder: self._watched(job, folder, _count_hits))
        seconds = monotonic() - began
        lines = self._in_new_folder(lambda folder: self._watched(job, folder, count_lines))
        return Life({point: hits[point] for point in FAULT_POINTS if point in hits}, lines, seconds)

    def _watched(self, job: str, folder: Path, watch: Callable[[Callable[[], Any]], Any]) -> Any:
        """Run a job in a child that counts something meanwhile."""
        path = folder / "watched.json"

        def child() -> int:
            path.write_text(json.dumps(watch(lambda: run_job_in(job, folder))))
            return 0

        ended = in_child(child, folder, None)
        if ended != 0:
            raise RuntimeError(f"{job} without a fault ended with {ended}\n{_log(folder)}")
        return json.loads(path.read_text())

    def _expect(self, job: str) -> Counter[str]:
        """What an uninterrupted run leaves, without a bug, and with all the time in the world."""
        if job not in self._expected:

            def timeless(run: Callable[[], Any]) -> None:
                CLOCK.stands_still = True
                run()

            def undisturbed(folder: Path) -> Counter[str]:
                self._watched(job, folder, timeless)
                return outcome_of(job, folder)

            self._expected[job] = self._in_new_folder(undisturbed)
        return self._expected[job]

    def _run(self, schedule: Schedule, bug: str, folder: Path) -> Verdict:
        expected, verdict = self._expect(schedule.job), Verdict(str(schedule))
        ended = None
        for number, kill in enumerate(schedule.kills):
            ended = self._start(schedule, bug, folder, kill)
            if ended != -signal.SIGKILL:
                break
            verdict.kills += 1
            self._meanwhile(schedule, folder, number)
            if schedule.job in ("staged", "once", "routes"):
                verdict.problems += seen_in_part(folder, expected)
            if schedule.job == "sets":
                verdict.problems += sets_seen_in_part(folder)
        if ended == -signal.SIGKILL:
            ended = self._start(schedule, bug, folder, None)
        # Killed once all was done, the last start has nothing to do.
        if ended not in DONE and not (verdict.kills and ended == NOTHING_TO_DO):
            verdict.problems.append(f"the last start ended with {ended}\n{_log(folder)}")
            return verdict
        self._compare(verdict, expected, schedule, folder)
        again = self._start(schedule, bug, folder, None)
        if again != NOTHING_TO_DO:
            verdict.problems.append(f"another start of the finished job ended with {again}\n{_log(folder)}")
        self._compare(verdict, expected, schedule, folder)
        return verdict

    def _start(self, schedule: Schedule, bug: str, folder: Path, kill: str | None) -> int:
        def child() -> int:
            if POWER in schedule.circumstances:
                power.record(folder)
            if bug:
                BUGS[bug](setattr)
            if EAGER in schedule.circumstances:
                run_step.NOTE_SECONDS = 0.0
            if kill:
                arm(kill)
            code, nothing_to_do = run_job_in(schedule.job, folder)
            return NOTHING_TO_DO if nothing_to_do else code

        return in_child(child, folder, seconds_of(kill) if kill else None)

    def _meanwhile(self, schedule: Schedule, folder: Path, number: int) -> None:
        """What happens between a kill and the next start."""
        if POWER in schedule.circumstances:
            power.cut(folder, random.Random(f"{schedule}{number}") if number % 2 else None)
        if FRESH in schedule.circumstances and ledger_of(folder).exists():
            ledger_of(folder).parent.rename(folder / f"ledger-{number}")

    def _compare(self, verdict: Verdict, expected: Counter[str], schedule: Schedule, folder: Path) -> None:
        if verdict.problems:
            return
        found = difference(outcome_of(schedule.job, folder), expected)
        verdict.lost, verdict.twice = found.lost.total(), found.twice.total()
        if found:
            verdict.problems.append(f"it differs from an uninterrupted run:\n{found}")
        if schedule.job == "tables":
            verdict.problems += wrong_rows(folder)
        if schedule.job == "calls":
            verdict.problems += wrong_calls(folder, verdict.kills)

    def _in_new_folder(self, use: Callable[[Path], Any]) -> Any:
        if not self._input.exists():
            self._input.mkdir()
            prepare(self._input)
        folder = Path(tempfile.mkdtemp(dir=self._root))
        try:
            shutil.copytree(self._input, folder, dirs_exist_ok=True)
            return use(folder)
        finally:
            shutil.rmtree(folder)


def in_child(task: Callable[[], int], folder: Path, seconds: float | None) -> int:
    """The exit code of a task in a child, negative for the signal that killed it; killed after so many seconds."""
    alive, ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _be_child(task, folder)
    os.close(ends)
    # The child holds the other end of the pipe as long as it lives.
    ended, _, _ = select.select([alive], [], [], HUNG_SECONDS if seconds is None else seconds)
    os.close(alive)
    if not ended:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return OUR_BUG if not ended and seconds is None else code


def _be_child(task: Callable[[], int], folder: Path) -> None:
    code = OUR_BUG
    try:
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = task()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _count_hits(run: Callable[[], Any]) -> dict[str, int]:
    hits = Counter[str]()
    points = {f"batchwright.{point}": point for point in FAULT_POINTS}
    sys.addaudithook(lambda event, _: hits.update((points[event],)) if event in points else None)
    run()
    return hits


def _log(folder: Path) -> str:
    path = folder / "log.txt"
    return path.read_text()[-3000:].strip() if path.exists() else ""


def main(root: Path) -> None:
    """Answer requests until there are no more."""
    # A chunk is few rows and a block is few chunks, so that there are many places to die in.
    sql.ROWS_A_STATEMENT = 2
    sqlite_keys.MOST_NEW_KEYS = 6
    line_files.LineFile.__init__.__defaults__ = ("utf-8", 150, line_files.MAX_LINE_BYTES)
    run_by_it()
    server = Server(root)
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    main(Path(sys.argv[1]))

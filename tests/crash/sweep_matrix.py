"""Kill the jobs of the matrix and print a report: `python -m tests.crash.sweep_matrix SEED PART/PARTS ROUNDS SERVER`.

The one rule: it has one thread and no open database, so that it may fork. Each start of a job is a child, which is
killed at a random moment, or one of whose worker processes is; the last start is not, and has to complete.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path

import psutil
from tests.crash.fork_client import MEMORY
from tests.crash.matrix_jobs import BEGUN, EXPECTED, RUNNERS, WRITERS, job, prepare, problems, written
from tests.crash.planted import BUGS

from batchwright import run
from batchwright.model.work import Outcome
from batchwright.runners.processes import ProcessWorkers
from batchwright.testing.crash_points import crash_at

POINTS = ("K4", "K6", "K7", "K9", "K10", "K11", "K13", "K14", "K15", "K16", "K17", "K21")

TRIES = 6

HUNG_SECONDS = 60.0

POLL_SECONDS = 0.001


@dataclass
class Report:
    """What came of it all. Kills are counted by runner, and those of workers by themselves."""

    starts: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    workers: int = 0
    lost: int = 0
    twice: int = 0
    again: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Place:
    """A place in the matrix, while it is killed."""

    runner: str
    writer: str
    chance: random.Random
    server: str
    life: float
    break_it: Callable[[], None]
    folder: Path = Path()
    kills: int = 0
    workers: int = 0
    said: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Which it is, and what was done to it."""
        return f"{self.runner} into {self.writer}: {', '.join(self.said)}"

    def begin(self) -> None:
        """Anew, in a folder of its own."""
        self.end()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.kills, self.workers = 0, 0
        self.said = []
        prepare(self.writer, self.folder)

    def end(self) -> None:
        """Leave nothing behind."""
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)


def sweep(places: Iterator[Place]) -> Report:
    """Kill each of them until it was killed at least once, then let it complete, and look."""
    report = Report()
    for place in places:
        try:
            _kill_and_complete(place, report)
        finally:
            place.end()
    return report


def _kill_and_complete(place: Place, report: Report) -> None:
    for _ in range(TRIES):
        place.begin()
        for _ in range(place.chance.choice((1, 1, 2, 3))):
            report.starts += 1
            code = _start(place, killed=True)
            if code not in (0, -signal.SIGKILL):
                report.problems.append(f"{place}: a start ended with {code}\n{_log(place)}")
            if code != -signal.SIGKILL:
                break
            place.kills += 1
        if place.kills:
            break
        place.life /= 1.5
    report.starts += 1
    name = str(place)
    code = _start(place, killed=False)
    report.kills[place.runner] = report.kills.get(place.runner, 0) + place.kills
    report.workers += place.workers
    if not place.kills:
        report.problems.append(f"{name}: it was never killed")
    if code:
        report.problems.append(f"{name}: the last start ended with {code}\n{_log(place)}")
        return
    found = written(place.writer, place.folder, place.server)
    more = (Counter(found) - Counter(EXPECTED)).total()
    report.lost += (Counter(EXPECTED) - Counter(found)).total()
    if place.writer == "function":
        report.again += more
    else:
        report.twice += more
    if more and place.writer != "function":
        report.problems.append(f"{name}: {more} are there twice")
    report.problems += [f"{name}: {text}" for text in problems(place.writer, place.folder, found, place.kills)]


def _start(place: Place, *, killed: bool) -> int:
    """Start the job in a child; its exit code, or the signal that ended it, below zero."""
    chance, point = place.chance, ""
    seconds, worker = (chance.uniform(0.02, 1.0) * place.life, HUNG_SECONDS) if killed else (HUNG_SECONDS, HUNG_SECONDS)
    if killed and chance.random() < 0.5:
        point = f"{chance.choice(POINTS)}:{chance.randint(1, 8)}"
    if place.runner == "processes" and chance.random() < 0.7:
        worker = chance.uniform(0.0, 0.7) * place.life
    also = f", a worker after {worker:.4f} s" if worker < HUNG_SECONDS else ""
    place.said.append(f"{point or f'{seconds:.4f} s'}{also}")
    (place.folder / BEGUN).unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _be_child(place, point)
    # Most moments lie between the first item and the end; some of a child that is killed lie before.
    waits = not killed or chance.random() < 0.8
    return _watch(place, child, (HUNG_SECONDS if point else seconds, worker), waits=waits)


def _watch(place: Place, child: int, after: tuple[float, float], *, waits: bool) -> int:
    """Wait for a child's end, killing it, and one of its workers, after so many seconds."""
    (seconds, worker), began = after, time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if waits:
            waits = not (place.folder / BEGUN).exists()
            began = time.monotonic() if not waits else began
        passed = time.monotonic() - began
        if not waits and passed > worker and _kill_a_worker(child, place.chance):
            place.workers, worker = place.workers + 1, HUNG_SECONDS
        if passed > (HUNG_SECONDS if waits else seconds):
            os.kill(child, signal.SIGKILL)
            seconds = HUNG_SECONDS
        time.sleep(POLL_SECONDS)


def _kill_a_worker(child: int, chance: random.Random) -> bool:
    """Whether there was one: a child of the child's nursery."""
    with suppress(psutil.Error):
        workers = [worker for nursery in psutil.Process(child).children() for worker in nursery.children()]
        if workers:
            chance.choice(workers).kill()
            return True
    return False


def _be_child(place: Place, point: str) -> None:
    code = 70
    try:
        log = os.open(place.folder / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        place.break_it()
        if point:
            name, hit = point.split(":")
            crash_at(name, int(hit))
        work = job(place.runner, place.writer, place.folder, place.server)
        result = run(work, ledger=place.folder / "ledger.db", check=False)
        code = 0 if result.status.complete else 1
        if code:
            print(result)  # noqa: T201 - into the log of a process that is killed
    except BaseException as error:
        print(repr(error), file=sys.stderr)  # noqa: T201 - as above
    finally:
        sys.stdout.flush()
        os._exit(code)


def _log(place: Place) -> str:
    path = place.folder / "log.txt"
    return path.read_text()[-2000:].strip() if path.exists() else ""


def _blames_everybody() -> None:
    """Planted: a worker's death is the failure of every item that was in work."""

    def blame(workers: ProcessWorkers, piece: object, code: int, _worker: object) -> None:
        error = workers._died(code, "", "")
        workers._conclude(piece, Outcome(piece.number, ended_by=error))  # type: ignore[arg-type,attr-defined] # a piece

    ProcessWorkers._blame = blame  # type: ignore[assignment] # planted


def _bug(name: str) -> Callable[[], None]:
    if name == "blames_everybody":
        return _blames_everybody
    return lambda: BUGS[name](setattr) if name else None


def _lives(server: str) -> dict[str, float]:
    """About how long a run works that nobody kills, by runner."""
    lives = {}
    for runner in RUNNERS:
        place = Place(runner, "text", random.Random(0), server, 0.0, lambda: None)
        place.begin()
        if _start(place, killed=False):
            raise RuntimeError(_log(place))
        lives[runner] = time.time() - (place.folder / BEGUN).stat().st_mtime
        place.end()
    return lives


def main(seed: str, part: str, rounds: str, server: str, bug: str = "") -> None:
    """The places of one part, so many times over; without a server, those that need none."""
    first, step = map(int, part.split("/"))
    wanted = [writer for writer in WRITERS if server or writer != "postgres"]
    if bug:
        wanted = ["insert"]
    lives, plant = _lives(server), _bug(bug)
    runners = ["processes"] if bug == "blames_everybody" else list(RUNNERS)
    everything = product(range(int(rounds)), runners, wanted)
    places = (
        Place(runner, writer, random.Random(f"{seed} {number} {runner} {writer}"), server, lives[runner], plant)
        for number, runner, writer in islice(everything, first, None, step)
    )
    print(json.dumps(asdict(sweep(places))))  # noqa: T201 - that is its answer


if __name__ == "__main__":
    main(*sys.argv[1:])

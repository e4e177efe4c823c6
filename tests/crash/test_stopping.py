"""Runs that are asked to stop: by signals at every fault point, and in the middle of what takes long.

The figures of how long a stop takes are printed: `pytest tests/crash/test_stopping.py -s`.
"""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from tests.crash.commands import JOBS_FILE, SECONDS, new_folder
from tests.crash.fork_client import ROOT
from tests.crash.held import GATE, PROGRAM, Held, report
from tests.crash.outcome import difference, ledger_of, outcome_of

SIGNALLED = """
import os, signal, sys
from itertools import count
from batchwright.cli import main
point, hit, names = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1).split("+")
reached = count(1)
def send(event, _):
    if event == f"batchwright.{point}" and next(reached) == hit:
        for name in names:
            os.kill(os.getpid(), signal.Signals[name])
sys.addaudithook(send)
sys.exit(main())
"""

CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}

ONCE, TWICE = ("SIGTERM", "SIGINT", "SIGHUP"), ("SIGTERM+SIGTERM", "SIGINT+SIGINT", "SIGTERM+SIGINT")

POINTS = {
    "tables": [
        *("K1:1", "K2:1", "K3:2", "K4:1", "K5:30", "K6:4", "K7:3", "K8:5", "K9:3"),
        *("K10:4", "K11:5", "K13:6", "K17:2", "K18:2", "K19:1", "K21:1", "K22:1"),
    ],
    "files": ["K5:9", "K14:2", "K15:1", "K16:1"],
}

CASES = [
    (job, point, names[number % 3])
    for job, points in POINTS.items()
    for number, point in enumerate(points)
    for names in (ONCE, TWICE)
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("undisturbed")
    folders = {job: new_folder(parent, job) for job in POINTS}
    for job, folder in folders.items():
        assert subprocess.run(run_of(job, folder), cwd=ROOT, check=False, capture_output=True).returncode == 3
    return folders


def run_of(job: str, folder: Path, *before: str) -> list[str]:
    options = ["--folder", str(folder), "--ledger", str(ledger_of(folder)), "--no-progress"]
    return [*(before or PROGRAM), "run", f"{JOBS_FILE}:{job}", *options]


@pytest.mark.parametrize(("job", "point", "names"), CASES)
def test_signalled_at_any_point_and_run_again_a_job_ends_as_if_it_had_not_been(
    job: str, point: str, names: str, tmp_path: Path, undisturbed: dict[str, Path]
):
    folder, (at, hit) = new_folder(tmp_path, job), point.split(":")
    signalled = run_of(job, folder, sys.executable, "-c", SIGNALLED, at, hit, names)
    stopped = subprocess.run(signalled, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    codes = {CODES[name] for name in names.split("+")}
    # Before the run begins, and behind its last step, one signal finds nothing that could be stopped.
    finished = {3} if "+" not in names and at in ("K19", "K22") else set()
    assert stopped.returncode in codes | finished, stopped.stderr
    assert "Traceback" not in stopped.stderr
    last = subprocess.run(run_of(job, folder), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert last.returncode == 3, last.stderr
    assert not difference(outcome_of(job, folder), outcome_of(job, undisturbed[job]))


LONG_JOBS = (
    GATE
    + """
from batchwright import each
from batchwright.readers import query
from batchwright.writers import execute, insert

TARGET = f"sqlite:///{HERE}/target.db"
N = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000)"
FOR_MINUTES = f"{N} SELECT max(i) AS i FROM n"

def fast() -> Job:
    return Job("fast", Step("s", read=range(50_000_000), process=process, write=insert(TARGET, "t")))

def slow() -> Job:
    return Job("slow", Step("s", read=range(1_000), process=process_slowly, write=insert(TARGET, "t")))

def slow_reader() -> Job:
    return Job("slow_reader", Step("s", read=slow_numbers, process=lambda n: {"i": n}, write=insert(TARGET, "t")))

def slow_each() -> Job:
    return Job("slow_each", Step("s", read=range(5_000), write=each(write_slowly)))

def reading() -> Job:
    first = Step("first", read=numbers, write=lambda chunk: None)
    return Job("reading", first, Step("s", read=query(TARGET, FOR_MINUTES, key="i"), write=insert(TARGET, "t")))

def writing() -> Job:
    sql = f"INSERT INTO t SELECT i + :i FROM ({FOR_MINUTES})"
    return Job("writing", Step("s", read=lambda: ({"i": n} for n in numbers()), write=execute(TARGET, sql)))

def locked() -> Job:
    return Job("locked", Step("s", read=numbers_then_lock, process=lambda n: {"i": n}, write=insert(TARGET, "t")))
"""
)


def lock(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=SECONDS)
    connection.execute("BEGIN IMMEDIATE")
    return connection


Start = Callable[..., Held]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Held] = []

    def begin(job: str, *options: str) -> Held:
        with closing(sqlite3.connect(tmp_path / "target.db")) as connection:
            connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (i INTEGER)")
        started.append(Held(tmp_path, LONG_JOBS, job, *options))
        return started[-1]

    yield begin
    for held in started:
        held.close()


@pytest.mark.parametrize(
    ("job", "most"),
    [("fast", 1.0), ("slow", 2.5), ("slow_reader", 2.5), ("slow_each", 2.5), ("reading", 1.0), ("locked", 1.0)],
)
def test_a_run_stops_soon_after_a_signal(job: str, most: float, start: Start):
    held = start(job)
    held.wait_for_it()
    if job == "locked":
        held_lock = lock(held.folder / "target.db")
        (held.folder / "go").write_text("")
        held.lasts(0.5)
    held.process.send_signal(signal.SIGTERM)
    seconds = held.seconds_to_the_end()
    report(f"SIGTERM, {job}", seconds)
    assert held.process.returncode == 143
    assert seconds < most
    if job == "locked":
        held_lock.close()
    told = held.told()
    assert (told["status"], told["error"]) == ("STOPPED", "stopped by SIGTERM")


@pytest.mark.parametrize(("signals", "options", "most"), [(2, (), 1.0), (1, ("--grace", "1"), 2.0)])
def test_a_statement_that_writes_ends_with_the_second_signal_or_the_time_of_grace(
    signals: int, options: tuple[str, ...], most: float, start: Start
):
    held = start("writing", *options)
    held.wait_for_it()
    held.process.send_signal(signal.SIGTERM)
    if signals == 2:
        held.lasts(1.0)
        held.process.send_signal(signal.SIGTERM)
    seconds = held.seconds_to_the_end()
    report(f"{signals} SIGTERM {' '.join(options)}, writing", seconds)
    assert held.process.returncode == 143
    assert seconds < most
    assert "stopped at once" in held.said()
    assert held.told()["status"] == "STOPPED"


def test_a_locked_ledger_does_not_outlast_the_time_of_grace(start: Start):
    held = start("slow", "--grace", "1")
    held.wait_for_it()
    held_lock = lock(held.folder / ".batchwright" / "ledger.db")
    held.process.send_signal(signal.SIGTERM)
    seconds = held.seconds_to_the_end()
    held_lock.close()
    report("SIGTERM --grace 1, ledger locked", seconds)
    assert held.process.returncode == 143
    assert seconds < 2.5
    assert held.told()["status"] in ("LOST", "STOPPED")


@pytest.mark.parametrize("job", ["slow", "reading"])
def test_another_process_stops_a_run_which_says_so_and_is_gone_on_with(job: str, start: Start):
    held = start(job)
    held.wait_for_it()
    began = monotonic()
    stopped = held.call("stop", "1", "--wait")
    seconds = monotonic() - began
    report(f"batchwright stop --wait, {job}", seconds)
    assert stopped.returncode == 0, stopped.stderr
    assert seconds < 4
    assert held.process.wait(SECONDS) == 5
    said = held.said()
    assert "stopping at the end of this chunk: stopped by " in said
    assert "next: batchwright resume 1" in said
    assert "run 1 of " in stopped.stderr
    assert ": stopped\n" in stopped.stderr
    assert held.told()["stop_requested"]


def test_nohup_keeps_a_run_from_hearing_that_its_terminal_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        held = start("slow")
    finally:
        signal.signal(signal.SIGHUP, before)
    held.wait_for_it()
    held.process.send_signal(signal.SIGHUP)
    held.lasts(1.0)
    held.process.send_signal(signal.SIGTERM)
    assert held.process.wait(SECONDS) == 143

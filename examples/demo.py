"""The promise, shown: run the flights job, run it again and kill it half-way, go on, and compare.

    python examples/demo.py            (or: make demo)

The one rule: the runs are real ones, `batchwright run` in processes of their own, and the kill is SIGKILL.
"""

import argparse
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fetch_flights import FLIGHTS, fetch_flights

Result = TypeVar("Result")

JOB = Path(__file__).resolve().parent / "flights.py"
BATCHWRIGHT = Path(sys.executable).parent / "batchwright"

GOOD_EXITS = (0, 3)
"""Complete, and complete with failures: some flights contradict themselves, and that is reported."""

SHOW_CURSOR = "\x1b[?25h"
"""A killed process leaves the terminal as it was; ours had hidden the cursor for its progress bar."""


@dataclass(frozen=True)
class Trial:
    """One run of the job into a folder of its own."""

    source: Path
    folder: Path

    @property
    def database(self) -> Path:
        """The database that the flights are loaded into."""
        return self.folder / "flights.db"

    def command(self, *words: str) -> list[str | Path]:
        """A batchwright command on this trial's own ledger."""
        return [BATCHWRIGHT, *words, "--ledger", self.folder / "ledger.db"]

    def start(self) -> "subprocess.Popen[str]":
        """The job, in a process of its own. Its progress goes to the terminal, its result comes as JSON."""
        given = ("--source", str(self.source), "--folder", str(self.folder))
        return subprocess.Popen(
            self.command("run", f"{JOB}:flights", *given, "--json"), stdout=subprocess.PIPE, text=True
        )


def main() -> int:
    """Exit code 1 unless the killed run ends exactly like the uninterrupted one."""
    given = arguments()
    say(f"\nBatchwright: kill it anywhere, run it again.\n\n1. Fetch the data: {fetch_flights()}")
    source, rows = slice_of(FLIGHTS, given.rows, given.folder)
    whole, killed = (fresh(source, given.folder / name) for name in ("uninterrupted", "killed"))

    say(f"\n2. Load {rows:,} flights into SQLite and write a report a day, uninterrupted.\n")
    expected, seconds = timed(lambda: finish(whole.start()))

    say("\n3. The same into another folder; this one is killed half-way.\n")
    at, first = timed(lambda: kill_half_way(killed, rows // 2))
    say(f"\n   SIGKILL, with {at:,} of {rows:,} flights in the table. Nothing was closed, flushed or rolled back.")

    say("\n4. The same command again.\n")
    found, rest = timed(lambda: finish(killed.start()))

    say(f"\n5. The proof. Uninterrupted it took {seconds:.1f} s; killed and run again {first:.1f} s + {rest:.1f} s.\n")
    return report(evidence(whole, expected), evidence(killed, found))


def arguments() -> argparse.Namespace:
    """What to run on, and where."""
    parser = argparse.ArgumentParser(description="Run the flights job, kill it, run it again, compare.")
    parser.add_argument("--rows", type=int, help="use the first N flights only")
    parser.add_argument("--folder", type=Path, default=FLIGHTS.parent / "demo", help="where everything is written")
    return parser.parse_args()


def slice_of(source: Path, rows: int | None, folder: Path) -> tuple[Path, int]:
    """The first rows of the file, or all of it; and how many there are."""
    if rows is None:
        with source.open("rb") as lines:
            return source, sum(1 for _ in lines) - 1
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "flights.csv"
    with source.open() as lines:
        part.write_text("".join(islice(lines, rows + 1)))
    return part, rows


def fresh(source: Path, folder: Path) -> Trial:
    """A trial in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Trial(source, folder.resolve())


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for the run; its result."""
    output, _ = process.communicate()
    if process.returncode not in GOOD_EXITS:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


def kill_half_way(trial: Trial, half: int) -> int:
    """Start the job, kill it as soon as so many flights are committed, and say how many there are."""
    process = trial.start()
    while process.poll() is None:
        if flights_in(trial.database) >= half:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"the run was to be killed but ended first, with exit code {process.returncode}")
    if sys.stderr.isatty():
        sys.stderr.write(SHOW_CURSOR)
    return flights_in(trial.database)


def flights_in(database: Path) -> int:
    """How many flights are committed."""
    try:
        return int(next(select(database, "SELECT count(*) FROM flights"))[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def evidence(trial: Trial, result: dict[str, Any]) -> dict[str, str]:
    """What a run left behind, in lines that can be compared."""
    rows = sorted(map(repr, select(trial.database, "SELECT * FROM flights")))
    listed = subprocess.run(
        trial.command("failures", str(result["run"]), "--format", "jsonl"), stdout=subprocess.PIPE, check=True
    )
    failures = sorted(map(describe, map(json.loads, listed.stdout.splitlines())))
    shown = {"flights in the table": f"{len(rows):,}", "the table, sorted": digest("\n".join(rows))}
    shown["the daily report"] = digest((trial.folder / "daily.csv").read_text())
    for step in result["steps"]:
        counts = step["counts"]
        shown[f"{step['name']}: read"] = f"{counts['read']:,}"
        shown[f"{step['name']}: written + filtered + failed"] = " + ".join(
            f"{counts[name]:,}" for name in ("written", "filtered", "failed")
        )
    return shown | {
        "failures kept": f"{len(failures):,}",
        "their lines, errors and records": digest("\n".join(failures)),
    }


def describe(failure: dict[str, Any]) -> str:
    """A failure without the run's number and time: where it stands, what was wrong, and the record itself."""
    return json.dumps([failure[name] for name in ("step", "line", "byte", "error_type", "error", "payload")])


def select(database: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a database that others may be writing to."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        yield from connection.execute(sql)
    finally:
        connection.close()


def digest(text: str) -> str:
    """The first 64 bits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def report(expected: dict[str, str], found: dict[str, str]) -> int:
    """Print both side by side; the exit code."""
    wide = max(map(len, (*expected.values(), *found.values(), "killed, run again")))
    say(f" {'':33} {'uninterrupted':>{wide}} {'killed, run again':>{wide}} equal")
    for name, value in expected.items():
        say(f" {name:33} {value:>{wide}} {found[name]:>{wide}} {'yes' if value == found[name] else 'NO'}")
    if expected != found:
        say("\n The two differ: this is a bug in Batchwright.\n")
        return 1
    say("\n Nothing lost, nothing twice, every broken record kept with its line and error.\n")
    return 0


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and the seconds that it took."""
    started = time.monotonic()
    return call(), time.monotonic() - started


def say(text: str) -> None:
    """Print at once: between the lines of the processes that we start."""
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")

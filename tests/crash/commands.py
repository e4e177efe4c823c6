"""Reference jobs as real processes, started by the command line."""

import subprocess
import sys
from pathlib import Path

from tests.crash.fork_client import ROOT
from tests.crash.job_tables import prepare
from tests.crash.outcome import difference, ledger_of, outcome_of, wrong_rows
from tests.crash.planted import SHOWS_IN

JOBS_FILE = Path(__file__).with_name("jobs.py")

KILLED = -9

KILLS = (
    ("tables", "K10:9", "K11:3"),
    ("tables", "K13:9"),
    ("tables", "K17:3", "K4:1"),
    ("files", "K14:6", "K3:1", "K15:1"),
    ("files", "K16:2"),
    ("routes", "K9:9", "K11:3"),
    ("sets", "K8:1", "K8:9", "K15:1"),
    ("late", "K18:3", "line:5000"),
    ("late", "K17:2"),
    ("staged", "K10:30"),
    ("staged", "K10:18"),
    ("once", "K6:5"),
    ("parts", "K28:1", "K10:4"),
)

SECONDS = 60

Done = subprocess.CompletedProcess[str]


def command(name: str, folder: Path, kill: str = "-", bug: str = "-") -> list[str]:
    """The command line that runs a job in a folder."""
    options = ["--folder", str(folder), "--ledger", str(ledger_of(folder)), "--no-progress"]
    return [sys.executable, "-m", "tests.crash.drive", kill, bug, "run", f"{JOBS_FILE}:{name}", *options]


def start(name: str, folder: Path, kill: str = "-", bug: str = "-") -> Done:
    """Run a job in a folder to the end of its process."""
    return subprocess.run(
        command(name, folder, kill, bug), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def new_folder(parent: Path, name: str) -> Path:
    """A folder with the input of every job."""
    folder = parent / name
    folder.mkdir()
    prepare(folder)
    return folder


def kill_and_compare(parent: Path, bug: str = "-", *, new_ledger: bool = False) -> list[str]:
    """What is wrong after kills of real processes, and of those that recover from them."""
    expected, wrong = {}, []
    first = SHOWS_IN.get(bug, ())
    for number, (name, *kills) in enumerate(sorted(KILLS, key=lambda kills: kills[0] not in first)):
        if name not in expected:
            undisturbed = new_folder(parent, name)
            assert start(name, undisturbed).returncode == 3
            expected[name] = outcome_of(name, undisturbed)
        folder = new_folder(parent, str(number))
        for again, kill in enumerate(kills):
            killed = start(name, folder, kill, bug)
            if killed.returncode != KILLED and bug == "-":
                wrong.append(f"{name} {kill} was not killed: {killed.returncode} {killed.stderr}")
            elif new_ledger and killed.returncode == KILLED:
                ledger_of(folder).parent.rename(folder / f"ledger-{again}")
        last = start(name, folder, bug=bug)
        if last.returncode != 3:
            wrong.append(f"{name} {kills} ended with {last.returncode}: {last.stderr}")
        elif found := difference(outcome_of(name, folder), expected[name]):
            wrong.append(f"{name} {kills} differs:\n{found}")
        elif name == "tables":
            wrong += wrong_rows(folder)
        if wrong and bug != "-":
            break
    return wrong

"""What SQLite is asked to do, and does, so that an acknowledged commit survives a power cut.

A kill cannot show this: what was written and not synced outlives a process. So the settings are read back through the
writer's own connection, and the system calls of a run are looked at: no write to a log may be unsynced when it counts.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.crash.commands import command, new_folder
from tests.crash.fork_client import ROOT
from tests.crash.job_tables import ORDERS, execute_script
from tests.crash.planted import no_fsync
from tests.crash.power import is_durable

from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert

TRACED = "openat,openat2,open,pwrite64,write,fdatasync,fsync,unlink"

CALL = re.compile(r"(?:\[pid +\d+\] |\d+ +)?(\w+)\((\d+)<([^>]*)>(.*)")


def test_a_new_target_a_given_one_and_the_ledger_are_durable(tmp_path: Path):
    assert not careless_connections(tmp_path)


def test_without_a_sync_that_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    no_fsync(monkeypatch.setattr)
    assert careless_connections(tmp_path) == ["ledger", "new", "given"]


@pytest.mark.parametrize("job", ["tables", "late"])
def test_when_a_commit_counts_all_that_sqlite_wrote_is_synced(job: str, tmp_path: Path):
    assert unsynced_commits(job, tmp_path) == []


@pytest.mark.parametrize("job", ["tables", "late"])
def test_without_a_sync_unsynced_commits_are_seen(job: str, tmp_path: Path):
    assert unsynced_commits(job, tmp_path, "no_fsync")


def careless_connections(folder: Path) -> list[str]:
    """Those of a ledger, a new target and a given one with a rollback journal that may lose what they acknowledged."""
    execute_script(folder / "given.db", ORDERS)
    ledger = SqliteLedger(folder / "ledger.db")
    connections: dict[str, Any] = {"ledger": ledger._connection}
    sinks = []
    for name in ("new", "given"):
        scope = Scope(StepKey("durable", "0", 1, name), ledger, FakeClock())
        sink: Any = insert(f"sqlite:///{folder}/{name}.db", "facts").open(scope)
        sink.recall()
        sink.write([{"id": 1}])
        sink.commit(Checkpoint(Position(1), Counts(read=1, written=1, outputs=1, commits=1)), ())
        connections[name] = sink._connection
        sinks.append(sink)
    careless = [name for name, connection in connections.items() if not is_durable(connection)]
    for open_one in (*sinks, ledger):
        open_one.close()
    return careless


def unsynced_commits(job: str, parent: Path, bug: str = "-") -> list[str]:
    """Each point of a run behind a commit at which a write-ahead log, or a journal, has bytes that are not synced."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    works = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False)
    if works.returncode != 0:
        pytest.skip("strace may not trace here")
    folder, trace = new_folder(parent, "traced"), parent / "trace.txt"
    run = [*command(job, folder, bug=bug)]
    marked = [sys.executable, "-m", "tests.crash.mark_commits", *run[3:]]
    done = subprocess.run(
        [strace, "-f", "-y", "-o", str(trace), "-e", f"trace={TRACED}", *marked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    found = _unsynced(trace.read_text().splitlines())
    assert found is not None, "no commit was seen"
    return found


def _unsynced(lines: list[str]) -> list[str] | None:
    dirty: set[str] = set()
    logged = {path.removesuffix("-wal") for path in re.findall(r"<([^>]*-wal)>", "\n".join(lines))}
    commits, wrong = 0, []
    for line in lines:
        call = CALL.match(line)
        if call is None:
            continue
        name, _, path, rest = call.groups()
        if name == "pwrite64" and path.endswith(("-wal", "-journal", ".db")):
            dirty.add(path)
        elif name in ("fdatasync", "fsync"):
            dirty.discard(path)
        elif name == "write" and "committed" in rest:
            commits += 1
            # In WAL mode the database itself is written at checkpoints, from a log that is synced and kept.
            wrong += [f"commit {commits}: {each}" for each in sorted(dirty - logged)]
    return wrong if commits else None

"""An owner frozen past its lease: its successor takes over, and once it wakes up it commits and publishes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.postgres.frozen_job import CHUNK, ITEMS, TIMES, held, job
from tests.postgres.server import Fresh

from batchwright.ledgers.postgres import PostgresLedger
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.status import Status

pytestmark = pytest.mark.crash

SCRIPT = Path(__file__).with_name("frozen_job.py")
SECONDS = 60
EVERYTHING = list(range(ITEMS))


class World:
    """One database, one folder, one kind of target."""

    def __init__(self, fresh: Fresh, folder: Path, kind: str) -> None:
        self.fresh, self.folder, self.kind = fresh, folder, kind
        self.url = fresh.url_of("postgres", idle_in_transaction_session_timeout="1000")
        self.key = job(self.url, folder, kind).key

    def start(self, *where: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), self.url, str(self.folder), self.kind, *where]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)

    def finish(self) -> int:
        """Run the job in another process to its end; its exit code."""
        return ended(self.start())[0]

    @contextmanager
    def frozen(self, point: str, hit: int) -> Iterator[subprocess.Popen[str]]:
        """A process that has stopped itself at this point and whose lease has lapsed since."""
        process = self.start(point, str(hit))
        try:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert process.poll() is None, process.communicate()
            self.fresh.connection.execute(
                "SELECT pg_sleep(greatest(0, extract(epoch FROM lease_until - clock_timestamp())) + 0.05) "
                f"FROM {self.fresh.records}.batchwright_leases"
            )
            yield process
        finally:
            process.kill()
            process.communicate(timeout=SECONDS)

    def ledger(self) -> PostgresLedger:
        return PostgresLedger(self.url, times=TIMES)

    def recorded(self) -> list[tuple]:
        """Everything that a zombie could write to: rows of the ledger, and what the target holds."""
        tables = ("checkpoints", "failures", "job_executions", "step_executions")
        rows = [
            self.fresh.rows(f"SELECT * FROM {self.fresh.records}.batchwright_{table} ORDER BY 1, 2") for table in tables
        ]
        return [*rows, held(self.url, self.folder, self.kind)]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors


def wake(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGCONT)
    return ended(process)


@pytest.mark.parametrize(
    ("kind", "point", "hit"),
    [
        ("function", "item", 25),
        ("function", "K13", 3),
        ("sqlite", "item", 25),
        ("sqlite", "K13", 3),
        ("postgres", "item", 25),
        ("postgres", "K9", 3),
        ("postgres", "K10", 3),
    ],
)
def test_its_successor_completes_the_work_and_the_zombie_does_nothing_more(fresh, tmp_path, kind, point, hit):
    world = World(fresh, tmp_path, kind)
    with world.frozen(point, hit) as zombie:
        assert world.finish() == 0
        before = world.recorded()
        assert before[-1] == EVERYTHING
        code, said = wake(zombie)
        assert code == 1, said
        assert "FencedError: job 'frozen':" in said
        assert "another process has taken this work over" in said or "cannot be trusted any more" in said
        assert world.recorded() == before
    assert world.finish() == 0
    assert held(world.url, tmp_path, kind) == EVERYTHING


@pytest.mark.parametrize(
    ("kind", "point", "hit"),
    [
        ("sqlite", "K7", 3),
        ("sqlite", "K9", 3),
        ("file", "item", 25),
        ("file", "K14", 3),
        ("file", "K14", ITEMS // CHUNK + 1),
        ("file", "K21", 1),
    ],
)
def test_what_it_holds_locked_on_the_same_machine_it_lets_go_without_committing(fresh, tmp_path, kind, point, hit):
    world = World(fresh, tmp_path, kind)
    # The stage, or SQLite's write lock, is still the zombie's: its successor has the lease and has to wait.
    with world.frozen(point, hit) as zombie, closing(world.ledger()) as ledger, ledger.own(world.key):
        before = world.recorded()
        code, said = wake(zombie)
        assert code == 1, said
        assert "FencedError: job 'frozen':" in said
        assert world.recorded() == before
    assert world.finish() == 0
    assert held(world.url, tmp_path, kind) == EVERYTHING


@pytest.mark.parametrize("kind", ["function", "file"])
def test_no_fence_would_be_seen(fresh, tmp_path, monkeypatch, kind):
    world = World(fresh, tmp_path, kind)
    monkeypatch.setenv("PLANTED", "no fence")
    with world.frozen("item", 25) as zombie, closing(world.ledger()) as ledger, ledger.own(world.key):
        before = world.recorded()
        wake(zombie)
        assert world.recorded() != before


def test_a_start_while_a_zombie_holds_the_stage_says_so_and_changes_nothing(fresh, tmp_path):
    world = World(fresh, tmp_path, "file")
    with world.frozen("item", 25) as zombie:
        code, said = ended(world.start())
        assert code != 0
        assert "another process holds" in said
        assert wake(zombie)[0] == 1
    assert world.finish() == 0
    assert held(world.url, tmp_path, "file") == EVERYTHING


def test_a_process_that_was_frozen_for_less_than_its_lease_goes_on(fresh, tmp_path):
    world = World(fresh, tmp_path, "function")
    process = world.start("item", "25")
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert wake(process)[0] == 0
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)
    assert held(world.url, tmp_path, "function") == EVERYTHING


def test_a_process_that_a_terminal_has_suspended_looks_at_its_lease_first(fresh, tmp_path, monkeypatch):
    world = World(fresh, tmp_path, "postgres")
    monkeypatch.setenv("FREEZES_BY", "SIGTSTP")
    with world.frozen("item", 25) as zombie, closing(world.ledger()) as ledger, ledger.own(world.key):
        before = world.recorded()
        code, said = wake(zombie)
        assert code == 1
        assert "FencedError" in said
        assert world.recorded() == before
    assert world.finish() == 0
    assert held(world.url, tmp_path, "postgres") == EVERYTHING


def test_a_killed_owner_is_recovered_at_once_on_its_own_machine(fresh, tmp_path):
    world = World(fresh, tmp_path, "function")
    process = world.start("K13", "3")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    with closing(PostgresLedger(world.url)) as ledger:
        fresh.connection.execute(
            f"UPDATE {fresh.records}.batchwright_leases SET lease_until = now() + interval '1 hour'"
        )
        process.kill()
        process.communicate(timeout=SECONDS)
        with ledger.own(world.key) as lease:
            assert lease.epoch == 2
            with closing(ledger.history()) as history:
                assert history.runs()[0].status is Status.LOST
            checkpoint = ledger.load_checkpoint(next(iter(keys(ledger, world))))
            assert isinstance(checkpoint, Checkpoint)
            assert checkpoint.position.ordinal == 3 * CHUNK


def keys(ledger: PostgresLedger, world: World) -> Iterator:
    with closing(ledger.history()) as history:
        yield from (step.key for step in history.steps(history.runs()[0].id))

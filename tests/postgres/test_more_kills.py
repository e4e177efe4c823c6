"""Killed on a PostgreSQL ledger, target or both: effects and their undoing, replays, loops, and `distinct` into a file.

`BATCHWRIGHT_POSTGRES_MORE_KILLS=100` kills more often. A failing schedule is named by its seed.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.crash.fork_client import ROOT
from tests.postgres.forked import started
from tests.postgres.server import Fresh
from tests.postgres.test_kill_sweep import some_kill

from batchwright import Job, Skip, Step, distinct, prune_targets, replay, resumable, run
from batchwright.databases import postgres_keys
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.writers import insert, postgres, text_file

pytestmark = pytest.mark.crash

SCHEDULES = int(os.environ.get("BATCHWRIGHT_POSTGRES_MORE_KILLS") or 3)

SEED = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))

ITEMS = 24

LEDGERS = ("in the target's database", "a file")


def place_of(ledger: str, fresh: Fresh, folder: Path) -> str:
    return fresh.url if ledger == LEDGERS[0] else f"sqlite:///{folder}/ledger.db"


def killed_and_gone_on_with(work: Callable[[], bool], chance: random.Random, look: Callable[[], None]) -> int:
    """Kill the work up to three times and let it come to its end; after each kill somebody looks. How many."""
    kills = [some_kill(chance) for _ in range(chance.randint(1, 3))]
    killed = 0
    for kill in [*kills, None]:
        ended = started(work, kill)
        look()
        if ended != -signal.SIGKILL:
            break
        killed += 1
    assert ended == 0, f"seed {SEED}: {kills}"
    return killed


def nobody_looks() -> None:
    """What is in between is not compared."""


def test_effects_in_a_postgres_ledger_are_made_and_undone_once(fresh: Fresh, tmp_path: Path, monkeypatch):
    told = schedules_of_effects(fresh, tmp_path, monkeypatch, "-", SCHEDULES)
    words = [int(word) for word in told.replace(",", "").split() if word.isdigit()]
    assert told.startswith("schedules:"), told
    assert words[0] == SCHEDULES
    assert words[1] or SCHEDULES < 3, told


def test_a_bug_planted_into_effects_is_seen(fresh: Fresh, tmp_path: Path, monkeypatch):
    found = schedules_of_effects(fresh, tmp_path, monkeypatch, "intent_after_the_call", 6)
    assert "in the ledger when it came" in found or "came again" in found, found


def schedules_of_effects(fresh: Fresh, folder: Path, monkeypatch, bug: str, some: int) -> str:
    monkeypatch.setenv("EFFECTS_LEDGER", fresh.server.url)
    own = folder / fresh.name
    own.mkdir()
    command = [sys.executable, "-m", "tests.crash.effect_schedules", str(own), bug, SEED, str(some)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    finally:
        for number in range(some):
            fresh.connection.execute(f'DROP SCHEMA IF EXISTS "{fresh.name}_{number}" CASCADE')
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0]


def mended(fresh: Fresh, folder: Path) -> Job:
    """Odd items fail until the cause is mended; into a table without a key, and through `distinct` into another."""

    def checked(item: int) -> dict[str, int]:
        if item % 2 and not (folder / "mended").exists():
            raise ValueError("odd")
        return {"n": item}

    firsts = distinct(key=lambda item: item // 4, then=checked)
    return Job(
        "mended",
        Step("all", read=range(ITEMS), process=checked, write=insert(fresh.url, "t"), chunk_size=3, skip=Skip()),
        Step("firsts", read=range(1, ITEMS), process=firsts, write=insert(fresh.url, "f"), chunk_size=3, skip=Skip()),
        parameters={"day": 1},
    )


@pytest.fixture
def two_tables(fresh: Fresh) -> Fresh:
    fresh.connection.execute("CREATE TABLE t (n int); CREATE TABLE f (n int)")
    return fresh


def replayed(fresh: Fresh, folder: Path, place: str) -> Callable[[], bool]:
    return lambda: replay(1, ledger=place, job=mended(fresh, folder)).still_open == 0


def assert_closed_with_their_rows(fresh: Fresh) -> None:
    """A failure is closed in the transaction that writes its row: neither is there without the other."""
    closed = fresh.rows(
        f"SELECT ordinal FROM {fresh.records}.batchwright_failures WHERE step = 'all' AND state = 'replayed' ORDER BY 1"
    )
    assert fresh.rows("SELECT n FROM t WHERE n % 2 = 1 ORDER BY 1") == closed, f"seed {SEED}"


@pytest.mark.parametrize("ledger", LEDGERS)
def test_replays_that_are_killed_write_each_item_once(ledger: str, two_tables: Fresh, tmp_path: Path):
    kills = 0
    for number in range(SCHEDULES):
        two_tables.connection.execute("TRUNCATE t, f")
        two_tables.connection.execute(f"DROP SCHEMA IF EXISTS {two_tables.records} CASCADE")
        folder = tmp_path / str(number)
        folder.mkdir()
        place = place_of(ledger, two_tables, folder)
        assert started(lambda: run(mended(two_tables, folder), ledger=place).status.complete, None) == 0  # noqa: B023 - called at once
        (folder / "mended").touch()
        kills += killed_and_gone_on_with(
            replayed(two_tables, folder, place),
            random.Random(f"{SEED}:{number}"),
            lambda: assert_closed_with_their_rows(two_tables),
        )
        assert two_tables.rows("SELECT n FROM t ORDER BY 1") == [(n,) for n in range(ITEMS)], f"seed {SEED}:{number}"
        # Each key was taken by the first even item; what failed before it comes too late, and is closed.
        assert two_tables.rows("SELECT n FROM f ORDER BY 1") == [(n,) for n in (2, 4, 8, 12, 16, 20)]
    assert kills or SCHEDULES < 10, f"seed {SEED}: nothing was killed"


def test_a_replay_that_settles_apart_from_its_rows_is_seen(two_tables: Fresh, tmp_path: Path, monkeypatch):
    place = place_of(LEDGERS[0], two_tables, tmp_path)
    run(mended(two_tables, tmp_path), ledger=place)
    (tmp_path / "mended").touch()
    settle = postgres.PostgresSink.settle

    def apart(self, *given) -> None:
        with closing(psycopg.connect(two_tables.server.url, autocommit=True)) as other:
            ordinals = list(given[0])
            update = f"UPDATE {two_tables.records}.batchwright_failures SET state = 'replayed' WHERE ordinal = ANY(%s)"
            other.execute(update, [ordinals])
        settle(self, (), *given[1:])

    monkeypatch.setattr(postgres.PostgresSink, "settle", apart)

    def killed_at_commits() -> None:
        for hit in range(1, 15):
            started(replayed(two_tables, tmp_path, place), f"K11:{hit}")
            assert_closed_with_their_rows(two_tables)

    with pytest.raises(AssertionError, match=SEED):
        killed_at_commits()


@pytest.mark.parametrize("ledger", LEDGERS)
def test_loops_that_are_killed_write_each_item_once(ledger: str, two_tables: Fresh, tmp_path: Path):
    def looped(place: str, number: int) -> bool:
        loop = resumable(
            "loop", range(ITEMS), database=two_tables.url, ledger=place, parameters={"n": number}, chunk_size=4
        )
        with loop:
            for item in loop:
                with loop.item():
                    loop.connection.execute("INSERT INTO t VALUES (%s)", (item,))
        return bool(loop.result.status.complete)

    kills = 0
    for number in range(SCHEDULES):
        two_tables.connection.execute("TRUNCATE t")
        place, chance = place_of(ledger, two_tables, tmp_path), random.Random(f"{SEED}:{number}")
        kills += killed_and_gone_on_with(lambda: looped(place, number), chance, nobody_looks)  # noqa: B023 - called at once
        assert two_tables.rows("SELECT n FROM t ORDER BY 1") == [(n,) for n in range(ITEMS)], f"seed {SEED}:{number}"
    assert kills or SCHEDULES < 10, f"seed {SEED}: nothing was killed"


def keys_into_a_file(fresh: Fresh, folder: Path) -> bool:
    firsts = distinct(key=lambda item: item % 7, then=str)
    write = text_file(folder / "out.txt")
    step = Step("s", read=range(ITEMS), process=firsts, write=write, chunk_size=3, checkpoint_seconds=0)
    return run(Job("keys", step, parameters={"day": 1}), ledger=fresh.url).status.complete


def test_distinct_into_a_file_keeps_its_keys_in_a_postgres_ledger(fresh: Fresh, tmp_path: Path):
    kills = 0
    for number in range(SCHEDULES):
        fresh.connection.execute(f"DROP SCHEMA IF EXISTS {fresh.records} CASCADE")
        folder, chance = tmp_path / str(number), random.Random(f"{SEED}:{number}")
        folder.mkdir()
        kills += killed_and_gone_on_with(lambda: keys_into_a_file(fresh, folder), chance, nobody_looks)  # noqa: B023 - called at once
        assert (folder / "out.txt").read_text().split() == [str(n) for n in range(7)], f"seed {SEED}:{number}"
    assert kills or SCHEDULES < 10, f"seed {SEED}: nothing was killed"


def test_keys_that_are_not_kept_are_missed(fresh: Fresh, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(postgres_keys, "remember_keys", lambda *_: None)
    assert started(lambda: keys_into_a_file(fresh, tmp_path), "K13:5") in (0, -signal.SIGKILL)
    started(lambda: keys_into_a_file(fresh, tmp_path), None)
    assert (tmp_path / "out.txt").read_text().split() != [str(n) for n in range(7)]


@pytest.mark.parametrize(("with_failures", "left"), [(False, 6), (True, 0)])
def test_pruning_leaves_the_keys_that_open_failures_will_be_asked_for(
    with_failures, left, two_tables: Fresh, tmp_path: Path
):
    job = mended(two_tables, tmp_path)
    keys = f"SELECT count(*) FROM {two_tables.records}.batchwright_keys"
    with closing(PostgresLedger(two_tables.url)) as ledger:
        run(job, ledger=ledger)
        assert two_tables.rows(keys) == [(6,)]
        (tmp_path / "mended").touch()
        assert run(job, ledger=ledger, again=True, yes=True).failed == 0
        assert two_tables.rows(keys) == [(6,)], "those of a lap without failures are deleted with its end"
        prune_targets("mended", ledger=ledger, build=lambda _: job, with_failures=with_failures)
    assert two_tables.rows(keys) == [(left,)]

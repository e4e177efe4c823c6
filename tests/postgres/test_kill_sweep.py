"""Kill the process anywhere, run it again: tables without a key and running balances end as if nothing had happened.

`BATCHWRIGHT_POSTGRES_KILLS=500` kills more often. A failing schedule is named by its seed.
"""

import os
import random
import signal
from pathlib import Path

import psycopg
import pytest
from tests.postgres.forked import started

from batchwright import Job, Skip, Step, distinct, run
from batchwright.databases import postgres_records
from batchwright.model.fault_points import FAULT_POINTS
from batchwright.readers import query
from batchwright.writers import execute, insert, postgres, upsert

SCHEDULES = int(os.environ.get("BATCHWRIGHT_POSTGRES_KILLS", "12"))

DEEPEST = 3

LINES = 6_000
"""About as many lines of ours as the job executes."""

ITEMS = 45

SETUP = f"""
CREATE TABLE source AS SELECT i AS id, i % 4 AS shop, i * 10 AS amount FROM generate_series(1, {ITEMS}) i;
CREATE TABLE sales (id int, amount int CHECK (amount <> 70));
CREATE TABLE latest (shop int PRIMARY KEY, id int, times text);
CREATE TABLE balance (shop int PRIMARY KEY, total int CHECK (total >= 0), moves int);
INSERT INTO balance SELECT i, 0, 0 FROM generate_series(0, 3) i;
CREATE TABLE late (id int, shop int REFERENCES balance DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE firsts (id int CHECK (id <> 2), key int);
"""

TABLES = ("sales", "latest", "balance", "late", "firsts")


def job(url: str) -> Job:
    def source():
        return query(url, "SELECT * FROM source", key="id", page_rows=7)

    move = "UPDATE balance SET total = total + %(by)s, moves = moves + 1 WHERE shop = %(shop)s"
    skip = Skip(on=Exception)
    return Job(
        "sweep",
        Step("add", read=source(), process=to_sale, write=insert(url, "sales"), chunk_size=4, skip=skip),
        Step(
            "keep", read=source(), process=to_latest, write=upsert(url, "latest", key="shop"), chunk_size=5, skip=skip
        ),
        Step("move", read=source(), process=to_move, write=execute(url, move), chunk_size=6, skip=skip),
        Step("late", read=source(), process=to_late, write=insert(url, "late"), chunk_size=7, skip=skip),
        Step("firsts", read=source(), process=FIRSTS, write=insert(url, "firsts"), chunk_size=5, skip=skip),
    )


def to_sale(row):
    if row["id"] % 11 == 0:
        raise ValueError("eleven")
    return {"id": row["id"], "amount": row["amount"]}


def to_latest(row):
    return {"shop": row["shop"], "id": row["id"], "times": "x" * row["shop"]}


def to_move(row):
    return {"shop": row["shop"], "by": -100_000 if row["id"] % 13 == 0 else row["amount"]}


def to_late(row):
    return {"id": row["id"], "shop": 9 if row["id"] % 17 == 0 else row["shop"]}


def key_of(row):
    return row["id"] // 2 % 9


def to_first(row):
    if row["id"] == 4:
        raise ValueError("four")
    return {"id": row["id"], "key": key_of(row)}


FIRSTS = distinct(key=key_of, then=to_first)


def start(url: str, folder: Path, kill: str | None) -> int:
    """Run the job in a process of its own; how that ended."""
    # A new ledger cannot know whether a finished job without parameters is to begin anew: here it is not.
    ledger = f"sqlite:///{folder}/ledger.db"
    return started(lambda: run(job(url), ledger=ledger, check=False, adopt=True).status.complete, kill)


def outcome(fresh) -> list[list[tuple]]:
    """Every table, the failures, and the counts that stand with the checkpoints."""
    tables = [fresh.rows(f"SELECT * FROM {name} ORDER BY 1, 2") for name in TABLES]
    records = fresh.records
    failures = f"SELECT step, ordinal, phase, error_type, payload FROM {records}.batchwright_failures ORDER BY 1, 2"
    counts = (
        f"SELECT step, ordinal, written, failed_process, failed_write, finished FROM {records}.batchwright_checkpoints"
    )
    return [*tables, fresh.rows(failures), fresh.rows(f"{counts} ORDER BY 1")]


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    fresh = server.fresh()
    fresh.connection.execute(SETUP)
    assert start(fresh.url, tmp_path_factory.mktemp("undisturbed"), None) == 0
    found = outcome(fresh)
    fresh.drop()
    assert [len(rows) for rows in found] == [40, 4, 4, 43, 9, 4 + 1 + 3 + 2 + 2, 5]
    assert [row[0] for row in found[4]] == [1, 3, 5, 6, 8, 10, 12, 14, 16]
    return found


def some_kill(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return f"line:{chance.randint(1, LINES)}"
    points = [point for point in FAULT_POINTS if point not in ("K14", "K15", "K16", "K19")]
    return f"{chance.choice(points)}:{chance.randint(1, 12)}"


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_after_kills_anywhere_nothing_is_lost_and_nothing_is_there_twice(seed, fresh, tmp_path, undisturbed):
    chance = random.Random(seed)
    fresh.connection.execute(SETUP)
    kills = [some_kill(chance) for _ in range(chance.randint(1, DEEPEST))]
    ended = -signal.SIGKILL
    for number, kill in enumerate([*kills, None]):
        # Half the time with another ledger: what the target says goes before it.
        folder = tmp_path / (str(number) if chance.random() < 0.5 else "first")
        folder.mkdir(exist_ok=True)
        ended = start(fresh.url, folder, kill)
        if ended != -signal.SIGKILL:
            break
    assert ended == 0, kills
    assert outcome(fresh) == undisturbed, kills


def test_the_sweep_does_kill(fresh, tmp_path):
    fresh.connection.execute(SETUP)
    killed = [start(fresh.url, tmp_path, kill) for kill in ("K10:2", "K11:2", "K13:1", "K18:1", "line:1500")]
    assert killed == [-signal.SIGKILL] * 5


@pytest.mark.parametrize("bug", ["no checkpoint", "checkpoint of its own"])
def test_a_planted_bug_is_found(bug, fresh, tmp_path, undisturbed, monkeypatch):
    honest = postgres_records.move_checkpoint

    def forgets(connection, schema, key, before, after):
        if after.finished:
            honest(connection, schema, key, None, after)

    def alone(connection, schema, key, before, after):
        with psycopg.connect(fresh.server.url) as other:
            honest(other, schema, key, before, after)

    monkeypatch.setattr(postgres.records, "move_checkpoint", forgets if bug == "no checkpoint" else alone)
    fresh.connection.execute(SETUP)
    for kill in ("K10:3", "K11:3", "K10:4"):
        start(fresh.url, tmp_path, kill)
    start(fresh.url, tmp_path, None)
    assert outcome(fresh) != undisturbed

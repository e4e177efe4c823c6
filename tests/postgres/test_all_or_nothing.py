"""All or nothing in PostgreSQL: killed and cut anywhere, readers see none of a step's rows or all of them.

`BATCHWRIGHT_POSTGRES_KILLS=500` kills more often. A failing schedule is named by its seed.
"""

import os
import random
import signal
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.postgres.forked import started
from tests.postgres.proxy import Proxy
from tests.postgres.test_commits_in_doubt import through
from tests.postgres.test_kill_sweep import some_kill

from batchwright import Job, Skip, Status, Step, run
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert, postgres_staging, upsert

SCHEDULES = int(os.environ.get("BATCHWRIGHT_POSTGRES_KILLS", "12"))

ITEMS = 40

WHOLE = {"staged": ITEMS - 3, "latest": 4, "once": ITEMS - 3}

PLANTED_KILLS = [f"{point}:{hit}" for hit in range(1, 40) for point in ("K10", "K11", "K13")]


def job(url: str) -> Job:
    def step(name, write, process, how):
        return Step(name, read=range(ITEMS), process=process, write=write, chunk_size=4, atomic=how, skip=Skip(limit=3))

    return Job(
        "whole",
        step("staged", insert(url, "staged"), to_row, True),
        step("latest", upsert(url, "latest", key="shop"), lambda n: {"shop": n % 4, "n": n}, True),
        step("once", insert(url, "once"), to_row, "transaction"),
        parameters={"day": 1},
    )


def to_row(n):
    if n % 13 == 12:
        raise ValueError("twelve")
    return {"n": n}


def start(url: str, folder: Path, kill: str | None) -> int:
    """Run the job in a process of its own; how that ended."""
    ledger = f"sqlite:///{folder}/ledger.db"
    return started(lambda: run(job(url), ledger=ledger, check=False).status.complete, kill)


def tables(fresh) -> set[str]:
    return {row[0] for row in fresh.rows(f"SELECT tablename FROM pg_tables WHERE schemaname = '{fresh.name}'")}


def seen(fresh) -> dict[str, int]:
    """How many rows of each table a reader sees; a table that is not there has none."""
    there = tables(fresh)
    return {name: fresh.rows(f"SELECT count(*) FROM {name}")[0][0] if name in there else 0 for name in WHOLE}


def assert_nothing_half(fresh, what) -> None:
    assert all(rows in (0, WHOLE[name]) for name, rows in seen(fresh).items()), (what, seen(fresh))


def outcome(fresh) -> list[list[tuple]]:
    counts = f"SELECT step, ordinal, outputs, failed_process, finished FROM {fresh.records}.batchwright_checkpoints"
    failures = f"SELECT step, ordinal FROM {fresh.records}.batchwright_failures ORDER BY 1, 2"
    rows = [fresh.rows(f"SELECT * FROM {name} ORDER BY ctid") for name in sorted(WHOLE)]
    return [*rows, fresh.rows(f"{counts} ORDER BY 1"), fresh.rows(failures), sorted(tables(fresh))]


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    fresh = server.fresh()
    assert start(fresh.url, tmp_path_factory.mktemp("undisturbed"), None) == 0
    found = outcome(fresh)
    assert seen(fresh) == WHOLE
    fresh.drop()
    assert found[-1] == sorted(WHOLE), "no staging table is left"
    return found


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_after_kills_anywhere_nothing_is_half_and_in_the_end_everything_is_there(seed, fresh, tmp_path, undisturbed):
    chance = random.Random(seed)
    kills = [some_kill(chance) for _ in range(chance.randint(1, 3))]
    ended = -signal.SIGKILL
    for number, kill in enumerate([*kills, None]):
        folder = tmp_path / (str(number) if chance.random() < 0.5 else "first")
        folder.mkdir(exist_ok=True)
        ended = start(fresh.url, folder, kill)
        assert_nothing_half(fresh, kills)
        if ended != -signal.SIGKILL:
            break
    assert ended == 0, kills
    assert outcome(fresh) == undisturbed, kills


def published_without_its_mark(monkeypatch) -> None:
    publish = postgres_staging.Stage.publish

    def apart(self, connection, *rest):
        publish(self, connection, *rest)
        connection.execute("COMMIT; BEGIN")

    monkeypatch.setattr(postgres_staging.Stage, "publish", apart)


def staging_dropped_apart(monkeypatch) -> None:
    judge = postgres_staging.judge

    def apart(connection, *rest):
        judge(connection, *rest)
        connection.execute("COMMIT; BEGIN")

    monkeypatch.setattr(postgres_staging, "judge", apart)


@pytest.mark.parametrize("bug", [published_without_its_mark, staging_dropped_apart])
def test_a_planted_bug_is_found(bug, server, tmp_path, undisturbed, monkeypatch):
    bug(monkeypatch)
    for number, kill in enumerate(PLANTED_KILLS):
        fresh, folder = server.fresh(), tmp_path / str(number)
        folder.mkdir()
        ended = [start(fresh.url, folder, kill), start(fresh.url, folder, None)]
        differs = ended[1] != 0 or outcome(fresh) != undisturbed
        fresh.drop()
        if differs:
            return
    pytest.fail("nobody has noticed")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_connections_that_are_cut_leave_nothing_half(seed, fresh, tmp_path, undisturbed):
    with closing(Proxy(fresh.server.url, fresh.server.port, seed)) as proxy:
        url = through(fresh, proxy)
        proxy.armed = True
        for _ in range(40):
            status = run(job(url), ledger=f"sqlite:///{tmp_path}/l.db", check=False).status
            assert_nothing_half(fresh, seed)
            if status.complete:
                break
        proxy.armed = False
        assert proxy.outcomes().total() > 0
    assert seen(fresh) == WHOLE
    assert outcome(fresh)[:3] == undisturbed[:3]


def test_readers_see_nothing_and_then_everything(fresh, tmp_path):
    fresh.connection.execute("CREATE TABLE t (n int)")
    found, done = set(), threading.Event()

    def poll():
        place = f"-c search_path={fresh.name}"
        with psycopg.connect(fresh.server.url, autocommit=True, options=place) as reader:
            while not done.is_set():
                found.add(reader.execute("SELECT count(*) FROM t").fetchone()[0])
            found.add(reader.execute("SELECT count(*) FROM t").fetchone()[0])

    polling = threading.Thread(target=poll)
    polling.start()
    try:
        whole(fresh, tmp_path, range(20_000), chunk_size=500)
    finally:
        done.set()
        polling.join()
    assert found <= {0, 20_000}
    assert 20_000 in found


def whole(fresh, folder, items, write=None, process=lambda n: {"n": n}, **options):
    options = {"atomic": True, "chunk_size": 3, **options}
    step = Step("load", read=items, process=process, write=write or insert(fresh.url, "t"), **options)
    return run(Job("job", step, parameters={"day": 1}), ledger=f"sqlite:///{folder}/l.db", check=False)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("CREATE TABLE t (n int CONSTRAINT small CHECK (n < 7))", 'check constraint "small" (Failing row contains (7)'),
        ("CREATE TABLE t (n int UNIQUE); INSERT INTO t VALUES (5)", 'constraint "t_n_key" (Key (n)=(5) already exists'),
        (
            "CREATE TABLE u (n int PRIMARY KEY); CREATE TABLE t (n int REFERENCES u DEFERRABLE INITIALLY DEFERRED)",
            'foreign key constraint "t_n_fkey" (Key (n)=(0) is not present',
        ),
    ],
)
def test_a_table_that_refuses_a_row_is_left_as_it_was_and_filled_once_it_is_mended(table, says, fresh, tmp_path):
    fresh.connection.execute(table)
    before = fresh.rows("SELECT * FROM t")
    result = whole(fresh, tmp_path, range(10))
    assert result.status is Status.FAILED
    assert "nothing is published; table 't' refuses it: " in result.error
    assert says in result.error
    assert fresh.rows("SELECT * FROM t") == before
    quiet = whole(fresh, tmp_path, range(10), skip=Skip(payload=False, limit=1))
    assert "nothing is published" in quiet.error
    assert "(Key" not in quiet.error
    assert "Failing row" not in quiet.error
    fresh.connection.execute("DROP TABLE t; CREATE TABLE t (n int)")
    assert whole(fresh, tmp_path, range(10), process=nothing_more).written == 10
    assert fresh.rows("SELECT * FROM t") == [(n,) for n in range(10)]


def nothing_more(item):
    raise AssertionError(f"{item} is staged already")


@pytest.mark.parametrize("how", [True, "transaction"])
def test_publish_if_can_look_and_nothing_else(how, fresh, tmp_path):
    fresh.connection.execute("CREATE TABLE t (n int); CREATE SEQUENCE s")

    def refused(batch, sql):
        with pytest.raises(psycopg.Error):
            batch.query(sql)
        return True

    for sql in ("DELETE FROM t", "COMMIT", "SELECT 1; COMMIT"):
        result = whole(
            fresh, tmp_path, range(3), atomic=how, publish_if=lambda batch, sql=sql: refused(batch, sql) and False
        )
        assert "publish_if" in result.error, sql
        assert fresh.rows("SELECT * FROM t") == []

    def looks(batch):
        assert fresh.rows("SELECT * FROM t") == []
        assert batch.query("SELECT n FROM t WHERE n > %s ORDER BY n", [0]) == [(1,), (2,)]
        if batch.staged:
            assert batch.query(f"SELECT count(*) FROM {batch.staged}") == [(3,)]
            assert batch.query("SELECT current_setting('statement_timeout')") == [("6h",)]
        return True

    assert whole(fresh, tmp_path, range(3), atomic=how, publish_if=looks).written == 3
    assert len(fresh.rows("SELECT * FROM t")) == 3


@pytest.mark.parametrize(("duplicates", "expected"), [("last", [("a", 5), ("b", 4)]), ("first", [("a", 0), ("b", 1)])])
def test_of_equal_keys_one_wins_in_the_whole_step_and_over_what_is_there(duplicates, expected, fresh, tmp_path):
    fresh.connection.execute('CREATE SCHEMA IF NOT EXISTS "Other one"; DROP TABLE IF EXISTS "Other one"."T t"')
    fresh.connection.execute('CREATE TABLE "Other one"."T t" (k text PRIMARY KEY, v int, made date DEFAULT now())')
    fresh.connection.execute('INSERT INTO "Other one"."T t" VALUES (\'a\', -1)')
    keys = ["a", "b", "a", "b", "b", "a"]
    write = upsert(fresh.url, '"Other one"."T t"', key="k", duplicates=duplicates)
    result = whole(fresh, tmp_path, range(6), write, lambda n: {"k": keys[n], "v": n}, chunk_size=2)
    assert result.written == 6
    assert fresh.rows('SELECT k, v FROM "Other one"."T t" ORDER BY k') == expected
    fresh.connection.execute('DROP SCHEMA "Other one" CASCADE')


def test_what_is_staged_is_discarded_and_a_staging_table_that_is_gone_is_missed(fresh, tmp_path):
    whole(fresh, tmp_path, range(10), publish_if=lambda batch: False)
    (stage,) = tables(fresh) - {"t"}
    fresh.connection.execute(f"DELETE FROM {stage} WHERE n = 3")
    assert f'10 outputs were staged, "{fresh.name}"."{stage}" has 9 rows' in whole(fresh, tmp_path, range(10)).error
    plain = whole(fresh, tmp_path, range(10), atomic=False)
    assert "was begun with atomic=True; 10 outputs are in the staging table" in plain.error
    step = Step("load", read=range(10), write=insert(fresh.url, "t"), atomic=True)
    made = Job("job", step, parameters={"day": 1})
    scope = Scope(made.key.step(1, "load"), MemoryLedger(), FakeClock(), claims=True)
    with closing(bind(made, durable=False)["load"].writer.open(scope)) as sink:
        assert sink.discard() == f'staging table "{fresh.name}"."{stage}"'
    assert tables(fresh) == set()

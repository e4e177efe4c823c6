"""Loops on PostgreSQL: killed at random and started again; what their connection refuses; who loses it."""

import os
import random
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from tests.examples.loops.folders import KILLED, prepare, start
from tests.postgres.proxy import Proxy
from tests.postgres.server import Fresh

from batchwright import BatchwrightError, Skip, Status, resumable
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError, WriteError

SCHEDULES = int(os.environ.get("BATCHWRIGHT_LOOP_KILLS") or 2)

LINES = 2_000
"""Fewer than the script executes of ours."""

DOUBTFUL_ITEMS, MOST_STARTS = 80, 80

SEED = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))


def plain_url(fresh: Fresh) -> str:
    """The address as the driver takes it."""
    return fresh.url.split("&records_schema")[0]


def test_json_lines_that_are_killed_at_random_are_there_once(fresh: Fresh, tmp_path: Path):
    fresh.connection.execute("CREATE TABLE texts (id int, text text)")
    code, printed = start("import_postgres_before", prepare(tmp_path / "before"), plain_url(fresh))
    assert code == 0, printed
    expected, killed = fresh.rows("TABLE texts"), 0
    for number in range(SCHEDULES):
        fresh.connection.execute("TRUNCATE texts")
        fresh.connection.execute(f"DROP SCHEMA IF EXISTS {fresh.records} CASCADE")
        folder, chance = prepare(tmp_path / str(number)), random.Random(f"{SEED}{number}")
        code = KILLED
        for kill in (*(f"line:{chance.randint(1, LINES)}" for _ in range(3)), "-"):
            if code == KILLED:
                code, printed = start("import_postgres_after", folder, fresh.url, kill=kill)
                killed += code == KILLED
        assert code == 0, printed
        assert fresh.rows("TABLE texts") == expected, f"seed {SEED}"
    assert killed, f"nothing was killed with seed {SEED}"


def rows_of(fresh: Fresh) -> list[int]:
    return [row[0] for row in fresh.rows("SELECT n FROM t ORDER BY n")]


@pytest.fixture
def table(fresh: Fresh) -> Fresh:
    fresh.connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
    return fresh


def loop_over(fresh: Fresh, ledger: MemoryLedger, **options):
    return resumable(
        "fix",
        range(10),
        database=fresh.url,
        ledger=ledger,
        parameters={"a": 1},
        chunk_size=4,
        chunk_seconds=60,
        **options,
    )


def go(loop, at: int = -1, do=None) -> None:
    for number in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO t VALUES (%s)", (number,))
            if number == at:
                do()


def test_an_item_that_is_refused_is_set_aside_and_its_neighbours_are_written(table: Fresh):
    with loop_over(table, MemoryLedger(), skip=Skip(on=psycopg.IntegrityError)) as loop:
        go(loop, 5, lambda: loop.connection.execute("INSERT INTO t VALUES (0)"))
    assert loop.result.status is Status.COMPLETED_WITH_FAILURES
    assert rows_of(table) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


@pytest.mark.parametrize("sql", ["COMMIT", "SELECT 1; commit", "/* x */ ROLLBACK", "prepare transaction 'x'", b"abort"])
def test_statements_that_end_a_transaction_are_refused_wherever_they_stand(table: Fresh, sql):
    with pytest.raises(DeclarationError, match="refuses"), loop_over(table, MemoryLedger()) as loop:
        go(loop, 5, lambda: loop.connection.execute(sql))
    assert rows_of(table) == [0, 1, 2, 3, 4]


def test_an_error_that_the_body_passes_over_costs_the_item_and_is_said(table: Fresh):
    def pass_over() -> None:
        with suppress(psycopg.Error):
            loop.connection.execute("INSERT INTO t VALUES (0)")

    loop = loop_over(table, MemoryLedger(), skip=Skip())
    with pytest.raises(WriteError, match="passed over"), loop:
        go(loop, 5, pass_over)
    assert rows_of(table) == [0, 1, 2, 3, 4]


def test_a_part_can_be_tried_in_a_transaction_of_its_own(table: Fresh):
    def try_it() -> None:
        with suppress(psycopg.Error), loop.connection.transaction():
            loop.connection.execute("INSERT INTO t VALUES (0)")

    with loop_over(table, MemoryLedger()) as loop:
        go(loop, 5, try_it)
    assert rows_of(table) == list(range(10))


def test_a_connection_that_is_lost_takes_its_chunk_and_the_next_run_goes_on_there(table: Fresh):
    def lose() -> None:
        (pid,) = loop.connection.execute("SELECT pg_backend_pid()").fetchone()
        table.connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        loop.connection.execute("SELECT 1")

    ledger = MemoryLedger()
    loop = loop_over(table, ledger, skip=Skip())
    with pytest.raises(BatchwrightError, match="run the script again"), loop:
        go(loop, 6, lose)
    assert loop.result.status is Status.FAILED
    assert rows_of(table) == [0, 1, 2, 3]
    with loop_over(table, ledger) as again:
        go(again)
    assert rows_of(table) == list(range(10))


@pytest.mark.crash
def test_a_commit_whose_answer_is_lost_is_asked_about_and_never_made_without_the_bodys_rows(table: Fresh):
    proxy = Proxy(table.server.url_of("postgres"), table.server.port, int(SEED) if SEED.isdecimal() else 7, often=0.4)
    options = {"sslmode": "disable", "gssencmode": "disable", "records_schema": table.records}
    url = table.server.url_of("postgres", options=f"-c search_path={table.name}", **options)
    url = url.replace(f":{table.server.port}/", f":{proxy.port}/")
    ledger, status, starts = MemoryLedger(), None, 0
    with closing(proxy):
        proxy.armed = True
        while status is not Status.COMPLETED and starts < MOST_STARTS:
            starts += 1
            loop = resumable(
                "doubt", range(DOUBTFUL_ITEMS), database=url, ledger=ledger, parameters={"a": 1}, chunk_size=2
            )
            with suppress(BatchwrightError, psycopg.Error), loop:
                go(loop)
            with suppress(DeclarationError):
                status = loop.result.status
        outcomes = {committed for _, committed in proxy.outcomes()}
    assert status is Status.COMPLETED, f"seed {SEED}: {starts} starts"
    assert rows_of(table) == list(range(DOUBTFUL_ITEMS)), f"seed {SEED}"
    assert outcomes == {True, False}, f"seed {SEED}: {outcomes}"

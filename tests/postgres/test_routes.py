"""Several tables of a PostgreSQL database in one step: with COPY into each, refusals, restarts, and all or nothing."""

from uuid import uuid4

import psycopg
import pytest

from batchwright import Job, JobFailedError, Skip, Step, run
from batchwright.writers import insert, route, upsert

ITEMS = 600


@pytest.fixture
def schema(server):
    name = f"r{uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        connection.execute(f"CREATE TABLE {name}.orders (id bigint PRIMARY KEY CHECK (id <> 4), n bigint)")
        connection.execute(
            f"CREATE TABLE {name}.lines (id bigint PRIMARY KEY, order_id bigint REFERENCES {name}.orders, "
            "amount bigint CHECK (amount <> 77))"
        )
        yield name
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def url(server, schema):
    return server.url_of("postgres", records_schema=schema)


def split(number):
    yield "orders", {"id": number, "n": 1}
    for line in range(number % 3):
        yield "lines", {"id": number * 3 + line, "order_id": number, "amount": number}


def sound(number):
    if number not in (4, 77):
        yield from split(number)


def step_into(url, schema, process=split, **options):
    # Upserts go through a temporary table each, on one connection.
    orders, lines = upsert(url, f"{schema}.orders", key="id"), upsert(url, f"{schema}.lines", key="id")
    write = route({"orders": orders, "lines": lines})
    return Step("split", read=range(ITEMS), process=process, write=write, chunk_size=250, **options)


def ask(server, sql):
    with psycopg.connect(server.url) as connection:
        return connection.execute(sql).fetchall()


def test_a_refused_row_takes_its_items_rows_out_of_every_table(server, url, schema, tmp_path):
    result = run(step_into(url, schema, skip=Skip(on=Exception)), ledger=tmp_path / "ledger.db")
    # 4 is refused as an order, and so are its line; 77 has lines that are refused.
    assert (result.written, result.failed) == (ITEMS - 2, 2)
    assert ask(server, f"SELECT count(*) FROM {schema}.orders WHERE id IN (4, 77)") == [(0,)]
    lines = sum(number % 3 for number in range(ITEMS) if number not in (4, 77))
    assert ask(server, f"SELECT count(*) FROM {schema}.lines") == [(lines,)]
    again = run(step_into(url, schema, skip=Skip(on=Exception)), ledger=tmp_path / "ledger.db", again=True)
    assert again.written == ITEMS - 2
    assert ask(server, f"SELECT count(*) FROM {schema}.orders") == [(ITEMS - 2,)]


@pytest.mark.parametrize("atomic", [False, True, "transaction"])
def test_a_run_that_broke_off_goes_on_and_ends_as_if_it_had_not(server, url, schema, tmp_path, atomic):
    broken = []

    def breaks(number):
        if number == 400 and not broken:
            broken.append(number)
            raise RuntimeError("down")
        yield from sound(number)

    job = Job("job", step_into(url, schema, breaks, atomic=atomic))
    with pytest.raises(JobFailedError, match="down"):
        run(job, ledger=tmp_path / "ledger.db")
    visible = [(399,)] if not atomic else [(None,)]
    assert ask(server, f"SELECT max(id) FROM {schema}.orders") == visible
    result = run(job, ledger=tmp_path / "ledger.db")
    assert result.read == ITEMS
    expected = [number for number in range(ITEMS) if number not in (4, 77)]
    assert ask(server, f"SELECT count(*), sum(id), sum(n) FROM {schema}.orders") == [
        (len(expected), sum(expected), len(expected))
    ]
    assert ask(server, f"SELECT count(*) FROM {schema}.lines") == [(sum(number % 3 for number in expected),)]
    staged = f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename LIKE '\\_batchwright%'"
    assert ask(server, staged) == []


def test_what_one_table_refuses_is_published_in_none(server, url, schema, tmp_path):
    with pytest.raises(JobFailedError, match="nothing is published"):
        run(step_into(url, schema, atomic=True), ledger=tmp_path / "ledger.db")
    assert ask(server, f"SELECT (SELECT count(*) FROM {schema}.orders), (SELECT count(*) FROM {schema}.lines)") == [
        (0, 0)
    ]


def test_publish_if_sees_all_tables_and_a_new_table_comes_with_them(server, url, schema, tmp_path):
    def agrees(batch):
        (counts,) = batch.query(f"SELECT (SELECT count(*) FROM {schema}.news), (SELECT count(*) FROM {schema}.orders)")
        return counts == (3, 2) and batch.staged == ""

    rows = [
        ("news", {"n": 1}),
        ("orders", {"id": 1, "n": 1}),
        ("news", {"n": 2}),
        ("orders", {"id": 2, "n": 1}),
        ("news", {"n": 3}),
    ]
    write = route({"news": insert(url, f"{schema}.news"), "orders": insert(url, f"{schema}.orders")})
    step = Step("step", read=rows, write=write, atomic=True, publish_if=agrees, chunk_size=2)
    assert run(step, ledger=tmp_path / "ledger.db").written == 5

"""Several tables in one step: which output goes where, what a refusal takes with it, and what is refused when built."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest

from batchwright import Job, JobFailedError, Skip, Step, abandon, run
from batchwright.model.errors import DeclarationError, GroundChangedError
from batchwright.writers import csv_file, each, execute, insert, route, upsert

SKIP = Skip(on=Exception)


@dataclass
class Order:
    id: int


@dataclass
class Line:
    order: int
    amount: int


def rows(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def tables_in(path):
    names = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return [name for name in names if not name.startswith(("batchwright", "sqlite"))]


def database(folder, script=""):
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(script)
    return f"sqlite:///{folder}/shop.db"


def split(number):
    yield "orders", {"id": number}
    for line in range(number % 3):
        yield "lines", {"order_id": number, "amount": line}


def tables(where):
    return route({"orders": insert(where, "orders"), "lines": insert(where, "lines")})


CHECKED = """
CREATE TABLE orders (id INTEGER PRIMARY KEY CHECK (id <> 4));
CREATE TABLE lines (order_id INTEGER REFERENCES orders, amount INTEGER CHECK (amount + order_id <> 9));
"""


@pytest.mark.parametrize("atomic", [False, True, "transaction"])
def test_pairs_name_the_table_of_a_row(tmp_path, atomic):
    where = database(tmp_path)
    step = Step("split", read=range(10), process=split, write=tables(where), chunk_size=3, atomic=atomic)
    result = run(step, ledger=tmp_path / "ledger.db")
    assert (result.written, result.outputs) == (10, 19)
    assert rows(tmp_path / "shop.db", "SELECT id FROM orders") == [(number,) for number in range(10)]
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM lines") == [(9,)]
    assert tables_in(tmp_path / "shop.db") == ["lines", "orders"]


def test_classes_or_a_function_tell_rows_apart(tmp_path):
    where = database(tmp_path)
    outputs = [Order(1), Line(1, 5), Order(2)]
    by_class = route({Order: insert(where, "orders"), Line: upsert(where, "lines", key="order")})
    run(Step("classes", read=outputs, write=by_class), ledger=tmp_path / "ledger.db")
    assert rows(tmp_path / "shop.db", 'SELECT id, "order", amount FROM orders, lines') == [(1, 1, 5), (2, 1, 5)]
    parity = {"odd": insert(where, "odds"), "even": execute(where, "INSERT INTO orders VALUES (:n)")}
    by_parity = route(parity, by=lambda row: "odd" if row["n"] % 2 else "even")
    run(Step("parity", read=[{"n": 7}, {"n": 8}], write=by_parity), ledger=tmp_path / "ledger.db")
    assert rows(tmp_path / "shop.db", "SELECT n FROM odds") == [(7,)]
    assert rows(tmp_path / "shop.db", "SELECT id FROM orders") == [(1,), (2,), (8,)]


@pytest.mark.parametrize("atomic", [False, "transaction"])
def test_a_row_that_one_table_refuses_takes_its_items_rows_out_of_all_of_them(tmp_path, atomic):
    where = database(tmp_path, CHECKED)
    step = Step(
        "split",
        read=range(12),
        process=split,
        write=tables(where),
        chunk_size=5,
        skip=Skip(SKIP.on, limit=9),
        atomic=atomic,
    )
    result = run(step, ledger=tmp_path / "ledger.db")
    # 4 is refused as an order; 8 has a line of 1, which makes 9.
    assert (result.written, result.failed) == (10, 2)
    kept = [number for number in range(12) if number not in (4, 8)]
    assert rows(tmp_path / "shop.db", "SELECT id FROM orders") == [(number,) for number in kept]
    expected = [(number, line) for number in kept for line in range(number % 3)]
    assert rows(tmp_path / "shop.db", "SELECT order_id, amount FROM lines") == expected


@pytest.mark.parametrize("output", [("nowhere", {"id": 1}), {"id": 1}, ("orders",), 7, (["list"], {"id": 1})])
def test_an_output_for_which_there_is_no_table_is_its_items_failure(tmp_path, output):
    where = database(tmp_path)
    result = run(
        Step("s", read=[output, ("orders", {"id": 2})], write=tables(where), skip=SKIP), ledger=tmp_path / "l.db"
    )
    assert (result.written, result.failed) == (1, 1)
    assert rows(tmp_path / "shop.db", "SELECT id FROM orders") == [(2,)]


def test_a_chunk_is_in_every_table_or_in_none_and_the_next_run_goes_on(tmp_path):
    where, broken = database(tmp_path), []

    def fails(number):
        if number == 7 and not broken:
            broken.append(number)
            raise RuntimeError("down")
        yield from split(number)

    job = Job("job", Step("split", read=range(10), process=fails, write=tables(where), chunk_size=3))
    assert run(job, ledger=tmp_path / "ledger.db", check=False).written == 7
    assert rows(tmp_path / "shop.db", "SELECT max(id) FROM orders") == [(6,)]
    assert run(job, ledger=tmp_path / "ledger.db").read == 10
    assert rows(tmp_path / "shop.db", "SELECT count(*), sum(id) FROM orders") == [(10, 45)]
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM lines") == [(9,)]


def atomic_job(where, publish_if, process=split):
    step = Step(
        "split", read=range(10), process=process, write=tables(where), chunk_size=3, atomic=True, publish_if=publish_if
    )
    return Job("job", step)


def test_all_tables_are_published_in_one_transaction_if_asked_once(tmp_path):
    where, seen, says = database(tmp_path, CHECKED.replace("<> 4", "<> 40").replace("<> 9", "<> 90")), [], [False, True]

    def agrees(batch):
        seen.append(
            (batch.query("SELECT count(*) FROM orders"), batch.query("SELECT count(*) FROM lines"), batch.staged)
        )
        return says.pop(0)

    with pytest.raises(JobFailedError, match="publish_if said no"):
        run(atomic_job(where, agrees), ledger=tmp_path / "ledger.db")
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM orders") == [(0,)]
    run(atomic_job(where, agrees), ledger=tmp_path / "ledger.db")
    assert seen == [([(10,)], [(9,)], "")] * 2
    assert tables_in(tmp_path / "shop.db") == ["lines", "orders"]


def test_a_table_that_refuses_what_is_published_keeps_all_of_them_as_they_were(tmp_path):
    where = database(tmp_path, CHECKED)
    with pytest.raises(JobFailedError, match="nothing is published; table 'orders' refuses it"):
        run(atomic_job(where, None), ledger=tmp_path / "ledger.db")
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM orders") == [(0,)]
    assert rows(tmp_path / "shop.db", "SELECT count(*) FROM lines") == [(0,)]


def test_staged_rows_that_somebody_took_away_are_missed(tmp_path):
    where = database(tmp_path)
    run(atomic_job(where, lambda _: False), ledger=tmp_path / "ledger.db", check=False)
    stage = next(
        name
        for name in tables_in(tmp_path / "shop.db")
        if rows(tmp_path / "shop.db", f"SELECT count(*) FROM {name}") == [(9,)]
    )
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute(f"DELETE FROM {stage} WHERE amount = 1")
        connection.commit()
    with pytest.raises(JobFailedError, match="9 outputs were staged"):
        run(atomic_job(where, None), ledger=tmp_path / "ledger.db")


def test_work_that_is_given_up_leaves_no_staging_table(tmp_path):
    where = database(tmp_path)
    result = run(atomic_job(where, lambda _: False), ledger=tmp_path / "ledger.db", check=False)
    assert len(tables_in(tmp_path / "shop.db")) == 2
    abandon(result.run, ledger=tmp_path / "ledger.db", job=atomic_job(where, None))
    assert tables_in(tmp_path / "shop.db") == []


def test_atomic_is_not_changed_half_way(tmp_path):
    where = database(tmp_path)

    def job(*, atomic):
        return Job(
            "job", Step("split", read=range(10), process=half_way, write=tables(where), chunk_size=3, atomic=atomic)
        )

    def half_way(number):
        if number == 7:
            raise RuntimeError("down")
        yield from split(number)

    for first in (True, False):
        with pytest.raises(JobFailedError, match="down"):
            run(job(atomic=first), ledger=tmp_path / f"{first}.db", again=True, yes=True)
        with pytest.raises((GroundChangedError, JobFailedError), match="atomic=True"):
            run(job(atomic=not first), ledger=tmp_path / f"{first}.db")


def test_what_shares_no_transaction_is_refused_when_it_is_built(tmp_path):
    here, there = insert("sqlite:///a.db", "t"), insert("sqlite:///b.db", "t")
    postgres = insert("postgresql://localhost/a", "t")
    for others in ({"b": there}, {"b": postgres}):
        with pytest.raises(DeclarationError, match=r"one database.*give each database a step of its own"):
            route({"a": here, **others})
    for other in (csv_file(tmp_path / "x.csv"), each(print), print, route({"a": here})):
        with pytest.raises(DeclarationError, match=r"insert, upsert or execute.*let another step"):
            route({"a": here, "b": other})
    with pytest.raises(DeclarationError, match="writers must map names"):
        route({})
    with pytest.raises(DeclarationError, match="names, or all classes"):
        route({"a": here, Order: insert("sqlite:///a.db", "u")})
    with pytest.raises(DeclarationError, match="two keys stand for the same"):
        route({"a": here, "b": here})
    with pytest.raises(DeclarationError, match="by must be a function"):
        route({"a": here}, by="a")
    statement = route({"a": here, "b": execute("sqlite:///a.db", "DELETE FROM t")})
    with pytest.raises(DeclarationError, match="what a statement does cannot be staged"):
        Step("s", read=[], write=statement, atomic=True)


def test_the_address_names_the_database_once_and_all_tables(tmp_path):
    writer = tables(f"sqlite:///{tmp_path}/shop.db")
    assert writer.address == f"sqlite:///{tmp_path}/shop.db orders, lines"

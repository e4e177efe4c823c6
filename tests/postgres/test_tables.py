"""Rows into tables, by COPY and by statements alike: what is stored, what is refused, what is checked beforehand."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal

import pytest

from batchwright import Job, JobFailedError, JobResult, Skip, Step, run
from batchwright.model.errors import DeclarationError
from batchwright.writers import execute, insert, postgres_rows, route, upsert

ANYTHING = Skip(on=Exception)

NAIVE = dt.datetime.fromisoformat("2026-02-03 04:05:06.000007")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    id: int
    x: float


both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=["statements", "COPY"])
def way(request, monkeypatch):
    """Both ways into a table, whatever the number of rows."""
    monkeypatch.setattr(postgres_rows, "COPY_ROWS", 1 if request.param == "COPY" else 1_000)
    return request.param


@pytest.fixture
def write(fresh, tmp_path):
    numbers = iter(range(100))

    def write(rows, make, *, skip=ANYTHING, chunk_size=1_000, atomic=False, **options) -> JobResult:
        step = Step("s", read=rows, write=make, skip=skip, chunk_size=chunk_size, atomic=atomic)
        job = Job(f"job {next(numbers)}", step)
        return run(job, ledger=f"sqlite:///{tmp_path}/ledger.db", check=False, **options)

    return write


def failed(result: JobResult) -> dict[int, str]:
    return {failure.ordinal: failure.error for failure in result.failures}


ROW = {
    "id": 1,
    "big": 1 << 70,
    "text": 'ä"\\\t\n\u2028',
    "yes": True,
    "real": 0.1,
    "number": Decimal("1.10"),
    "day": dt.date(2026, 2, 3),
    "time": dt.time(4, 5, 6, 7),
    "local": NAIVE,
    "moment": dt.datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=dt.UTC),
    "uuid": uuid.UUID(int=5),
    "bytes": b"\0\xff",
    "document": {"a": [1, None]},
    "wait": dt.timedelta(hours=1),
}

TYPES = [
    "bigint", "numeric", "text", "boolean", "double precision", "numeric", "date", "time without time zone",
    "timestamp without time zone", "timestamp with time zone", "uuid", "bytea", "jsonb", "interval",
]  # fmt: skip


@both_ways
def test_a_missing_table_is_made_to_hold_the_first_rows_and_gives_them_back(fresh, write):
    assert write([ROW, dict.fromkeys(ROW) | {"id": 2}], upsert(fresh.url, "t", key="id")).failed == 0
    types = fresh.rows(
        "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 "
        "ORDER BY attnum"
    )
    assert [kind for (kind,) in types] == TYPES
    first, second = fresh.rows("SELECT * FROM t ORDER BY id")
    assert list(first) == list(ROW.values())
    assert second[1:] == (None,) * (len(ROW) - 1)
    with pytest.raises(Exception, match="duplicate key"):
        fresh.connection.execute("INSERT INTO t (id) VALUES (1)")


@both_ways
def test_values_of_another_type_are_read_by_the_server_as_texts_are(fresh, write):
    fresh.connection.execute(
        "CREATE TYPE colour AS ENUM ('red'); CREATE DOMAIN age AS int CHECK (VALUE < 200);"
        "CREATE TABLE t (i int2, f float4, n numeric(4,1), d date, u uuid, v varchar(5), c colour, a age, "
        "l int[], j json)"
    )
    rows = [
        {"i": "7", "f": "0.5", "n": 1, "d": "2026-01-02", "u": str(uuid.UUID(int=1)), "v": 12, "c": Colour.RED,
         "a": "5", "l": [1, 2], "j": '{"x":1}'},
        {"i": 8.0, "f": 1, "n": 2.5, "d": dt.date(2026, 1, 3), "u": uuid.UUID(int=2), "v": "x", "c": "red", "a": 6,
         "l": None, "j": ["y"]},
    ]  # fmt: skip
    assert failed(write(rows, insert(fresh.url, "t"))) == {}
    assert fresh.rows("SELECT i, f, n, d, u, v, c::text, a, l, j FROM t ORDER BY i") == [
        (7, 0.5, Decimal("1.0"), dt.date(2026, 1, 2), uuid.UUID(int=1), "12", "red", 5, [1, 2], {"x": 1}),
        (8, 1.0, Decimal("2.5"), dt.date(2026, 1, 3), uuid.UUID(int=2), "x", "red", 6, None, ["y"]),
    ]


@both_ways
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("i int", 1 << 40, "out of range"),
        ("i int2", -32769, "out of range"),
        ("i bigint", 1 << 64, "out of range"),
        ("i int", 1.5, "invalid input syntax"),
        ("i int", Decimal("1.5"), "invalid input syntax"),
        ("i int", True, "invalid input syntax"),
        ("i int", "x", "invalid input syntax"),
        ("f float8", float("nan"), "NaN is not stored"),
        ("f float8", 10**400, ""),
        ("f float4", 1e300, "out of range"),
        ("n numeric", Decimal("nan"), "cannot be stored"),
        ("n numeric(3)", Decimal("1e9"), "overflow"),
        ("t text", "a\0b", "0x00"),
        ("t text", "\udc80", "surrogates not allowed"),
        ("t text", b"x", "bytes cannot be stored"),
        ("t varchar(4)", "abcde", "too long"),
        ("t text NOT NULL", None, "not-null"),
        ("t text CHECK (t <> 'bad')", "bad", "check constraint"),
        ("t text UNIQUE", "good", "duplicate key"),
        ("d date", "2026-02-30", "out of range"),
        ("m timestamptz", NAIVE, "give it one"),
        ("m timestamp", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "remove it"),
        ("j jsonb", "{", "json"),
        ("j jsonb", {"x": object()}, "not JSON serializable"),
        ("j jsonb", {"x": float("nan")}, "not JSON compliant"),
        ("u uuid", "x", "uuid"),
        ("t text", {"x": 1}, "adapt"),
        ("l int[]", [1, "x"], ""),
    ],
)
def test_a_row_with_a_value_that_cannot_be_stored_fails_alone(fresh, write, column, value, says):
    name, good = column[0], {"i": 5, "f": 0.5, "n": 7, "t": "good", "d": dt.date(2026, 1, 1), "u": uuid.UUID(int=3)}
    good |= {"m": dt.datetime(2026, 1, 1, tzinfo=dt.UTC if "tz" in column else None), "j": {"ok": 1}, "l": [1]}
    fresh.connection.execute(f"CREATE TABLE t (id int, {column})")
    rows = [{"id": 0, name: good[name]}, {"id": 1, name: value}]
    if "UNIQUE" not in column:
        rows += [{"id": number, name: good[name]} for number in range(2, 5)]
    result = write(rows, insert(fresh.url, "t"))
    assert list(failed(result)) == [1]
    assert says in failed(result)[1]
    assert fresh.rows("SELECT id FROM t ORDER BY id") == [(row["id"],) for row in rows if row["id"] != 1]


@both_ways
@pytest.mark.parametrize("bad", [{0}, {9}, {3, 4}, set(range(10)), set(range(0, 200, 7)), {0, 199}, set(range(100))])
@pytest.mark.parametrize("upserts", [False, True])
def test_exactly_the_bad_rows_fail_wherever_they_are(fresh, write, bad, upserts):
    fresh.connection.execute("CREATE TABLE t (id int PRIMARY KEY, name text CHECK (name <> 'bad'))")
    fresh.connection.execute("INSERT INTO t VALUES (50, 'old')" if upserts else "SELECT 1")
    rows = [{"id": number, "name": "bad" if number in bad else "good"} for number in range(200)]
    result = write(rows, upsert(fresh.url, "t", key="id") if upserts else insert(fresh.url, "t"))
    assert set(failed(result)) == bad
    assert result.written == 200 - len(bad)
    kept = {number for (number,) in fresh.rows("SELECT id FROM t WHERE name = 'good'")}
    assert kept == set(range(200)) - bad


@both_ways
def test_a_foreign_key_that_is_checked_at_the_end_of_the_statement_blames_its_row(fresh, write):
    fresh.connection.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int, p int REFERENCES p)")
    fresh.connection.execute("INSERT INTO p SELECT generate_series(0, 8)")
    result = write([{"id": number, "p": number % 10} for number in range(30)], insert(fresh.url, "t"))
    assert list(failed(result)) == [9, 19, 29]


@both_ways
def test_a_constraint_that_is_checked_at_commit_blames_its_row(fresh, write):
    fresh.connection.execute("CREATE TABLE p (id int PRIMARY KEY)")
    fresh.connection.execute("CREATE TABLE t (id int, p int REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    fresh.connection.execute("INSERT INTO p SELECT generate_series(0, 8)")
    result = write([{"id": number, "p": number % 10} for number in range(12)], insert(fresh.url, "t"))
    assert list(failed(result)) == [9]
    assert fresh.rows("SELECT count(*) FROM t") == [(11,)]


@both_ways
def test_a_trigger_may_refuse_and_change_rows(fresh, write):
    fresh.connection.execute(
        "CREATE TABLE t (id int, name text);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.id = 3 THEN RAISE 'not three'; END IF; NEW.name = upper(NEW.name); RETURN NEW; END $$;"
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    result = write([{"id": number, "name": "a"} for number in range(5)], insert(fresh.url, "t"))
    assert failed(result)[3].startswith("not three")
    assert fresh.rows("SELECT DISTINCT name, count(*) FROM t GROUP BY name") == [("A", 4)]


@both_ways
@pytest.mark.parametrize(("policy", "outcome"), [("last", ("c", [])), ("first", ("a", [])), ("fail", ("a", [1, 3]))])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_rows_with_one_key_in_a_chunk(fresh, write, tmp_path, database, policy, outcome):
    kept, failures = outcome
    rows = [{"id": 1, "n": "a"}, {"id": 1, "n": "b"}, {"id": 2, "n": "x"}, {"id": 1, "n": "c"}, {"id": 3, "n": "y"}]
    url = fresh.url if database == "postgres" else f"sqlite:///{tmp_path}/t.db"
    result = write(rows, upsert(url, "t", key="id", duplicates=policy))
    assert list(failed(result)) == failures
    assert result.read == result.written + result.failed
    assert stored(fresh, url) == [(1, kept), (2, "x"), (3, "y")]


@both_ways
@pytest.mark.parametrize("policy", ["last", "first"])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_where_the_chosen_row_is_refused_another_of_its_key_is_written(fresh, write, tmp_path, database, policy):
    url = fresh.url if database == "postgres" else f"sqlite:///{tmp_path}/t.db"
    create = "CREATE TABLE t (id int PRIMARY KEY, n text CHECK (n <> 'bad'))"
    execute_on(fresh, url, create)
    rows = [{"id": 1, "n": n} for n in (("b", "bad") if policy == "last" else ("bad", "b"))]
    result = write([*rows, {"id": 2, "n": "x"}], upsert(url, "t", key="id", duplicates=policy))
    assert result.failed == 1
    assert stored(fresh, url) == [(1, "b"), (2, "x")]


@both_ways
def test_rows_whose_key_is_null_are_all_kept(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int UNIQUE, n int)")
    rows = [{"id": None, "n": 1}, {"id": None, "n": 2}, {"id": 1, "n": 3}, {"id": 1, "n": 4}]
    assert write(rows, upsert(fresh.url, "t", key="id")).failed == 0
    assert fresh.rows("SELECT n FROM t ORDER BY n") == [(1,), (2,), (4,)]


def test_another_word_than_a_policy_is_refused():
    with pytest.raises(DeclarationError, match="duplicates must be"):
        upsert("postgresql://h/d", "t", key="id", duplicates="all")


def test_keys_that_exist_are_updated_through_every_turn_of_the_way_in(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    rows = [{"id": number, "n": 1} for number in range(0, 2_000, 2)]
    write(rows, upsert(fresh.url, "t", key="id"), chunk_size=100)
    mixed = [{"id": number, "n": 2} for number in range(3_000)]
    result = write(mixed, upsert(fresh.url, "t", key="id"), chunk_size=100)
    assert result.failed == 0
    assert fresh.rows("SELECT count(*), sum(n), count(DISTINCT id) FROM t") == [(3_000, 6_000, 3_000)]


@both_ways
def test_conflicts_are_passed_over_where_that_is_asked_for(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)")
    rows = [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 2, "n": 3}]
    assert write(rows, insert(fresh.url, "t", on_conflict="ignore")).written == 3
    assert fresh.rows("SELECT * FROM t ORDER BY id") == [(1, 0), (2, 2)]


@both_ways
def test_rows_may_be_dataclasses_or_tuples_and_tables_lie_in_schemas(fresh, write):
    write([Point(1, 0.5)], insert(fresh.url, f"{fresh.name}.points"))
    write([(2, 1.5)], insert(fresh.url, "points", columns=["id", "x"]))
    assert fresh.rows("SELECT * FROM points ORDER BY id") == [(1, 0.5), (2, 1.5)]
    write([{"a%b": 1, 'c"d': "x"}], insert(fresh.url, '"we.ird%"'))
    assert fresh.rows('SELECT "a%b", "c""d" FROM "we.ird%"') == [(1, "x")]


def test_columns_may_be_named_with_their_types(fresh, write):
    write([{"id": 1}], upsert(fresh.url, "t", key="id", columns={"id": "int2", "later": "text DEFAULT 'x'"}))
    assert fresh.rows("SELECT id, later FROM t") == [(1, None)]


@both_ways
@pytest.mark.parametrize(
    ("create", "rows", "make", "says"),
    [
        ("", [{"a": None}], insert, "column 'a' has only None"),
        ("", [{"a": 1}, {"a": "x"}], insert, "cannot be told"),
        ("", [{"a": 1}], upsert, "the key column 'id' is missing"),
        ("CREATE TABLE t (id int, naem int)", [{"id": 1, "name": 2}], insert, "did you mean 'naem'"),
        ('CREATE TABLE t ("Id" int)', [{"id": 1}], insert, "did you mean 'Id'"),
        ("CREATE TABLE t (id int)", [{"id": 1}], upsert, "no unique index on id"),
        ("CREATE TABLE t (id int UNIQUE DEFERRABLE)", [{"id": 1}], upsert, "no unique index on id"),
        ("CREATE TABLE t (id int); CREATE UNIQUE INDEX ON t (id) WHERE id > 5", [{"id": 1}], upsert, "no unique index"),
        ("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY)", [{"id": 1}], insert, "refused a statement"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_before_the_first_row(fresh, write, create, rows, make, says):
    if create:
        fresh.connection.execute(create)
    writer = upsert(fresh.url, "t", key="id") if make is upsert else insert(fresh.url, "t")
    result = write(rows, writer)
    assert result.status == "FAILED"
    assert says in result.error
    assert fresh.rows("SELECT to_regclass('t')")[0][0] is None or fresh.rows("SELECT count(*) FROM t") == [(0,)]


@both_ways
@pytest.mark.parametrize("chunk_size", [1, 1_000])
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_a_row_that_does_not_fit_is_its_items_failure(fresh, write, routed, atomic, chunk_size):
    writer = insert(fresh.url, "t")
    writer = route({"t": writer}, by=lambda row: "t") if routed else writer
    rows = [{"id": 0}, {"id": 1, "late": 1}, None, {}, 7, (1, 2), {"id": 6}]
    result = write(rows, writer, skip=Skip(limit=9), chunk_size=chunk_size, atomic=atomic)
    assert result.status == "COMPLETED_WITH_FAILURES"
    errors = failed(result)
    assert list(errors) == [1, 2, 3, 4, 5]
    assert "the row has late, and the columns are id, " in errors[1]
    assert "return DROP" in errors[2]
    assert fresh.rows("SELECT id FROM t ORDER BY id") == [(0,), (6,)]


@both_ways
def test_the_first_row_that_a_table_can_take_says_which_columns_are_written(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int, kept int DEFAULT 7)")
    result = write([{"id": 0, "late": 1}, {"id": 1}, {"id": 2, "kept": 2}], insert(fresh.url, "t"), skip=Skip(limit=9))
    assert list(failed(result)) == [0, 2]
    assert fresh.rows("SELECT id, kept FROM t") == [(1, 7)]


def test_a_statement_without_parameters_for_an_output_is_its_items_failure(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int)")
    result = write([(1,), None], execute(fresh.url, "INSERT INTO t VALUES (%s)"))
    assert "return DROP" in failed(result)[1]
    assert fresh.rows("SELECT id FROM t") == [(1,)]


@both_ways
def test_views_and_tables_with_row_security_are_written_without_copy(fresh, write):
    fresh.connection.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT * FROM t;"
        "CREATE TABLE guarded (id int PRIMARY KEY); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;"
        "ALTER TABLE guarded FORCE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (true) WITH CHECK (true)"
    )
    assert write([{"id": 1, "n": 1}], insert(fresh.url, "v")).failed == 0
    assert write([{"id": 1}], upsert(fresh.url, "guarded", key="id")).failed == 0
    assert fresh.rows("SELECT * FROM t, guarded") == [(1, 1, 1)]


def test_statements_are_executed_in_order_and_refused_alone(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int, n int CHECK (n >= 0)); INSERT INTO t VALUES (1, 5)")
    moves = [{"by": 5}, {"by": -20}, {"by": -10}, {"by": float("nan")}, {"by": 1}, {"by": -3}]
    result = write(moves, execute(fresh.url, "UPDATE t SET n = n + %(by)s WHERE id = 1"))
    assert list(failed(result)) == [1, 3, 5]
    assert fresh.rows("SELECT n FROM t") == [(1,)]


@both_ways
def test_without_skip_the_first_refused_row_ends_the_step_with_all_before_it_written(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int CHECK (id <> 7))")
    with pytest.raises(JobFailedError):
        raise JobFailedError(write([{"id": number} for number in range(20)], insert(fresh.url, "t"), skip=None))
    assert fresh.rows("SELECT count(*), max(id) FROM t") == [(7, 6)]


def execute_on(fresh, url, sql):
    if url == fresh.url:
        fresh.connection.execute(sql)
    else:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(sql)


def stored(fresh, url):
    sql = "SELECT * FROM t ORDER BY id"
    if url == fresh.url:
        return fresh.rows(sql)
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(sql).fetchall()


def test_columns_are_those_of_the_first_row_that_the_table_can_take_by_their_exact_names(fresh, write):
    fresh.connection.execute("CREATE TABLE t (id int)")
    result = write([{"ID": 1}, {"id": 2}], insert(fresh.url, "t"))
    assert "the row has ID, and the columns are id" in failed(result)[0]
    assert fresh.connection.execute("SELECT id FROM t").fetchall() == [(2,)]

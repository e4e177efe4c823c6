"""The set-up that docs/how-to/postgres.md describes is enough, and less is refused with the GRANT that is missing."""

import re
from pathlib import Path

import psycopg
import pytest

from batchwright import Job, Step, run
from batchwright.model.errors import LedgerError
from batchwright.readers import query
from batchwright.writers import insert, upsert

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgres.md"

ROWS = [{"id": number, "n": 1} for number in range(200)]


@pytest.fixture
def as_loader(fresh, tmp_path):
    """The page's own SQL, run in a place of its own, and a job run as that role."""
    role = f"loader_{fresh.name}"
    fresh.connection.execute("CREATE TABLE totals (id int PRIMARY KEY, n int); CREATE TABLE orders (id int, n int)")
    fresh.connection.execute("INSERT INTO orders SELECT generate_series(0, 199), 1")

    def grant(block: int, *, without: str = "nothing") -> None:
        sql = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[block]
        lines = [line for line in sql.splitlines() if without not in line]
        renamed = re.sub(r"\bloader\b", role, "\n".join(lines)).replace("batchwright", fresh.records)
        fresh.connection.execute(renamed)
        fresh.connection.execute(f"GRANT USAGE ON SCHEMA {fresh.name} TO {role}")

    def start(make, name: str, user: str = role):
        url = fresh.url_of(user)
        step = Step("s", read=query(url, "SELECT * FROM orders", key="id"), write=make(url), chunk_size=100)
        return run(Job(name, step), ledger=f"sqlite:///{tmp_path}/l.db", check=False)

    start.grant, start.role = grant, role
    yield start
    fresh.connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize(
    "make",
    [
        lambda url: insert(url, "totals"),
        lambda url: insert(url, "totals", on_conflict="ignore"),
        lambda url: upsert(url, "totals", key="id"),
    ],
)
def test_what_the_page_grants_is_enough(fresh, as_loader, make):
    as_loader.grant(0)
    result = as_loader(make, "enough")
    assert (str(result.status), result.written) == ("COMPLETED", 200), result.error
    assert fresh.rows("SELECT sum(n) FROM totals") == [(200,)]


def test_insert_alone_needs_to_see_nothing(fresh, as_loader):
    as_loader.grant(0, without="UPDATE ON totals")
    assert as_loader(lambda url: insert(url, "totals"), "blind").written == 200


def test_bookkeeping_may_belong_to_somebody_else(fresh, as_loader):
    as_loader.grant(0, without="CREATE SCHEMA")
    as_loader(lambda url: insert(url, "elsewhere"), "first", user="postgres")
    with pytest.raises(LedgerError, match="GRANT USAGE ON SCHEMA"):
        as_loader(lambda url: upsert(url, "totals", key="id"), "before")
    as_loader.grant(1)
    assert as_loader(lambda url: upsert(url, "totals", key="id"), "after").written == 200


def test_without_a_schema_the_missing_statement_is_named(fresh, as_loader):
    as_loader.grant(0, without="CREATE SCHEMA")
    refused = as_loader(lambda url: insert(url, "totals"), "none")
    assert refused.status == "FAILED"
    assert f'CREATE SCHEMA "{fresh.records}" AUTHORIZATION "{as_loader.role}"' in refused.error
    assert fresh.rows("SELECT count(*) FROM totals") == [(0,)]


def test_without_a_privilege_on_the_table_the_page_is_named(as_loader):
    as_loader.grant(0, without="ON totals")
    refused = as_loader(lambda url: insert(url, "totals"), "table")
    assert "a privilege is missing" in refused.error
    assert "docs/how-to/postgres.md" in refused.error


def test_without_temporary_tables_rows_are_merged_by_statements(fresh, as_loader):
    as_loader.grant(0)
    name = fresh.connection.info.dbname
    fresh.connection.execute("INSERT INTO totals VALUES (5, 7)")
    fresh.connection.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    try:
        assert as_loader(lambda url: upsert(url, "totals", key="id"), "no temporary tables").written == 200
    finally:
        fresh.connection.execute(f"GRANT TEMPORARY ON DATABASE {name} TO PUBLIC")
    assert fresh.rows("SELECT sum(n), count(*) FROM totals") == [(200, 200)]


def test_a_newer_schema_is_refused_untouched(fresh, tmp_path):
    step = Step("s", read=ROWS, write=insert(fresh.url, "t"))
    run(Job("old", step), ledger=f"sqlite:///{tmp_path}/l.db")
    with psycopg.connect(fresh.server.url, autocommit=True) as admin:
        admin.execute(f"UPDATE {fresh.records}.batchwright_schema SET version = 99 WHERE component = 'records'")
    refused = run(Job("new", step), ledger=f"sqlite:///{tmp_path}/l.db", check=False)
    assert "are of version 99" in refused.error
    assert "upgrade batchwright" in refused.error

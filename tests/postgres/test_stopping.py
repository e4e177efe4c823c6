"""A statement that the server works at for minutes, and whoever does not wait for it."""

import threading
from typing import Any

import pytest
from tests.postgres.server import Fresh

from batchwright import Status, Step, run
from batchwright.engine.stop import Stop
from batchwright.readers import query
from batchwright.writers import execute

FOR_MINUTES = "SELECT 1 AS i FROM pg_sleep(120)"


@pytest.fixture(autouse=True)
def table(fresh: Fresh) -> None:
    fresh.connection.execute("CREATE TABLE t (x integer)")


def asleep(fresh: Fresh) -> list[tuple]:
    others = "state = 'active' AND pid <> pg_backend_pid()"
    return fresh.rows(f"SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1%' AND {others}")


def test_a_query_ends_with_the_deadline_of_its_step(fresh: Fresh, tmp_path):
    step = Step("s", read=query(fresh.url, FOR_MINUTES, key="i"), write=print, timeout_seconds=1)
    result = run(step, ledger=tmp_path / "ledger.db")
    assert (result.status, result.error) == (Status.STOPPED, "timeout_seconds=1 of step 's' are over")
    assert result.seconds < 5
    assert not asleep(fresh)


def test_a_statement_that_writes_ends_with_the_time_of_its_chunk(fresh: Fresh, tmp_path):
    writes = execute(fresh.url, "INSERT INTO t SELECT %(x)s FROM pg_sleep(120)")
    result = run(
        Step("s", read=[{"x": 1}], write=writes, chunk_timeout_seconds=0.5), ledger=tmp_path / "ledger.db", check=False
    )
    assert result.status is Status.FAILED
    assert "was not written and committed within 0.5 seconds; items 1 to 1 are rolled back" in result.error
    assert result.seconds < 5
    assert fresh.rows("SELECT * FROM t") == []
    assert not asleep(fresh)


def test_another_thread_stops_a_statement_that_writes_at_once(fresh: Fresh, tmp_path):
    stop = Stop()
    timer = threading.Timer(0.5, lambda: stop.request("enough", now=True))

    def read() -> Any:
        yield {"x": 1}
        timer.start()

    writes = execute(fresh.url, "INSERT INTO t SELECT %(x)s FROM pg_sleep(120)")
    result = run(Step("s", read=read, write=writes), ledger=tmp_path / "ledger.db", stop=stop)
    timer.join()
    assert (result.status, result.error) == (Status.STOPPED, "enough")
    assert result.seconds < 5
    assert not asleep(fresh)


def test_a_run_on_a_postgres_ledger_hears_who_asks_it_to_stop(fresh: Fresh):
    from batchwright.ledgers.postgres import PostgresLedger

    asked = threading.Event()

    def ask() -> None:
        ledger = PostgresLedger(fresh.url)
        while not ledger.request_stop(1, "somebody on another machine"):
            asked.wait(0.05)
        ledger.close()

    asking = threading.Thread(target=ask)

    def read() -> Any:
        asking.start()
        yield from range(1_000_000_000)

    result = run(Step("s", read=read, write=len), ledger=fresh.url)
    asking.join()
    assert result.status is Status.STOPPED
    assert result.error.startswith("stopped by somebody on another machine at ")


def test_a_role_that_may_only_stop_runs_needs_one_column(fresh: Fresh):
    from batchwright.ledgers.postgres import PostgresLedger
    from batchwright.model.checkpoint import InstanceKey, StepKey
    from batchwright.model.execution import RunRequest

    key, role = InstanceKey("held", "h"), f"{fresh.name}_stopper"
    owner = PostgresLedger(fresh.url)
    with owner.own(key):
        run_id = owner.begin_run(RunRequest(key, {}, ("s",))).id
        fresh.connection.execute(f"CREATE ROLE {role} LOGIN")
        fresh.connection.execute(f"GRANT USAGE ON SCHEMA {fresh.records} TO {role}")
        fresh.connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {fresh.records} TO {role}")
        executions = f"{fresh.records}.batchwright_job_executions"
        fresh.connection.execute(f"GRANT UPDATE (stop_requested) ON {executions} TO {role}")
        stopper = PostgresLedger(fresh.url_of(role))
        assert stopper.request_stop(run_id, role)
        with pytest.raises(Exception, match=r"permission denied|privilege"):
            stopper.void_failures(StepKey("held", "h", 1, "s"), 0)
        stopper.close()
    owner.close()
    fresh.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

"""A PostgreSQL ledger whose connection breaks: what is gone on with, and that nothing is recorded twice."""

import contextlib
import os
from collections.abc import Iterator

import psycopg
import pytest
from tests.postgres.server import Fresh

from batchwright.databases import postgres as databases
from batchwright.ledgers import postgres
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.postgres_lease import LeaseTimes, boot_seconds
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import ConfigurationError, FencedError, LedgerError, WriteError
from batchwright.model.status import Status
from batchwright.testing.ledger_examples import KEY, a_failure, a_request, an_outcome, start_run, step_key

SECRET = "s3cret-canary"  # noqa: S105 - one that must not be shown


@pytest.fixture
def ledger(fresh: Fresh) -> Iterator[PostgresLedger]:
    with contextlib.closing(PostgresLedger(fresh.url)) as ledger:
        yield ledger


@pytest.fixture
def cut(ledger: PostgresLedger, fresh: Fresh):
    """Ends the ledger's session on the server; the ledger finds out with its next statement."""

    def cut() -> None:
        pid = ledger._session.connection().info.backend_pid
        fresh.connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    return cut


@pytest.fixture
def lose_the_answer(monkeypatch):
    """The next COMMIT is done, and its answer is lost."""

    def lose() -> None:
        commit = databases.commit

        def commit_and_lose(connection: psycopg.Connection) -> None:
            commit(connection)
            monkeypatch.setattr(databases, "commit", commit)
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(databases, "commit", commit_and_lose)

    return lose


def test_an_owner_whose_connection_was_cut_goes_on(ledger, cut):
    with ledger.own(KEY):
        cut()
        run = start_run(ledger)
        cut()
        step = ledger.begin_step(run.id, step_key(), "in", "out", "exactly once")
        cut()
        ledger.save_checkpoint(step_key(), Checkpoint(Position(3)), [a_failure(1)])
        cut()
        assert ledger.load_checkpoint(step_key()) == Checkpoint(Position(3))
        cut()
        ledger.end_step(step.id, an_outcome(Status.COMPLETED), [])
        cut()
        ledger.move_run(run.id, Status.COMPLETED)
        cut()
    with ledger.own(KEY):
        assert ledger.last_run(KEY).status is Status.COMPLETED


def test_a_commit_in_doubt_is_resolved_and_nothing_is_recorded_twice(ledger, lose_the_answer):
    with ledger.own(KEY), contextlib.closing(ledger.history()) as history:
        lose_the_answer()
        run = ledger.begin_run(a_request())
        lose_the_answer()
        ledger.move_run(run.id, Status.RUNNING)
        lose_the_answer()
        step = ledger.begin_step(run.id, step_key(), "in", "out", "exactly once")
        lose_the_answer()
        ledger.note_progress(step.id, an_outcome(), [a_failure(3)])
        lose_the_answer()
        ledger.save_checkpoint(step_key(), Checkpoint(Position(9)), [a_failure(4)])
        lose_the_answer()
        ledger.end_step(step.id, an_outcome(Status.COMPLETED), [a_failure(5)])
        lose_the_answer()
        ledger.move_run(run.id, Status.COMPLETED)
        assert [found.status for found in history.runs()] == [Status.COMPLETED]
        assert [found.status for found in history.steps(run.id)] == [Status.COMPLETED]
        assert [failure.ordinal for failure in history.failures(run.id)] == [3, 4, 5]


def test_a_claim_whose_answer_was_lost_is_ours(ledger, monkeypatch):
    from batchwright.ledgers import postgres_lease

    real, lost = postgres_lease.run, []

    def run_and_lose(connection, schema, sql, values=()):
        found = real(connection, schema, sql, values)
        if sql == postgres_lease.CLAIM and not lost:
            lost.append(sql)
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return found

    monkeypatch.setattr(postgres_lease, "run", run_and_lose)
    with ledger.own(KEY) as lease:
        assert lease.epoch == 2
        ledger.save_checkpoint(step_key(), Checkpoint(Position(1)), [])


def test_a_commit_in_doubt_of_an_owner_who_was_replaced_meanwhile_is_refused(
    ledger, fresh, lose_the_answer, monkeypatch
):
    sql = f"UPDATE {fresh.records}.batchwright_leases SET epoch = epoch + 1"
    real = databases.roll_back
    with ledger.own(KEY):
        monkeypatch.setattr(
            databases, "roll_back", lambda connection: fresh.connection.execute(sql) and real(connection)
        )
        lose_the_answer()
        with pytest.raises(FencedError):
            ledger.save_checkpoint(step_key(), Checkpoint(Position(9)), [])


@pytest.mark.parametrize("heartbeats", [0.05, 10])
def test_a_server_that_stays_away_is_given_up_after_a_while_whether_heartbeats_get_through_or_not(fresh, heartbeats):
    times = LeaseTimes(heartbeat_seconds=heartbeats, ttl_seconds=0.2 + 2 * heartbeats, margin_seconds=0.1)
    with contextlib.closing(PostgresLedger(fresh.url, times=times)) as ledger, ledger.own(KEY) as lease:
        lease.trusted_until = min(lease.trusted_until, boot_seconds() + 0.3)
        ledger._session.close()
        ledger._session.database = databases.database_of(fresh.url.replace(f":{fresh.server.port}/", ":1/"))
        with pytest.raises(WriteError, match="cannot be reached"):
            ledger.save_checkpoint(step_key(), Checkpoint(Position(9)), [])
        ledger._session.database = databases.database_of(fresh.url)


def test_a_forked_process_is_refused(ledger):
    pid = os.fork()
    if pid == 0:
        try:
            ledger.last_run(KEY)
        except LedgerError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ((":{port}/", ":1/"), "cannot be reached"),
        (("/postgres?", "/nowhere?"), "there is no database"),
        (("postgres:", "nobody:"), "does not let us in"),
    ],
)
def test_a_ledger_that_cannot_be_opened_is_one_line_that_names_another_way(fresh, change, wrong):
    url = fresh.url.replace("postgres@", f"postgres:{SECRET}@")
    old, new = (part.format(port=fresh.server.port) for part in change)
    assert old in url
    for opens in (PostgresLedger, postgres.PostgresHistory):
        with pytest.raises(LedgerError, match=wrong) as caught:
            opens(url.replace(old, new))
        assert "BATCHWRIGHT_LEDGER" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigurationError):
        PostgresLedger("mysql://host/db")


def test_a_history_without_a_ledger_says_so_and_creates_nothing(fresh):
    with pytest.raises(LedgerError, match=r"there is no ledger in .*run a job first"):
        postgres.PostgresHistory(fresh.url)
    assert fresh.rows(f"SELECT 1 FROM pg_namespace WHERE nspname = '{fresh.records}'") == []


def test_the_address_has_neither_user_nor_password(fresh):
    url = fresh.url.replace("postgres@", f"postgres:{SECRET}@")
    with contextlib.closing(PostgresLedger(url)) as ledger, contextlib.closing(ledger.history()) as history:
        expected = f"postgresql://127.0.0.1:{fresh.server.port}/postgres?records_schema={fresh.records}"
        assert (ledger.address, history.address, history.summary()["path"]) == (expected, expected, expected)
        assert SECRET not in repr(vars(ledger._session))


def test_a_ledger_of_a_newer_version_is_refused(ledger, fresh):
    fresh.connection.execute(f"UPDATE {fresh.records}.batchwright_schema SET version = 99 WHERE component = 'ledger'")
    with pytest.raises(LedgerError, match="version 99"):
        PostgresLedger(fresh.url)
    with pytest.raises(LedgerError, match=r"version 99.*upgrade batchwright"):
        postgres.PostgresHistory(fresh.url)


def test_a_role_that_may_only_use_the_tables_runs_jobs_and_one_that_may_only_read_sees_them(ledger, fresh):
    schema, worker, reader = fresh.records, f"{fresh.name}_worker", f"{fresh.name}_reader"
    fresh.connection.execute(
        f"CREATE ROLE {worker} LOGIN; CREATE ROLE {reader} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {worker}, {reader};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {worker};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}"
    )
    try:
        with contextlib.closing(PostgresLedger(fresh.url_of(worker))) as mine, mine.own(KEY):
            run = start_run(mine)
            step = mine.begin_step(run.id, step_key(), "in", "out", "exactly once")
            mine.save_checkpoint(step_key(), Checkpoint(Position(3)), [a_failure(1)])
            mine.end_step(step.id, an_outcome(Status.COMPLETED), [])
            mine.move_run(run.id, Status.COMPLETED)
        with contextlib.closing(postgres.PostgresHistory(fresh.url_of(reader))) as history:
            assert [found.status for found in history.runs()] == [Status.COMPLETED]
            assert history.summary()["failures"] == 1
    finally:
        fresh.connection.execute(f"DROP OWNED BY {worker}, {reader}; DROP ROLE {worker}, {reader}")


def test_an_index_that_is_not_valid_is_a_finding(ledger, fresh):
    fresh.connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        [f"{fresh.records}.batchwright_one_live_execution"],
    )
    with contextlib.closing(ledger.history()) as history:
        assert history.summary()["integrity"] == "indexes are not valid: batchwright_one_live_execution"

"""Ledger and target in one database: a chunk commits only while its lease is held, shown in the chunk's transaction."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.postgres.server import Fresh

from batchwright.ledgers import postgres_lease
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, InstanceKey
from batchwright.model.errors import AlreadyRunningError, FencedError
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert

KEY = InstanceKey("shared", "h")

DONE = Checkpoint(Position(1), Counts(read=1, written=1, outputs=1, commits=1))


@pytest.fixture
def table(fresh: Fresh) -> Fresh:
    fresh.connection.execute("CREATE TABLE t (x integer)")
    return fresh


@pytest.fixture
def owner(table: Fresh) -> Iterator[PostgresLedger]:
    with closing(PostgresLedger(table.url)) as ledger, ledger.own(KEY):
        yield ledger


def opened(fresh: Fresh, ledger: PostgresLedger):
    sink = insert(fresh.url, "t").open(Scope(KEY.step(1, "s"), ledger, FakeClock(), claims=True))
    assert sink.recall() is None
    sink.write([{"x": 1}])
    return sink


def lapse(fresh: Fresh) -> None:
    fresh.connection.execute(f"UPDATE {fresh.records}.batchwright_leases SET lease_until = now() - interval '1 second'")


def test_whoever_holds_the_lease_commits(table: Fresh, owner: PostgresLedger):
    with closing(opened(table, owner)) as sink:
        sink.commit(DONE, ())
    assert table.rows("SELECT x FROM t") == [(1,)]


def test_a_successor_that_has_not_reached_the_target_yet_keeps_a_zombie_out_of_it(table: Fresh, owner: PostgresLedger):
    with closing(opened(table, owner)) as sink, closing(PostgresLedger(table.url)) as successor:
        lapse(table)
        with successor.own(KEY), pytest.raises(FencedError, match="another process has taken this work over"):
            sink.commit(DONE, ())
    assert table.rows("SELECT x FROM t") == []


def test_another_schema_or_role_without_the_privilege_goes_by_the_fence_alone(table: Fresh, owner: PostgresLedger):
    elsewhere = table.url.replace(f"records_schema={table.records}", "records_schema=elsewhere")
    sink = insert(elsewhere, "t").open(Scope(KEY.step(1, "s"), owner, FakeClock(), claims=True))
    assert owner.voucher(insert(elsewhere, "t").database, KEY.step(1, "s")) is None  # type: ignore[attr-defined] # ours, of PostgreSQL
    sink.close()


def claimed_while_it_commits(fresh: Fresh, owner: PostgresLedger) -> bool:
    """Whether a successor gets the lease of a commit that is under way, which then takes effect all the same."""
    claimed: list[bool] = []

    def claim() -> None:
        url = fresh.url_of("postgres", lock_timeout="300ms")
        with closing(PostgresLedger(url)) as successor:
            try:
                with successor.own(KEY):
                    claimed.append(True)
            except AlreadyRunningError:
                claimed.append(False)

    def meanwhile(event: str, _: object) -> None:
        if event == "batchwright.K11" and watching and threading.current_thread() is threading.main_thread():
            watching.clear()
            lapse_and_claim()

    def lapse_and_claim() -> None:
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()

    with closing(opened(fresh, owner)) as sink:
        lapse(fresh)
        watching = [True]
        sys.addaudithook(meanwhile)
        sink.commit(DONE, ())
    return claimed == [True]


def test_a_successor_waits_for_a_commit_that_is_under_way(table: Fresh, owner: PostgresLedger):
    assert not claimed_while_it_commits(table, owner)


def test_a_weaker_lock_would_be_seen(table: Fresh, owner: PostgresLedger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres_lease, "CHECK", postgres_lease.CHECK.replace("FOR SHARE", "FOR KEY SHARE"))
    assert claimed_while_it_commits(table, owner)

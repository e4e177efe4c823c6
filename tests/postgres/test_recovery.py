"""What holds when connections are cut, commits are in doubt, and other processes are at work on the same rows."""

import threading
from contextlib import closing, contextmanager

import psycopg
import pytest
from tests.postgres.server import running_server

from batchwright import Job, Step, run
from batchwright.databases import postgres, postgres_records
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import FencedError
from batchwright.model.guarantee import Fault
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.writers import execute, insert

KEY = StepKey("job", "hash", 1, "step")


def checkpoint(ordinal: int) -> Checkpoint:
    return Checkpoint(Position(ordinal), Counts(read=ordinal, written=ordinal, commits=ordinal))


@contextmanager
def opened(writer):
    with closing(writer.open(Scope(KEY, MemoryStore(), FakeClock()))) as sink:
        yield sink


def cut(fresh, sink) -> None:
    """End the sink's connection at the server's side."""
    pid = sink._connection.info.backend_pid
    fresh.connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_a_connection_cut_before_the_commit_is_made_anew_and_the_chunk_written_again(fresh):
    with opened(insert(fresh.url, "t")) as sink:
        sink.recall()
        sink.write([{"id": 1}])
        sink.commit(checkpoint(1), ())
        sink.write([{"id": 2}])
        cut(fresh, sink)
        with pytest.raises(psycopg.Error) as raised:
            sink.write([{"id": 3}])
        assert sink.classify(raised.value) is Fault.TRANSIENT
        sink.rollback()
        sink.write([{"id": 2}])
        sink.commit(checkpoint(2), ())
    assert fresh.rows("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_a_job_lives_through_cut_connections(fresh, tmp_path):
    cuts = iter(range(3))

    def cutting(row):
        if row["id"] in (5, 15, 25) and next(cuts, None) is not None:
            fresh.connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'job'"
            )
        return row

    rows = [{"id": number} for number in range(30)]
    step = Step("s", read=rows, process=cutting, write=insert(f"{fresh.url}&application_name=job", "t"), chunk_size=10)
    result = run(Job("cut", step), ledger=f"sqlite:///{tmp_path}/l.db")
    assert result.written == 30
    assert fresh.rows("SELECT count(*), sum(id) FROM t") == [(30, 435)]


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_who_recalls_waits_for_a_transaction_that_a_dead_process_left_behind(fresh, first, commits):
    """Its COMMIT may be on the way to the server still: the row that is there now says nothing."""
    writer = insert(fresh.url, "t")
    with opened(writer) as before, closing(psycopg.connect(fresh.url.split("&records")[0], autocommit=True)) as orphan:
        before.recall()
        if first:
            postgres_records.prepare(orphan, fresh.records)
        else:
            before.commit(checkpoint(1), ())
        orphan.execute("BEGIN")
        moved = None if first else checkpoint(1)
        postgres_records.move_checkpoint(orphan, fresh.records, KEY, moved, checkpoint(5))
        found = []
        with opened(writer) as successor:
            thread = threading.Thread(target=lambda: found.append(successor.recall()))
            thread.start()
            wait_until(fresh, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 1)
            assert not found
            orphan.execute("COMMIT" if commits else "ROLLBACK")
            thread.join(10)
        ordinal = found[0] and found[0].position.ordinal
        assert ordinal == (5 if commits else None if first else 1)


def test_two_sinks_of_one_step_cannot_both_move_its_checkpoint(fresh):
    writer = insert(fresh.url, "t")
    with opened(writer) as first, opened(writer) as second:
        first.recall()
        second.recall()
        first.write([{"id": 1}])
        first.commit(checkpoint(1), ())
        second.write([{"id": 1}])
        with pytest.raises(FencedError) as raised:
            second.commit(checkpoint(1), ())
        assert second.classify(raised.value) is Fault.FATAL
        second.rollback()
    assert fresh.rows("SELECT count(*) FROM t") == [(1,)]


def test_an_owner_whose_time_is_over_when_it_has_looked_at_the_fence_does_not_raise_it(fresh):
    key, looked = StepKey("job", "hash", 1, "step"), []

    def over():
        looked.append(fresh.rows("SELECT 1"))
        raise FencedError("its time is over")

    with closing(postgres.connect(postgres.database_of(fresh.url))) as connection:
        postgres_records.prepare(connection, fresh.records)
        assert postgres_records.raise_fence(connection, fresh.records, key, list) == 1
        scope = Scope(key, MemoryStore(), FakeClock(), claims=True, owned=over)
        with closing(insert(fresh.url, "t").open(scope)) as sink, pytest.raises(FencedError, match="its time is over"):
            sink.recall()
        assert looked
        postgres_records.check_fence(connection, fresh.records, key, 1)


def test_a_request_for_the_fence_that_arrives_late_does_nothing(fresh):
    key = StepKey("job", "hash", 1, "step")
    values = (key.job, key.parameters_hash, key.lap, key.step, key.partition)
    with closing(postgres.connect(postgres.database_of(fresh.url))) as connection:
        postgres_records.prepare(connection, fresh.records)
        late = [(*values, seen) for seen in (0, 1)]
        assert [postgres_records.raise_fence(connection, fresh.records, key, list) for _ in range(2)] == [1, 2]
        for request in late:
            assert (
                postgres_records._run(connection, postgres_records._RAISE_FENCE, fresh.records, request).fetchone()
                is None
            )
        postgres_records.check_fence(connection, fresh.records, key, 2)


def test_eight_sinks_that_begin_at_once_make_one_table_and_one_schema(fresh):
    errors = []

    def begin(number):
        try:
            key = StepKey("job", "hash", 1, f"step {number}")
            with closing(insert(fresh.url, "t").open(Scope(key, MemoryStore(), FakeClock()))) as sink:
                sink.recall()
                sink.write([{"id": number}])
                sink.commit(checkpoint(1), ())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=begin, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert fresh.rows("SELECT count(*) FROM t") == [(8,)]


def test_a_deadlock_is_a_transient_fault_and_leaves_nothing(fresh):
    fresh.connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
    move = execute(fresh.url_of("postgres", deadlock_timeout="50ms"), "UPDATE t SET n = n + 1 WHERE id = %s")
    fresh.connection.execute("BEGIN; SET LOCAL deadlock_timeout = '1h'; UPDATE t SET n = 0 WHERE id = 2")
    with opened(move) as sink:
        sink.recall()
        sink.write([(1,)])
        other = threading.Thread(target=lambda: fresh.connection.execute("UPDATE t SET n = 0 WHERE id = 1"))
        other.start()
        wait_until(fresh, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 1)
        with pytest.raises(psycopg.errors.DeadlockDetected) as raised:
            sink.write([(2,)])
        assert sink.classify(raised.value) is Fault.TRANSIENT
        sink.rollback()
        other.join(10)
        fresh.connection.execute("COMMIT")
    assert fresh.rows("SELECT n FROM t ORDER BY id") == [(0,), (0,)]


def test_a_server_that_restarts_in_the_middle_costs_nothing():
    with running_server() as server:
        sink = insert(server.url, "t").open(Scope(KEY, MemoryStore(), FakeClock()))
        with closing(sink):
            sink.recall()
            sink.write([{"id": 1}])
            sink.commit(checkpoint(1), ())
            sink.write([{"id": 2}])
            server.kill_and_start()
            with pytest.raises(psycopg.Error) as raised:
                sink.commit(checkpoint(2), ())
            assert sink.classify(raised.value) in (Fault.TRANSIENT, Fault.DOUBTFUL)
            assert sink.recall() == checkpoint_with_columns(1)
        with psycopg.connect(server.url) as after:
            assert after.execute("SELECT id FROM t").fetchall() == [(1,)]


def checkpoint_with_columns(ordinal: int) -> Checkpoint:
    return Checkpoint(checkpoint(ordinal).position, checkpoint(ordinal).counts, {"columns": ["id"]})


def test_a_database_that_is_read_only_is_named_as_such(fresh):
    url = fresh.url_of("postgres", default_transaction_read_only="on")
    with opened(insert(url, "t")) as sink:
        sink.recall()
        with pytest.raises(psycopg.Error) as raised:
            sink.write([{"id": 1}])
    assert "cannot be written" in str(sink.explain(raised.value))


def wait_until(fresh, sql: str, expected: int) -> None:
    """Until another session is where it must be; asked of a third one."""
    with psycopg.connect(fresh.server.url, autocommit=True) as watcher:
        for _ in range(500):
            if watcher.execute(sql).fetchone()[0] >= expected:
                return
            watcher.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(f"never: {sql}")

"""A chunk's way into a transactional target: passing errors, commits in doubt, rows that won't write."""

import sqlite3
from contextlib import closing

import pytest
from tests.unit.engine.runs import Breaking, as_row, database, rows, run_here, url

from batchwright import Retry, Skip, Status, Step
from batchwright.engine.stop import Stop
from batchwright.model.errors import WriteError
from batchwright.model.guarantee import Fault
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import execute, insert, upsert


def locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


def failing_at(place: str, *calls: int, make=locked):
    """Raises before these calls of a sink's method."""

    def before(name, call):
        if name == place and call in calls:
            raise make()

    return before


@pytest.mark.parametrize("place", ["write", "commit"])
def test_a_chunk_that_fails_twice_as_locked_is_written_once_and_not_processed_again(tmp_path, place):
    calls: list = []

    def process(item):
        calls.append(item)
        return as_row(item)

    target = Breaking(insert(url(tmp_path / "t.db"), "t"), failing_at(place, 2, 3))
    ran = run_here(Step("s", read=range(6), process=process, write=target, chunk_size=2))
    assert ran.result.status is Status.COMPLETED
    assert rows(tmp_path / "t.db") == [0, 1, 2, 3, 4, 5]
    assert calls == [0, 1, 2, 3, 4, 5]
    assert (ran.result.counts.rollbacks, ran.result.counts.commits) == (2, 3)


def test_a_real_lock_of_somebody_else_is_waited_for(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    class Releasing(FakeClock):
        """The third wait of the engine sees the lock go."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.slept) == 3:
                other.execute("ROLLBACK")

    class Impatient:
        """A writer whose connection waits for no lock, so that the engine has to."""

        guarantee, address = insert(url(path), "t").guarantee, "impatient"

        def open(self, scope):
            sink = insert(url(path), "t").open(scope)
            recall = sink.recall

            def recalled():
                checkpoint = recall()
                sink._open().execute("PRAGMA busy_timeout = 0")
                other.execute("BEGIN IMMEDIATE")
                return checkpoint

            sink.recall = recalled
            return sink

    retry = Retry(on=sqlite3.OperationalError, attempts=50, delay_seconds=0.05)
    ran = run_here(Step("s", read=range(3), process=as_row, write=Impatient(), write_retry=retry), clock=Releasing())
    other.close()
    assert ran.result.status is Status.COMPLETED
    assert ran.result.counts.rollbacks >= 1
    assert rows(path) == [0, 1, 2]


def test_a_lock_that_stays_fails_the_step_in_our_words(tmp_path):
    target = Breaking(insert(url(tmp_path / "t.db"), "t"), failing_at("commit", *range(2, 50)))
    ran = run_here(Step("s", read=range(4), process=as_row, write=target, chunk_size=2, skip=Skip()))
    assert isinstance(ran.error, WriteError)
    assert "locked by another process" in ran.result.error
    assert rows(tmp_path / "t.db") == [0, 1]
    assert ran.counts == (2, 2, 0, 0)
    assert sum(ran.clock.slept) <= 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 3 * 5


def test_write_retry_says_how_often(tmp_path):
    seen: list = []

    def before(name, call):
        if name == "write":
            seen.append(call)
            raise locked()

    target = Breaking(insert(url(tmp_path / "t.db"), "t"), before)
    retry = Retry(on=sqlite3.OperationalError, attempts=2)
    run_here(Step("s", read=[1], process=as_row, write=target, write_retry=retry))
    assert seen == [1, 2]


def test_a_stop_ends_the_wait_for_a_lock(tmp_path):
    stop = Stop()

    class Stopping(FakeClock):
        def sleep(self, seconds: float) -> None:
            stop.request("enough")

    target = Breaking(insert(url(tmp_path / "t.db"), "t"), failing_at("write", 1))
    declared = Step("s", read=range(3), process=as_row, write=target, write_retry=Retry(delay_seconds=1e9))
    ran = run_here(declared, stop=stop, clock=Stopping())
    assert ran.result.status is Status.STOPPED
    assert run_here(declared, ledger=ran.ledger).result.status is Status.COMPLETED
    assert rows(tmp_path / "t.db") == [0, 1, 2]


def test_a_lock_while_finishing_is_waited_for(tmp_path):
    target = Breaking(insert(url(tmp_path / "t.db"), "t"), failing_at("finish", 1, 2))
    ran = run_here(Step("s", read=range(3), process=as_row, write=target))
    assert ran.result.status is Status.COMPLETED
    assert rows(tmp_path / "t.db") == [0, 1, 2]


class CutOff:
    """A writer whose second COMMIT fails on the wire, after or before it took effect."""

    def __init__(self, path, *, took_effect: bool) -> None:
        self.writer, self.took_effect = insert(url(path), "t"), took_effect
        self.guarantee, self.address = self.writer.guarantee, self.writer.address

    def open(self, scope):
        sink = self.writer.open(scope)
        commit, calls = sink.commit, []

        def committing(checkpoint, failures):
            calls.append(1)
            if len(calls) != 2:
                return commit(checkpoint, failures)
            if self.took_effect:
                commit(checkpoint, failures)
            sink._committing = True
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error

        sink.commit = committing
        return sink


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_commit_in_doubt_is_resolved_by_the_targets_word(tmp_path, took_effect):
    def process(item):
        if item == 3:
            raise ValueError("bad")
        return as_row(item)

    target = CutOff(tmp_path / "t.db", took_effect=took_effect)
    declared = Step("s", read=range(6), process=process, write=target, chunk_size=2, skip=Skip())
    ran = run_here(declared)
    assert ran.result.status is Status.FAILED
    assert ran.counts == ((4, 3, 0, 1) if took_effect else (2, 2, 0, 0))
    assert [failure.ordinal for failure in ran.failures] == ([3] if took_effect else [])
    whole = Step("s", read=range(6), process=process, write=target.writer, chunk_size=2, skip=Skip())
    assert run_here(whole, ledger=ran.ledger).counts == (6, 5, 0, 1)
    assert rows(tmp_path / "t.db") == [0, 1, 2, 4, 5]


def test_once_a_doubt_is_resolved_the_target_is_asked_nothing_more(tmp_path):
    """Its failures are known: a connection that breaks again right after the answer must not end the step."""

    class CutOffAgain(CutOff):
        def open(self, scope):
            sink = super().open(scope)
            sink.classify = lambda error: Fault.DOUBTFUL

            def failures():
                raise sqlite3.OperationalError("disk I/O error")

            sink.failures = failures
            return sink

    def process(item):
        if item == 3:
            raise ValueError("bad")
        return as_row(item)

    target = CutOffAgain(tmp_path / "t.db", took_effect=True)
    ran = run_here(Step("s", read=range(6), process=process, write=target, chunk_size=2, skip=Skip()))
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert [failure.ordinal for failure in ran.failures] == [3]
    assert rows(tmp_path / "t.db") == [0, 1, 2, 4, 5]


def table(path, definition):
    return insert(url(database(path, definition)), "t")


REFUSALS = {
    "check": ("CREATE TABLE t (x CHECK (x >= 0))", -1),
    "not null": ("CREATE TABLE t (x NOT NULL)", None),
    "unique": ("CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (99)", 99),
    "strict type": ("CREATE TABLE t (x INTEGER) STRICT", "text"),
    "foreign key": ("CREATE TABLE p (x PRIMARY KEY); CREATE TABLE t (x, p REFERENCES p)", None),
    "trigger abort": ("CREATE TABLE t (x)", "ABORT"),
    "trigger fail": ("CREATE TABLE t (x)", "FAIL"),
    "trigger rollback": ("CREATE TABLE t (x)", "ROLLBACK"),
    "huge integer": ("CREATE TABLE t (x)", 2**63),
    "lone surrogate": ("CREATE TABLE t (x)", "\ud800"),
    "nan": ("CREATE TABLE t (x)", float("nan")),
    "unbindable": ("CREATE TABLE t (x)", object()),
}


def refusal(path, name):
    """A writer and a value that it refuses."""
    script, value = REFUSALS[name]
    if name.startswith("trigger"):
        script += (
            f"; CREATE TRIGGER no AFTER INSERT ON t WHEN new.x = '{value}' BEGIN SELECT RAISE({value}, 'not this'); END"
        )
    return table(path, script), value


@pytest.mark.parametrize("places", [[3], [0, 4, 5, 11], list(range(12))], ids=["one", "several", "all"])
@pytest.mark.parametrize("chunk_size", [1, 5, 100])
@pytest.mark.parametrize("name", sorted(set(REFUSALS) - {"foreign key"}))
def test_refused_rows_fail_alone_and_their_neighbours_are_written(tmp_path, name, chunk_size, places):
    target, value = refusal(tmp_path / "t.db", name)
    items = [value if n in places else n for n in range(12)]
    before = rows(tmp_path / "t.db")
    ran = run_here(Step("s", read=items, process=as_row, write=target, chunk_size=chunk_size, skip=Skip()))
    assert ran.result.status is Status.COMPLETED_WITH_FAILURES
    assert rows(tmp_path / "t.db") == before + [n for n in range(12) if n not in places]
    assert [failure.ordinal for failure in ran.failures] == places
    assert ran.result.counts.failed_write == len(places)


@pytest.mark.parametrize("chunk_size", [1, 5, 100])
@pytest.mark.parametrize("name", sorted(set(REFUSALS) - {"foreign key"}))
def test_without_skip_a_refused_row_stops_the_step_with_everything_before_it_committed(tmp_path, name, chunk_size):
    target, value = refusal(tmp_path / "t.db", name)
    before = rows(tmp_path / "t.db")
    ran = run_here(Step("s", read=[0, 1, 2, value, 4, 5, value], process=as_row, write=target, chunk_size=chunk_size))
    assert ran.result.status is Status.FAILED
    assert rows(tmp_path / "t.db") == [*before, 0, 1, 2]
    assert ran.counts == (3, 3, 0, 0)
    assert "while writing item 4 (list item 4) of step 's'" in ran.result.error


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["immediate", "deferred"])
@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_rows_without_their_parent_fail_alone(tmp_path, when, chunk_size):
    script = (
        f"CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1); CREATE TABLE t (x, p REFERENCES p {when})"
    )
    target = table(tmp_path / "t.db", script)
    items = [{"x": n, "p": 7 if n in (2, 3, 9) else 1} for n in range(11)]
    ran = run_here(Step("s", read=items, write=target, chunk_size=chunk_size, skip=Skip()))
    assert [failure.ordinal for failure in ran.failures] == [2, 3, 9]
    assert rows(tmp_path / "t.db", "SELECT x FROM t ORDER BY rowid") == [0, 1, 4, 5, 6, 7, 8, 10]
    assert ran.counts == (11, 8, 0, 3)


def test_without_skip_an_error_of_commit_stops_the_step_before_its_row(tmp_path):
    script = "CREATE TABLE p (id PRIMARY KEY); CREATE TABLE t (x, p REFERENCES p DEFERRABLE INITIALLY DEFERRED)"
    items = [{"x": n, "p": 7 if n == 5 else None} for n in range(9)]
    ran = run_here(Step("s", read=items, write=table(tmp_path / "t.db", script)))
    assert ran.result.status is Status.FAILED
    assert rows(tmp_path / "t.db", "SELECT x FROM t") == [0, 1, 2, 3, 4]
    assert "while writing item 6" in ran.result.error


@pytest.mark.parametrize("deferred", [False, True])
def test_an_item_with_several_outputs_of_which_one_is_refused_leaves_none(tmp_path, deferred):
    script = (
        "CREATE TABLE p (id PRIMARY KEY); INSERT INTO p VALUES (0); CREATE TABLE t (x CHECK (x != 21), p REFERENCES p"
    )
    script += " DEFERRABLE INITIALLY DEFERRED)" if deferred else ")"

    def several(item):
        for n in range(3):
            yield {"x": item * 10 + n, "p": 1 if (deferred and item == 2 and n == 1) else 0}

    ran = run_here(
        Step("s", read=range(4), process=several, write=table(tmp_path / "t.db", script), skip=Skip(), chunk_size=4)
    )
    assert rows(tmp_path / "t.db", "SELECT x FROM t ORDER BY rowid") == [0, 1, 2, 10, 11, 12, 30, 31, 32]
    assert ran.counts == (4, 3, 0, 1)
    assert ran.result.outputs == 9


def test_skip_takes_only_its_own_kind_of_refusal(tmp_path):
    target, value = refusal(tmp_path / "t.db", "check")
    ran = run_here(Step("s", read=[1, value, 2], process=as_row, write=target, skip=Skip(on=ValueError)))
    assert ran.result.status is Status.FAILED
    assert rows(tmp_path / "t.db") == [1]


def test_failures_and_checkpoint_stand_in_the_target_with_the_rows(tmp_path):
    def process(item):
        if item == 1:
            raise ValueError("one")
        return as_row(item)

    run_here(
        Step("s", read=range(4), process=process, write=insert(url(tmp_path / "t.db"), "t"), skip=Skip(), chunk_size=2)
    )
    assert rows(tmp_path / "t.db", "SELECT ordinal, error FROM batchwright_failures") == [(1, "one")]
    found = rows(
        tmp_path / "t.db", "SELECT ordinal, read, written, failed_process, finished FROM batchwright_checkpoints"
    )
    assert found == [(4, 4, 3, 1, 1)]


def test_of_equal_keys_the_last_wins_within_a_chunk_and_across_chunks(tmp_path):
    items = [{"k": n % 2, "v": n} for n in range(7)]
    for chunk_size in (1, 3, 100):
        path = tmp_path / f"{chunk_size}.db"
        run_here(Step("s", read=items, write=upsert(url(path), "t", key="k"), chunk_size=chunk_size))
        assert rows(path, "SELECT k, v FROM t ORDER BY k") == [(0, 6), (1, 5)]


def test_a_row_that_cannot_be_bound_by_a_statement_fails_alone(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    items = [{"x": 1}, {"y": 2}, {"x": 2**63}, {"x": float("nan")}, {"x": object()}, {"x": 3}]
    ran = run_here(Step("s", read=items, write=execute(url(path), "INSERT INTO t VALUES (:x)"), skip=Skip()))
    assert rows(path) == [1, 3]
    assert [failure.ordinal for failure in ran.failures] == [1, 2, 3, 4]


def test_nothing_of_an_uncommitted_chunk_can_be_seen_by_others(tmp_path):
    path = database(tmp_path / "t.db", "CREATE TABLE t (x)")
    seen: list = []

    def look(name, call):
        if name == "commit":
            with closing(sqlite3.connect(path)) as other:
                seen.append(other.execute("SELECT count(*) FROM t").fetchone()[0])

    run_here(Step("s", read=range(4), process=as_row, write=Breaking(insert(url(path), "t"), look), chunk_size=2))
    assert seen[:2] == [0, 2]

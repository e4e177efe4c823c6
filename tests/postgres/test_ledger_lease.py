"""The lease on a PostgreSQL ledger: who may claim it, what its loss forbids, and that each bug in it would be seen."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.postgres.server import Fresh

from batchwright.ledgers import postgres_lease
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.postgres_lease import Heart, LeaseTimes, boot_seconds
from batchwright.ledgers.postgres_session import Session
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, InstanceKey
from batchwright.model.errors import AlreadyRunningError, FencedError
from batchwright.model.status import Status
from batchwright.testing.ledger_examples import KEY, a_failure, a_request, an_outcome, start_run, step_key
from batchwright.testing.ledger_suite_effects import an_effect

RACES = int(os.environ.get("BATCHWRIGHT_RACES", "100"))
"""How many races of eight starters; 1,000 on demand."""

STARTERS = 8
IMPATIENT = LeaseTimes(heartbeat_seconds=0.1, ttl_seconds=0.6, margin_seconds=0.3)

Open = Callable[..., PostgresLedger]


@pytest.fixture
def opened(fresh: Fresh) -> Iterator[Open]:
    """Opens ledgers on one record, each as another machine would."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(PostgresLedger(fresh.url, **options)))


@pytest.fixture
def lapse(fresh: Fresh) -> Callable[[], None]:
    """Lets every lease lapse, as if no heartbeat had come for long."""
    sql = f"UPDATE {fresh.records}.batchwright_leases SET lease_until = now() - interval '1 second'"
    return lambda: fresh.connection.execute(sql) and None


@pytest.fixture
def session(fresh: Fresh) -> Iterator[Session]:
    """A heart's connection."""
    with contextlib.closing(Session(fresh.url, wait_seconds=5)) as session:
        yield session


class Clock:
    """Goes on by `step` with every look at it."""

    def __init__(self, step: float = 0.0) -> None:
        self.seconds, self.step = 1_000.0, step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds


@contextlib.contextmanager
def taken_over(opened: Open, lapse: Callable[[], None]) -> Iterator[tuple[PostgresLedger, PostgresLedger]]:
    zombie, successor = opened(), opened()
    with zombie.own(KEY):
        lapse()
        with successor.own(KEY):
            yield zombie, successor


# Exercises: each passes, and each fails for a planted bug.


def a_fresh_lease_is_nobody_elses(opened: Open) -> None:
    with opened().own(KEY):
        for hours in (-24, 0, 1, 24):
            wrong = time.time() + 3600 * hours
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(time, "time", lambda wrong=wrong: wrong)
                try:
                    with opened().own(KEY):
                        raise AssertionError(f"a starter whose clock is {hours} hours off took it over")
                except AlreadyRunningError:
                    pass


def of_racing_starters_one_wins(opened: Open, races: int) -> None:
    winners, trouble = [[] for _ in range(races)], []
    ready, tried = threading.Barrier(STARTERS, timeout=60), threading.Barrier(STARTERS, timeout=60)

    def start(number: int, ledger: PostgresLedger) -> None:
        try:
            for race in range(races):
                ready.wait()
                with contextlib.suppress(AlreadyRunningError), ledger.own(InstanceKey("race", str(race))):
                    winners[race].append(number)
                    tried.wait()
                    continue
                tried.wait()
        except Exception as error:
            trouble.append(error)
            ready.abort()
            tried.abort()

    threads = [threading.Thread(target=start, args=(number, opened())) for number in range(STARTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble, trouble
    assert [len(won) for won in winners] == [1] * races


def a_zombie_stores_nothing(opened: Open, lapse: Callable[[], None]) -> None:
    zombie, successor = opened(), opened()
    with zombie.own(KEY) as lease:
        run = start_run(zombie)
        step = zombie.begin_step(run.id, step_key(), "in", "out", "exactly once")
        zombie.save_checkpoint(step_key(), Checkpoint(Position(1)), [a_failure(0)])
        lapse()
        with successor.own(KEY):
            for write in (
                lambda: zombie.save_checkpoint(step_key(), Checkpoint(Position(2)), [a_failure(1)]),
                lambda: zombie.note_progress(step.id, an_outcome(), [a_failure(1)]),
                lambda: zombie.end_step(step.id, an_outcome(Status.COMPLETED), [a_failure(1)]),
                lambda: zombie.begin_step(run.id, step_key("report"), "in", "out", "exactly once"),
                lambda: zombie.void_failures(step_key(), 0),
                lambda: zombie.settle_failures(step_key(), [0]),
                lambda: zombie.save_effects(step_key(), [an_effect(0)]),
                lambda: zombie.move_run(run.id, Status.COMPLETED),
                lambda: zombie.begin_run(a_request()),
            ):
                lease.fenced = False  # each has to find out for itself
                with pytest.raises(FencedError, match="another process has taken this work over"):
                    write()
    assert successor.load_checkpoint(step_key()) == Checkpoint(Position(1))
    assert list(successor.load_failures(step_key())) == [a_failure(0)]
    assert list(successor.load_effects(step_key(), 0, 9)) == []
    assert successor.last_run(KEY).status is Status.RUNNING
    assert successor.last_step(step_key("report")) is None


def a_claim_waits_for_a_transaction_that_has_shown_its_epoch(opened: Open, lapse: Callable[[], None]) -> None:
    zombie, successor = opened(), opened(times=IMPATIENT)
    with zombie.own(KEY):

        def while_it_is_open(connection: psycopg.Connection, doubts: int) -> None:
            with pytest.raises(AlreadyRunningError), successor.own(KEY):
                pass

        lapse()
        zombie._write(KEY, while_it_is_open)
        with successor.own(KEY):
            pass


# Tests of the exercises as they are, and with each bug planted.


def test_a_fresh_lease_is_nobody_elses_whatever_a_starters_clock_says(opened):
    a_fresh_lease_is_nobody_elses(opened)


def test_of_eight_racing_starters_exactly_one_wins(opened):
    of_racing_starters_one_wins(opened, RACES)


def test_a_zombie_stores_nothing(opened, lapse):
    a_zombie_stores_nothing(opened, lapse)


def test_a_claim_waits_for_a_transaction_that_has_shown_its_epoch(opened, lapse):
    a_claim_waits_for_a_transaction_that_has_shown_its_epoch(opened, lapse)


def test_a_lease_by_the_local_clock_would_be_seen(opened, monkeypatch):
    run = postgres_lease.run

    def by_local_clock(connection, schema, sql, values=()):
        if sql in (postgres_lease.CLAIM, postgres_lease.HOLDER):
            sql = sql.replace("< now()", f"< to_timestamp({time.time()})")
        return run(connection, schema, sql, values)

    monkeypatch.setattr(postgres_lease, "run", by_local_clock)
    with pytest.raises(AssertionError, match="1 hours off took it over"):
        a_fresh_lease_is_nobody_elses(opened)


def test_check_then_insert_would_be_seen(opened, monkeypatch):
    plan = "owner IS NULL OR lease_until < now() OR owner = ANY(%s)"
    assert plan in postgres_lease.CLAIM
    monkeypatch.setattr(postgres_lease, "CLAIM", postgres_lease.CLAIM.replace(plan, "true OR owner = ANY(%s)"))
    with pytest.raises(AssertionError, match="assert \\["):
        of_racing_starters_one_wins(opened, 20)


def test_no_check_of_the_epoch_would_be_seen(opened, lapse, monkeypatch):
    for name in ("CHECK", "CHECK_AGAIN"):
        sql = getattr(postgres_lease, name)
        monkeypatch.setattr(postgres_lease, name, sql.replace("epoch = %s", "epoch >= %s"))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_zombie_stores_nothing(opened, lapse)


@pytest.mark.parametrize("lock", ["FOR KEY SHARE", ""])
def test_a_weaker_lock_than_for_share_would_be_seen(opened, lapse, monkeypatch, lock):
    monkeypatch.setattr(postgres_lease, "CHECK", postgres_lease.CHECK.replace("FOR SHARE", lock))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        a_claim_waits_for_a_transaction_that_has_shown_its_epoch(opened, lapse)


# Claims and releases.


def test_a_second_start_says_where_and_since_when_it_runs_and_disturbs_nobody(opened, fresh):
    with opened().own(KEY):
        row = f"SELECT xmin, epoch, owner FROM {fresh.records}.batchwright_leases"
        before = fresh.rows(row)
        with pytest.raises(AlreadyRunningError) as caught, opened().own(KEY):
            pass
        assert fresh.rows(row) == before
    assert caught.value.exit_code == 4
    assert f"process {os.getpid()} on {os.uname().nodename}" in str(caught.value)
    assert "its lease ends in 30 seconds), since 20" in str(caught.value)


def test_epochs_only_grow(opened, fresh):
    ledger, epochs = opened(), []
    for _ in range(3):
        with ledger.own(KEY) as lease:
            epochs.append(lease.epoch)
    assert epochs == [1, 2, 3]


def test_a_lease_that_has_lapsed_is_claimed_by_the_next_start(opened, lapse):
    with taken_over(opened, lapse) as (zombie, successor):
        with pytest.raises(AlreadyRunningError), opened().own(KEY):
            pass
        assert successor.begin_run(a_request()).lap == 1
        assert zombie.last_run(KEY).id == successor.last_run(KEY).id


def test_a_fenced_owner_does_not_give_back_what_is_its_successors(opened, lapse):
    zombie, successor = opened(), opened()
    with contextlib.ExitStack() as stack:
        with zombie.own(KEY):
            lapse()
            stack.enter_context(successor.own(KEY))
        with pytest.raises(AlreadyRunningError), opened().own(KEY):
            pass


def test_what_still_comes_after_a_lost_lease_is_refused_too(opened, lapse):
    zombie = opened()
    with zombie.own(KEY):
        lapse()
        with opened().own(KEY), pytest.raises(FencedError):
            zombie.void_failures(step_key(), 0)
    with pytest.raises(FencedError):
        zombie.save_checkpoint(step_key(), Checkpoint(Position(2)), [])
    with zombie.own(KEY):
        zombie.save_checkpoint(step_key(), Checkpoint(Position(2)), [])


def test_the_old_owners_session_is_ended_by_its_successor(opened, lapse, fresh):
    zombie, successor = opened(), opened()
    with zombie.own(KEY):
        session = zombie._session.connection()
        session.execute("BEGIN")
        session.execute(f"LOCK TABLE {fresh.records}.batchwright_failures")
        lapse()
        with successor.own(KEY):
            successor.save_checkpoint(step_key(), Checkpoint(Position(1)), [a_failure(0)])
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_child_made_by_fork_gives_nothing_back(opened):
    ledger = opened()
    with ledger.own(KEY):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                ledger._leases.clear()
            os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(AlreadyRunningError), opened().own(KEY):
            pass


# Heartbeats and clocks.


def test_a_lease_is_trusted_from_the_start_of_the_request_and_no_longer_than_ttl_less_margin(opened):
    clock = Clock()
    with opened(clock=clock).own(KEY) as lease:
        clock.seconds += 19.9
        lease.check()
        clock.seconds += 0.1
        with pytest.raises(FencedError, match="cannot be trusted any more; no heartbeat got through for 20 seconds"):
            lease.check()


def test_past_its_trust_the_owner_does_not_even_ask(opened, fresh):
    clock = Clock()
    ledger = opened(clock=clock)
    with ledger.own(KEY):
        run = start_run(ledger)
        clock.seconds += 20
        ledger._session.close()
        with pytest.raises(FencedError, match="cannot be trusted any more"):
            ledger.move_run(run.id, Status.COMPLETED)
    with opened().own(KEY) as lease:
        assert lease.epoch == 2
    assert fresh.rows(f"SELECT status FROM {fresh.records}.batchwright_job_executions") == [("RUNNING",)]


def test_a_slow_answer_does_not_lengthen_the_trust(opened, session):
    clock = Clock(step=1.0)
    with opened(clock=clock).own(KEY) as lease:
        asked = clock.seconds
        Heart(lease, session).beat()
        assert lease.trusted_until == asked + 1 + 20


def test_the_clock_counts_the_time_that_the_machine_sleeps(monkeypatch):
    asked = []
    monkeypatch.setattr(time, "clock_gettime", lambda clock: asked.append(clock) or 1.0)
    assert boot_seconds() == 1.0
    assert asked == [time.CLOCK_BOOTTIME]


def test_a_heartbeat_that_is_lost_is_regained_on_a_new_connection(opened, fresh, session):
    clock = Clock()
    with opened(clock=clock).own(KEY) as lease:
        heart = Heart(lease, session)
        heart.beat()
        clock.seconds += 10
        fresh.connection.execute("SELECT pg_terminate_backend(%s)", [session.connection().info.backend_pid])
        heart.beat()
        assert lease.trouble
        assert lease.trusted_until == clock.seconds + 10
        lease.check()
        heart.beat()
        assert not lease.trouble
        assert lease.trusted_until == clock.seconds + 20


def test_what_kept_heartbeats_from_getting_through_is_in_the_error(opened):
    clock = Clock()
    with opened(clock=clock).own(KEY) as lease:
        heart = Heart(lease, Session("postgresql://joe:s3cret@127.0.0.1:1/nowhere", wait_seconds=5))
        heart.beat()
        clock.seconds += 60
        with pytest.raises(
            FencedError, match=r"for 60 seconds: postgresql://127\.0\.0\.1:1/nowhere cannot be"
        ) as caught:
            lease.check()
    assert "s3cret" not in str(caught.value)


def test_a_heartbeat_that_finds_another_epoch_fences(opened, lapse, session):
    with opened().own(KEY) as lease:
        lapse()
        with opened().own(KEY):
            Heart(lease, session).beat()
            with pytest.raises(FencedError, match="another process has taken this work over"):
                lease.check()


def test_the_thread_keeps_a_lease_up_past_its_time_and_tells_nothing_after_the_end(opened, fresh):
    ledger = opened(times=LeaseTimes(heartbeat_seconds=0.02, ttl_seconds=0.4, margin_seconds=0.1))
    row = f"SELECT heartbeat_at, lease_until > now() FROM {fresh.records}.batchwright_leases"
    with ledger.own(KEY) as lease:
        end = boot_seconds() + 1.2
        while boot_seconds() < end:
            lease.check()
            assert fresh.rows(row)[0][1]
    last = fresh.rows(row)
    assert not [thread for thread in threading.enumerate() if thread.name == "batchwright-heartbeat"]
    assert fresh.rows(row)[0][0] == last[0][0]


def test_no_wait_of_the_owner_is_longer_than_its_lease(opened):
    ledger = opened()
    connection = ledger._session.connection()
    for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"):
        (milliseconds,) = connection.execute("SELECT setting::int FROM pg_settings WHERE name = %s", [name]).fetchone()
        assert 0 < milliseconds < 20_000


def test_a_patient_setting_of_the_user_does_not_keep_a_successor_waiting(fresh):
    url = fresh.url_of("postgres", idle_in_transaction_session_timeout="600000")
    with contextlib.closing(PostgresLedger(url)) as ledger:
        found = ledger._session.connection().execute("SHOW idle_in_transaction_session_timeout").fetchone()
    assert found == ("15s",)

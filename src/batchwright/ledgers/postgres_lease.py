"""One owner for each instance on a PostgreSQL ledger: a lease, kept up by heartbeats, with an epoch that only grows.

The one rule: the server's clock alone says whether a lease has lapsed. Ours only says how long ago we heard from it,
on a clock that goes on while the machine sleeps.

The states of a lease, and who may do what:
  free      `owner` is NULL, or `lease_until` has passed, or the owner is a dead process of this machine: whoever claims
            it first has it, with the next epoch
  held      its owner works, and shows the epoch in the transaction of everything that it writes to the ledger
  doubtful  the owner has not heard from the server for ttl - margin: it begins nothing any more
  lapsed    somebody else may claim it: from then on its owner's epoch is refused
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from batchwright.databases.postgres import driver
from batchwright.ledgers.postgres_session import Session, once_more, run
from batchwright.ledgers.this_process import is_dead, process_mark
from batchwright.ledgers.transitions import this_host
from batchwright.model.checkpoint import InstanceKey, StepKey
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, DeclarationError, FencedError

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts the time that the machine sleeps, as CLOCK_MONOTONIC does on macOS and does not on Linux."""

_GOODBYE_SECONDS = 1.0

_KEYED = "job = %s AND parameters_hash = %s"

HOLDER = (
    "SELECT epoch, owner, host, pid, process, claimed_at, backend_pid, backend_start, "  # noqa: S608 - our own names
    "owner IS NULL OR lease_until < now(), extract(epoch FROM now() - heartbeat_at)::float8, "
    f"extract(epoch FROM lease_until - now())::float8 FROM {{schema}}.batchwright_leases WHERE {_KEYED}"
)

CREATE = (
    "INSERT INTO {schema}.batchwright_leases VALUES (%s, %s, 0, NULL, '', 0, '', now(), now(), now(), 0, NULL) "
    "ON CONFLICT DO NOTHING"
)

CLAIM = (
    "UPDATE {schema}.batchwright_leases SET epoch = epoch + 1, owner = %s, host = %s, pid = %s, process = %s, "  # noqa: S608 - our own names
    "claimed_at = now(), heartbeat_at = now(), lease_until = now() + %s * interval '1 second', "
    "backend_pid = pg_backend_pid(), backend_start = (SELECT backend_start FROM pg_catalog.pg_stat_activity "
    f"WHERE pid = pg_backend_pid()) WHERE {_KEYED} "
    "AND (owner IS NULL OR lease_until < now() OR owner = ANY(%s)) RETURNING epoch"
)

BEAT = (
    "UPDATE {schema}.batchwright_leases SET heartbeat_at = now(), "  # noqa: S608 - our own names
    f"lease_until = now() + %s * interval '1 second' WHERE {_KEYED} AND epoch = %s AND owner IS NOT NULL"
)

# FOR SHARE, since a claim has to wait for it. It would not wait for FOR KEY SHARE, nor for a look without a lock.
CHECK = f"SELECT 1 FROM {{schema}}.batchwright_leases WHERE {_KEYED} AND epoch = %s FOR SHARE"  # noqa: S608 - as above

MAY_CHECK = (
    "SELECT has_table_privilege('{schema}.batchwright_leases', 'SELECT') "
    "AND has_any_column_privilege('{schema}.batchwright_leases', 'UPDATE')"
)

# After a commit in doubt: this waits for the transaction that is in doubt, which holds the row FOR SHARE.
CHECK_AGAIN = (
    "UPDATE {schema}.batchwright_leases SET backend_pid = pg_backend_pid(), backend_start = "  # noqa: S608 - as above
    "(SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()) "
    f"WHERE {_KEYED} AND epoch = %s"
)

RELEASE = f"UPDATE {{schema}}.batchwright_leases SET owner = NULL WHERE {_KEYED} AND epoch = %s"  # noqa: S608 - as above

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
    "WHERE pid = %s AND backend_start = %s AND pid <> pg_backend_pid()"
)


def boot_seconds() -> float:
    """Seconds on a clock that never goes back and counts the time that the machine sleeps."""
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How often the owner shows that it lives, how long a lease lasts, and how long before its end it stops.

    Raises DeclarationError unless several heartbeats fit into the time that a lease is trusted.
    """

    heartbeat_seconds: float = 5.0
    ttl_seconds: float = 30.0
    margin_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check that they fit each other."""
        if not 0 < self.heartbeat_seconds <= self.trust_seconds / 2 or self.margin_seconds <= 0:
            raise DeclarationError(
                "a lease must be trusted for at least two heartbeats, and end some time after that",
                f"got a heartbeat every {self.heartbeat_seconds:g} s, a lease of {self.ttl_seconds:g} s and a margin "
                f"of {self.margin_seconds:g} s",
                "raise ttl_seconds",
            )

    @classmethod
    def lasting(cls, seconds: float | None) -> "LeaseTimes":
        """The times of a lease of so many seconds, in the usual proportions; None: the usual ones."""
        return cls() if seconds is None else cls(seconds / 6, seconds, seconds / 3)

    @property
    def trust_seconds(self) -> float:
        """How long after the last heartbeat was sent the owner goes on."""
        return self.ttl_seconds - self.margin_seconds

    @property
    def wait_seconds(self) -> float:
        """How long a statement, a lock or an idle transaction of the owner may last on the server."""
        return self.trust_seconds * 3 / 4


@dataclass(slots=True)
class Lease:
    """The right to work on an instance. `trusted_until` is on the owner's clock; the heartbeat moves it on."""

    key: InstanceKey
    epoch: int
    times: LeaseTimes
    clock: Callable[[], float]
    trusted_until: float
    fenced: bool = False
    trouble: str = ""

    def check(self) -> None:
        """Raise FencedError once somebody else has the lease, or may have it. Compares a clock, no more."""
        if self.fenced:
            raise self.lost()
        if self.clock() >= self.trusted_until:
            silent = self.clock() - self.trusted_until + self.times.trust_seconds
            raise FencedError(
                f"job '{self.key.job}': its lease on the ledger cannot be trusted any more",
                f"no heartbeat got through for {silent:,.0f} seconds" + (f": {self.trouble}" if self.trouble else ""),
                "nothing more is written here; run the job again: it goes on from its last committed chunk",
            )

    def lapsed(self) -> bool:
        """Whether it is lost, or its time is over."""
        return self.fenced or self.clock() >= self.trusted_until

    def require(self, connection: "Connection", schema: str, doubts: int) -> None:
        """Hold the lease to the end of this transaction. Raises FencedError if another epoch has begun."""
        found = run(connection, schema, CHECK_AGAIN if doubts else CHECK, _keyed(self.key, self.epoch))
        if found.rowcount != 1:
            self.fenced = True
            raise self.lost()

    def vouch(self, connection: "Connection", schema: str) -> None:
        """As `require`, in a transaction on a target; without the privilege to lock the lease it does nothing."""
        if run(connection, schema, MAY_CHECK).fetchone()[0]:
            self.require(connection, schema, 0)

    def lost(self) -> FencedError:
        """The error of an owner whose lease somebody else has."""
        return FencedError(
            f"job '{self.key.job}': another process has taken this work over",
            f"the lease of epoch {self.epoch} had lapsed: this process was held up for too long",
            "nothing more is written here; see batchwright status for the run that goes on with it",
        )


def partition_lease(key: StepKey) -> InstanceKey:
    """Under which key the lease of a partition stands, beside that of its instance."""
    return InstanceKey(key.job, f"{key.parameters_hash}/{key.lap}/{key.partition}/{key.step}")


@contextlib.contextmanager
def hold(
    session: Session, url: str, key: InstanceKey, times: LeaseTimes, clock: Callable[[], float]
) -> Iterator[Lease]:
    """Hold the lease of this instance while the context lasts. Raises AlreadyRunningError if somebody else has it."""
    lease = _Claim(key, times, clock).made(session)
    pid = os.getpid()
    # A heartbeat that gets no answer has to leave time for another one, on a new connection.
    heart = Heart(lease, Session(url, wait_seconds=times.trust_seconds / 4))
    heart.start()
    try:
        yield lease
    finally:
        # A forked child must not give back what is its parent's.
        if os.getpid() == pid:
            heart.stop()
            if not lease.fenced:
                _release(session, lease)


class Heart:
    """Renews a lease on a thread and a connection of its own, until it is stopped or the lease is somebody else's."""

    def __init__(self, lease: Lease, session: Session) -> None:
        """Not yet beating."""
        self._lease = lease
        self._session = session
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batchwright-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a server that does not answer: a late heartbeat of a lease given back is void."""
        self._stopped.set()
        self._thread.join(min(_GOODBYE_SECONDS, self._lease.times.heartbeat_seconds))

    def beat(self) -> None:
        """Renew the lease once; what goes wrong is kept for the error that it may lead to."""
        lease = self._lease
        try:
            asked = lease.clock()
            values = (lease.times.ttl_seconds, *_keyed(lease.key, lease.epoch))
            renewed = self._session.run(BEAT, values).rowcount == 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease is trusted until its time is over
            lease.trouble = _one_line(self._session, error)
            return
        if not renewed:
            lease.fenced = True
            return
        lease.trusted_until = asked + lease.times.trust_seconds
        lease.trouble = ""

    def _run(self) -> None:
        pause = self._lease.times.heartbeat_seconds
        while not self._stopped.wait(pause) and not self._lease.fenced:
            self.beat()
            pause = self._lease.times.heartbeat_seconds / (5 if self._lease.trouble else 1)
        self._session.close()


@dataclass(frozen=True, slots=True)
class _Holder:
    epoch: int
    owner: str | None
    host: str
    pid: int
    process: str
    claimed_at: datetime
    backend_pid: int
    backend_start: datetime | None
    free: bool
    silent_seconds: float
    left_seconds: float

    @property
    def dead(self) -> bool:
        """Whether it was a process of this machine that is gone."""
        return bool(self.owner) and is_dead(self.process)

    def refusal(self, job: str) -> AlreadyRunningError:
        where = f"process {self.pid} on {self.host}, last heard of {max(0, self.silent_seconds):,.0f} seconds ago"
        if self.left_seconds > 0:
            where += f" (if it is dead, its lease ends in {self.left_seconds:,.0f} seconds)"
        return AlreadyRunningError(job, f"{where},", self.claimed_at)


@dataclass(frozen=True, slots=True)
class _Claim:
    """One start's attempt at a lease. The token tells its own claim, if the answer to it was lost, from another's."""

    key: InstanceKey
    times: LeaseTimes
    clock: Callable[[], float]
    token: str = field(default_factory=lambda: uuid4().hex)

    def made(self, session: Session) -> Lease:
        """The lease. Raises AlreadyRunningError, and after `wait_seconds` of connection trouble WriteError."""
        deadline = self.clock() + self.times.wait_seconds
        return session.patiently(
            lambda connection, _: self._once(connection, session.schema), until=lambda: self.clock() >= deadline
        )

    def _once(self, connection: "Connection", schema: str) -> Lease:
        holder = _holder(connection, schema, self.key)
        # Whoever is refused here has locked nothing: a start in vain does not disturb the owner.
        if not (holder.free or holder.dead or holder.owner == self.token):
            raise holder.refusal(self.key.job)
        asked = self.clock()
        try:
            claimed = run(connection, schema, CLAIM, self._values(holder)).fetchone()
        except driver().errors.LockNotAvailable:
            # Its lease has lapsed, but its last transaction is not over.
            claimed = None
        if claimed is None:
            raise _holder(connection, schema, self.key).refusal(self.key.job)
        if holder.owner not in (None, self.token):
            _end_session(connection, holder)
        return Lease(self.key, int(claimed[0]), self.times, self.clock, asked + self.times.trust_seconds)

    def _values(self, holder: "_Holder") -> tuple[Any, ...]:
        replaceable = [self.token, *([holder.owner] if holder.dead else [])]
        us = (self.token, this_host(), os.getpid(), process_mark())
        return (*us, self.times.ttl_seconds, *_keyed(self.key), replaceable)


def _holder(connection: "Connection", schema: str, key: InstanceKey) -> _Holder:
    row = run(connection, schema, HOLDER, _keyed(key)).fetchone()
    if row is None:
        run(connection, schema, CREATE, _keyed(key))
        row = run(connection, schema, HOLDER, _keyed(key)).fetchone()
    return _Holder(*row)


def _end_session(connection: "Connection", holder: _Holder) -> None:
    """End the old owner's session if it still hangs on, so that its locks are gone at once; the server ends it too."""
    with contextlib.suppress(driver().errors.InsufficientPrivilege):
        connection.execute(TERMINATE.encode(), [holder.backend_pid, holder.backend_start])


def _release(session: Session, lease: Lease) -> None:
    # What cannot be given back lapses by itself: a server that is out of reach already is not waited for.
    trouble = bool(lease.trouble) or lease.lapsed()
    if trouble:
        session.give_up_soon()
    with contextlib.suppress(BatchwrightError):
        session.patiently(
            lambda connection, _: run(connection, session.schema, RELEASE, _keyed(lease.key, lease.epoch)),
            until=once_more(),
        )
    if trouble:
        session.close()


def _keyed(key: InstanceKey, *more: Any) -> tuple[Any, ...]:
    return (key.job, key.parameters_hash, *more)


def _one_line(session: Session, error: Exception) -> str:
    return " ".join(str(session.explained(error)).split())

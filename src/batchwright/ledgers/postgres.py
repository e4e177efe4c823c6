"""The ledger in a PostgreSQL database: what runs on several machines need.

The one rule: whatever is written for an instance shows, in the same transaction, that its lease is still ours.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from batchwright.databases import postgres_keys as keys
from batchwright.databases import postgres_records as records
from batchwright.databases.postgres import Database, database_of, transaction
from batchwright.databases.postgres_waits import LockWaits
from batchwright.databases.records import key_values
from batchwright.ledgers import postgres_executions as executions
from batchwright.ledgers.death_rows import DeathStatements, death_values, deaths_of
from batchwright.ledgers.effect_rows import END, effect_values
from batchwright.ledgers.postgres_history import EFFECTS, PostgresHistory, effects_of
from batchwright.ledgers.postgres_lease import Lease, LeaseTimes, boot_seconds, hold, partition_lease
from batchwright.ledgers.postgres_session import Session, opening, prepare, run
from batchwright.ledgers.transitions import not_owned, refused
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.effect import Effect
from batchwright.model.execution import JobExecution, RunRequest, StepExecution, StepOutcome
from batchwright.model.failure import Failure, FailureState
from batchwright.model.forgetting import Forgetting, Forgotten
from batchwright.model.status import Status
from batchwright.model.work import Death

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

Result = TypeVar("Result")

DEATHS = DeathStatements("{schema}.batchwright_deaths", "%s")


class PostgresLedger:
    """A durable ledger in the schema `batchwright` of a database, or in the one that `?records_schema=` names.

    Any number of machines may use it at once. An instance is owned by a lease; a killed owner's is free again at once
    on its own machine, elsewhere after `times.ttl_seconds`, or what the address says as `?lease_seconds=`. A lost
    connection is opened again for as long as the lease is trusted. An object is for one thread and one process.

    Raises LedgerError, in one line and without a password, if the database cannot be used.
    """

    durable = True

    def __init__(self, url: str, *, times: LeaseTimes | None = None, clock: Callable[[], float] = boot_seconds) -> None:
        """Connect, and create or upgrade the tables."""
        self._url = url
        self._times = times or LeaseTimes.lasting(database_of(url).lease_seconds)
        self._clock = clock
        self._session = Session(url, wait_seconds=self._times.wait_seconds)
        self._leases: dict[InstanceKey, Lease] = {}
        self._lock_waits, self._ended = LockWaits(self._session.database), False
        with opening(self._session):
            try:
                prepare(self._session)
            except BaseException:
                self._session.close()
                raise

    @property
    def address(self) -> str:
        """The database, without user and password."""
        return self._session.address

    def history(self) -> PostgresHistory:
        """The readers' side of this ledger, on a connection of its own."""
        return PostgresHistory(self._url)

    def own(self, key: InstanceKey) -> AbstractContextManager[Lease]:
        """Own this instance while the context lasts and the lease is kept up.

        Raises AlreadyRunningError, naming the process that owns it, where and since when.
        """
        return self._own(key)

    def another(self) -> "PostgresLedger":
        """The same database on a connection of its own, for another thread."""
        return PostgresLedger(self._url, times=self._times, clock=self._clock)

    def __reduce__(self) -> tuple[Callable[[str], "PostgresLedger"], tuple[str]]:
        """How it goes to another process of the run: it is opened there once more."""
        return partial(PostgresLedger, times=self._times), (self._url,)

    def own_partition(self, key: StepKey) -> AbstractContextManager[Lease]:
        """Own this partition while the context lasts and its lease is kept up. Raises AlreadyRunningError at once."""
        return self._own(partition_lease(key))

    def voucher(self, place: Database, key: StepKey) -> Callable[["Connection"], None] | None:
        """What a transaction on a target in the ledger's own database and schema calls, to commit only for the owner.

        With it a successor that has claimed the lease need not have reached a target to keep a zombie out of it.
        """
        lease, ours = self._leases.get(self._instance(key)), self._session.database
        if lease is None or (place, place.schema) != (ours, ours.schema):
            return None
        return partial(lease.vouch, schema=ours.schema)

    def last_run(self, key: InstanceKey) -> JobExecution | None:
        """The newest execution of kind `run` of this instance."""
        return self._read(lambda connection: executions.last_run(connection, self._schema, key))

    def begin_run(self, request: RunRequest) -> JobExecution:
        """Record a new execution, STARTING; close those that a dead owner left.

        Raises LedgerError if this object does not own the instance, FencedError if it does not any more.
        """
        lease, made = self._leases.get(request.key), list[int]()
        if lease is None:
            raise not_owned(request.key.job)

        def work(connection: "Connection", doubts: int) -> JobExecution:
            begun = executions.find_run(connection, self._schema, made[-1]) if doubts and made else None
            if begun is None:
                begun = executions.begin_run(connection, self._schema, request, lease.epoch)
                made.append(begun.id)
            return begun

        return self._write(request.key, work)

    def close_lost(self, key: InstanceKey) -> None:
        """Close executions that a dead owner left.

        Raises LedgerError if this object does not own the instance, FencedError if it does not any more.
        """
        if key not in self._leases:
            raise not_owned(key.job)
        self._write(key, lambda connection, _: executions.close_lost(connection, self._schema, key))

    def move_run(self, run: int, status: Status, error: str = "") -> None:
        """Change an execution's status; a text already there is kept if `error` is empty.

        Raises FencedError if somebody else has closed it or owns it now, LedgerError if the table of transitions
        forbids it.
        """
        self._write(
            self._instance_of(run, status),
            lambda connection, doubts: executions.move_run(connection, self._schema, run, status, error, doubts),
        )

    def request_stop(self, run: int, who: str) -> bool:
        """Note on a live execution, whoever owns it, that `who` wants it to stop; the first request stays."""
        return self._session.patiently(
            lambda connection, _: executions.request_stop(connection, self._schema, run, who), until=self._patience()
        )

    def begin_step(self, run: int, key: StepKey, source: str, target: str, guarantee: str) -> StepExecution:
        """Record a new execution of a step, RUNNING, with the counts that its lap had so far.

        Raises FencedError if the run is closed or its instance is owned by somebody else now.
        """
        described, made = {"source": source, "target": target, "guarantee": guarantee}, list[int]()

        def work(connection: "Connection", doubts: int) -> StepExecution:
            begun = executions.find_step(connection, self._schema, made[-1]) if doubts and made else None
            if begun is None:
                begun = executions.begin_step(connection, self._schema, run, key, described)
                made.append(begun.id)
            return begun

        return self._write(self._instance(key), work)

    def note_progress(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Copy counts and failures of a running step, in one transaction; its status stays.

        Raises FencedError if somebody else has closed it, or owns its instance now.
        """
        key = self._key_of_step(step_execution, Status.RUNNING)

        def work(connection: "Connection", _: int) -> None:
            executions.note_step(connection, self._schema, step_execution, outcome)
            records.put_failures(connection, self._schema, key, failures)

        self._write(self._instance(key), work)

    def end_step(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Close an execution of a step with its counts and last failures, in one transaction.

        Raises FencedError if somebody else has closed it, or owns its instance now, LedgerError if the table of
        transitions forbids it.
        """
        key = self._key_of_step(step_execution, outcome.status)

        def work(connection: "Connection", doubts: int) -> None:
            executions.end_step(connection, self._schema, step_execution, outcome, doubts)
            records.put_failures(connection, self._schema, key, failures)
            if outcome.status is not Status.STOPPED:
                run(connection, self._schema, DEATHS.end, key_values(key))

        self._write(self._instance(key), work)

    def note_lost(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Complete an execution that was closed for a dead owner, in one transaction; its status stays."""
        key = self._key_of_step(step_execution, Status.RUNNING)

        def work(connection: "Connection", _: int) -> None:
            executions.note_lost(connection, self._schema, step_execution, outcome, self._leases)
            records.put_failures(connection, self._schema, key, failures)

        self._write(self._instance(key), work)

    def last_step(self, key: StepKey) -> StepExecution | None:
        """The newest execution of this step in this lap, of kind `run`."""
        return self._read(lambda connection: executions.last_step(connection, self._schema, key))

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""
        return self._read(lambda connection: records.get_checkpoint(connection, self._schema, key))

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        """Store all in one durable transaction. Failures and keys are added, the checkpoint is replaced.

        Raises FencedError, and stores nothing, if the instance was ours and is somebody else's now.
        """

        def work(connection: "Connection", _: int) -> None:
            records.put_failures(connection, self._schema, key, failures)
            records.put_checkpoint(connection, self._schema, key, checkpoint)
            keys.keep_keys(connection, self._schema, seen, checkpoint)

        self._write(self._instance(key), work)

    def known_keys(self, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored."""
        return self._read(lambda connection: keys.known_keys(connection, self._schema, space, digests))

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal; read a page at a time."""
        with self._session.explaining():
            yield from records.get_failures(self._session.connection(), self._schema, key)

    def void_failures(self, key: StepKey, from_ordinal: int) -> None:
        """Forget failures at or past this ordinal: their items are to be read again."""
        self._write(
            self._instance(key),
            lambda connection, _: records.void_failures(connection, self._schema, key, from_ordinal),
        )

    def settle_failures(
        self,
        key: StepKey,
        ordinals: Sequence[int],
        state: FailureState = FailureState.REPLAYED,
        note: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Move failures into a state, from the one that it is reached from; others keep theirs."""

        def work(connection: "Connection", _: int) -> None:
            records.settle_failures(connection, self._schema, key, ordinals, state, note)
            if checkpoint is not None:
                records.put_checkpoint(connection, self._schema, key, checkpoint)

        self._write(self._instance(key), work)

    def interrupt(self, *, now: bool) -> None:
        """With `now` nothing is waited for any more: no lock, and no server that is away or does not answer."""
        if now:
            self._ended = True
            self._session.give_up_soon()
            self._lock_waits.end(self._session.opened)

    def forget(self, key: InstanceKey, what: Forgetting) -> Forgotten:
        """Forget this of an instance that is over.

        Raises LedgerError if this object does not own it, FencedError if it does not any more.
        """
        if key not in self._leases:
            raise not_owned(key.job)

        def work(connection: "Connection", _: int) -> Forgotten:
            runs = executions.forget_runs(connection, self._schema, key, what.runs)
            failures = records.forget_failures(
                connection, self._schema, key, what.failure_laps, None, with_open=what.with_open
            )
            laps = (key.job, key.parameters_hash, what.checkpoints_below)
            for log in (EFFECTS, DEATHS):
                run(connection, self._schema, log.forget, laps)
            return Forgotten(runs, failures, records.forget_laps(connection, self._schema, key, what.checkpoints_below))

        return self._write(key, work)

    def shrink(self) -> str:
        """Let the server use the space again; why that was not done, or nothing."""
        return executions.shrink(self._session.connection(), self._schema)

    def load_effects(self, key: StepKey, start: int, end: int) -> Sequence[Effect]:
        """The effects of the items from ordinal `start` up to `end`, by ordinal and index."""
        values = (*key_values(key), start, end)
        return self._read(lambda connection: effects_of(connection, self._schema, EFFECTS.between, values))

    def save_effects(self, key: StepKey, effects: Sequence[Effect]) -> None:
        """Store these as they are now, in one durable transaction; what was stored of each is replaced.

        Raises FencedError, and stores nothing, if the instance was ours and is somebody else's now.
        """

        def work(connection: "Connection", _: int) -> None:
            for effect in effects:
                run(connection, self._schema, EFFECTS.save, effect_values(key, effect))

        self._write(self._instance(key), work)

    def last_effects(self, key: StepKey, before: tuple[int, int] | None, limit: int) -> Sequence[Effect]:
        """At most so many effects before this ordinal and index (None: of all), the last first."""
        values = (*key_values(key), *(before or END), limit)
        return self._read(lambda connection: effects_of(connection, self._schema, EFFECTS.last, values))

    def load_deaths(self, key: StepKey) -> Mapping[int, Death]:
        """The deaths noted of a step, by ordinal."""
        values = key_values(key)
        return self._read(lambda connection: deaths_of(run(connection, self._schema, DEATHS.select, values).fetchall()))

    def note_death(self, key: StepKey, ordinal: int, death: Death) -> None:
        """Note this of the item at an ordinal, in one durable transaction; what was noted of it is replaced.

        Raises FencedError, and notes nothing, if the instance was ours and is somebody else's now.
        """
        values = death_values(key, ordinal, death)
        self._write(self._instance(key), lambda connection, _: run(connection, self._schema, DEATHS.save, values))

    def close(self) -> None:
        """Let the database go. What is owned stays owned until its context ends."""
        self._session.close()
        self._lock_waits.close()

    @contextlib.contextmanager
    def _own(self, key: InstanceKey) -> Iterator[Lease]:
        with hold(self._session, self._url, key, self._times, self._clock) as lease:
            self._leases[key] = lease
            try:
                yield lease
            finally:
                # A lease that was lost is remembered: what still comes for its instance is refused.
                if not lease.fenced:
                    del self._leases[key]

    @property
    def _schema(self) -> str:
        return self._session.schema

    def _read(self, work: Callable[["Connection"], Result]) -> Result:
        def look(connection: "Connection", _: int) -> Result:
            self._hurry()
            return work(connection)

        return self._session.patiently(look, until=self._patience())

    def _write(self, key: InstanceKey, work: Callable[["Connection", int], Result]) -> Result:
        """Work in a transaction that holds the lease of an owned instance; after trouble again, while it is trusted."""
        lease, over = self._leases.get(key), self._patience()
        if lease is not None:
            lease.check()

        def fenced(connection: "Connection", doubts: int) -> Result:
            self._hurry()
            with transaction(connection):
                if lease is not None:
                    lease.require(connection, self._schema, doubts)
                return work(connection, doubts)

        # Without a lease nobody can wait for a commit in doubt: it is reported.
        return self._session.patiently(fenced, until=lambda: lease is None or lease.lapsed() or over())

    def _patience(self) -> Callable[[], bool]:
        # Heartbeats have a connection of their own: they may get through for ever where the work does not.
        deadline = self._clock() + self._times.trust_seconds
        return lambda: self._ended or self._clock() >= deadline

    def _hurry(self) -> None:
        if self._ended:
            self._session.hurry()

    def _instance(self, key: StepKey) -> InstanceKey:
        """Whose lease guards what is written under this key: that of its partition, if it is ours, or its instance."""
        ours = partition_lease(key)
        return ours if key.partition and ours in self._leases else InstanceKey(key.job, key.parameters_hash)

    def _instance_of(self, run: int, wanted: Status) -> InstanceKey:
        found = self._read(lambda connection: executions.find_run(connection, self._schema, run))
        if found is None:
            raise refused("run", run, None, wanted)
        return found.key

    def _key_of_step(self, step_execution: int, wanted: Status) -> StepKey:
        found = self._read(lambda connection: executions.find_step(connection, self._schema, step_execution))
        if found is None:
            raise refused("step execution", step_execution, None, wanted)
        return found.key

"""The targets of `resumable`: a database whose transaction the loop's body writes into, or whatever else it does.

The one rule: a chunk is committed only if all that its body has written is still in the open transaction. The states:
  empty     nothing is written since the last commit: all may be tried again
  begun     items are in the open transaction, each behind a savepoint of its own
  lost      the transaction is gone, and the body's writes with it: nothing is committed any more, the loop ends; the
            next run begins behind the last commit
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwright.databases.guarded_connection import GuardedConnection
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import BatchwrightError, DeclarationError, WriteError
from batchwright.model.failure import Failure
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.ports import Scope, Sink, Writer
from batchwright.ports.loops import Patiently
from batchwright.writers.functions import FunctionSink
from batchwright.writers.sql import statements_of_a_body

_SAVEPOINT = "batchwright_item"

GOES_ON = "run the script again: it goes on behind the last commit"


@dataclass(frozen=True, eq=False)
class BodyWriter:
    """A database as the target of a loop. Exactly once, for what the body writes with `loop.connection`."""

    inner: Writer[Any]
    is_open: Callable[[Any], bool]
    adds_again: bool = True
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    @property
    def address(self) -> str:
        """The database's address."""
        return self.inner.address

    def check(self) -> None:
        """Raise TargetError or ConfigurationError for a database that cannot be used."""
        self.inner.check()  # type: ignore[attr-defined]  # both databases' writers can say it

    def open(self, scope: Scope) -> Sink[Any]:
        """A sink that lends its connection."""
        return BodySink(self.inner.open(scope), self.is_open)


@dataclass(frozen=True, eq=False)
class OutsideWriter:
    """Whatever the body of a loop does, without a database of ours. At least once; the checkpoint is in the ledger."""

    guarantee: Guarantee = field(default=Guarantee.AT_LEAST_ONCE, init=False)
    address: str = field(default="what the loop's body does", init=False)

    def open(self, scope: Scope) -> Sink[Any]:
        """A sink that has nothing to write."""
        return OutsideSink(scope)


def body_writer(database: str | None) -> Writer[Any]:
    """The target of a loop: a SQLite or PostgreSQL database by its address, or none."""
    if database is None:
        return OutsideWriter()
    return BodyWriter(*statements_of_a_body(database))


class BodySink:
    """Lends the connection of a transactional sink. Everything else is that sink's affair."""

    def __init__(self, inner: Any, is_open: Callable[[Any], bool]) -> None:
        """Open nothing yet. `inner` is a transactional sink with `opened()`."""
        self._inner = inner
        self._is_open = is_open
        self._patiently: Patiently = _at_once
        self._raw: Any = None
        self._lent = self._marked = self._begun = False
        self._lost: BaseException | None = None
        self._ended_by: BaseException | None = None
        self._sent = 0
        self.connection: GuardedConnection = GuardedConnection(self._opened, self._refuse)

    @property
    def ended_by(self) -> BaseException | None:
        """The first thing that went wrong for good."""
        return self._lost or self._ended_by

    @property
    def whole(self) -> bool:
        """Whether nothing is lost."""
        return self._lost is None

    def serve(self, patiently: Patiently) -> None:
        """Begin transactions by this."""
        self._patiently = patiently

    def enter_item(self) -> None:
        """Lend the connection."""
        self._lent, self._marked = True, False

    def keep_item(self) -> bool:
        """Keep what was written since the savepoint."""
        self._lent = False
        if not self._marked:
            return False
        try:
            self.connection.close_cursors()
            self._require_open()
            self._raw.execute(f"RELEASE {_SAVEPOINT}")
        except Exception as error:
            self.undo_item()
            if self._lost is None:
                self._ended_by = self._ended_by or _not_kept(self._inner.explain(error))
            raise self._lost or self._ended_by or error from error
        self._marked = False
        reach("K8")
        return True

    def undo_item(self) -> None:
        """Undo what was written since the savepoint."""
        self._lent = False
        if not self._marked:
            return
        self._marked = False
        try:
            self.connection.close_cursors()
            self._require_open()
            self._raw.execute(f"ROLLBACK TO {_SAVEPOINT}")
            self._raw.execute(f"RELEASE {_SAVEPOINT}")
        except Exception as error:  # noqa: BLE001 - what cannot be undone is lost, and said so
            self._lose(error)

    def recall(self) -> Checkpoint | None:
        """As the target has it. After a commit in doubt: whether the body's writes are in it, or lost."""
        recalled: Checkpoint | None = self._inner.recall()
        if self._begun and recalled is not None and recalled.counts.commits == self._sent:
            self._begun = False
        elif self._begun:
            self._lose(None)
        return recalled

    def last_lap(self) -> int:
        """As the target has it."""
        return int(self._inner.last_lap())

    def identity(self) -> str:
        """As the target has it."""
        return str(self._inner.identity())

    def write(self, outputs: Sequence[Any]) -> None:  # noqa: ARG002 - the body has written already
        """See that it is still there. Raises WriteError if it is not."""
        self._require_whole()
        reach("K9")

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Commit what the body has written, together with checkpoint and failures."""
        self._require_whole()
        self._sent = checkpoint.counts.commits
        self._inner.commit(checkpoint, failures)
        self._begun = False

    def rollback(self) -> None:
        """Undo the open transaction; with it the body's writes are lost."""
        if self._begun:
            self._lose(None)
        self._inner.rollback()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Set the finished mark."""
        self._require_whole()
        self._inner.finish(checkpoint)

    def failures(self) -> Iterator[Failure]:
        """As the target has them."""
        found: Iterator[Failure] = self._inner.failures()
        return found

    def settle(self, ordinals: Sequence[int]) -> None:
        """Close failures; nobody replays a loop."""
        self._inner.settle(ordinals)

    def classify(self, error: BaseException) -> Fault:
        """As the target has it, but that what the body has written is never written again."""
        fault = Fault(self._inner.classify(error))
        again = self._begun or self._lost is not None
        return Fault.FATAL if again and fault in (Fault.TRANSIENT, Fault.REFUSED) else fault

    def passes(self, error: BaseException) -> bool:
        """Whether the error of a statement is no fault of the item: a lock, a deadlock, a lost connection."""
        return Fault(self._inner.classify(error)) is Fault.TRANSIENT

    def explain(self, error: BaseException) -> BaseException:
        """A driver's error in our words; one that costs the body's writes says how to go on."""
        explained: BaseException = self._inner.explain(error)
        if explained is error or self._lost is None:
            return explained
        found = explained.wrong if isinstance(explained, BatchwrightError) else str(explained)
        return WriteError("the loop could not commit its last items: they are rolled back", found, GOES_ON)

    def interrupt(self, *, now: bool) -> None:
        """End what is waited for."""
        self._inner.interrupt(now=now)

    def close(self) -> None:
        """Undo what is open and let the target go."""
        self._lent = False
        self._inner.close()

    def _opened(self) -> Any:
        """The real connection, behind the item's savepoint."""
        if not self._lent:
            raise self._refuse(
                DeclarationError(
                    "loop.connection is used outside of an item",
                    "only what is written inside `with loop.item():` is committed with a checkpoint",
                    "move it there; for anything else open a connection of your own",
                )
            )
        if self._ended_by is not None:
            raise self._ended_by
        if self._begun or self._marked:
            self._require_open()
        if not self._marked:
            self._mark()
        return self._raw

    def _mark(self) -> None:
        try:
            self._raw = self._inner.opened() if self._begun else self._patiently(self._inner.opened)
            self._raw.execute(f"SAVEPOINT {_SAVEPOINT}")
        except BaseException as error:
            self._ended_by = error
            raise
        self._marked = self._begun = True

    def _require_open(self) -> None:
        if self._lost is None and not self._is_open(self._raw):
            self._lose(None)
        self._require_whole()

    def _require_whole(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _lose(self, error: BaseException | None) -> None:
        if self._lost is None:
            self._lost = WriteError(
                "the transaction that the loop's body wrote into is gone, and its last items with it",
                "" if error is None else str(self._inner.explain(error)),
                GOES_ON,
            )
            self._lost.__cause__ = error

    def _refuse(self, error: DeclarationError) -> DeclarationError:
        self._ended_by = self._ended_by or error
        return error


class OutsideSink(FunctionSink[Any]):
    """Keeps checkpoint and failures of a loop in the scope's store; what its body does is nobody's affair but its."""

    whole = True
    ended_by: BaseException | None = None

    def __init__(self, scope: Scope) -> None:
        """Nothing is opened."""
        super().__init__(scope, len)

    @property
    def connection(self) -> Any:
        """There is none."""
        raise DeclarationError(
            "this loop has no connection", "it was made without database=", "write resumable(…, database=…)"
        )

    def serve(self, patiently: Patiently) -> None:
        """Nothing is waited for."""

    def enter_item(self) -> None:
        """Nothing is lent."""

    def keep_item(self) -> bool:
        """What an item does outside cannot be seen: it counts as done."""
        return True

    def undo_item(self) -> None:
        """What was done outside cannot be undone."""

    def passes(self, error: BaseException) -> bool:  # noqa: ARG002 - the port gives it
        """No error is the target's."""
        return False


def _not_kept(error: BaseException) -> WriteError:
    return WriteError(
        "a statement of this item failed, its error was passed over, and the database keeps nothing of the item",
        str(error),
        "let the error out of `with loop.item():`; PostgreSQL can try a part: `with loop.connection.transaction():`",
    )


def _at_once(question: Callable[[], Any]) -> Any:
    return question()

"""A step as one transaction of its target's database: what `atomic="transaction"` asks for.

The one rule: nothing is durable before the end. The states, and what holds in each when the process dies:
  open        rows are in the open transaction, a savepoint before each chunk; failures wait in memory: all is undone
  committing  rows, failures and the finished mark, or nothing of them: the target is asked which
  finished    all of it is there
A transaction that is lost before that (its connection, its disk, a deadlock) takes all chunks with it: the step fails,
and the next run begins from the start. Nothing is written a second time on the quiet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import GroundChangedError, WriteError
from batchwright.model.failure import Failure
from batchwright.model.forgetting import Forgotten
from batchwright.model.guarantee import Fault
from batchwright.model.publication import Publication
from batchwright.ports import Scope
from batchwright.writers.staging_tables import BEGIN_AGAIN


class Undoable(Protocol):
    """A transactional sink whose open transaction can be undone in part. It is a `Sink`, too."""

    def mark(self) -> None:
        """Begin the transaction, unless it is open, and set a savepoint in it."""
        ...

    def undo(self) -> None:
        """Undo everything behind the savepoint. Never raises: what cannot be undone in part is undone as a whole."""
        ...

    def keep(self) -> None:
        """Give up the savepoint: what is behind it is undone with the whole transaction only."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the transaction is still there."""
        ...

    def judge(self, publication: Publication, checkpoint: Checkpoint) -> None:
        """Ask `publish_if`. Raises NotPublishedError unless it says yes."""
        ...


class OneTransactionSink:
    """Holds back every commit until the step is finished."""

    def __init__(self, inner: Any, scope: Scope, publication: Publication) -> None:
        """Open nothing yet. `inner` is an `Undoable` sink."""
        self._inner: Any = inner
        self._publication = publication
        self._step = scope.key.step
        self._claims = scope.claims
        self._failures: list[Failure] = []
        self._marked = False
        self._holds = False
        self._finished = False
        self._ended_by: BaseException | None = None

    def recall(self) -> Checkpoint | None:
        """The finished checkpoint, or None: a run that was not finished has left nothing.

        Raises GroundChangedError if this work was begun chunk by chunk.
        """
        checkpoint: Checkpoint | None = self._inner.recall()
        self._marked = False
        self._finished = checkpoint is not None and checkpoint.finished
        if checkpoint is not None and not self._finished and self._claims:
            raise GroundChangedError(
                f"step '{self._step}' was begun without atomic='transaction'",
                f"{checkpoint.counts.read:,} items are committed",
                f"change it back, or {BEGIN_AGAIN}",
            )
        return checkpoint

    def last_lap(self) -> int:
        """The highest lap of this step in the target."""
        return int(self._inner.last_lap())

    def identity(self) -> str:
        """Which database this is, once it is open."""
        return str(self._inner.identity())

    def forget_laps(self, *, with_open: bool, pretend: bool) -> Forgotten:
        """Delete what the target keeps about laps of this step before its newest."""
        forgotten: Forgotten = self._inner.forget_laps(with_open=with_open, pretend=pretend)
        return forgotten

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are in the target, or in the open transaction."""
        return set(self._inner.known(digests))

    def remember(self, digests: Sequence[bytes]) -> None:
        """Write keys into the open transaction."""
        self._mark()
        self._inner.remember(digests)

    def write(self, outputs: Sequence[Any]) -> None:
        """Write rows into the open transaction. Raises WriteError if the one with the chunks before it is lost."""
        self._mark()
        self._inner.write(outputs)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:  # noqa: ARG002 - it comes with finish
        """Keep the chunk in the open transaction, and its failures here."""
        if self._marked:
            self._inner.keep()
            self._marked, self._holds = False, True
        self._failures.extend(failures)

    def rollback(self) -> None:
        """Undo the chunk, not those before it."""
        if self._marked:
            self._inner.undo()
            self._marked = False

    def finish(self, checkpoint: Checkpoint) -> None:
        """Commit everything. Raises NotPublishedError if `publish_if` says no, WriteError if it is lost already."""
        if self._finished:
            return
        self._mark()
        self._inner.judge(self._publication, checkpoint)
        self._inner.commit(replace(checkpoint, finished=True), self._failures)
        self._marked, self._finished = False, True

    def failures(self) -> Iterator[Failure]:
        """Every failure of this step in the target."""
        found: Iterator[Failure] = self._inner.failures()
        return found

    def settle(self, ordinals: Sequence[int]) -> None:
        """Close failures; nobody replays into an atomic step."""
        self._inner.settle(ordinals)

    def classify(self, error: BaseException) -> Fault:
        """As the target has it; remembered, should the transaction be lost by it."""
        self._ended_by = error
        return Fault(self._inner.classify(error))

    def explain(self, error: BaseException) -> BaseException:
        """A driver's error in our words."""
        explained: BaseException = self._inner.explain(error)
        return explained

    def interrupt(self, *, now: bool) -> None:
        """End what is waited for."""
        self._inner.interrupt(now=now)

    def close(self) -> None:
        """Undo what is open and let the target go."""
        self._inner.close()

    def _mark(self) -> None:
        if self._holds and not self._inner.is_open:
            raise WriteError(
                f"step '{self._step}': its one transaction is lost, and nothing of it is written",
                str(self.explain(self._ended_by)) if self._ended_by is not None else "",
                "run it again: it begins from the start; or write atomic=True, which goes on where it was",
            )
        if not self._marked:
            self._inner.mark()
            self._marked = True
